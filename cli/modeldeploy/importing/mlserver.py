"""MLServer's model-settings.json. PURE.

https://mlserver.readthedocs.io/en/stable/reference/model-settings.html
"""

from collections.abc import Collection
from pathlib import PurePosixPath

from modeldeploy.importing.fields import Fields, one_of
from modeldeploy.importing.storage import RUNS_CODE, code_finding, storage_uri
from modeldeploy.importing.tensors import DTYPES, Tensor, features_of
from modeldeploy.importing.values import Body, Conversion, Finding, changed, valid_name, without_empty
from modeldeploy.requests import Refused

SETTINGS = "model-settings.json"
#: Runtimes by the class that the settings name, and ours.
_RUNTIMES = {
    "mlserver_sklearn.SKLearnModel": "sklearn",
    "mlserver_xgboost.XGBoostModel": "xgboost",
    "mlserver_lightgbm.LightGBMModel": "lightgbm",
    "mlserver_catboost.CatboostModel": "catboost",
    "mlserver_onnx.OnnxModel": "onnx",
    "mlserver_mlflow.MLflowRuntime": "mlflow",
    "mlserver_huggingface.HuggingFaceRuntime": "transformers",
}
#: What runtimes look for where the settings name no file.
_USUAL = {
    "sklearn": ("model.joblib", "model.pickle", "model.pkl"),
    "xgboost": ("model.bst", "model.json", "model.ubj"),
    "lightgbm": ("model.bst",),
    "catboost": ("model.cbm", "model.bin"),
    "onnx": ("model.onnx",),
}
#: Formats whose file names the columns by itself: a name that is made up here would contradict it.
_TELL_THEIR_COLUMNS = frozenset({"sklearn", "xgboost", "lightgbm", "catboost", "mlflow", "transformers"})
#: Formats that are a folder.
_FOLDERS = frozenset({"mlflow", "transformers"})
_LONGEST_WAIT = 1000
_OWN_CODE = "A runtime of your own becomes model.py of the package: load_model(path) and predict(model, inputs)"

ADVICE = {
    "parameters.content_type": "the columns of model.yaml say what requests hold; there are no codecs to choose",
    "parameters.environment_tarball": "write requirements.txt into the package, and set model.installRequirements",
    "parameters.environment_path": "write requirements.txt into the package, and set model.installRequirements",
    "parameters.extra": "they are settings of the other runtime",
    "warm_workers": "servers always warm up before they are ready",
    "cache_enabled": "answers are not cached",
    "platform": "the format of the model says it",
    "versions": "one ModelDeployment is one version; an earlier one is a revision of it",
    "inputs.parameters": "the columns of model.yaml say what requests hold; there are no codecs to choose",
    "outputs.parameters": "the columns of model.yaml say what answers hold; there are no codecs to choose",
}

_HARMLESS = frozenset(
    {"warm_workers", "platform", "inputs.parameters", "outputs.parameters", "parameters.content_type"}
)


