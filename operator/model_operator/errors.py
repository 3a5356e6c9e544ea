"""What can go wrong, in the operator's own words; clients raise these from theirs."""

from dataclasses import dataclass


class OperatorError(Exception):
    """Base of all errors that the operator raises on purpose."""


class InvalidSpec(OperatorError):
    """A ModelDeployment that the schema let through but that cannot be understood.

    The message names the field, what was found and what to write instead.
    """


class ProviderError(OperatorError):
    """A provider of metrics failed, or gave something that is no single number; the message says which."""


@dataclass
class ApiError(OperatorError):
    """An answer of the Kubernetes API that is not a success.

    `status` is the HTTP status (0 when there was no answer at all), `reason` the word of the
    Status object, `retry_after` the seconds that the server asked for, `causes` the reasons in its details.
    """

    status: int
    reason: str
    message: str
    retry_after: float | None = None
    causes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"

    @property
    def is_conflict(self) -> bool:
        """Whether somebody else wrote first: look again and retry at once."""
        return self.status == 409

    @property
    def is_unreachable(self) -> bool:
        """Whether there was no answer: the connection failed, or it broke."""
        return self.status == 0

    @property
    def is_namespace_terminating(self) -> bool:
        """Whether the object was refused because its namespace is being deleted."""
        return "NamespaceTerminating" in self.causes

    @property
    def is_absent(self) -> bool:
        """Whether the object, or its kind, does not exist."""
        return self.status == 404
