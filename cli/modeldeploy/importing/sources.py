"""Finds out which system's document a path is, and has it converted. Reads files; used by `commands/importing.py`."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from modeldeploy.importing import kserve, mlserver, seldon, torchserve, triton
from modeldeploy.importing.contents import Archive, Contents, Folder
from modeldeploy.importing.textproto import parse
from modeldeploy.importing.values import Conversion
from modeldeploy.requests import Refused
from modeldeploy.yaml_text import load_yaml

#: A document is a page of text; whatever is larger is something else.
_MOST_BYTES = 1 << 20
_KNOWN = (
    "a manifest with InferenceServices (KServe), SeldonDeployments or Models (Seldon), model-settings.json (MLServer),"
    " a folder of a model repository with config.pbtxt (Triton), and a .mar (TorchServe)"
)
_YAML = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Options:
    """What the user says of all sources."""

    storage_uri: str = ""
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A model as it was read: by whom, from where, and what its files are in.

    `left_out` are the other objects of the document, of kinds that are not imported.
    """

    system: str
    shown: str
    conversion: Conversion
    contents: Contents | None = None
    left_out: tuple[str, ...] = ()


def read_sources(paths: Iterable[Path], options: Options) -> list[Imported]:
    """Return the models of all sources; the errors are those of `read_source`, of all sources together."""
    return _each([partial(read_source, path, options) for path in paths])


def read_source(path: Path, options: Options) -> list[Imported]:
    """Return the models that a file or a folder describes.

    Raises:
        Refused: it is none that is known, or cannot be imported; the message has the field.
        OSError: it cannot be read.
    """
    if path.is_dir():
        found = [one for one in (path, *sorted(path.iterdir())) if one.is_dir() and _described_in(one)]
        documents = [_described_in(one) for one in found[:1] if one == path] or [_described_in(one) for one in found]
        if not documents:
            raise Refused(f"{path}: has nothing to import; what is known: {_KNOWN}")
        return _each([partial(_read_file, document, options) for document in documents if document])
    return _read_file(path, options)


def _each(reads: Iterable[Callable[[], list[Imported]]]) -> list[Imported]:
    """Return what all of them read. Raises Refused with every reason: who brings fifty models is told once."""
    found, problems = list[Imported](), list[str]()
    for read in reads:
        try:
            found += read()
        except Refused as refused:
            problems.append(str(refused))
    if problems:
        raise Refused("\n".join(problems))
    return found


def _described_in(folder: Path) -> Path | None:
    """The document of a model's folder."""
    return next(
        (
            folder / name
            for name in (mlserver.SETTINGS, triton.CONFIG, torchserve.MANIFEST)
            if (folder / name).is_file()
        ),
        None,
    )


def _read_file(path: Path, options: Options) -> list[Imported]:
    try:
        if path.suffix == ".mar":
            return [_torchserve(path, Archive(path), options)]
        if path.as_posix().endswith(torchserve.MANIFEST):
            return [_torchserve(path, Folder(path.resolve().parent.parent), options)]
        if path.suffix == ".pbtxt":
            return [_triton(path, options)]
        text = _text_of(path)
        if path.suffix == ".json" and (settings := _json_of(text)) and "implementation" in settings:
            return [_mlserver(path, settings, options)]
        if path.suffix in _YAML:
            return _manifests(path, text, options)
    except Refused as refused:
        raise Refused("\n".join(f"{path}: {line}" for line in str(refused).splitlines())) from None
    raise Refused(f"{path}: is nothing that is imported; what is known: {_KNOWN}")


def _text_of(path: Path) -> str:
    if path.stat().st_size > _MOST_BYTES:
        raise Refused(f"is larger than {_MOST_BYTES >> 20} MiB, which no document is")
    return _decoded(path.read_bytes())


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"is no text: {error}") from None


def _json_of(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"is no JSON: {error}") from None
    return document if isinstance(document, dict) else None


