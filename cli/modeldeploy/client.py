"""`modeldeploy.Client`: deploy models and ask them from Python, with the rights of a kubeconfig."""

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from modeldeploy import asking, requests
from modeldeploy.arguments import Duration, model_of, name_of, seconds_of, spec_of
from modeldeploy.kube import MODELDEPLOYMENTS, PODS, SERVICES, Kube, KubeError, Resource
from modeldeploy.patience import look_again
from modeldeploy.plain import plain
from modeldeploy.rollout import GROUP, Rollout, Verdict
from modeldeploy.session import Session

#: Seconds between two looks.
INTERVAL = 0.5
#: The port of the servers in pods (docs/wire.md), and what `/feedback` answers where the prediction is not remembered.
PORT, NOT_REMEMBERED = 8080, 404
#: What the API server says of a pod that has just ended, or does not listen.
_POD_IS_AWAY = frozenset({404, 503})


class RolloutFailed(Exception):
    """A rollout ended without the new spec serving. `rollout` has its phase, failures and history."""

    def __init__(self, rollout: Rollout) -> None:
        failures = "; ".join(f"{one.revision}: {one.reason}: {one.message}" for one in rollout.other_failures)
        super().__init__(f"{rollout.name} is {rollout.phase}: {rollout.message}{f' ({failures})' if failures else ''}")
        self.rollout = rollout


