"""What messages become, which offsets are finished, who consumes: rules without a broker."""

from __future__ import annotations

import pytest

from model_server.errors import InvalidInput, PredictionError
from model_server.messaging.answers import answered, dead_letter, identify, without_body
from model_server.messaging.broker import Message
from model_server.messaging.credentials import Credentials, read_credentials
from model_server.messaging.gate import RevisionsFile
from model_server.messaging.headers import MOST_HEADERS, as_text, printable, read_headers
from model_server.messaging.offsets import PartitionOffsets
from model_server.protocols.payload import Answer
from model_server.request_ids import RequestIds


def a_message(headers: dict[bytes, bytes] | None = None, **more) -> Message:
    return Message(body=b"{}", headers=headers or {}, **{"position": "t:0:7", **more})


@pytest.mark.parametrize(
    ("headers", "identifier"),
    [
        pytest.param({b"x-request-id": b"a", b"ce-id": b"b"}, b"a", id="the id of the request goes first"),
        pytest.param({b"nats-msg-id": b"n"}, b"n", id="the id that JetStream knows"),
        pytest.param({b"message-id": b"m"}, b"m", id="the id of AMQP"),
        pytest.param({b"ce-id": b"e"}, b"e", id="the id of an event"),
        pytest.param({b"x-request-id": b"a b", b"ce-id": b"e"}, b"e", id="one with a space is none"),
        pytest.param({b"x-request-id": b"a" * 129}, b"t:0:7", id="a long one is none, and the position is left"),
    ],
)
def test_a_message_has_the_same_id_at_each_delivery(headers, identifier):
    assert identify(a_message(headers), RequestIds()) == identifier


def test_a_message_without_id_and_position_gets_an_id():
    ids = RequestIds()
    assert identify(a_message(position=""), ids) != identify(a_message(position=""), ids)


def test_an_answer_says_what_it_answers_and_whether_it_may_be_a_copy():
    message = a_message({b"traceparent": b"00-x", b"secret": b"s"}, key=b"k", deliveries=3)
    found = answered(message, Answer(b"[1]"), "out", b"id", "rev")
    assert (found.topic, found.body, found.key, found.id) == ("out", b"[1]", b"k", "id:out")
    assert found.headers == {
        b"content-type": b"application/json",
        b"x-request-id": b"id",
        b"x-modeldeploy-revision": b"rev",
        b"x-modeldeploy-redelivered": b"2",
        b"traceparent": b"00-x",
    }
    first = answered(a_message(), Answer(b"[1]"), "out", b"id", "")
    assert b"x-modeldeploy-redelivered" not in first.headers


def test_a_dead_letter_is_the_message_with_the_reason():
    message = a_message({b"own": b"kept", b"nats-msg-id": b"n", b"x-modeldeploy-reason": b"forged"})
    error = InvalidInput.at("instances[0].a", "expected a number,\ngot é")
    letter = dead_letter(message, error, error.reason, "dead", b"id", "", "in")
    assert letter.body == message.body
    assert letter.headers == {
        b"own": b"kept",
        b"x-request-id": b"id",
        b"x-modeldeploy-reason": b"InvalidInput",
        b"x-modeldeploy-status": b"422",
        b"x-modeldeploy-field": b"instances[0].a",
        b"x-modeldeploy-message": b"instances[0].a: expected a number, got \\xe9",
        b"x-modeldeploy-source": b"in",
    }
    bare = without_body(letter)
    assert (bare.body, bare.headers[b"x-modeldeploy-body-left-out"]) == (b"", b"2 bytes")
    assert b"own" not in bare.headers
    failure = dead_letter(message, PredictionError("no"), "AnswerTooLarge", "dead", b"id", "", "in")
    assert failure.headers[b"x-modeldeploy-reason"] == b"AnswerTooLarge"


def test_headers_of_all_bindings_are_read_as_one():
    pairs = [
        ("CE_Id", b"1"),
        ("cloudEvents:type", "t"),
        ("cloudEvents_source", "s"),
        ("ce-specversion", "1.0"),
        ("n", 3),
    ]
    found = read_headers([*pairs, ("odd", {"a": 1}), (None, "x")])
    assert found == {b"ce-id": b"1", b"ce-type": b"t", b"ce-source": b"s", b"ce-specversion": b"1.0", b"n": b"3"}
    assert as_text({b"ce-id": b"1", b"x": b"y"}, "ce_") == {"ce_id": "1", "x": "y"}


