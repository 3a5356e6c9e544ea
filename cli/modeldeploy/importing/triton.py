"""Triton's config.pbtxt: ONNX, TorchScript, and the trees of FIL. PURE.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from modeldeploy.importing.fields import Fields, one_of
from modeldeploy.importing.storage import RUNS_CODE
from modeldeploy.importing.tensors import DTYPES, Tensor, features_of
from modeldeploy.importing.values import Body, Conversion, Finding, changed, lost, valid_name, without_empty
from modeldeploy.requests import Refused

CONFIG = "config.pbtxt"
#: Fields that are lists; of any other field the last value counts.
_LISTS = frozenset({
    "input", "output", "dims", "instance_group", "versions", "preferred_batch_size", "gpus", "parameters",
    "batch_input", "batch_output", "model_warmup", "shape", "profile",
})  # fmt: skip
_BACKENDS = {
    "onnxruntime_onnx": "onnx",
    "onnxruntime": "onnx",
    "pytorch_libtorch": "torchscript",
    "pytorch": "torchscript",
    "fil": "fil",
}
_OTHER_BACKENDS = (
    "An ensemble is several ModelDeployments, or steps in one model.py; TensorRT, TensorFlow and OpenVINO models have"
    " to be exported to ONNX; a model of the Python backend becomes model.py of a package; or Triton itself"
    " runs in server.container (docs/how-to/any-image.md)"
)
_FILES = {"onnx": "model.onnx", "torchscript": "model.pt"}
#: Of FIL's `model_type`: our format and the file.
_TREES = {
    "xgboost_json": ("xgboost", "xgboost.json"),
    "xgboost_ubj": ("xgboost", "xgboost.ubj"),
    "lightgbm": ("lightgbm", "model.txt"),
}
_TREES_ELSE = "Save XGBoost's binary form with save_model('xgboost.json'); a checkpoint of treelite has no way back"
_LONGEST_WAIT = 1000

ADVICE = {
    "optimization": "they are settings of the other runtime",
    "model_warmup": "servers always warm up; give each input feature an example in model.yaml",
    "sequence_batching": "requests do not belong together; keep the state in the client, or where model.py reads it",
    "ensemble_scheduling": _OTHER_BACKENDS,
    "response_cache": "answers are not cached",
    "model_transaction_policy": "an answer belongs to a request; predict_stream of a model.py answers in steps",
    "parameters": "it is a setting of the other runtime",
    "output.label_filename": "write the labels as categories of an output feature in model.yaml",
    "output.reshape": "export the model with the shape that answers have",
    "input.format": "tensors are given as they are, in the shape of dims",
    "dynamic_batching.preferred_batch_size": "a batch has as many rows as wait, up to server.batching.maxBatchSize",
    "dynamic_batching.default_priority_level": "requests are answered in the order in which they come",
    "dynamic_batching.priority_queue_policy": "requests are answered in the order in which they come",
    "input.optional": "write nullable: true for the feature in model.yaml, if the model takes a missing value",
    "dynamic_batching.priority_levels": "requests are answered in the order in which they come",
    "dynamic_batching.default_queue_policy": "server.requestTimeoutSeconds limits how long a request waits",
    "dynamic_batching.preserve_ordering": "each request has its own answer",
    "instance_group.gpus": "pods get graphics processors by server.resources (docs/how-to/gpu-pods.md)",
    "instance_group.kind": "the image of the model server computes on the processor; a GPU needs one of your own in"
    " server.image (docs/how-to/gpu-pods.md)",
}

_HARMLESS = frozenset(
    {"input.format", "model_warmup", "dynamic_batching.preferred_batch_size", "dynamic_batching.preserve_ordering"}
)


def convert(
    message: Mapping[str, list[Any]], files: Collection[str], folder: str, *, trusted: bool = False
) -> Conversion:
    """Return the ModelDeployment of a config.pbtxt.

    Args:
        message: what `textproto.parse` returned.
        files: paths of the files below its folder, relative to it, such as `1/model.onnx`.
        folder: the folder's name, which is the model's where the config gives it none.
        trusted: whether formats that run code may be loaded without a pin.

    Raises:
        Refused: its backend or its file is none that can be served here.
    """
    source = Fields(_plain(message))
    name, findings = valid_name(source.text("name") or folder, "name")
    backend = _backend(source, files)
    parameters = _parameters(source)
    format_, usual = _trees(parameters) if backend == "fil" else (backend, _FILES[backend])
    filename = source.text("default_model_filename") or usual
    version, more = _version(source.child("version_policy"), files, filename)
    findings += more
    tensors, more = _inputs(source)
    _read_outputs(source)
    features, described = features_of(tensors) if format_ in _FILES else ([], [])
    findings += [*more, *described]
    if format_ not in _FILES and tensors:
        told = "the model's file says which columns it takes; describe them with modeldeploy package --sample FILE"
        findings.append(changed("input", told))
    if format_ == "torchscript" and len(tensors) > 1:
        features = []
        told = "several inputs are given by the names of the arguments of forward(): list these in model.yaml"
        findings.append(changed("input", told))
    findings += [lost(f"parameters.{key}", ADVICE["parameters"]) for key in parameters if key != "model_type"]
    server = {"batching": _batching(source, findings), "workers": _workers(source, findings)}
    spec = {"model": {"trusted": (trusted and format_ in RUNS_CODE) or None}, "server": server}
    described_as = {
        "name": name,
        "version": version,
        "format": format_,
        "artifacts": [filename],
        "input_features": features,
    }
    beside = {PurePosixPath(one).name: one for one in files if one.startswith(f"{version}/") and one.count("/") == 1}
    return Conversion(
        name=name,
        spec=without_empty(spec),
        metadata=without_empty(described_as),
        findings=(*findings, *source.leftovers(ADVICE, _HARMLESS)),
        files=beside,
        runs_code=format_ in RUNS_CODE,
    )


def _backend(source: Fields, files: Collection[str]) -> str:
    """The backend that the config names, or else the one that the name of the file tells, as Triton does."""
    backend, platform = source.text("backend"), source.text("platform")
    if backend or platform:
        return one_of(_BACKENDS, backend or platform, "backend" if backend else "platform", _OTHER_BACKENDS)
    wanted = source.text("default_model_filename")
    names = {PurePosixPath(wanted).name} if wanted else {PurePosixPath(one).name for one in files}
    found = [format_ for format_, usual in _FILES.items() if usual in names]
    if len(found) != 1:
        there = ", ".join(sorted(files)[:10]) or "no files"
        raise Refused(f"platform: is missing, and no file is called {' or '.join(_FILES.values())}; there are: {there}")
    return found[0]


def _plain(message: Mapping[str, list[Any]]) -> Body:
    """A message as an object: lists where the definition has them, and of any other field its last value."""

    def of(name: str, values: list[Any]) -> Any:
        plain = [_plain(one) if isinstance(one, Mapping) else one for one in values]
        return plain if name in _LISTS else plain[-1] if plain else None

    return {name: of(name, values) for name, values in message.items()}


def _parameters(source: Fields) -> dict[str, str]:
    found = {}
    for one in source.items("parameters"):
        value = one.child("value")
        found[one.text("key")] = value.text("string_value")
    return found


def _trees(parameters: Mapping[str, str]) -> tuple[str, str]:
    """Format and file of a forest. Without `model_type` FIL takes XGBoost's binary form, which has no counterpart."""
    return one_of(_TREES, parameters.get("model_type", "xgboost"), "parameters.model_type", _TREES_ELSE)


