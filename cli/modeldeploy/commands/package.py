"""`modeldeploy package`: from a trained model to a package that can be served, pinned, and uploaded."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from modeldeploy.requests import Refused

METADATA = "model.yaml"
_UNTOLD = "the model's file does not tell its inputs"


def package(
    folder: Annotated[Path, typer.Argument(help="The package: the model's file, and what belongs to it.")],
    sample: Annotated[
        Path | None,
        typer.Option(help="CSV with rows of the training data: types, examples and the reference profile for drift."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column of sample and holdout that the model predicts.")] = None,
    holdout: Annotated[
        Path | None,
        typer.Option(
            help="CSV with labelled rows that the model was not trained with: says what its probabilities mean, so that"
            " its quality can be estimated without labels."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in model.yaml; default: the folder's.")] = None,
    version: Annotated[str | None, typer.Option(help="Version in model.yaml.")] = None,
    ranges: Annotated[
        bool, typer.Option("--ranges", help="Make the sample's lowest and highest values rules: others are refused.")
    ] = False,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Read the names from a pickle, which runs the code in it.")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Private key (PEM) that signs the package: model.sig is written.")
    ] = None,
    sign_keyless: Annotated[
        bool, typer.Option("--sign-keyless", help="Sign with your identity by Sigstore, which needs the network.")
    ] = False,
    upload: Annotated[str | None, typer.Option(help="Where to upload: s3://, gs://, az://, file://.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over model.yaml, or over what is at the URI.")] = False,
) -> None:
    """Write a package's model.yaml, sign it, print its digest, upload it."""
    # No other command needs these, and each of them starts first.
    import yaml

    from modeldeploy.package.digest import files_of, tree_digest
    from modeldeploy.package.steps import steps_of

    if not folder.is_dir():
        raise Refused(f"{folder} is no folder: put the model's file into one, with what belongs to it")
    if sign is not None and sign_keyless:
        raise typer.BadParameter("--sign KEY and --sign-keyless do not go together: one signature is by one of them")
    written = {"--name": name, "--version": version, "--ranges": ranges}
    of_both = {"--target": target, "--trusted": trusted} if holdout is None else {}
    if unused := [option for option, value in (of_both | written).items() if value and sample is None]:
        told = "says what is written into model.yaml, from a sample: add --sample FILE, or write model.yaml yourself"
        raise typer.BadParameter(f"{unused[0]} {told}")
    if holdout is not None and target is None:
        raise typer.BadParameter("--holdout needs --target COLUMN, which has the true answers")
    steps = steps_of(folder)
    if sample is not None:
        _write_metadata(folder, _columns(sample), target, name, version, ranges=ranges, trusted=trusted, force=force)
    if not files_of(folder):
        raise Refused(f"{folder} is empty")
    if holdout is not None and target is not None:
        _calibrate(folder, holdout, target, trusted=trusted, force=force or sample is not None)
    if sign is not None or sign_keyless:
        _sign(folder, sign)
    files = files_of(folder)
    sha256 = tree_digest(folder, files)
    if upload is not None:
        from modeldeploy.package.links import keep_inside
        from modeldeploy.package.uploading import upload as bring

        keep_inside(folder, files)
        bring(folder, files, upload.rstrip("/"), os.environ, replace=force)
        print(f"uploaded {len(files)} files", file=sys.stderr)
    if steps:
        print(f"{' and '.join(steps)} run around the model: servers load it pinned, signed or trusted", file=sys.stderr)
    # What goes into a ModelDeployment, as it is.
    uri = {"storageUri": upload.rstrip("/")} if upload else {}
    print(yaml.safe_dump({"model": uri | {"sha256": sha256}}, sort_keys=False), end="")


