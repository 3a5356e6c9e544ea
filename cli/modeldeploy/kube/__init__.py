"""The Kubernetes API as the command line and the demo need it: a few verbs, through the official client.

Not the operator's client: that one is asynchronous, watches for days and counts its requests.
This one makes a handful of calls for a person and says clearly why one failed. Nothing here imports the official client
before `Kube.connect`.
"""

from modeldeploy.kube.client import Body, Kube
from modeldeploy.kube.errors import KubeconfigError, KubeError, KubeUnreachable
from modeldeploy.kube.impersonation import Impersonation
from modeldeploy.kube.resources import (
    CRDS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    MODELBATCHES,
    MODELDEPLOYMENTS,
    MODELPOOLS,
    PODS,
    SELF_REVIEWS,
    SERVICES,
    Resource,
)

__all__ = [
    "CRDS",
    "DEPLOYMENTS",
    "EVENTS",
    "JOBS",
    "MODELBATCHES",
    "MODELDEPLOYMENTS",
    "MODELPOOLS",
    "PODS",
    "SELF_REVIEWS",
    "SERVICES",
    "Body",
    "Impersonation",
    "Kube",
    "KubeError",
    "KubeUnreachable",
    "KubeconfigError",
    "Resource",
]