def test_headers_are_bounded():
    assert len(read_headers((f"h{n}", "v") for n in range(1000))) == MOST_HEADERS
    assert read_headers([("a", "1"), ("big", "x" * 20_000), ("b", "2")]) == {b"a": b"1"}
    assert printable("a" * 50, 10) == b"a" * 10


def test_the_offset_to_commit_is_behind_the_messages_that_are_all_finished():
    part = PartitionOffsets.resumed(10, "")
    assert [part.take(offset) for offset in (10, 11, 13)] == [1, 1, 1]
    part.finish(11)
    assert (part.low, part.metadata) == (10, "taken=14 begun=1")
    part.finish(10)
    # 12 is a gap, as compaction leaves it.
    assert part.low == 13
    part.finish(13)
    assert (part.low, part.high) == (14, 14)


@pytest.mark.parametrize(
    ("metadata", "deliveries"),
    [
        pytest.param("", [1, 1, 1, 1], id="a group that begins"),
        pytest.param("somebody else's", [1, 1, 1, 1], id="the metadata of another program"),
        pytest.param("taken=10 begun=1", [1, 1, 1, 1], id="all that was taken was finished"),
        pytest.param("taken=12 begun=1", [2, 2, 1, 1], id="what was taken may have been answered"),
        pytest.param("taken=12 begun=4", [5, 2, 1, 1], id="the first of them has ended its server four times"),
    ],
)
def test_messages_that_were_delivered_before_are_known(metadata, deliveries):
    part = PartitionOffsets.resumed(10, metadata)
    assert [part.take(offset) for offset in range(10, 14)] == deliveries


def test_a_message_that_is_finished_begins_the_count_anew():
    part = PartitionOffsets.resumed(10, "taken=12 begun=4")
    part.take(10)
    part.take(11)
    part.finish(10)
    assert part.metadata == "taken=12 begun=1"


def test_a_message_that_is_given_back_is_not_committed_and_not_waited_for():
    part = PartitionOffsets.resumed(10, "")
    for offset in (10, 11, 12):
        part.take(offset)
    part.give_back(11)
    part.finish(10)
    part.finish(12)
    assert part.low == 11
    assert not part.is_open


def test_messages_that_retention_has_deleted_hold_nothing_up():
    part = PartitionOffsets.resumed(10, "taken=12 begun=1")
    assert part.take(50) == 1
    assert part.low == 50


def test_offsets_without_a_message_are_gone_past_while_none_is_open():
    part = PartitionOffsets.resumed(10, "")
    part.take(10)
    part.reach(12)
    assert part.low == 10
    part.finish(10)
    part.reach(12)
    assert (part.low, part.metadata) == (12, "taken=12 begun=1")
    part.take(12)
    part.give_back(12)
    part.reach(13)
    assert part.low == 12


def test_a_partition_that_is_handed_over_does_not_count_against_its_first_message():
    part = PartitionOffsets.resumed(10, "taken=12 begun=2")
    assert part.take(10) == 3
    part.hand_over()
    after = PartitionOffsets.resumed(part.low, part.metadata)
    assert after.take(10) == 3
    first = PartitionOffsets.resumed(10, "")
    first.take(10)
    first.hand_over()
    # It may be a copy all the same.
    assert PartitionOffsets.resumed(10, first.metadata).take(10) == 2


def test_a_revision_consumes_while_the_file_names_it(tmp_path):
    file = tmp_path / "revisions"
    gate = RevisionsFile(file, "new")
    assert not gate.is_open()
    file.write_text("old\nnewer\n")
    assert not gate.is_open()
    file.write_text("old\nnew\n")
    assert gate.is_open()
    file.write_bytes(b"\xff")
    assert not gate.is_open()


def test_credentials_are_read_without_their_line_end_and_shown_to_nobody(tmp_path):
    (tmp_path / "username").write_text("u\n")
    (tmp_path / "password").write_text("p\n")
    found = read_credentials(tmp_path)
    assert found == Credentials(username="u", password="p")
    assert "'p'" not in repr(found)
    assert read_credentials(None) == Credentials()


def test_a_message_that_kafka_refuses_for_what_it_is_is_told_from_a_broker_that_is_away():
    from aiokafka.errors import for_code

    from model_server.messaging.kafka_producer import INVALID_RECORD

    assert for_code(87) is INVALID_RECORD
