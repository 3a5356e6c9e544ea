"""The Kubernetes API as the command line and the demo need it: a few verbs over HTTP.

Not the operator's client: that one is asynchronous, watches for days and counts its requests.
This one makes a handful of calls for a person and says clearly why one failed.
"""

from modeldeploy.kube.client import CRDS, EVENTS, MODELDEPLOYMENTS, PODS, SERVICES, Kube, Resource
from modeldeploy.kube.config import Access, read_access
from modeldeploy.kube.errors import KubeconfigError, KubeError, KubeUnreachable

__all__ = [
    "CRDS",
    "EVENTS",
    "MODELDEPLOYMENTS",
    "PODS",
    "SERVICES",
    "Access",
    "Kube",
    "KubeError",
    "KubeUnreachable",
    "KubeconfigError",
    "Resource",
    "read_access",
]
