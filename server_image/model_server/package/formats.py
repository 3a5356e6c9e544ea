"""Which format a package is in: asked for, declared in model.yaml, or found by name and first bytes.

Formats are registered as entry points (`plugins.py`), the built-in ones too. The first bytes of a file are what the
caller reads. `package/reader.py` calls `choose`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import PurePosixPath

from model_server import plugins
from model_server.errors import (
    FormatAmbiguous,
    FormatMismatch,
    FormatUnknown,
    SettingsInvalid,
    StartError,
)
from model_server.plugins import registered

log = logging.getLogger(__name__)

AUTO = "auto"
#: How torch.save began its files before PyTorch 1.6: with a magic number, pickled.
#: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
_LEGACY_TORCH = b"\x80\x02\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little") + b"."
#: A folder whose MLmodel file names one of the formats below.
MLFLOW = "mlflow"
PYTHON = "python"
MODEL_PY = "model.py"
#: Of files that are compressed by themselves, as joblib and people do it.
COMPRESSED_SUFFIXES = (".gz", ".z", ".bz2", ".xz", ".lzma", ".lz4")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format: how its files are named, how they begin, and whether loading one runs code from it."""

    name: str
    suffixes: tuple[str, ...]
    runs_code: bool = False
    begins: tuple[bytes, ...] = ()
    description: str = ""
    #: What loads it, as "module:function": the function takes a `Package` and `threads`, and gives a `Model`.
    loader: str = ""
    #: Of `begins`, those that no other kind of file has: by these a file is recognised whatever its name is.
    signatures: tuple[bytes, ...] = ()
    #: Patterns of the files by which a folder is recognised, all of them at its top, for what is no single file.
    folder: tuple[str, ...] = ()
    #: Patterns of what else such a folder holds that looks like a model: the same weights for other libraries.
    beside: tuple[str, ...] = ()
    #: The entry of MLflow's flavor of this name that names the file, empty where MLflow has no such flavor.
    mlflow_entry: str = ""
    #: What pip installs to load it.
    requires: str = ""


@cache
def known_formats() -> Mapping[str, Format]:
    """The formats of all installed packages, by name. One that cannot be used is logged, and is not among them."""
    found = {}
    for name, entry in registered(plugins.FORMATS).items():
        try:
            found[name] = _registered_format(name)
        except StartError as error:
            log.warning("format %s is not available: %s", entry.name, error.message)
    return found


def _registered_format(name: str) -> Format:
    entry = registered(plugins.FORMATS)[name]
    format_ = plugins.load(entry)
    if not isinstance(format_, Format) or format_.name != name or not format_.loader:
        raise SettingsInvalid(
            f"{entry.value} is registered as the format {name!r}, and is no Format of this name with a loader",
            hint="See model_server.package.formats.Format.",
        )
    return format_


@dataclass(frozen=True, slots=True)
class Choice:
    """A format and the artifacts to load, in the order of the pipeline."""

    format: Format
    artifacts: tuple[str, ...]


def named_format(name: str, where: str) -> Format | None:
    """The format a person named, None for `auto`; raises FormatUnknown that lists the known ones."""
    if name == AUTO:
        return None
    if name == MLFLOW:
        raise FormatMismatch(f"{where} is mlflow, and the package holds no MLmodel file")
    if name not in registered(plugins.FORMATS):
        raise FormatUnknown(
            f"{where} is {name!r}", hint=f"Known formats: {AUTO}, {', '.join(registered(plugins.FORMATS))}."
        )
    return _registered_format(name)


def require_known(name: str) -> None:
    """Refuse a format that no installed package has, before anything is downloaded. Raises FormatUnknown."""
    if name != MLFLOW:
        named_format(name, "the format asked for")


def choose(
    files: Sequence[str], asked: Format | None, artifacts: Sequence[str], first_bytes: Callable[[str], bytes]
) -> Choice:
    """Decide format and artifacts of a package.

    `files` are relative paths; `asked` comes from settings or model.yaml; `artifacts` from model.yaml.
    Raises FormatUnknown, FormatAmbiguous (which lists the candidates) or FormatMismatch.
    """
    if artifacts:
        missing = [name for name in artifacts if name not in files]
        if missing:
            raise FormatUnknown(f"model.yaml names {missing[0]!r}, and the package holds {_listed(files)}")
    if (asked is not None and asked.name == PYTHON) or (asked is None and not artifacts and MODEL_PY in files):
        if MODEL_PY not in files:
            raise FormatMismatch(f"format python needs {MODEL_PY}, and the package holds {_listed(files)}")
        return Choice(known_formats()[PYTHON], (MODEL_PY,))
    folder = _folder(files, asked, artifacts)
    if folder is not None:
        others = [name for name in files if _could_be(name, ()) and not _is_any(name, folder.format.beside)]
        besides = [f"{name} ({one.name})" for name in sorted(others) if (one := _format_of(name, first_bytes, None))]
        if asked is None and besides:
            raise FormatAmbiguous(
                f"the folder is a {folder.format.name} model, and holds {', '.join(besides)} besides",
                hint=f"In model.yaml write the format, or put both together in a {MODEL_PY}.",
            )
        return folder
    candidates = {
        name: _format_of(name, first_bytes, asked) for name in artifacts or files if _could_be(name, artifacts)
    }
    recognised = {name: found for name, found in candidates.items() if found is not None}
    if asked is not None:
        recognised = {name: found for name, found in recognised.items() if found is asked}
        if not recognised:
            raise FormatMismatch(
                f"format {asked.name} was asked for, and the package holds {_listed(files)}",
                hint=f"Files of this format end in {', '.join(asked.suffixes)}; or correct the format.",
            )
    if not recognised:
        raise FormatUnknown(
            f"no model was recognised among {_listed(files)}",
            hint=f"Known: {', '.join(map(_endings, known_formats().values()))}; or name the format in model.yaml.",
        )
    if artifacts:
        return _named_pipeline(artifacts, recognised)
    if len(recognised) > 1:
        listed = ", ".join(f"{name} ({found.name})" for name, found in sorted(recognised.items()))
        raise FormatAmbiguous(
            f"{len(recognised)} files could be the model: {listed}",
            hint="In model.yaml name the model, or the steps: `artifacts: [scaler.joblib, model.joblib]`.",
        )
    ((name, found),) = recognised.items()
    return Choice(found, (name,))


