"""One run: every entry of the log meets its labels, is scored, and sent where it has not been sent before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from model_server.errors import DatasetInvalid
from model_server.labels.ledger import Ledger, digest_of
from model_server.labels.log_reader import Entry, LogReader, Part
from model_server.labels.scores import Pair, RevisionScores, pairs_of
from model_server.labels.sender import Outcome, Senders
from model_server.labels.store import LabelStore

#: A log with more revisions is no log of one model.
MOST_REVISIONS = 1_000


class Run:
    """Joins, scores and sends. `again` sends labels that earlier runs have sent; without `senders` none is sent."""

    def __init__(
        self,
        store: LabelStore,
        reader: LogReader,
        ledger: Ledger,
        senders: Senders | None,
        *,
        classes: Sequence[Any] = (),
        again: bool = False,
    ) -> None:
        self._store = store
        self._reader = reader
        self._ledger = ledger
        self._senders = senders
        self._classes = tuple(classes)
        self._again = again
        self._revisions: dict[str, RevisionScores] = {}

    def join(self, parts: Sequence[Part]) -> None:
        """Read the whole log. Raises DatasetInvalid for the log of another model, StorageUnavailable."""
        try:
            for part in parts:
                self._ledger.begin(part.name)
                self._store.remember_sent(() if self._again else self._ledger.receipts())
                for entry in self._reader.entries(part):
                    self._take(entry)
        finally:
            self._ledger.flush()
        self._check()

    def report(self) -> dict[str, Any]:
        """The result as a JSON object."""
        labels = self._store.finish(self._reader.oldest)
        failures = self._senders.failures() if self._senders else {}
        return {
            "labels": asdict(labels) | {"first_conflicting": self._store.first_conflict()},
            "log": asdict(self._reader.counts) | {"oldest": self._reader.oldest},
            "revisions": {
                revision: asdict(scores.counts)
                | {"metrics": scores.metrics()}
                | ({"not_reached": failures[revision]} if revision in failures else {})
                for revision, scores in self._revisions.items()
            },
        }

    def _take(self, entry: Entry) -> None:
        scores = self._scores(entry)
        counts, rows = scores.counts, len(entry.predictions)
        counts.predictions += rows
        found = self._store.find(entry.id)
        if not found:
            counts.unlabelled += rows
            return
        if not self._store.join(entry.id, entry.revision):
            counts.repeated += rows
            return
        contradicted = sum(conflicts for _, _, conflicts in found)
        counts.conflicting += contradicted
        try:
            pairs = pairs_of(entry, found, self._classes)
        except DatasetInvalid as error:
            scores.refuse(f"id {entry.id[:80]}: {error}", rows)
            return
        counts.unlabelled += max(0, rows - len(pairs) - contradicted)
        for pair in pairs:
            self._score(entry, pair, scores)

    def _score(self, entry: Entry, pair: Pair, scores: RevisionScores) -> None:
        """Send a label, unless it was, and score it: what the server refuses is not scored."""
        try:
            self._send(entry, pair, scores)
            scores.add(pair)
        except DatasetInvalid as error:
            scores.refuse(f"id {entry.id[:80]}: {error}")

    def _send(self, entry: Entry, pair: Pair, scores: RevisionScores) -> None:
        counts = scores.counts
        digest = digest_of(entry.id, pair.row, entry.revision)
        if self._store.was_sent(digest):
            counts.already_sent += 1
            return
        sender = self._senders.of(entry.revision) if self._senders else None
        outcome = sender.send(pair.prediction, pair.label) if sender else Outcome.NOT_SENT
        if outcome is Outcome.NOT_SENT:
            counts.not_sent += 1
            return
        counts.sent += outcome is Outcome.SENT
        counts.unconfirmed += outcome is Outcome.UNCONFIRMED
        self._ledger.add(digest)

    def _scores(self, entry: Entry) -> RevisionScores:
        scores = self._revisions.get(entry.revision)
        if scores is None:
            if len(self._revisions) >= MOST_REVISIONS:
                raise DatasetInvalid(f"the log names more than {MOST_REVISIONS} revisions, and is no log of one model")
            scores = self._revisions[entry.revision] = RevisionScores(self._classes)
        scores.counts.version = entry.version
        return scores

    def _check(self) -> None:
        counts = self._reader.counts
        if counts.entries:
            return
        if counts.other_models:
            raise DatasetInvalid(
                f"the log is of another model, {self._reader.other_model!r}",
                hint="Name the model's own log, or that model in MODEL_SERVER_NAME.",
            )
        if counts.without_id:
            raise DatasetInvalid(
                f"{counts.without_id} entries of the log have no id, or a redacted one, and cannot be joined",
                hint="Keep the field id of the input log: it is the request's id, and no input.",
            )
        if counts.broken:
            raise DatasetInvalid(f"no line of the log can be read; the first is {counts.first_broken}")
        raise DatasetInvalid("the log has no entries of the input log" + (" since then" if counts.earlier else ""))
