"""A sample of inputs and predictions, for people and for retraining. Never slows a prediction: what does
not fit the queue is dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import random
import sys
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

import orjson
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.domain.model import Identity, LoadedModel
from model_server.domain.tensors import Inputs, Outputs, values_of
from model_server.errors import SettingsInvalid
from model_server.monitoring.window import bytes_of_all
from model_server.settings import Settings
from model_server.telemetry import LABELS, Telemetry

log = logging.getLogger(__name__)

QUEUE_SIZE = 1_000
#: Of the arrays that wait in the queue.
QUEUE_BYTES = 64 * 2**20
BATCH = 100
FLUSH_SECONDS = 1.0
REDACTED = "[redacted]"


@dataclass(frozen=True, slots=True)
class Record:
    """One answered request."""

    identifier: str
    inputs: Inputs
    outputs: Outputs


class Sink(Protocol):
    """Where entries go; called from one thread."""

    def write(self, entries: list[bytes]) -> None:
        """Write JSON objects; raises OSError when it cannot."""


class StdoutSink:
    """One JSON object a line on stdout, among the other log lines."""

    def write(self, entries: list[bytes]) -> None:
        sys.stdout.write("".join(entry.decode() + "\n" for entry in entries))
        sys.stdout.flush()


class HttpSink:
    """A batch of CloudEvents (structured JSON) to an HTTP address."""

    TIMEOUT_SECONDS = 5

    def __init__(self, address: str, identity: Identity) -> None:
        self._address = address
        self._source = f"/modeldeploy/{identity.model}/{identity.revision or identity.version}"

    def write(self, entries: list[bytes]) -> None:
        events = [self._event(entry) for entry in entries]
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked when the sink was chosen
            self._address,
            data=b"[" + b",".join(events) + b"]",
            headers={"content-type": "application/cloudevents-batch+json"},
        )
        with urllib.request.urlopen(request, timeout=self.TIMEOUT_SECONDS):  # noqa: S310
            pass

    def _event(self, entry: bytes) -> bytes:
        data = orjson.loads(entry)
        return orjson.dumps(
            {
                "specversion": "1.0",
                "type": "dev.modeldeploy.prediction",
                "source": self._source,
                "id": data["id"],
                "time": data["time"],
                "datacontenttype": "application/json",
                "data": data,
            }
        )


class StorageSink:
    """JSON lines in objects below a storage URI, one object a batch."""

    def __init__(self, uri: str, environ: Mapping[str, str]) -> None:
        from model_server.storage.folder import open_folder

        self._folder = open_folder(uri, environ)
        self._stem = f"{random.getrandbits(32):08x}"

    def write(self, entries: list[bytes]) -> None:
        now = datetime.now(UTC)
        self._folder.write(f"{now:%Y-%m-%d}/{now:%H%M%S.%f}-{self._stem}.jsonl", b"\n".join(entries) + b"\n")


R = TypeVar("R")


class SampledLog(Collector, ABC, Generic[R]):
    """Samples, queues, and writes in a thread of its own. What a record is, and how it is written, subclasses say."""

    def __init__(self, sink: Sink, settings: Settings, telemetry: Telemetry) -> None:
        self._sink = sink
        self._rate = settings.input_log_sample_rate
        self._redact = frozenset(settings.input_log_redact)
        self._telemetry = telemetry
        self._written, self._dropped = (telemetry.values.declare().first for _ in range(2))
        self._queue: queue.Queue[tuple[R, int] | None] = queue.Queue(QUEUE_SIZE)
        # Each is written by one thread: their difference waits.
        self._offered_bytes = self._taken_bytes = 0
        self._thread = threading.Thread(target=self._run, name="input-log", daemon=True)
        self._thread.start()
        telemetry.registry.register(self)

    @abstractmethod
    def size(self, record: R) -> int:
        """The bytes that a record keeps while it waits."""

    @abstractmethod
    def entry(self, record: R) -> bytes:
        """A record as it is written."""

    def is_sampled(self) -> bool:
        """Toss the coin for one request."""
        return random.random() < self._rate  # noqa: S311 - a sample, not a secret

    def drop(self) -> None:
        """Count a sampled request that is not written."""
        self._telemetry.values.own[self._dropped] += 1

    def offer(self, record: R) -> None:
        """Queue a record, or drop and count it."""
        size = self.size(record)
        try:
            if self._offered_bytes - self._taken_bytes + size > QUEUE_BYTES:
                raise queue.Full
            self._queue.put_nowait((record, size))
            self._offered_bytes += size
        except queue.Full:
            self.drop()

    def close(self) -> None:
        """Write what is queued, for two seconds at most."""
        try:
            self._queue.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(2)

    def collect(self) -> Iterable[Metric]:
        labels = self._telemetry.identity.labels
        for name, place, text in (
            ("written", self._written, "Requests written to the input log."),
            ("dropped", self._dropped, "Sampled requests that did not reach the input log."),
        ):
            family = CounterMetricFamily(f"modeldeploy_input_log_{name}", text, labels=LABELS)
            family.add_metric(labels, self._telemetry.values.sum(place))
            yield family

    def _run(self) -> None:
        going = True
        while going:
            records, going = self._collect()
            if records:
                self._write(records)

    def _collect(self) -> tuple[list[R], bool]:
        """Up to a batch of records, waiting a moment for more; False when the log is closed."""
        first = self._queue.get()
        records: list[R] = []
        until = time.monotonic() + FLUSH_SECONDS
        while first is not None:
            record, size = first
            self._taken_bytes += size
            records.append(record)
            left = until - time.monotonic()
            if len(records) >= BATCH or left <= 0:
                return records, True
            try:
                first = self._queue.get(timeout=left)
            except queue.Empty:
                return records, True
        return records, False

    def _write(self, records: list[R]) -> None:
        # One by one: a request that cannot be written must not take along what others have sent.
        entries = [entry for record in records if (entry := self._entry_or_none(record)) is not None]
        if not entries:
            return
        try:
            self._sink.write(entries)
            self._telemetry.values.own[self._written] += len(entries)
        except Exception as error:
            # Whatever the sink's trouble, the log must neither end nor reach the predictions.
            self._telemetry.values.own[self._dropped] += len(entries)
            log.warning("input log: %d entries lost: %s", len(entries), error)

    def _entry_or_none(self, record: R) -> bytes | None:
        try:
            return self.entry(record)
        except Exception as error:
            self.drop()
            log.warning("input log: an entry cannot be written: %s", error)
            return None

    def document(self, identifier: str, inputs: Any, outputs: Any) -> bytes:
        """One answered request as JSON."""
        identity = self._telemetry.identity
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "logger": "input_log",
            "id": identifier,
            "model": identity.model,
            "version": identity.version,
            "revision": identity.revision,
            "inputs": inputs,
            "outputs": outputs,
        }
        return orjson.dumps(entry, default=repr, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


class InputLog(SampledLog[Record]):
    """The log of a model of ours: rows as objects, or named arrays."""

    def __init__(self, sink: Sink, settings: Settings, loaded: LoadedModel, telemetry: Telemetry) -> None:
        self._loaded = loaded
        super().__init__(sink, settings, telemetry)

    @classmethod
    def of(cls, settings: Settings, loaded: LoadedModel, telemetry: Telemetry) -> InputLog | None:
        """The log the settings ask for, None for a rate of 0. Raises SettingsInvalid for an unknown sink."""
        if settings.input_log_sample_rate == 0:
            return None
        names = {feature.name for feature in loaded.adapter.features} or {
            tensor.name for tensor in loaded.adapter.tensors
        }
        unknown = sorted(set(settings.input_log_redact) - names)
        if unknown:
            raise SettingsInvalid(
                f"input log redacts {unknown[0]!r}, which is not an input of this model",
                hint=f"The model's inputs: {', '.join(sorted(names)[:20])}.",
            )
        return cls(open_sink(settings.input_log_sink, loaded.identity), settings, loaded, telemetry)

    def size(self, record: Record) -> int:
        return bytes_of_all(record.inputs, QUEUE_BYTES) + bytes_of_all(record.outputs, QUEUE_BYTES)

    def entry(self, record: Record) -> bytes:
        outputs = {name: array.tolist() for name, array in record.outputs.items()}
        return self.document(record.identifier, self._rows(record.inputs), outputs)

    def _rows(self, inputs: Inputs) -> Any:
        """Rows as objects by feature where features have names, else the named arrays."""
        names = [feature.name for feature in self._loaded.adapter.features]
        if names and len(inputs) == 1 and names != list(inputs):
            rows = next(iter(inputs.values())).tolist()
            return [{n: REDACTED if n in self._redact else v for n, v in zip(names, row, strict=True)} for row in rows]
        return {name: REDACTED if name in self._redact else values_of(array) for name, array in inputs.items()}


def open_sink(sink: str, identity: Identity) -> Sink:
    """The sink that a setting names. Raises SettingsInvalid for an unknown one."""
    if sink == "stdout":
        return StdoutSink()
    if sink.startswith(("http://", "https://")):
        return HttpSink(sink, identity)
    import os

    return StorageSink(sink, os.environ)