def _version(policy: Fields, files: Collection[str], filename: str) -> tuple[str, list[Finding]]:
    """The version that is served: one, the newest unless the policy says another."""
    there = sorted(
        {int(head) for head, _, name in (one.partition("/") for one in files) if head.isdigit() and name == filename}
    )
    if not there:
        raise Refused(
            f"{CONFIG}: no version has the file {filename}; there are: {', '.join(sorted(files)[:10]) or 'no files'}"
        )
    wanted, at = [max(there)], policy.path
    if "specific" in policy:
        wanted = sorted(policy.child("specific").integers("versions"))
    elif "all" in policy:
        policy.value("all")
        wanted = there
    elif "latest" in policy:
        wanted = there[-(policy.child("latest").integer("num_versions") or 1) :]
    if not wanted or wanted[-1] not in there:
        raise Refused(
            f"{at}: names version {wanted[-1] if wanted else 'none'}; there are: {', '.join(map(str, there))}"
        )
    if len(wanted) == 1:
        return str(wanted[0]), []
    served = f"a ModelDeployment serves one version, {wanted[-1]}; make one for each of the others that clients ask"
    return str(wanted[-1]), [lost(at, served)]


def _inputs(source: Fields) -> tuple[list[Tensor], list[Finding]]:
    has_batch = bool(source.integer("max_batch_size"))
    tensors, findings = [], list[Finding]()
    for one in source.items("input"):
        dims = tuple(one.integers("dims"))
        if "reshape" in one:  # then this is the shape that the model's file takes
            dims = tuple(one.child("reshape").integers("shape"))
            findings.append(changed(one.at("reshape"), f"requests have the shape of the model's file, {list(dims)}"))
        dtype = one_of(DTYPES, one.text("data_type").removeprefix("TYPE_"), one.at("data_type"))
        if not has_batch and dims[:1] not in ((-1,), (1,)):
            findings.append(
                lost(
                    one.at("dims"),
                    f"{list(dims)} has no dimension for rows, and max_batch_size is 0: export the model with a free"
                    " first dimension",
                )
            )
        tensors.append(Tensor(one.text("name"), dtype, dims if has_batch else dims[1:], one.path))
    return tensors, findings


def _read_outputs(source: Fields) -> None:
    """The model's file says what it answers; what the config adds to that is left over."""
    for one in source.items("output"):
        one.text("name"), one.text("data_type"), one.values("dims")


def _batching(source: Fields, findings: list[Finding]) -> dict[str, int | None]:
    size = source.integer("max_batch_size") or 1
    if "dynamic_batching" not in source:
        return {"maxBatchSize": 1}
    batching = source.child("dynamic_batching")
    microseconds = batching.integer("max_queue_delay_microseconds")
    delay = None if microseconds is None else -(-microseconds // 1000)
    if microseconds is not None and (microseconds % 1000 or microseconds > _LONGEST_WAIT * 1000):
        delay = min(delay or 0, _LONGEST_WAIT)
        findings.append(
            changed(
                batching.at("max_queue_delay_microseconds"),
                f"{microseconds} becomes {delay} ms: whole ones, 1000 at most",
            )
        )
    return {"maxBatchSize": size, "maxDelayMilliseconds": delay}


def _workers(source: Fields, findings: list[Finding]) -> int | None:
    count = 0
    for group in source.items("instance_group"):
        count += group.integer("count") or 1
        group.text("name")
        if group.text("kind") in ("KIND_GPU", "KIND_MODEL"):
            findings.append(lost(group.at("kind"), ADVICE["instance_group.kind"]))
    if count <= 1:
        return None
    findings.append(
        changed("instance_group", f"{count} instances are {count} server processes in a pod, each with its model")
    )
    return count
