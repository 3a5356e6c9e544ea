"""What is written for a message: the answer, or the message itself as a dead letter with the reason. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from model_server.errors import InvalidInput, RequestError
from model_server.messaging.broker import Message, Outgoing
from model_server.messaging.headers import printable
from model_server.protocols.payload import Answer
from model_server.request_ids import RequestIds
from model_server.statuses import STATUS_OF
from model_server.tracing import TRACEPARENT

#: Headers that may have a message's id, in the order in which they are asked.
ID_HEADERS = (b"x-request-id", b"ce-id", b"nats-msg-id", b"message-id")
REDELIVERED = b"x-modeldeploy-redelivered"
REVISION = b"x-modeldeploy-revision"
REASON, TEXT, FIELD = b"x-modeldeploy-reason", b"x-modeldeploy-message", b"x-modeldeploy-field"
STATUS, SOURCE, LEFT_OUT = b"x-modeldeploy-status", b"x-modeldeploy-source", b"x-modeldeploy-body-left-out"

_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_MOST_TEXT = 1024
# What a broker sets for itself, and what would be read as ours.
_NOT_KEPT = (b"nats-", b"x-modeldeploy-")


def identify(message: Message, ids: RequestIds) -> bytes:
    """The id that the answer, its log lines and its feedback carry: the producer's, else the message's position.

    The same for each delivery of a message, except where a broker has neither.
    """
    for name in ID_HEADERS:
        given = message.headers.get(name)
        if given is not None and _ID.fullmatch(given):
            return given
    position = message.position.encode()
    return position if _ID.fullmatch(position) else ids.of({})


def answered(message: Message, answer: Answer, topic: str, identifier: bytes, revision: str) -> Outgoing:
    """The answer, as a message."""
    headers = {b"content-type": answer.content_type, **dict(answer.headers)}
    return _outgoing(message, topic, identifier, answer.body, headers, revision)


def dead_letter(
    message: Message, error: RequestError, reason: str, topic: str, identifier: bytes, revision: str, source: str
) -> Outgoing:
    """The message as it came, and why it has no answer."""
    kept = {name: value for name, value in message.headers.items() if not name.startswith(_NOT_KEPT)}
    status = STATUS_OF.get(type(error))
    why = {REASON: reason.encode(), TEXT: printable(error.message, _MOST_TEXT), SOURCE: source.encode()}
    if status is not None:
        why[STATUS] = b"%d" % status.http
    if isinstance(error, InvalidInput) and error.problems:
        why[FIELD] = printable(error.problems[0].field, _MOST_TEXT)
    return _outgoing(message, topic, identifier, message.body, {**kept, **why}, revision)


def without_body(letter: Outgoing) -> Outgoing:
    """A dead letter that the broker does not take as it is: the reason alone, and how large the body was."""
    reasons = {name: value for name, value in letter.headers.items() if name.startswith(b"x-")}
    return replace(letter, body=b"", headers={**reasons, LEFT_OUT: b"%d bytes" % len(letter.body)})


def _outgoing(
    message: Message, topic: str, identifier: bytes, body: bytes, headers: Mapping[bytes, bytes], revision: str
) -> Outgoing:
    own = {b"x-request-id": identifier}
    if revision:
        own[REVISION] = revision.encode()
    if TRACEPARENT in message.headers:
        own[TRACEPARENT] = message.headers[TRACEPARENT]
    if message.deliveries > 1:
        own[REDELIVERED] = b"%d" % (message.deliveries - 1)
    # The topic is part of it: a broker that drops copies may keep input and output in one stream.
    name = f"{identifier.decode()}:{topic}"
    return Outgoing(topic=topic, body=body, headers={**headers, **own}, id=name, key=message.key)
