"""The kinds that the operator uses, with their paths and verbs: the source of its RBAC rules."""

from dataclasses import dataclass
from urllib.parse import quote

from model_operator.api.batch import BATCH_KIND, BATCH_PLURAL
from model_operator.api.names import BATCH_SELECTOR, POOL_SELECTOR, SELECTOR, SLICE_SELECTOR
from model_operator.api.pool import POOL_KIND, POOL_PLURAL
from model_operator.api.values import replace
from model_operator.api.version import GROUP, KIND, PLURAL, VERSION


@dataclass(frozen=True, slots=True)
class KindInfo:
    """API group, version and plural of a kind. `selector` limits lists and watches."""

    kind: str
    group: str
    version: str
    plural: str
    verbs: tuple[str, ...]
    selector: str = SELECTOR

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """Path of the group version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def collection(self, namespace: str = "") -> str:
        """Return the path of all objects, in one namespace or in the cluster."""
        space = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"{self.root}{space}/{self.plural}"

    def path(self, namespace: str, name: str) -> str:
        """Return the path of one object."""
        return f"{self.collection(namespace)}/{quote(name, safe='')}"


#: Server-side apply is a patch, and a create where the object does not exist yet.
_CHILD = ("get", "list", "watch", "create", "patch", "delete")

RESOURCE = KindInfo(KIND, GROUP, VERSION, PLURAL, ("get", "list", "watch", "patch"), selector="")
EVENT = KindInfo("Event", "", "v1", "events", ("create",), selector="")
#: Credentials of users, by a Role in the namespace of the Secret (docs/teams.md), never in all namespaces.
SECRET = KindInfo("Secret", "", "v1", "secrets", ("get",), selector="")
#: The Secret of the installation (clients/token_secret.py), which the chart makes without data.
TOKEN_SECRET = KindInfo("Secret", "", "v1", "secrets", ("get", "patch"), selector="")
LEASE = KindInfo("Lease", "coordination.k8s.io", "v1", "leases", ("get", "create", "update"), selector="")

#: Kinds that the operator creates, updates and deletes.
CHILDREN = (
    KindInfo("Deployment", "apps", "v1", "deployments", _CHILD),
    KindInfo("Service", "", "v1", "services", _CHILD),
    KindInfo("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", _CHILD, selector=SLICE_SELECTOR),
    KindInfo("ConfigMap", "", "v1", "configmaps", _CHILD),
    KindInfo("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", _CHILD),
    KindInfo("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", _CHILD),
    KindInfo("Job", "batch", "v1", "jobs", _CHILD),
    KindInfo("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes", _CHILD),
    KindInfo("ServiceMonitor", "monitoring.coreos.com", "v1", "servicemonitors", _CHILD),
    KindInfo("PrometheusRule", "monitoring.coreos.com", "v1", "prometheusrules", _CHILD),
)
#: Kinds that it only reads.
POD = KindInfo("Pod", "", "v1", "pods", ("list", "watch"))

WATCHED = (RESOURCE, *CHILDREN, POD)

#: Runs of a schedule are ModelBatches that the operator creates and deletes.
BATCH = KindInfo(BATCH_KIND, GROUP, VERSION, BATCH_PLURAL, _CHILD, selector="")
_JOB = next(info for info in CHILDREN if info.kind == "Job")
#: What the engine of batches watches; its Jobs and pods have another manager than those of ModelDeployments.
WATCHED_FOR_BATCHES = (BATCH, replace(_JOB, selector=BATCH_SELECTOR), replace(POD, selector=BATCH_SELECTOR))

POOL = KindInfo(POOL_KIND, GROUP, VERSION, POOL_PLURAL, ("get", "list", "watch", "patch"), selector="")
_OF_POOLS = ("Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "ServiceMonitor")
#: What the engine of pools watches; its objects have a manager of their own, too.
WATCHED_FOR_POOLS = (
    POOL,
    *(replace(info, selector=POOL_SELECTOR) for info in CHILDREN if info.kind in _OF_POOLS),
    replace(POD, selector=POOL_SELECTOR),
)

BY_KIND = {info.kind: info for info in (*WATCHED, BATCH, POOL, EVENT, LEASE)}


def rbac_rules() -> list[dict[str, list[str]]]:
    """Return the rules of the operator's role, one for each kind and subresource that it uses.

    Leases and Secrets are not included: their Roles are in the operator's own namespace and in those of users.
    """
    rules = [
        {"apiGroups": [info.group], "resources": [info.plural], "verbs": list(info.verbs)}
        for info in (*WATCHED, BATCH, POOL, EVENT)
    ]
    plurals = (PLURAL, BATCH_PLURAL, POOL_PLURAL)
    status = {"apiGroups": [GROUP], "resources": [f"{plural}/status" for plural in plurals], "verbs": ["patch"]}
    # Owner references with blockOwnerDeletion require the right to update the owner's finalizers
    # (OwnerReferencesPermissionEnforcement admission plugin).
    finalizers = {
        "apiGroups": [GROUP],
        "resources": [f"{plural}/finalizers" for plural in plurals],
        "verbs": ["update"],
    }
    return [*rules, status, finalizers]