def _triton(path: Path, options: Options) -> Imported:
    folder = path.resolve().parent
    contents = Folder(folder)
    conversion = triton.convert(parse(_text_of(path)), contents.names(), folder.name, trusted=options.trusted)
    return Imported(system="Triton", shown=str(path), conversion=conversion, contents=contents)


def _torchserve(path: Path, contents: Archive | Folder, options: Options) -> Imported:
    names = contents.names()
    if torchserve.MANIFEST not in names:
        raise Refused(f"has no {torchserve.MANIFEST}")
    manifest = _json_of(_decoded(contents.read(torchserve.MANIFEST, _MOST_BYTES))) or {}
    model = manifest.get("model")
    configured = str(model.get("configFile") or "") if isinstance(model, dict) else ""
    config = _yaml_of(_decoded(contents.read(configured, _MOST_BYTES))) if configured in names else {}
    conversion = torchserve.convert(manifest, config, names, trusted=options.trusted)
    return Imported(system="TorchServe", shown=str(path), conversion=conversion, contents=contents)


def _yaml_of(text: str) -> dict[str, Any]:
    import yaml

    try:
        document = load_yaml(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise Refused(f"the configuration is no YAML: {' '.join(str(error).split())}") from None
    return document if isinstance(document, dict) else {}


def _mlserver(path: Path, settings: dict[str, Any], options: Options) -> Imported:
    folder = path.resolve().parent
    contents = Folder(folder)
    conversion = mlserver.convert(
        settings, contents.names(), folder.name, other_uri=options.storage_uri, trusted=options.trusted
    )
    return Imported(system="MLServer", shown=str(path), conversion=conversion, contents=contents)


#: Importers of Kubernetes objects, by API group and kind.
_KINDS: dict[tuple[str, str], tuple[str, Callable[..., Conversion]]] = {
    (kserve.API_GROUP, kserve.KIND): ("KServe", kserve.convert),
    (seldon.API_GROUP, seldon.KIND): ("Seldon Core 1", seldon.convert),
    (seldon.CORE_2_GROUP, seldon.CORE_2_KIND): ("Seldon Core 2", seldon.convert_model),
}


def _manifests(path: Path, text: str, options: Options) -> list[Imported]:
    # The package of lint takes longer to import than all the rest: it is needed for YAML only.
    from modeldeploy.lint import ManifestError, read_documents

    try:
        objects = [item.body for document in read_documents(text) for item in document.items()]
    except (ManifestError, RecursionError) as error:
        raise Refused(f"is no YAML: {error}") from None
    ours = [body for body in objects if _kind_of(body) in _KINDS]
    others = [_shown(body) for body in objects if isinstance(body, dict) and body not in ours]
    if not ours:
        there = ", ".join(others) or "none"
        kinds = ", ".join(f"{kind} ({group})" for group, kind in _KINDS)
        raise Refused(f"has no object that is imported; known are {kinds}; there are: {there}")
    return _each([partial(_read_object, body, str(path), tuple(others), options) for body in ours])


def _read_object(body: dict[str, Any], shown: str, others: tuple[str, ...], options: Options) -> list[Imported]:
    system, convert = _KINDS[_kind_of(body)]
    try:
        conversion = convert(body, other_uri=options.storage_uri, trusted=options.trusted)
    except Refused as refused:
        raise Refused(f"{_shown(body)}: {refused}") from None
    return [Imported(system=system, shown=shown, conversion=conversion, left_out=others)]


def _shown(body: dict[str, Any]) -> str:
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return " ".join(str(part) for part in (body.get("kind") or "an object without a kind", name) if part)


def _kind_of(body: Any) -> tuple[str, str]:
    if not isinstance(body, dict):
        return "", ""
    return str(body.get("apiVersion") or "").partition("/")[0], str(body.get("kind") or "")


def names_of(found: Sequence[Imported]) -> Iterator[str]:
    """Yield the names of the models. Raises Refused for one that two have."""
    seen: dict[str, str] = {}
    for one in found:
        name = one.conversion.name
        if name in seen:
            raise Refused(f"{one.shown} and {seen[name]} both have a model {name}: import them into different folders")
        seen[name] = one.shown
        yield name