def convert(
    document: Body, files: Collection[str], folder: str, *, other_uri: str = "", trusted: bool = False
) -> Conversion:
    """Return the ModelDeployment of a model-settings.json.

    Args:
        files: paths of the files beside it, relative to its folder.
        folder: name of the folder, which the model has where the settings give it none.
        other_uri, trusted: as in `kserve.convert`.

    Raises:
        Refused: its runtime or its file is none that can be served here.
    """
    source = Fields(document)
    name, findings = valid_name(source.text("name") or folder, "name")
    format_ = one_of(_RUNTIMES, source.text("implementation"), "implementation", _OWN_CODE)
    parameters = source.child("parameters")
    uri, version = parameters.text("uri"), parameters.text("version")
    parameters.value("format")
    features, more = _features(source, format_)
    findings += more
    spec: dict[str, object] = {
        "server": {"workers": source.integer("parallel_workers"), "batching": _batching(source, findings)}
    }
    files_of_package, artifacts = dict[str, str](), list[str]()
    model: dict[str, object] = {"format": format_, "trusted": (trusted and format_ in RUNS_CODE) or None}
    if "://" in uri or other_uri:
        model["storageUri"], more = storage_uri(other_uri or uri, parameters.at("uri"))
        findings += more
        if format_ in RUNS_CODE and not trusted:
            findings.append(code_finding(parameters.at("uri"), format_))
    else:
        artifact = _artifact(uri, files, format_, parameters.at("uri"))
        inside = {one: one for one in files if one == artifact or artifact in map(str, PurePosixPath(one).parents)}
        is_file = artifact in files
        root = PurePosixPath(artifact).parent if is_file else PurePosixPath(artifact)
        files_of_package = {PurePosixPath(one).relative_to(root).as_posix(): one for one in inside if one != SETTINGS}
        artifacts = [PurePosixPath(artifact).name] if is_file and format_ not in _FOLDERS else []
    described = {
        "name": name,
        "version": version or None,
        "description": source.text("description") or None,
        "format": format_,
        "artifacts": artifacts,
        "input_features": features,
    }
    return Conversion(
        name=name,
        spec=without_empty(spec | {"model": model}),
        # MLflow's own file describes the model, and a model.yaml would stand in for it.
        metadata=without_empty(described) if format_ != "mlflow" else {},
        findings=(*findings, *source.leftovers(ADVICE, _HARMLESS)),
        files=files_of_package,
        runs_code=format_ in RUNS_CODE,
    )


def _artifact(uri: str, files: Collection[str], format_: str, path: str) -> str:
    """The file, or the folder, of the model; relative to the folder of the settings."""
    if not uri:
        found = [one for one in _USUAL.get(format_, ()) if one in files]
        if found or format_ in _FOLDERS:
            return found[0] if found else "."
        raise Refused(f"{path}: is missing, and there is no {' or '.join(_USUAL[format_])} beside {SETTINGS}")
    relative = PurePosixPath(uri)
    if relative.is_absolute() or ".." in relative.parts:
        raise Refused(
            f"{path}: {uri!r} is outside of the folder of {SETTINGS}: copy the model there, or use --storage-uri"
        )
    name = relative.as_posix()
    if name in files or name == "." or any(one.startswith(f"{name}/") for one in files):
        return name
    raise Refused(
        f"{path}: {uri!r} does not exist; beside {SETTINGS} are: {', '.join(sorted(files)[:10]) or 'no files'}"
    )


def _features(source: Fields, format_: str) -> tuple[list[dict[str, object]], list[Finding]]:
    tensors = []
    for one in source.items("inputs"):
        shape = tuple(one.integers("shape"))
        # The first dimension is the batch, if it is free.
        row = shape[1:] if shape[:1] == (-1,) else shape
        dtype = one_of(DTYPES, one.text("datatype"), one.at("datatype"))
        tensors.append(Tensor(one.text("name"), dtype, row, one.path))
    findings = []
    if outputs := source.items("outputs"):
        for one in outputs:
            one.text("name"), one.text("datatype"), one.values("shape")
        findings.append(changed("outputs", "the model's file says what it answers; output_features may give it names"))
    if tensors and format_ in _TELL_THEIR_COLUMNS:
        told = "the model's file says which columns it takes; describe them with modeldeploy package --sample FILE"
        return [], [*findings, changed("inputs", told)]
    features, more = features_of(tensors)
    return features, [*findings, *more]


def _batching(source: Fields, findings: list[Finding]) -> dict[str, int | None]:
    size, wait = source.integer("max_batch_size"), source.number("max_batch_time")
    if not size:
        return {}
    milliseconds = None if wait is None else round(wait * 1000)
    if milliseconds is not None and milliseconds > _LONGEST_WAIT:
        findings.append(
            changed("max_batch_time", f"{wait:g} s is more than {_LONGEST_WAIT} ms, the longest that is waited")
        )
        milliseconds = _LONGEST_WAIT
    return {"maxBatchSize": size, "maxDelayMilliseconds": milliseconds}