def _folder(files: Sequence[str], wanted: Format | None, artifacts: Sequence[str]) -> Choice | None:
    """The format whose files the folder has, and these files; None where it is no such folder."""
    if wanted is not None and wanted.folder and artifacts:
        raise FormatMismatch(
            f"a package of format {wanted.name} is a folder, and model.yaml names artifacts",
            hint="Leave artifacts out.",
        )
    if artifacts or (wanted is not None and not wanted.folder):
        return None
    top = [name for name in sorted(files) if _could_be(name, ())]
    for known in [wanted] if wanted is not None else known_formats().values():
        matched = [[name for name in top if fnmatchcase(name, pattern)] for pattern in known.folder]
        if matched and all(matched):
            return Choice(known, tuple(name for names in matched for name in names))
    if wanted is not None:
        raise FormatMismatch(
            f"format {wanted.name} needs {' and '.join(wanted.folder)}, and the package holds {_listed(files)}",
            hint=f"Upload the whole folder: {wanted.description}.",
        )
    return None


def _is_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _named_pipeline(artifacts: Sequence[str], recognised: Mapping[str, Format]) -> Choice:
    formats = {found.name for found in recognised.values()}
    strange = [name for name in artifacts if name not in recognised]
    if strange:
        raise FormatMismatch(f"artifact {strange[0]!r} is not of format {sorted(formats)[0]}")
    if len(formats) > 1:
        raise FormatAmbiguous(f"the artifacts in model.yaml are of several formats: {', '.join(sorted(formats))}")
    if len(artifacts) > 1 and formats != {"sklearn"}:
        raise FormatMismatch(
            f"several artifacts make a pipeline of scikit-learn objects only, and these are {formats.pop()}",
            hint=f"Add a {MODEL_PY} with load_model and predict that puts the files together.",
        )
    return Choice(recognised[artifacts[0]], tuple(artifacts))


def _could_be(name: str, artifacts: Sequence[str]) -> bool:
    """Only files at the top are candidates, unless model.yaml names one deeper down."""
    return bool(artifacts) or (len(PurePosixPath(name).parts) == 1 and not is_mac_litter(name))


def _format_of(name: str, first_bytes: Callable[[str], bytes], asked: Format | None) -> Format | None:
    path = PurePosixPath(name.lower())
    beginning = first_bytes(name)
    # `model.joblib.gz`: what is compressed has its own ending in front.
    suffix = PurePosixPath(path.stem).suffix if path.suffix in COMPRESSED_SUFFIXES else path.suffix
    named = [format_ for format_ in known_formats().values() if suffix in format_.suffixes]
    if not named:
        return None if {path.suffix, suffix} & _NO_MODELS else _by_content(beginning)
    if asked in named:
        named = [asked] if asked else named
    fitting = [format_ for format_ in named if not format_.begins or beginning.startswith(format_.begins)]
    if len(fitting) > 1:
        raise FormatAmbiguous(
            f"{name} could be of the formats {', '.join(format_.name for format_ in fitting)}",
            hint="Name the format in model.yaml.",
        )
    if not fitting:
        if beginning.startswith(_LEGACY_TORCH):
            raise FormatMismatch(
                f"{name} is a legacy pickle of torch.save, from before its files were zip archives, and no model that"
                " can be loaded without the code that made it",
                hint="Load it in PyTorch with that code, and save the model anew: torch.export.save(program, path), or"
                " torch.jit.script(model).save(path).",
            )
        actual = _by_content(beginning)
        what = f"begins like {actual.name}" if actual else "does not begin like one"
        start = beginning[:4].hex(" ") or "none"
        raise FormatMismatch(
            f"{name} is named like {named[0].name} and {what} (first bytes {start})",
            hint="Upload the model file itself: a web page or a Git LFS pointer is a common mistake.",
        )
    return fitting[0]


# .json and .txt files are models only when they begin like one.
_NO_MODELS = frozenset({".yaml", ".yml", ".md", ".py", ".csv", ".parquet", ".gz", ".zip", ".npy", ".npz"})


def _by_content(beginning: bytes) -> Format | None:
    signed = (format_ for format_ in known_formats().values() if format_.signatures)
    return next((one for one in signed if beginning.startswith(one.signatures)), None)


def _endings(format_: Format) -> str:
    return f"{format_.name} ({', '.join(format_.suffixes) or ' with '.join(format_.folder) or MODEL_PY})"


def _listed(files: Sequence[str]) -> str:
    shown = ", ".join(sorted(files)[:10]) or "no files"
    return shown + (f" and {len(files) - 10} more" if len(files) > 10 else "")


def is_mac_litter(name: str) -> bool:
    """True for what macOS puts beside people's files, into archives above all."""
    path = PurePosixPath(name)
    return path.parts[:1] == ("__MACOSX",) or path.name == ".DS_Store" or path.name.startswith("._")


def is_archive(name: str) -> bool:
    """True when a file's name ends like an archive that `archives.py` unpacks."""
    return name.lower().endswith((*TAR_SUFFIXES, ".zip"))
