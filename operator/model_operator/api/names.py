"""Names, labels and annotations of all objects that the operator creates.

`app.kubernetes.io/*` are the recommended labels of Kubernetes
(https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/).
"""

from collections.abc import Mapping

from model_operator.api.version import GROUP

NAME = f"{GROUP}/name"
REVISION = f"{GROUP}/revision"
ROLE = f"{GROUP}/role"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "modeldeploy"

#: Hash of the object as it was applied: another hash means that it has to be applied again.
APPLIED_HASH = f"{GROUP}/applied-hash"
#: On a revision's Deployment, and on its Service where it has one: the part of the spec that the revision was made
#: from, as JSON.
REVISION_SPEC = f"{GROUP}/revision-spec"
#: On the front Service: the same of the stable revision, as `{"revision": ..., "source": ...}`. From it a stable
#: Deployment that was deleted during a rollout is made again.
STABLE_SPEC = f"{GROUP}/stable-revision-spec"
#: On pods that speak TLS alone: `https`.
SCHEME = f"{GROUP}/scheme"
#: On pods whose `/metrics` wants the token of the operator, or an API key.
PROTECTS_METRICS = f"{GROUP}/protects-metrics"
#: On a revision's Deployment: which renderer and settings made its pod template.
RENDERED_BY = f"{GROUP}/rendered-by"
#: On a revision's Deployment: the pod template as it was applied, as JSON, for operators that render another one.
TEMPLATE = f"{GROUP}/pod-template"

#: On the pods of an evaluation: whose they are, and the name of the Job. They bear no `NAME`, which Services select by.
EVALUATES = f"{GROUP}/evaluates"
EVALUATION = f"{GROUP}/evaluation"

#: On the Job and the pods of a batch, and on the runs of a schedule: the name of the ModelBatch. The objects of batches
#: have a manager of their own, so that watches for ModelDeployments do not see them.
BATCH = f"{GROUP}/batch"
BATCH_MANAGER = "modeldeploy-batch"

#: On EndpointSlices: who writes them. Kubernetes' own slices of a Service have the labels of that Service as well.
SLICE_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SLICE_MANAGER = "modeldeploy"

#: On the objects and the pods of a pool: the name of the ModelPool. They have a manager of their own, too.
POOL = f"{GROUP}/pool"
POOL_MANAGER = "modeldeploy-pool"

#: Selects everything of ours in lists and watches.
SELECTOR = f"{MANAGED_BY}={MANAGER}"
SLICE_SELECTOR = f"{SLICE_MANAGED_BY}={SLICE_MANAGER}"
BATCH_SELECTOR = f"{MANAGED_BY}={BATCH_MANAGER}"
POOL_SELECTOR = f"{MANAGED_BY}={POOL_MANAGER}"


def revision_name(name: str, revision: str) -> str:
    """Return the name of a revision's Deployment, Service and autoscaler."""
    return f"{name}-{revision}"


def consumers_name(name: str) -> str:
    """Return the name of the ConfigMap that lists the revisions which consume messages."""
    return f"{name}-stream"


def versions_name(name: str) -> str:
    """Return the name of the ConfigMap with the version in its registry that each revision is of."""
    return f"{name}-versions"


def list_name(name: str) -> str:
    """Return the name of the ConfigMap with the list of a pool's models."""
    return f"{name}-models"


def own_labels(name: str) -> dict[str, str]:
    """Return the labels that the operator sets on every object of one ModelDeployment."""
    return {
        NAME: name,
        MANAGED_BY: MANAGER,
        "app.kubernetes.io/name": "modeldeploy",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "model-server",
    }


def batch_labels(name: str) -> dict[str, str]:
    """Return the labels that the operator sets on every object of one ModelBatch."""
    return {
        BATCH: name,
        MANAGED_BY: BATCH_MANAGER,
        "app.kubernetes.io/name": "modeldeploy",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "model-batch",
    }


def pool_labels(name: str) -> dict[str, str]:
    """Return the labels that the operator sets on every object of one ModelPool."""
    return {
        POOL: name,
        MANAGED_BY: POOL_MANAGER,
        "app.kubernetes.io/name": "modeldeploy",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "model-pool",
    }


def pod_selector(name: str, revision: str | None = None) -> Mapping[str, str]:
    """Return the labels that select the pods of one revision, or of all revisions."""
    return {NAME: name} if revision is None else {NAME: name, REVISION: revision}
