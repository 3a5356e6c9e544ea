"""What can go wrong between a command and the Kubernetes API. Used by everything in this package."""


class KubeconfigError(Exception):
    """The kubeconfig does not say how to reach a cluster; the message says what to change."""


class KubeUnreachable(Exception):
    """The API server did not answer; the message names its URL."""


class KubeError(Exception):
    """The API server refused the request.

    `code` is the HTTP status, `reason` Kubernetes' word for it (NotFound, Conflict, Invalid, ...).
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
