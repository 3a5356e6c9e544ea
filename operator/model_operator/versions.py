"""Which versions of Kubernetes the operator supports."""

import re

#: Minor versions of Kubernetes 1 that the end-to-end tests run on. The oldest is the first whose pods can sleep
#: before they stop (`lifecycle.preStop.sleep`, on by default since 1.30), which a rollout without a lost request needs.
OLDEST, NEWEST = 30, 36


def support_problem(version: str) -> str:
    """Return why a version of Kubernetes is not supported, in one sentence; empty when it is.

    Args:
        version: as the API server gives it, for example `v1.36.2` or `v1.30.3+k3s1`.
    """
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is None:
        return f"the API server calls its version {version!r}; supported is Kubernetes 1.{OLDEST} or newer"
    major, minor = map(int, found.groups())
    if (major, minor) < (1, OLDEST):
        return f"the cluster runs Kubernetes {version}, which is too old: 1.{OLDEST} is the oldest that is supported"
    return ""
