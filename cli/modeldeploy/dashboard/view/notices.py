"""What keeps the dashboard from reading, as a sentence. PURE."""

from collections.abc import Sequence

from modeldeploy.kube import MODELDEPLOYMENTS, KubeError

#: What is missing from the pages while something cannot be read.
_MISSING = {
    "models": "No model can be shown",
    "pods": "Pods are missing from the pages",
    "events": "Events are missing from the pages",
    "rates": "Requests, errors, drift and quality are missing from the pages",
}


def refused(what: str, error: KubeError, *, served: Sequence[str], install: str) -> str:
    """Return why one kind cannot be read.

    Args:
        what: the kind, as in `pods`.
        served: versions of our group that the API server has, for `models` that are not found.
        install: the command that puts the resource definition into a cluster.
    """
    if what == "models" and error.code == 404:
        if served:
            versions = ", ".join(served)
            mine = MODELDEPLOYMENTS.version
            return f"The cluster serves ModelDeployments as {versions}, and this modeldeploy reads {mine}: upgrade it."
        return f"The cluster has no ModelDeployments. Install modeldeploy's chart in it: {install}"
    if error.code == 403:
        return f"{_MISSING[what]}: you are not allowed to read what they come from. {_sentence(str(error))}"
    return f"{_MISSING[what]}: {_sentence(str(error))}"


def unreachable(what: str, message: str) -> str:
    """Return that the API server does not answer."""
    return f"{_MISSING[what]}: {_sentence(message)} It is asked again every few seconds."


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text}."
