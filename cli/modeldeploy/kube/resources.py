"""Where the kinds that the command line works with live in the Kubernetes API. PURE; used by `client`."""

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind's place in the API. `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def qualified(self) -> str:
        """Plural with its group, as in `deployments.apps`: what `kubectl auth can-i` takes."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, of one object, or of its subresource."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/" + "/".join(quote(part, safe="") for part in [*parts, self.plural, name, subresource] if part)


MODELDEPLOYMENTS = Resource("modeldeploy.dev", "v1alpha1", "modeldeployments")
MODELBATCHES = Resource("modeldeploy.dev", "v1alpha1", "modelbatches")
MODELPOOLS = Resource("modeldeploy.dev", "v1alpha1", "modelpools")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)
SELF_REVIEWS = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", namespaced=False)
PODS = Resource("", "v1", "pods")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
JOBS = Resource("batch", "v1", "jobs")
SERVICES = Resource("", "v1", "services")
EVENTS = Resource("", "v1", "events")
