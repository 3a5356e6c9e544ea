"""The messages that a model answers: `spec.server.stream` as values."""

from collections.abc import Mapping

from model_operator.api.values import Value

#: Why the servers of a model are not connected to its broker, by the reason that they report.
STREAM_PROBLEMS: Mapping[str, str] = {
    "BrokerUnavailable": "the broker does not answer: messages wait there, and requests over HTTP are answered",
    "BrokerRefused": "the broker refuses the credentials or a topic; the log of the pods has its words",
    "TopicMissing": "a topic does not exist, or is not what it has to be; the log of the pods names it",
    "BrokerUntrusted": "the certificate of the broker is of an unknown authority, or for another host: write the"
    " authority as ca.crt into the Secret spec.server.stream.tls.secretName",
    "BrokerCertificateExpired": "the certificate of the broker has expired, or is not valid yet: renew it there",
    "EncryptionMismatch": "one of the broker's port and its address has TLS, and the other has not: correct the port,"
    " or the scheme of the url",
    "TLSFilesInvalid": "the Secret spec.server.stream.tls.secretName has no certificates in PEM form, or only one of"
    " tls.crt and tls.key",
}


class BrokerAddress(Value, frozen=True, kw_only=True):
    """Address of a broker (`spec.server.stream.nats` and its like)."""

    url: str


class StreamTls(Value, frozen=True, kw_only=True):
    """Certificates for the connection to the broker (`spec.server.stream.tls`)."""

    secret_name: str


class Stream(Value, frozen=True, kw_only=True):
    """Messages to answer (`spec.server.stream`); exactly one broker is set."""

    nats: BrokerAddress | None = None
    redis: BrokerAddress | None = None
    rabbitmq: BrokerAddress | None = None
    kafka: BrokerAddress | None = None
    secret_name: str | None = None
    tls: StreamTls | None = None
    input: str
    output: str
    dead_letter: str
    group: str | None = None
    concurrency: int | None = None
    max_deliveries: int = 5

    @property
    def url(self) -> str:
        """Address of the broker; its scheme names the broker."""
        return next((one.url for one in (self.nats, self.redis, self.rabbitmq, self.kafka) if one), "")

    def group_of(self, namespace: str, name: str) -> str:
        """Return the consumer group: the one in the spec, else one that no other model has.

        Revisions share it. Names of Kubernetes have no underscore, so that two models never have the same.
        """
        return self.group or f"{namespace}_{name}"