class ModelRefused(Exception):
    """A model answered with an error. `status` is that of HTTP, `answer` its JSON."""

    def __init__(self, name: str, status: int, answer: Any) -> None:
        told = [answer[part] for part in ("error", "hint") if answer.get(part)] if isinstance(answer, Mapping) else ()
        super().__init__(f"{name} answered {status}: {'. '.join(map(str, told)) or answer}")
        self.status, self.answer = status, answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model answered.

    Attributes:
        values: one prediction for each row, as the model gives them.
        probabilities: one list or object for each row where they were asked for; None else.
        version: version of the model that answered, which tells a canary from the stable revision.
        id: what `Client.feedback` takes.
    """

    values: Sequence[Any]
    probabilities: Sequence[Any] | None
    version: str
    id: str


class Client:
    """Deploys models and asks them. Close it, or use it in `with`.

    Args:
        kubeconfig: default is `$KUBECONFIG`, then `~/.kube/config`, then the ServiceAccount of the pod.
        context: of the kubeconfig; default is its current one.
        namespace: default is that of the context.

    Raises:
        KubeconfigError: there is no cluster to connect to.
    """

    def __init__(
        self, *, kubeconfig: Path | str | None = None, context: str | None = None, namespace: str | None = None
    ) -> None:
        kube = Kube.connect(Path(kubeconfig) if kubeconfig is not None else None, context)
        self._session = Session(kube, namespace or kube.namespace, Console(quiet=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._session.kube.close()

    def deploy(
        self, name: str, storage_uri: str, *, trusted: bool = False, spec: Mapping[str, Any] | None = None
    ) -> Rollout:
        """Apply a ModelDeployment on the server's side: the whole of what is wished for, as a manifest is.

        Args:
            storage_uri: of the package, as in `s3://models/fraud/7`.
            trusted: whether formats that run code may be loaded without a digest.
            spec: other fields of `spec`, in their own names, as in `{"replicas": 3, "strategy": {...}}`.

        Raises:
            KubeError: the API server refuses it, and says which field is wrong.
        """
        wanted = spec_of(spec)
        manifest = {
            "apiVersion": f"{GROUP}/{MODELDEPLOYMENTS.version}",
            "kind": "ModelDeployment",
            "metadata": {"name": name_of(name)},
            "spec": {**wanted, "model": model_of(wanted, storage_uri, trusted=trusted)},
        }
        return Rollout.from_body(plain(self._session.kube.apply(MODELDEPLOYMENTS, manifest, self._session.namespace)))

    def patch(self, name: str, spec: Mapping[str, Any]) -> Rollout:
        """Change fields of `spec`, and leave the others as they are; None removes one.

        Raises:
            KubeError: there is no such ModelDeployment, or the API server refuses it, and says which field is wrong.
        """
        fields = {"spec": spec_of(spec)}
        return Rollout.from_body(
            plain(self._session.kube.merge(MODELDEPLOYMENTS, name_of(name), fields, self._session.namespace))
        )

    def wait(self, name: str, *, timeout: Duration = 600.0) -> Rollout:
        """Wait until the newest spec is live.

        Args:
            timeout: the longest wait: seconds, a timedelta, or a duration such as "5m"; 0 looks once.

        Raises:
            RolloutFailed: it went back, or cannot serve.
            TimeoutError: it is not over; the message says what it waits for.
            UnknownName: there is no such ModelDeployment.
        """
        seconds = seconds_of(timeout)
        deadline = time.monotonic() + seconds
        while True:
            longest = max(0.0, deadline - time.monotonic())
            rollout = look_again(lambda: self._session.rollout(name), pause=INTERVAL, longest=longest)
            if (found := settled(rollout)) is not None:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(unsettled(rollout, seconds))
            time.sleep(INTERVAL)

    def status(self, name: str) -> Rollout:
        """Return how a model and its rollout stand. Raises `UnknownName`."""
        return self._session.rollout(name)

    def models(self, *, everywhere: bool = False) -> list[Rollout]:
        """Return the models of the namespace, or of all."""
        return self._session.rollouts(everywhere=everywhere)

    def predict(self, name: str, rows: Sequence[Any], *, probabilities: bool = False, api_key: str = "") -> Prediction:
        """Ask a model through the API server, which needs the right to `create services/proxy`.

        Programs in the cluster ask `status(name).url` themselves: the API server is no gateway for production.

        Args:
            rows: lists in the order of the features, or objects by their names.
            probabilities: whether a classifier tells them too.
            api_key: one of `spec.server.auth`, where the model asks for one.

        Raises:
            ModelRefused: the model answered with an error.
        """
        body: dict[str, Any] = {"instances": _as_json(rows)}
        if probabilities:
            body["parameters"] = {"probabilities": True}
        identifier = uuid.uuid4().hex
        answer = self._ask(name, "/predict", body, api_key, identifier)
        return Prediction(
            values=answer["predictions"],
            probabilities=answer.get("probabilities"),
            version=answer.get("model_version", ""),
            id=identifier,
        )

    def feedback(self, name: str, identifier: str, label: Any, *, api_key: str = "") -> None:
        """Tell a model what was right: of one row its label, of several rows a list.

        The pod that predicted remembers it. With several, each is asked, which needs the right to `create pods/proxy`.

        Raises:
            ModelRefused: no pod remembers the prediction, or the label is none.
        """
        body = {"id": identifier, "label": _as_json(label)}
        try:
            self._ask(name, "/feedback", body, api_key)
        except ModelRefused as refused:
            if refused.status != NOT_REMEMBERED or not self._tell_pods(name, body, api_key):
                raise

    def promote(self, name: str, *, full: bool = False) -> str:
        """Let a rollout go on with its next step, or all the way; return what the operator did. Raises `Refused`."""
        return self._request(name, requests.promote_full if full else requests.promote)

    def abort(self, name: str) -> str:
        """Take the new revision back. Raises `Refused`."""
        return self._request(name, requests.abort)

    def retry(self, name: str) -> str:
        """Try the revision again that was aborted. Raises `Refused`."""
        return self._request(name, requests.retry)

    def undo(self, name: str, *, to_revision: str | None = None) -> str:
        """Go back to the revision that was live before, or to another that is kept. Raises `Refused`."""
        kept = self._session.kept_revisions(name)
        return self._request(name, lambda rollout, **about: requests.undo(rollout, to_revision, kept=kept, **about)[0])

    def pause(self, name: str, *, paused: bool = True) -> None:
        """Hold a rollout where it is, or let it go on."""
        asking.write(self._session, name_of(name), requests.pause(paused=paused))

    def delete(self, name: str) -> None:
        """Delete a ModelDeployment; its pods end in the background."""
        self._session.kube.delete(MODELDEPLOYMENTS, name_of(name), self._session.namespace)

    def _request(self, name: str, make: Callable[..., requests.Patch]) -> str:
        session = self._session
        patch = make(session.rollout(name), now=session.now(), user=session.user())
        return asking.ask(session, name, patch, timeout=asking.ANSWER_TIMEOUT)

    def _tell_pods(self, name: str, body: Mapping[str, Any], api_key: str) -> bool:
        """Send a label to the pods one by one until one takes it; return whether one did."""
        scheme = self._scheme(name)
        for pod in self._session.pods(name):
            at = f"{scheme}:{pod['metadata']['name']}:{PORT}"
            try:
                self._send(name, PODS, at, "/feedback", body, {"x-api-key": api_key} if api_key else {})
            except ModelRefused as refused:
                if refused.status != NOT_REMEMBERED:
                    raise
            except KubeError as error:
                if error.code not in _POD_IS_AWAY:
                    raise
            else:
                return True
        return False

    def _ask(self, name: str, path: str, body: Mapping[str, Any], api_key: str, identifier: str = "") -> Any:
        scheme = self._scheme(name)
        headers = {key: value for key, value in (("x-api-key", api_key), ("x-request-id", identifier)) if value}
        return self._send(name, SERVICES, f"{scheme}:{name}:{scheme}", path, body, headers)

    def _scheme(self, name: str) -> str:
        spec = self._session.body(name)["spec"]
        return "https" if (spec.get("server") or {}).get("tls") else "http"

    def _send(
        self, name: str, resource: Resource, at: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Any:
        found = self._session.kube.relay(
            resource, at, path, self._session.namespace, method="post", headers=headers, body=body
        )
        try:
            answer = json.loads(found.body) if found.body else None
        except ValueError:
            answer = found.body.decode(errors="replace")
        if found.status >= 400:
            raise ModelRefused(name, found.status, answer)
        return answer


def settled(rollout: Rollout) -> Rollout | None:
    """Return a rollout that serves the newest spec, None where it is not over. Raises `RolloutFailed`."""
    if rollout.verdict is Verdict.FAILED:
        raise RolloutFailed(rollout)
    return rollout if rollout.verdict is Verdict.HEALTHY else None


def unsettled(rollout: Rollout, seconds: float) -> str:
    """Return what a `TimeoutError` says."""
    return f"{rollout.name} is {rollout.phase} after {seconds:g} s: {rollout.message}"


def _as_json(value: Any) -> Any:
    """Lists of arrays, and of tables: what NumPy and pandas have is asked for in their own way."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return json.loads(value.to_json(orient="records", date_format="iso"))
    return value.tolist() if hasattr(value, "tolist") else value
