"""The errors of the operator; clients raise them from those of their libraries."""

from dataclasses import dataclass

#: Characters of a message: it goes into statuses, Events and logs, and what it quotes of a spec may have a million.
LONGEST_MESSAGE = 4_000
_CUT = " [...] "
#: Status codes that are not about the object: no response, conflict, too many requests, unavailable.
_RETRYABLE = frozenset({0, 409, 429, 503, 504})


def shortened(text: str) -> str:
    """Return the beginning and the end of a long message: they have the field, and what to write instead."""
    if len(text) <= LONGEST_MESSAGE:
        return text
    kept = (LONGEST_MESSAGE - len(_CUT)) // 2
    return f"{text[:kept]}{_CUT}{text[-kept:]}"


class OperatorError(Exception):
    """Base of all errors that the operator raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class InvalidSpec(OperatorError):
    """A ModelDeployment that passed the schema but is invalid.

    The message names the field, its value and what to write instead.
    """


class NotAllowed(InvalidSpec):
    """A ModelDeployment that is valid and that a policy of the cluster's administrator refuses.

    The message names the field, the rule, where it is set and who sets it. `reason` is that of the condition.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ProviderError(OperatorError):
    """A metric provider failed, or did not return a single number; the message has the details."""


@dataclass
class ApiError(OperatorError):
    """A response of the Kubernetes API that is not a success.

    `status` is the HTTP status code (0 without a response), `reason` that of the Status object, `retry_after` the
    seconds in the Retry-After header, `causes` the reasons in the details of the Status, `kind` the resource there.
    """

    status: int
    reason: str
    message: str
    retry_after: float | None = None
    causes: tuple[str, ...] = ()
    kind: str = ""

    def __post_init__(self) -> None:
        self.reason, self.message = shortened(self.reason), shortened(self.message)

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"

    @property
    def is_conflict(self) -> bool:
        """Whether another writer was first: read the object again and retry at once."""
        return self.status == 409

    @property
    def is_unreachable(self) -> bool:
        """Whether there was no response: the connection failed or broke."""
        return self.status == 0

    @property
    def is_namespace_terminating(self) -> bool:
        """Whether the object was rejected because its namespace is being deleted, or is gone already."""
        return "NamespaceTerminating" in self.causes or (self.is_absent and self.kind == "namespaces")

    @property
    def is_rejection(self) -> bool:
        """Whether the object itself was rejected, so that a user must act: an unknown field is a 500, and no 422."""
        return self.status not in _RETRYABLE and not self.is_namespace_terminating

    @property
    def is_absent(self) -> bool:
        """Whether the object, or its kind, does not exist."""
        return self.status == 404
