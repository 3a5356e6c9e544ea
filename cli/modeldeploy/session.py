"""What every command has: a connection to the cluster, a namespace, and a console. Made by `connection.py`."""

from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from modeldeploy.batches import Batch
from modeldeploy.kube import (
    DEPLOYMENTS,
    EVENTS,
    MODELBATCHES,
    MODELDEPLOYMENTS,
    MODELPOOLS,
    PODS,
    SELF_REVIEWS,
    Body,
    Kube,
    KubeError,
    Resource,
)
from modeldeploy.plain import plain
from modeldeploy.pools import Pool
from modeldeploy.rollout import GROUP, Rollout

#: What puts the resource definition and the operator into a cluster, as in the README.
INSTALL = "helm install modeldeploy helm/modeldeploy -n modeldeploy --create-namespace"


class UnknownName(Exception):
    """No object of a kind has this name; the message lists those that are there."""


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the command line."""

    kube: Kube
    namespace: str
    console: Console

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC)

    def user(self) -> str:
        """Return the name that the API server has for this user; empty where it does not say."""
        try:
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            review = self.kube.create(SELF_REVIEWS, body)
        except KubeError:
            return ""
        return str(review["status"]["userInfo"].get("username", ""))

    def show(self, table: Table) -> None:
        """Print a table; elsewhere than on a terminal without the blanks that fill its last column."""
        if self.console.is_terminal:
            self.console.print(table)
            return
        with self.console.capture() as capture:
            self.console.print(table)
        for line in capture.get().splitlines():
            self.console.out(line.rstrip(), highlight=False)

    def rollout(self, name: str) -> Rollout:
        """One ModelDeployment. Raises `UnknownName`."""
        return Rollout.from_body(self.body(name))

    def body(self, name: str) -> Body:
        """One ModelDeployment as the API server has it. Raises `UnknownName`."""
        return self._one(MODELDEPLOYMENTS, "ModelDeployment", "ModelDeployments", name)

    def rollouts(self, *, everywhere: bool = False) -> list[Rollout]:
        """All ModelDeployments of the namespace, or of all namespaces."""
        return [
            Rollout.from_body(body) for body in self._all(MODELDEPLOYMENTS, "ModelDeployments", everywhere=everywhere)
        ]

    def batch(self, name: str) -> Batch:
        """One ModelBatch. Raises `UnknownName`."""
        return Batch.from_body(self._one(MODELBATCHES, "ModelBatch", "ModelBatches", name))

    def batches(self, *, everywhere: bool = False) -> list[Batch]:
        """All ModelBatches of the namespace, or of all namespaces."""
        return [Batch.from_body(body) for body in self._all(MODELBATCHES, "ModelBatches", everywhere=everywhere)]

    def pool(self, name: str) -> Pool:
        """One ModelPool. Raises `UnknownName`."""
        return Pool.from_body(self._one(MODELPOOLS, "ModelPool", "ModelPools", name))

    def pools(self, *, everywhere: bool = False) -> list[Pool]:
        """All ModelPools of the namespace, or of all namespaces."""
        return [Pool.from_body(body) for body in self._all(MODELPOOLS, "ModelPools", everywhere=everywhere)]

    def _one(self, resource: Resource, kind: str, kinds: str, name: str) -> Body:
        try:
            if name:  # without one the path would be that of all
                return dict(plain(self.kube.get(resource, name, self.namespace)))
        except KubeError as error:
            if error.code != 404:
                raise
        found = self._all(resource, kinds, everywhere=False)
        names = ", ".join(str(one["metadata"]["name"]) for one in found) or "none"
        raise UnknownName(f"no {kind} {name!r} in namespace {self.namespace}; there are: {names}")

    def _all(self, resource: Resource, kinds: str, *, everywhere: bool) -> list[Body]:
        try:
            found = self.kube.list(resource, self.namespace, everywhere=everywhere)
        except KubeError as error:
            if error.code != 404:
                raise
            reason = f"the API server has no {kinds}; install modeldeploy's chart in the cluster: {INSTALL}"
            raise KubeError(404, error.reason, reason) from error
        return [plain(body) for body in found]

    def pods(self, name: str) -> list[Body]:
        """The pods of one ModelDeployment, by name."""
        pods: list[Body] = plain(self.kube.list(PODS, self.namespace, labels=f"{GROUP}/name={name}"))
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))

    def kept_revisions(self, name: str) -> set[str] | None:
        """Return the revisions that can be restored; None where Deployments, which hold them, may not be read."""
        try:
            deployments = self.kube.list(DEPLOYMENTS, self.namespace, labels=f"{GROUP}/name={name}")
        except KubeError as error:
            if error.code != 403:
                raise
            return None
        found = [one["metadata"] for one in deployments]
        kept = [one for one in found if f"{GROUP}/revision-spec" in (one.get("annotations") or {})]
        return {str(one["labels"][f"{GROUP}/revision"]) for one in kept}

    def events(self, name: str, count: int) -> list[Body]:
        """Its last events, oldest first."""
        fields = f"involvedObject.kind=ModelDeployment,involvedObject.name={name}"
        events: list[Body] = plain(self.kube.list(EVENTS, self.namespace, fields=fields))
        return sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime")))[-count:]
