"""What can go wrong between a person and the Kubernetes API. Used by `client` and `config`."""


class KubeconfigError(Exception):
    """The kubeconfig does not say how to reach a cluster; the message says what to mend."""


class KubeUnreachable(Exception):
    """The API server did not answer; the message names its URL."""


class KubeError(Exception):
    """The API server refused.

    `code` is the HTTP status, `reason` Kubernetes' word for it (NotFound, Conflict, Invalid, ...).
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
