"""The target `modeldeploy` of `mlflow deployments` (https://mlflow.org/docs/latest/plugins.html#deployment-plugins).

A target is `modeldeploy` for the namespace of the kubeconfig's context, or `modeldeploy:/NAMESPACE`. What the interface
has no place for, such as promoting and feedback, is in `modeldeploy.Client`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

import mlflow
import yaml
from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
)

from modeldeploy.client import Client, ModelRefused, RolloutFailed
from modeldeploy.kube import KubeError
from modeldeploy.rollout import Rollout
from modeldeploy.session import UnknownName

_TARGET = "modeldeploy"
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
#: Entries of the configuration that are no fields of `spec`.
_OPTIONS = {"wait": True, "timeout": 600.0}
#: MLflow's own places, which a cluster does not know.
_OF_A_RUN = frozenset({"runs", "mlflow-artifacts", "dbfs"})


def target_help() -> str:
    """Return what `mlflow deployments help -t modeldeploy` prints."""
    return """modeldeploy serves models on Kubernetes and takes new versions live by steps.

Target:  modeldeploy               the namespace of the kubeconfig's context
         modeldeploy:/NAMESPACE    another namespace
Model:   models:/NAME@ALIAS or models:/NAME/VERSION, or what the model server reads: s3://, gs://, az://, https://,
         oci://, hf://, pvc://, file://. Register the model of a run (runs:/) first.
Config:  fields of spec by their path, values in YAML:
           -C replicas=2 -C model.secretName=mlflow-reader
           -C 'strategy={canary: {steps: [{setWeight: 50}, {pause: {}}]}}'
         wait=false returns at once; timeout=600 is how many seconds to wait for a rollout.
         model.registry.url is the tracking server of this MLflow, unless it is given.

An update changes the fields that it names, and begins a rollout where pods have to change. There are no endpoints.
"""


def run_local(
    target: str, name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, str] | None = None
) -> NoReturn:
    """Say what runs a model without a cluster."""
    raise _invalid(f"run `modeldeploy serve {model_uri}` for a model on this machine")


class ModelDeployClient(BaseDeploymentClient):  # type: ignore[misc]  # MLflow is no dependency of the checks
    """Deployments are ModelDeployments.

    Raises:
        MlflowException: the target is none, or there is no cluster to connect to; of the methods: what the cluster, the
            rollout or the model refused.
    """

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)
        self._client = Client(namespace=_namespace(target_uri))

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Create a ModelDeployment, and wait until it serves."""
        _without(endpoint, flavor)
        try:
            self._client.status(name)
        except UnknownName:
            spec, options = _read(config, model_uri)
            return self._do(lambda: self._client.deploy(name, model_uri, spec=spec), name, options)
        raise MlflowException(f"{name} exists: update it", error_code=RESOURCE_ALREADY_EXISTS)

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Change the model or fields of the spec, and wait for the rollout."""
        _without(endpoint, flavor)
        spec, options = _read(config, model_uri)
        if model_uri is not None:
            spec = {**spec, "model": {**spec.get("model", {}), "storageUri": model_uri}}
        return self._do(lambda: self._client.patch(name, spec), name, options)

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """Delete a ModelDeployment; one that is not there is deleted already."""
        _without(endpoint)
        try:
            self._client.delete(name)
        except KubeError as error:
            if error.code != 404:
                raise _failed(error) from None

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Return the ModelDeployments of the namespace."""
        _without(endpoint)
        return [_shown(one) for one in self._client.models()]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """Return how a model stands: phase, version, revisions and URL."""
        _without(endpoint)
        try:
            return _shown(self._client.status(name))
        except UnknownName as error:
            raise MlflowException(str(error), error_code=RESOURCE_DOES_NOT_EXIST) from error

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """Ask a model, by rows of a table or lists."""
        _without(endpoint)
        if deployment_name is None:
            raise _invalid("a prediction needs the name of a deployment")
        try:
            answer = self._client.predict(deployment_name, inputs)
        except (ModelRefused, UnknownName, KubeError) as error:
            raise _failed(error) from None
        return PredictionsResponse(
            {"predictions": list(answer.values), "model_version": answer.version, "id": answer.id}
        )

    def _do(self, write: Callable[[], Rollout], name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        try:
            made = write()
            return _shown(self._client.wait(name, timeout=options["timeout"]) if options["wait"] else made)
        except (KubeError, RolloutFailed, TimeoutError, UnknownName) as error:
            raise _failed(error) from None


def _namespace(target: str) -> str | None:
    """Return the namespace of `modeldeploy:/NAMESPACE`."""
    if target == _TARGET:
        return None
    parts = urlsplit(target)
    namespace = parts.path.removeprefix("/")
    if parts.scheme != _TARGET or parts.netloc or not _NAMESPACE.fullmatch(namespace):
        raise _invalid(f"{target} is no target; write modeldeploy, or modeldeploy:/NAMESPACE")
    return namespace


def _read(config: Mapping[str, Any] | None, model_uri: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of `spec` and the options of a configuration."""
    spec: dict[str, Any] = {}
    options: dict[str, Any] = {**_OPTIONS}
    for path, value in (config or {}).items():
        read = _value(path, value)
        if path in options:
            options[path] = _option(path, read)
        else:
            _put(spec, path, read)
    scheme = urlsplit(model_uri or "").scheme
    if scheme in _OF_A_RUN:
        raise _invalid(f"{model_uri} is a place of MLflow's runs: register the model, and give models:/NAME/VERSION")
    tracking = mlflow.get_tracking_uri()
    if (
        scheme == "models"
        and "registry" not in spec.get("model", {})
        and urlsplit(tracking).scheme in ("http", "https")
    ):
        _put(spec, "model.registry.url", tracking)
    return spec, options


def _value(path: str, value: Any) -> Any:
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError as error:
        raise _invalid(f"{path}: {value!r} is no YAML: {error}") from error


def _option(path: str, value: Any) -> Any:
    wanted = type(_OPTIONS[path])
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted):
        raise _invalid(f"{path} is {value!r}; write {'true or false' if wanted is bool else 'seconds'}")
    return value


def _put(spec: dict[str, Any], path: str, value: Any) -> None:
    """Set a field by its path. Raises MlflowException where the path goes on below a value that has no fields."""
    *parents, last = path.removeprefix("spec.").split(".")
    place = spec
    for name in parents:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise _invalid(f"{path}: {name} was given another value")
    if last in place:
        raise _invalid(f"{path} was given twice")
    place[last] = value


def _shown(rollout: Rollout) -> dict[str, Any]:
    return {
        "name": rollout.name,
        "flavor": _TARGET,  # what MLflow prints as the kind of deployment
        "namespace": rollout.namespace,
        "phase": rollout.phase,
        "message": rollout.message,
        "ready": rollout.is_ready,
        "version": rollout.version,
        "stableRevision": rollout.stable,
        "canaryRevision": rollout.canary,
        "weight": rollout.weight,
        "url": rollout.url,
    }


def _without(endpoint: str | None, flavor: str | None = None) -> None:
    if endpoint is not None:
        raise _invalid("modeldeploy has no endpoints: a deployment has its own URL")
    if flavor is not None:
        raise _invalid(f"a flavor is not chosen here, {flavor} either: the server finds the format of the package")


def _invalid(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def _failed(error: Exception) -> MlflowException:
    code = RESOURCE_DOES_NOT_EXIST if isinstance(error, UnknownName) else INTERNAL_ERROR
    return MlflowException(str(error), error_code=code)
