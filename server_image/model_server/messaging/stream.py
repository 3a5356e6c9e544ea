"""Makes the consumer that the settings ask for; `server.py` runs it."""

from __future__ import annotations

import logging
import socket

from model_server.dataplane import DataPlane
from model_server.messaging.broker import Subscription
from model_server.messaging.connection import create_broker
from model_server.messaging.consumer import Consumer, MessageLimits
from model_server.messaging.gate import AlwaysOpen, Gate, RevisionsFile
from model_server.messaging.telemetry import StreamTelemetry
from model_server.settings import Settings
from model_server.telemetry import Telemetry

#: One batch in the model and one that waits for it.
_BATCHES = 2


def create_consumer(settings: Settings, plane: DataPlane, telemetry: Telemetry, worker: int) -> Consumer:
    """The consumer of one worker. Raises DependencyMissing when the broker's client is not installed."""
    subscription = Subscription(
        input=settings.stream_input,
        output=settings.stream_output,
        dead_letter=settings.stream_dead_letter,
        group=settings.stream_group or settings.name,
        # The host name is the pod's: the same after a restart of its container.
        consumer=f"{socket.gethostname()}-{worker}",
        most=min(settings.stream_concurrency or _BATCHES * settings.max_batch_size, settings.max_queue_size),
    )
    broker = create_broker(
        settings.stream_url,
        subscription,
        credentials_dir=settings.stream_credentials_dir,
        ca_file=settings.ca_file,
        tls_dir=settings.stream_tls_dir,
    )
    _quiet_clients()
    gate: Gate = AlwaysOpen()
    if settings.stream_revisions is not None:
        gate = RevisionsFile(settings.stream_revisions, settings.revision)
    limits = MessageLimits(
        max_bytes=settings.max_request_bytes,
        max_deliveries=settings.stream_max_deliveries,
        drain_seconds=settings.request_timeout_seconds,
    )
    return Consumer(broker, subscription, plane, StreamTelemetry(telemetry), gate, limits, revision=settings.revision)


def _quiet_clients() -> None:
    """Leave it to the consumer to tell what is wrong: once, and without what else a client knows of a connection."""
    for name in ("aio_pika", "aiormq", "aiokafka", "nats", "redis"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
