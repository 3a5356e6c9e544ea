"""A stand-in for Kubeflow's Model Registry, whose server is written in Go: its REST API over objects in memory.

What it takes and answers are the documents of the registry's own Python client (`mr_openapi`, generated from its
OpenAPI document): it takes no field that they do not have, and each answer has been one of theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import http_servers
import mr_openapi.models as documents

PREFIX = "/api/model_registry/"


class Absent(Exception):
    """No such object."""


@dataclass
class Registry:
    """What the registry holds, by id. `api` is the version of the API that it speaks."""

    api: str = "v1"
    token: str = ""
    url: str = ""
    #: As lists, in which an id is a place: nothing is ever deleted.
    models: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    #: The versions that were changed.
    patches: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    #: Answers in place of its own, by the end of a path.
    says: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    page_size: int = 100

    def register(self, name: str, version: str, uri: str, **more: Any) -> dict[str, Any]:
        """Make a version with an artifact, and its registered model where there is none."""
        found = [one for one in self.models if one["name"] == name]
        model = found[0] if found else self.add(self.models, {"name": name, "state": "LIVE"})
        made = self.add(self.versions, {"name": version, "state": "LIVE", "registeredModelId": model["id"], **more})
        self.add(self.artifacts, {"artifactType": "model-artifact", "uri": uri, "state": "LIVE", "of": made["id"]})
        return made

    def add(self, to: list[dict[str, Any]], fields: dict[str, Any]) -> dict[str, Any]:
        to.append({"id": str(len(to) + 1), "createTimeSinceEpoch": "1", **fields})
        return to[-1]

    def properties(self, version: str) -> dict[str, str]:
        """The texts among the custom properties of a version."""
        (found,) = (one for one in self.versions if one["name"] == version)
        held = found.get("customProperties", {})
        return {key: value["string_value"] for key, value in held.items() if "string_value" in value}

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[Any, dict[str, Any]]:
        """The kind of the answer's document, and its fields. Raises Absent."""
        kinds = {"registered_model": self.models, "model_version": self.versions, "model_artifact": self.artifacts}
        if path in ("registered_model", "model_version"):
            parent = query.get("parentResourceId")
            found = [
                one
                for one in kinds[path]
                if one["name"] == query["name"] and parent in (None, one.get("registeredModelId"))
            ]
            if not found:
                raise Absent
            return getattr(documents, "RegisteredModel" if path == "registered_model" else "ModelVersion"), found[0]
        if match := re.fullmatch(r"registered_models/(\d+)/versions", path):
            if method == "POST":
                return documents.ModelVersion, self.add(self.versions, {**body, "registeredModelId": match[1]})
            held = [one for one in self.versions if one["registeredModelId"] == match[1]]
            return documents.ModelVersionList, self.page(held, query)
        if match := re.fullmatch(r"model_versions/(\d+)/artifacts", path):
            if method == "POST":
                return documents.Artifact, self.add(self.artifacts, {**body, "of": match[1]})
            held = [one for one in self.artifacts if one["of"] == match[1]]
            return documents.ArtifactList, self.page(held, query)
        if match := re.fullmatch(r"model_versions/(\d+)", path):
            held = [one for one in self.versions if one["id"] == match[1]]
            if method == "PATCH":
                self.patches.append(body)
                held[0].update(body)  # as the registry: the properties that are given take the place of all
            return documents.ModelVersion, held[0]
        if path == "registered_models" and method == "GET":
            return documents.RegisteredModelList, self.page(self.models, query)
        if path in ("registered_models", "model_versions") and method == "POST":
            kind = documents.RegisteredModel if path == "registered_models" else documents.ModelVersion
            return kind, self.add(kinds[path[:-1]], body)
        raise Absent

    def page(self, held: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        held = sorted(held, key=lambda one: int(one["id"]), reverse=query.get("sortOrder") == "DESC")
        start, size = int(query.get("nextPageToken") or 0), min(int(query.get("pageSize") or 100), self.page_size)
        after = str(start + size) if start + size < len(held) else ""
        items = held[start : start + size]
        return {"items": items, "size": len(items), "pageSize": size, "nextPageToken": after}


#: What may be written where, by method and the last word of the path that is no number.
_TAKES = {
    ("POST", "registered_models"): documents.RegisteredModelCreate,
    ("POST", "model_versions"): documents.ModelVersionCreate,
    ("POST", "versions"): documents.ModelVersion,
    ("POST", "artifacts"): documents.Artifact,
    ("PATCH", "model_versions"): documents.ModelVersionUpdate,
}


@contextmanager
def running(address: str = "127.0.0.1", **settings: Any) -> Iterator[Registry]:
    """Serve an empty registry on loopback, or on another own address."""
    registry = Registry(**settings)

    class Handler(http_servers.Handler):
        def do_GET(self) -> None:
            body, status = self.said()
            kind = "application/json" if body.startswith(b"{") else "text/plain"
            self.answer(body, status, content_type=kind)

        def said(self) -> tuple[bytes, int]:
            url = urlsplit(self.path)
            registry.requests.append(f"{self.command} {self.path}")
            for end, (status, body) in registry.says.items():
                if url.path.endswith(end):
                    return body, status
            if registry.token and self.headers.get("authorization") != f"Bearer {registry.token}":
                return b"who?", 401
            version, _, path = url.path.removeprefix(PREFIX).partition("/")
            if version != registry.api:
                return b"404 page not found\n", 404
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            text = self.body().decode()
            words = [word for word in path.split("/") if not word.isdecimal()]
            if text:
                kind = _TAKES[self.command, words[-1]]
                given = kind.from_json(text)
                assert given is not None
                unknown = given.to_dict()
                assert json.loads(text).keys() <= unknown.keys(), f"{kind.__name__} has no {text}"
            try:
                kind, fields = registry.answer(self.command, path, query, json.loads(text) if text else None)
            except Absent:
                refusal = documents.Error(code="404", message="no such object").to_json()
                return refusal.encode(), 404
            shown = kind.from_json(json.dumps(fields)).to_json()
            return shown.encode(), 201 if self.command == "POST" else 200

        do_POST = do_PATCH = do_GET

    with http_servers.served(Handler, address=address) as where:
        registry.url = f"http://{where}"
        yield registry
