"""TorchServe's model archives (.mar), by the manifest and the configuration in them. PURE.

https://github.com/pytorch/serve/blob/master/model-archiver/README.md
"""

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from modeldeploy.importing.fields import Fields
from modeldeploy.importing.storage import RUNS_CODE
from modeldeploy.importing.values import Body, Conversion, Finding, changed, lost, valid_name, without_empty
from modeldeploy.requests import Refused

MANIFEST = "MAR-INF/MANIFEST.json"
_REQUIREMENTS = "requirements.txt"
_LABELS = "index_to_name.json"
_FORMATS = {".pt": "torchscript", ".pth": "torchscript", ".pt2": "torchscript", ".onnx": "onnx"}
_SAVE = "torch.jit.script(model).save('model.pt'), or torch.export.save"
_LONGEST_WAIT = 1000
#: Handlers that come with TorchServe, and what they do that a model alone does not.
_HANDLERS = {
    "image_classifier": "pictures are not decoded, resized and normalized, and answers are all scores",
    "image_segmenter": "pictures are not decoded and normalized",
    "object_detector": "pictures are not decoded, and boxes are not filtered by their scores",
    "text_classifier": "texts are not tokenized",
}
_TENSORS = (
    "requests hold what the model takes; what else is needed goes into pre.py and post.py of the package"
    " (docs/how-to/steps-around-the-model.md)"
)

ADVICE = {
    "config.maxWorkers": "the number of processes is fixed (server.workers); pods are scaled by spec.autoscaling",
    "config.handler": "it is a setting of the handler: what it does goes into pre.py and post.py of the package",
    "config.deviceType": "the image of the model server computes on the processor (docs/how-to/gpu-pods.md)",
    "config.parallelType": "a model on several devices is not served",
    "config.pt2": "compile the model with torch.export, and package the .pt2",
}


def convert(manifest: Body, config: Mapping[str, Any], files: Collection[str], *, trusted: bool = False) -> Conversion:
    """Return the ModelDeployment of an archive.

    Args:
        manifest: MAR-INF/MANIFEST.json.
        config: the YAML file that the manifest names as `configFile`; empty without one.
        files: names of the files in the archive.
        trusted: whether formats that run code may be loaded without a pin.

    Raises:
        Refused: it has weights and a class in place of a model, or none that can be served here.
    """
    source, settings = Fields(manifest, "manifest"), Fields(config, "config")
    for told in ("createdOn", "archiverVersion", "runtime", "specificationVersion", "implementationVersion"):
        source.value(told)
    model = source.child("model")
    name, findings = valid_name(model.text("modelName"), model.at("modelName"))
    artifact, format_ = _artifact(model, files)
    findings += _handler(model)
    package, used = {PurePosixPath(artifact).name: artifact}, {artifact, MANIFEST, model.text("configFile")}
    if requirements := model.text("requirementsFile"):
        package[_REQUIREMENTS] = requirements
        told = "is requirements.txt of the package, which is installed only with model.installRequirements"
        findings.append(changed(model.at("requirementsFile"), told))
    if _LABELS in files:
        told = "write the labels as categories of an output feature in model.yaml"
        findings.append(lost(_LABELS, told))
    handler = model.text("handler").partition(":")[0]
    extra = sorted(set(files) - used - {requirements, _LABELS, handler, f"{handler}.py"})
    findings += [
        lost(one, "is not in the package: what reads it goes into pre.py or post.py, and it beside them")
        for one in extra
    ]
    server = {
        "workers": settings.integer("minWorkers"),
        "batching": _batching(settings, findings),
        "requestTimeoutSeconds": settings.integer("responseTimeout"),
    }
    described = {
        "name": name,
        "version": model.text("modelVersion") or None,
        "description": model.text("description") or None,
        "format": format_,
        "artifacts": [PurePosixPath(artifact).name],
    }
    return Conversion(
        name=name,
        spec=without_empty({"model": {"trusted": (trusted and format_ in RUNS_CODE) or None}, "server": server}),
        metadata=without_empty(described),
        findings=(*findings, *source.leftovers({}), *settings.leftovers(ADVICE)),
        files=package,
        runs_code=format_ in RUNS_CODE,
    )


def _artifact(model: Fields, files: Collection[str]) -> tuple[str, str]:
    """The model's file, and its format."""
    name, at = model.text("serializedFile"), model.at("serializedFile")
    if code := model.text("modelFile"):
        raise Refused(
            f"{model.at('modelFile')}: {code} has the class of a model whose weights {name} has: save it with {_SAVE}"
        )
    if not name:
        raise Refused(f"{at}: is missing: the archive has no model; save it with {_SAVE}")
    if name not in files:
        raise Refused(f"{at}: {name!r} is not in the archive; there are: {', '.join(sorted(files)[:10])}")
    suffix = PurePosixPath(name).suffix
    if suffix not in _FORMATS:
        raise Refused(f"{at}: {name!r} cannot be imported; known are {', '.join(_FORMATS)}")
    return name, _FORMATS[suffix]


def _handler(model: Fields) -> list[Finding]:
    handler, at = model.text("handler"), model.at("handler")
    if not handler or handler == "base_handler":
        return []
    name = handler.partition(":")[0].removesuffix(".py")
    if name in _HANDLERS:
        return [lost(at, f"{_HANDLERS[name]}: {_TENSORS}")]
    return [lost(at, f"the code of {handler} does not run: {_TENSORS}")]


def _batching(settings: Fields, findings: list[Finding]) -> dict[str, int | None]:
    size, wait = settings.integer("batchSize"), settings.integer("maxBatchDelay")
    if wait is not None and wait > _LONGEST_WAIT:
        findings.append(
            changed(settings.at("maxBatchDelay"), f"{wait} ms is more than {_LONGEST_WAIT}, the longest that is waited")
        )
        wait = _LONGEST_WAIT
    return {"maxBatchSize": size, "maxDelayMilliseconds": wait}
