"""A model that is tried through the API server's proxy: as the caller, and with the API key that the model asks for.

`app` makes a `Trial` for each request. A key is in memory for as long as that request takes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modeldeploy.dashboard.view.explanation import Explained, explained_of
from modeldeploy.dashboard.view.prediction import EXPLAIN, KEY_HEADER, PREDICT, BadValue, Form, NoForm, form_of
from modeldeploy.kube import SERVICES, Kube, KubeError
from modeldeploy.plain import plain

_DOCUMENT = "/openapi.json"
_UNAUTHORIZED, _NOT_FOUND = 401, 404

BodyOf = Callable[[Form], dict[str, Any]]


class KeyNeeded(Exception):
    """The model asks for an API key, or does not take the one that was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One model, asked by one caller. `scheme` is what its Service speaks, and the name of its port."""

    kube: Kube
    namespace: str
    name: str
    scheme: str
    api_key: str = field(default="", repr=False)

    def form(self) -> tuple[Form, str]:
        """Return the form, and the model's sentence on why it explains nothing, where it says one.

        Raises `KeyNeeded`, `BadValue`, `NoForm`, `KubeError`, `KubeUnreachable`.
        """
        form = self._form()
        return form, "" if form.is_explained else self._why_unexplained(form)

    def predict(self, body_of: BodyOf) -> tuple[int, Any]:
        """Return HTTP status and answer of a prediction. Raises as `form`."""
        form = self._form()
        return self._ask(PREDICT, body_of(form), form.key_header)

    def explain(self, body_of: BodyOf) -> tuple[int, Any, Explained | None]:
        """Return HTTP status and answer of an explanation, and what to draw of it. Raises as `form`."""
        form = self._form()
        status, answer = self._ask(EXPLAIN, body_of(form), form.key_header)
        return status, answer, explained_of(answer) if status < 400 else None

    def _form(self) -> Form:
        """Return the form of the document. Who needs a key for the document is told in which header by the docs."""
        status, document = self._ask(_DOCUMENT, None, KEY_HEADER)
        if status != 200:
            raise NoForm(f"it answers {_DOCUMENT} with {status}")
        return form_of(document)

    def _why_unexplained(self, form: Form) -> str:
        """Return the model's own sentence, which is its answer to who asks for an explanation all the same."""
        try:
            status, answer = self._ask(EXPLAIN, {"instances": []}, form.key_header)
        except (KeyNeeded, NoForm, KubeError):  # a prediction will say the same, or why it does not
            return ""
        is_told = status == _NOT_FOUND and isinstance(answer, Mapping)
        return str(answer.get("error", "")) if is_told else ""

    def _ask(self, path: str, body: Mapping[str, Any] | None, key_header: str) -> tuple[int, Any]:
        headers = self._headers(key_header)
        service, method = f"{self.scheme}:{self.name}:{self.scheme}", "get" if body is None else "post"
        try:
            found = self.kube.relay(SERVICES, service, path, self.namespace, method=method, headers=headers, body=body)
        except KubeError as error:
            if error.code != 403:
                raise
            verb = "get" if body is None else "create"
            right = f"the right to {verb} services/proxy in {self.namespace}"
            message = f"You cannot try predictions here: that needs {right}."
            raise KubeError(403, error.reason, message) from error
        if found.status == _UNAUTHORIZED:
            raise KeyNeeded("The model does not accept this API key." if headers else "The model needs an API key.")
        try:
            return found.status, plain(json.loads(found.body))
        except ValueError:
            raise NoForm(f"it answers {path} with {found.status} and no JSON") from None

    def _headers(self, name: str) -> dict[str, str]:
        key = self.api_key.strip()
        if not key or not name:
            return {}
        if not (key.isascii() and key.isprintable()):
            raise BadValue("The API key has characters that no header takes: letters with accents, or line breaks.")
        return {name: key}
