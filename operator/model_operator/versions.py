"""The versions of Kubernetes that the operator supports."""

import re

#: Minor versions of Kubernetes 1 that the end-to-end tests run on. The oldest is the first with a sleep action
#: before pods stop (`lifecycle.preStop.sleep`, enabled by default since 1.30), which avoids lost requests.
OLDEST, NEWEST = 30, 36


def support_problem(version: str) -> str:
    """Return why a version of Kubernetes is not supported, in one sentence; empty if it is supported.

    Args:
        version: version from the API server, for example `v1.36.2` or `v1.30.3+k3s1`.
    """
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is None:
        return f"the API server reports the version {version!r}; Kubernetes 1.{OLDEST} or newer is supported"
    major, minor = map(int, found.groups())
    if (major, minor) < (1, OLDEST):
        return f"the cluster runs Kubernetes {version}, which is too old: 1.{OLDEST} is the oldest that is supported"
    return ""
