"""From settings to a loaded model: fetch, verify, open, trust, load, warm; in a thread of `server.py`."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from model_server.domain.explanations import NotExplainable
from model_server.domain.features import Metadata
from model_server.domain.model import Identity, InputAdapter, LoadedModel, Model, SteppedModel
from model_server.domain.tensors import Array, Inputs, Outputs, Tensor, datatype_of, rows_of
from model_server.errors import (
    DependencyMismatch,
    DependencyMissing,
    PredictFailed,
    RequestError,
    StartError,
    StepFailed,
    first_line,
)
from model_server.inputs.selection import select_adapter
from model_server.lifecycle import Phase
from model_server.memory import release_code_pages
from model_server.package.digest import verify_pin
from model_server.package.formats import require_known
from model_server.package.reader import POST, Package, open_package
from model_server.package.trust import require_trust
from model_server.runtimes import load_model
from model_server.settings import Settings
from model_server.storage import version_of
from model_server.storage.cache import Cache, obtain, obtain_signature
from model_server.storage.pinned import pinned_uri
from model_server.storage.redaction import redacted

log = logging.getLogger(__name__)

Report: TypeAlias = Callable[[Phase, str], None]


def load(
    settings: Settings, folder: Path, *, environ: Mapping[str, str], report: Report, is_alone: bool = True
) -> LoadedModel:
    """Bring the package to `folder` and its model to memory.

    `report` is called with each phase, and with the download's progress. `is_alone`: the process has no other model,
    which would need the code of libraries again at once. Raises StartErrors.
    """
    uri = pinned_uri(settings)
    require_known(settings.format)
    report(Phase.DOWNLOADING, f"fetching {redacted(uri)}")

    def tell(text: str) -> None:
        report(Phase.DOWNLOADING, text)

    fetched, sha256 = obtain(
        uri,
        folder,
        Cache(settings.cache_dir, settings.namespace) if settings.cache_dir else None,
        settings.sha256,
        environ=environ,
        tell=tell,
        is_signed=settings.is_signed,
    )
    report(Phase.LOADING, "verifying the package")
    verify_pin(sha256, settings.sha256, redacted(uri))
    if settings.is_signed:
        require_signature(fetched, settings, folder, environ, tell)
    # What was signed by whom the spec names is vouched for as by a pin.
    trusted = bool(settings.sha256) or settings.is_signed or settings.trusted
    package = open_package(fetched, settings.format, folder / f"process-{os.getpid()}", trusted=trusted)
    require_trust(package.format, trusted=trusted, digest=sha256, artifacts=package.artifacts, steps=package.steps)
    if package.requirements:
        _meet_requirements(package, sha256, settings, environ, report)
    report(
        Phase.LOADING,
        f"loading {', '.join(path.name for path in package.artifacts)} as {package.format.name}",
    )
    model = load_model(package, threads=settings.threads)
    signature = model.signature
    if settings.accelerate:
        # A graph is compared on what model.yaml allows, and is asked for nothing else.
        columns = {place: replace(column, takes_null=False) for place, column in signature.columns.items()}
        signature = replace(signature, columns=columns)
    adapter = select_adapter(package.model_metadata, signature, described_in=package.described_in)
    if settings.accelerate:
        report(Phase.LOADING, "converting the model to ONNX")
        model = _accelerated(model, adapter, package.model_metadata, threads=settings.threads)
    # Behind a post.py, model.yaml describes what that gives.
    is_described = bool(package.metadata.output_features) and POST not in {path.name for path in package.steps}
    if is_described:
        model = _classified(model, package.metadata)
    if package.steps:
        report(Phase.LOADING, f"loading {' and '.join(path.name for path in package.steps)}")
        model, adapter = _with_steps(package, model, adapter)
    if is_alone:
        release_code_pages()
    report(Phase.WARMING, "predicting the package's own example")
    outputs, failure = warm(model, adapter)
    if isinstance(model, SteppedModel):
        model.settle(outputs)
    if is_described:
        _warn_of_numbers(package.metadata, outputs)
    model.classes = settled_classes(model, package.metadata, outputs)
    loaded = LoadedModel(
        identity=_identify(settings, package, sha256, version_of(uri, fetched)),
        metadata=package.metadata,
        adapter=adapter,
        model=model,
        outputs=tuple(
            Tensor(name, datatype_of(array.dtype), (-1, *array.shape[1:])) for name, array in outputs.items()
        ),
        sample=outputs,
        warm_up_failure=failure,
        params=package.params,
    )
    return _explained(loaded, settings, report) if settings.explanations else loaded


def _explained(loaded: LoadedModel, settings: Settings, report: Report) -> LoadedModel:
    # Imported only here: most servers explain nothing.
    from model_server.runtimes.explaining.selection import make_explainer

    report(Phase.WARMING, "preparing explanations")
    try:
        explainer = make_explainer(loaded.model, loaded.adapter, loaded.metadata, budget=settings.explanation_budget)
    except NotExplainable as error:
        log.warning("this model cannot be explained: %s", error)
        return replace(loaded, unexplained=f"this model cannot be explained: {error}")
    kind = explainer.kind
    log.info("explanations", extra={"method": kind.method, "scale": kind.scale})
    return replace(loaded, explainer=explainer)


def require_signature(
    fetched: Path, settings: Settings, folder: Path, environ: Mapping[str, str], tell: Callable[[str], None]
) -> None:
    """Raise a SignatureInvalid or its like unless the package is signed as the settings ask for."""
    # Imported only here: most packages have no signature.
    from model_server.package.signature import Signer, signature_of, verify_signature

    signer = Signer(
        public_key=settings.signature_public_key,
        identity=settings.signature_identity,
        issuer=settings.signature_issuer,
        trust_config=settings.signature_trust_config,
    )
    signature = signature_of(
        fetched,
        settings.storage_uri,
        lambda uri: obtain_signature(uri, folder, environ=environ, tell=tell),
    )
    verify_signature(fetched, signature, signer, folder / f"sigstore-{os.getpid()}", environ)
    log.info("the signature is valid", extra={"signed_by": str(signer)})


def _meet_requirements(
    package: Package, digest: str, settings: Settings, environ: Mapping[str, str], report: Report
) -> None:
    from model_server.package.installation import check_installable, install
    from model_server.package.requirements import check_requirements

    try:
        check_requirements(package.requirements)
    except DependencyMismatch:
        if not settings.install_requirements:
            raise
        check_installable(package.requirements, trusted=package.trusted, digest=digest)
        report(Phase.LOADING, "installing the package's requirements")
        install(
            package.requirements,
            settings.model_dir or Path(tempfile.gettempdir()),
            environ,
            allow_source_builds=settings.allow_source_builds,
        )


def _accelerated(model: Model, adapter: InputAdapter, metadata: Metadata, *, threads: int) -> Model:
    # Imported only here: the converter is an extra of its own, and not small.
    try:
        from model_server.runtimes.accelerated import accelerate
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"accelerate needs {error.name}, which is not installed", hint="Install modeldeploy[server-accelerate]."
        ) from None
    return accelerate(model, adapter, metadata, threads=threads)


def _classified(model: Model, metadata: Metadata) -> Model:
    # Imported only here: most packages do not describe their answers.
    from model_server.runtimes.classified import classified

    return classified(model, metadata)


def _warn_of_numbers(metadata: Metadata, outputs: Outputs) -> None:
    from model_server.runtimes.classified import warn_of_numbers

    warn_of_numbers(metadata, outputs)


def _with_steps(package: Package, model: Model, adapter: InputAdapter) -> tuple[Model, InputAdapter]:
    # Imported only here: most packages have no steps.
    from model_server.runtimes.steps import with_steps

    return with_steps(package, model, adapter)


def _identify(settings: Settings, package: Package, sha256: str, registered: str) -> Identity:
    return Identity(
        model=settings.name,
        version=settings.version or registered or package.metadata.version or settings.revision,
        revision=settings.revision,
        format=package.format.name,
        sha256=sha256,
        uri=redacted(settings.storage_uri),
    )


def warm(model: Model, adapter: InputAdapter) -> tuple[Outputs, str]:
    """Predict once, so that the first client does not pay for lazy set-up, and see what comes out.

    Gives the outputs and, where a row that was made up here fails, why: either the row or the model is at fault, and
    only an example or a request can tell. A model that fails on the example its own package gives raises PredictFailed.
    """
    example = adapter.example()
    rows = example if example is not None else adapter.dummy_rows()
    if rows is None:
        log.info("the package has no example and no features: nothing to warm the model with")
        return {}, ""
    if example is None:
        return _try_rows(model, [rows, *adapter.other_dummy_rows()])
    try:
        outputs = _predict_twice(model, rows)
        _require_rows(outputs, rows)
        _require_numbers(outputs)
    except StartError:
        raise
    except RequestError as error:
        said = error.whole if isinstance(error, StepFailed) else error.message
        raise PredictFailed(
            f"the example in model.yaml cannot be predicted: {said}",
            hint="Correct model.yaml, or pre.py or post.py where they are to blame.",
        ) from None
    except (Exception, SystemExit) as error:
        raise PredictFailed(
            f"the model failed on the example in model.yaml: {type(error).__name__}: {first_line(error)}",
            hint="Try the example with the model where it was trained; correct model.yaml or the model.",
        ) from None
    return outputs, ""


def _try_rows(model: Model, candidates: Sequence[Inputs]) -> tuple[Outputs, str]:
    """The outputs for the first made-up row that the model can predict, else why it cannot predict the first of all."""
    failures: list[BaseException] = []
    for rows in candidates:
        try:
            outputs = _predict_twice(model, rows)
            _require_rows(outputs, rows)
        except (Exception, SystemExit) as error:
            failures.append(error)
        else:
            return outputs, ""
    first = failures[0]
    text = f"{type(first).__name__}: {first_line(first)}"
    if isinstance(first, PredictFailed | StepFailed):
        text = first.whole if isinstance(first, StepFailed) else first.message
    log.warning("the model failed on a made-up row; give examples in model.yaml: %s", text, exc_info=first)
    return {}, text


def settled_classes(model: Model, metadata: Metadata, outputs: Outputs) -> tuple[object, ...]:
    """The classes in the order of the columns of probabilities: the model's own, else the categories in model.yaml.

    () where neither are as many as the columns: naming them wrongly would be worse than not at all.
    """
    if model.probability_output not in outputs:
        return model.classes
    count = outputs[model.probability_output].shape[1]
    declared = metadata.output_features[0].categories if metadata.output_features else None
    found = next((tuple(names) for names in (model.classes, declared or ()) if len(names) == count), ())
    if not found:
        log.warning("the classes of the %d probabilities are not known: list them in model.yaml, as categories", count)
    return found


def _predict_twice(model: Model, rows: Inputs) -> Outputs:
    probabilities = bool(model.probability_output or getattr(model, "score_output", ""))
    # Each call its own rows: it may write into them.
    model.predict({name: array.copy() for name, array in rows.items()}, probabilities=probabilities)
    again = {name: array.copy() for name, array in rows.items()}
    started = time.perf_counter()
    outputs = model.predict(again, probabilities=probabilities)
    log.info("warmed", extra={"predict_seconds": round(time.perf_counter() - started, 6)})
    return outputs


def _require_rows(outputs: Outputs, rows: Inputs) -> None:
    count = rows_of(rows)
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != count:
            raise PredictFailed(
                f"{name} has shape {list(array.shape)} for {count} row", hint="Return one prediction a row."
            )


def _require_numbers(outputs: Outputs) -> None:
    for name, array in outputs.items():
        if _has_nan(array):
            raise PredictFailed(
                f"{name} is NaN for the example in model.yaml",
                hint="A prediction must be a number: check the example and the model.",
            )


def _has_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())