def _calibrate(folder: Path, holdout: Path, target: str, *, trusted: bool, force: bool) -> None:
    from modeldeploy.package.calibrating import measure, write

    calibration = measure(folder, holdout, target, os.environ, trusted=trusted)
    write(folder / METADATA, calibration, replace=force)
    print(
        f"calibrated on {calibration['rows']} rows: probabilities are off by {calibration['raw_error']:.3f} on average,"
        f" and by {calibration['error']:.3f} after calibration",
        file=sys.stderr,
    )


def _sign(folder: Path, key: Path | None) -> None:
    from modeldeploy.package.signing import SIGNATURE, sign_with_identity, sign_with_key

    if key is not None:
        sign_with_key(folder, key, os.environ)
    else:
        sign_with_identity(folder, os.environ)
    print(f"wrote {folder / SIGNATURE}", file=sys.stderr)


def _write_metadata(
    folder: Path,
    columns: dict[str, list[str]],
    target: str | None,
    name: str | None,
    version: str | None,
    *,
    ranges: bool,
    trusted: bool,
    force: bool,
) -> None:
    import yaml

    from modeldeploy.package.describing import describe
    from modeldeploy.package.models import Trained, trained_with, unread_pickle
    from modeldeploy.package.steps import PRE

    path = folder / METADATA
    if path.exists() and not force:
        raise Refused(f"{path} exists: leave --sample out to keep it, or write over it with --force")
    if target is not None and target not in columns:
        raise Refused(f"the sample has no column {target!r}; it has {', '.join(columns)}")
    # What a model behind a pre.py was trained with is not what comes in.
    has_pre = (folder / PRE).is_file()
    trained = Trained() if has_pre else trained_with(folder, trusted=trusted)
    features = trained.names
    absent = [one for one in features if one not in columns and one not in trained.dropped]
    if absent:
        raise Refused(f"the model was trained with {absent[0]!r}, and the sample has {', '.join(columns)}")
    # Without the model's word the sample's own order is the model's.
    names = features or [one for one in columns if one != target]
    empty = [one for one in names if one not in trained.dropped and not any(cell.strip() for cell in columns[one])]
    if empty:
        raise Refused(f"column {empty[0]!r} of the sample has no value in any row")
    document: dict[str, Any] = {"name": name or folder.resolve().name}
    if version is not None:
        document["version"] = version
    document |= describe(names, columns, ranges=ranges, dropped=trained.dropped)
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    print(f"wrote {path}: {len(names)} feature{'' if len(names) == 1 else 's'}", file=sys.stderr)
    if trained.dropped:
        print(f"the model drops {', '.join(trained.dropped)}: requests may leave that out", file=sys.stderr)
    if not features:
        taken = "all columns of the sample" if target is None else f"the sample's columns but {target}"
        hint = "; --target leaves out the one that is predicted" if target is None else ""
        pickle = "" if has_pre else unread_pickle(folder, trusted=trusted)
        untold = f"{PRE} stands before the model" if has_pre else _UNTOLD
        reason = f"{pickle} was not read, which runs its code (add --trusted for that)" if pickle else untold
        print(
            f"{reason}: taken are {taken}, in this order: {', '.join(names)}{hint}",
            file=sys.stderr,
        )


def _columns(sample: Path) -> dict[str, list[str]]:
    """The sample by column. Raises Refused that names the line at fault."""
    import csv

    try:
        with sample.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            columns: dict[str, list[str]] = {one.strip(): [] for one in header}
            if len(header) == 1 and ";" in header[0]:
                raise Refused(f"{sample} is separated by ';': write it with commas")
            if len(columns) != len(header) or not header or "" in columns:
                raise Refused(f"{sample}: the first line must name every column, each once")
            for row in rows:
                if row and len(row) != len(header):
                    raise Refused(f"{sample} line {rows.line_num}: {len(row)} cells for {len(header)} columns")
                for cells, cell in zip(columns.values(), row, strict=False):
                    cells.append(cell)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"{sample} cannot be read as CSV: {error}") from None
    if not next(iter(columns.values())):
        raise Refused(f"{sample} has no rows")
    return columns
