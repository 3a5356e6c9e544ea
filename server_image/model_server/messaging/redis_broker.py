"""Redis Streams, from Redis 7: a consumer group that reads one stream, and two streams that are written to.

https://redis.io/docs/latest/develop/data-types/streams/. An entry has the field `body`; its other fields are headers.
The answer is added and the message acknowledged by one script, so that Redis never has one without the other. Redis
counts deliveries, and keeps no order between consumers of a group.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from redis.asyncio import Redis, SSLConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from model_server.messaging.broker import (
    ACK_SECONDS,
    CALL_SECONDS,
    TAKE_SECONDS,
    BrokerRefused,
    BrokerUnavailable,
    Message,
    MessageTooLarge,
    Outgoing,
    Subscription,
    TopicMissing,
)
from model_server.messaging.connection import Address
from model_server.messaging.headers import read_headers

BODY = b"body"
_ACK_MILLISECONDS = int(ACK_SECONDS * 1000)
#: How often to look for messages of consumers that have gone, in seconds.
_CLAIM_SECONDS = 5.0
#: `proto-max-bulk-len` of Redis, where it does not say another.
_MOST_BYTES = 512 * 1024 * 1024

#: Most answers in one round trip.
_MOST_AT_ONCE = 256
#: A script and not a transaction, which would acknowledge the message although the answer cannot be added.
_SETTLE = """
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
return redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
"""

_Answer = tuple[Message, Outgoing, "asyncio.Future[None]"]
_Entry = tuple[bytes, Mapping[bytes, bytes]]


class _EncryptedConnection(SSLConnection):
    """A connection with our own context instead of one that the client makes."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context


class RedisBroker:
    """Connections to one Redis."""

    def __init__(self, address: Address, subscription: Subscription) -> None:
        self._address, self._topics = address, subscription
        self._client: Redis | None = None
        self._most_bytes = _MOST_BYTES
        self._looked = 0.0
        self._answers: list[_Answer] = []
        self._writing: asyncio.Task[None] | None = None
        # Where to go on among the messages that this consumer took before it connected; None behind the last.
        self._own: str | None = "-"

    async def open(self) -> None:
        """Connect, and make the stream and its group where they are not there."""
        await self.close()
        given = self._address.credentials()
        self._client = client = Redis.from_url(
            self._address.shown,
            username=given.username or None,
            password=given.password or given.token or None,
            socket_connect_timeout=CALL_SECONDS,
            socket_timeout=CALL_SECONDS,
        )
        if (context := self._address.tls) is not None:
            client.connection_pool.connection_class = _EncryptedConnection
            client.connection_pool.connection_kwargs["context"] = context
        self._looked, self._own = 0.0, "-"
        async with self._address.explained(), self._translated():
            await client.ping()
            self._most_bytes = await self._bulk_limit(client)
            with suppress(_Exists):
                await self._create_group(client)
            for topic in (self._topics.output, self._topics.dead_letter):
                kind = cast(bytes, await client.type(topic)).decode()
                if kind not in ("stream", "none"):
                    raise _not_a_stream(topic, kind)

    async def take(self, most: int) -> Sequence[Message]:
        """Messages of consumers that have gone, else the next of the stream."""
        client = self._open()
        async with self._translated():
            if time.monotonic() - self._looked >= _CLAIM_SECONDS:
                self._looked = time.monotonic()
                if claimed := await self._claim(client, most):
                    # There may be more of them.
                    self._looked = 0.0
                    return claimed
            found: Any = await client.xreadgroup(
                self._topics.group,
                self._topics.consumer,
                {self._topics.input: ">"},
                count=most,
                block=int(TAKE_SECONDS * 1000),
            )
        return [self._message(entry) for _, entries in _streams(found) for entry in entries]

    async def settle(self, message: Message, outgoing: Outgoing) -> None:
        """Add the answer, then acknowledge the message, with others that are answered meanwhile in one round trip."""
        if outgoing.size > self._most_bytes:
            raise MessageTooLarge(outgoing.size, self._most_bytes)
        self._open()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers.append((message, outgoing, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_answers())
        async with self._translated():
            await done

    async def _write_answers(self) -> None:
        """Write until nothing is left to write; each answer succeeds or fails by itself."""
        try:
            while self._answers:
                batch, self._answers = self._answers[:_MOST_AT_ONCE], self._answers[_MOST_AT_ONCE:]
                try:
                    results = await self._run_scripts(batch)
                except Exception as error:
                    results = [error] * len(batch)
                for (_, _, done), result in zip(batch, results, strict=True):
                    if done.done():
                        continue
                    if isinstance(result, Exception):
                        done.set_exception(result)
                    else:
                        done.set_result(None)
        finally:
            self._writing = None

    async def _run_scripts(self, batch: Sequence[_Answer]) -> Sequence[Any]:
        topics = self._topics
        async with self._open().pipeline(transaction=False) as pipe:
            for message, outgoing, _ in batch:
                fields = {BODY: outgoing.body, b"message-id": outgoing.id.encode(), **outgoing.headers}
                flat: list[Any] = [part for field in fields.items() for part in field]
                pipe.eval(_SETTLE, 2, outgoing.topic, topics.input, topics.group, message.receipt, *flat)
            found: Sequence[Any] = await pipe.execute(raise_on_error=False)
        return found

    async def release(self, messages: Sequence[Message]) -> None:
        """Let the messages look as if nobody worked on them, so that any consumer claims them at its next look."""
        await self._set_idle(messages, _ACK_MILLISECONDS)

    async def extend(self, messages: Sequence[Message]) -> None:
        """Let the messages look as if they were just taken."""
        await self._set_idle(messages, 0)

    async def lag(self) -> int | None:
        """Entries that were not delivered yet, where Redis knows, and those that are not acknowledged."""
        async with self._translated():
            for group in await self._open().xinfo_groups(self._topics.input):
                if group["name"] == self._topics.group.encode():
                    waiting = group.get("lag")
                    return None if waiting is None else int(waiting) + int(group["pending"])
        return None

    async def close(self) -> None:
        """Let the connections go."""
        client, self._client = self._client, None
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        self._answers.clear()
        if client is not None:
            with suppress(Exception):
                await client.aclose()

    def _open(self) -> Redis:
        if self._client is None:
            raise BrokerUnavailable("the connection is closed")
        return self._client

    async def _create_group(self, client: Redis) -> None:
        try:
            await client.xgroup_create(self._topics.input, self._topics.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" in str(error):
                raise _Exists from None
            if "WRONGTYPE" in str(error):
                raise _not_a_stream(self._topics.input, "of another type") from None
            raise

    async def _bulk_limit(self, client: Redis) -> int:
        """The longest value that Redis takes. Users that may not ask get Redis' default."""
        with suppress(ResponseError):
            found: Any = await client.config_get("proto-max-bulk-len")
            return int(found.get("proto-max-bulk-len", _MOST_BYTES))
        return _MOST_BYTES

    async def _claim(self, client: Redis, most: int) -> Sequence[Message]:
        """Messages that nobody works on: this consumer's own of before, then those of others that died."""
        topics = self._topics
        if self._own is not None:
            own: Any = await client.xpending_range(
                topics.input, topics.group, min=self._own, max="+", count=most, consumername=topics.consumer
            )
            # Exclusive: what was claimed is pending again.
            self._own = f"({own[-1]['message_id'].decode()}" if own else None
            if own:
                return await self._claimed(client, own, idle=0)
        abandoned: Any = await client.xpending_range(
            topics.input, topics.group, min="-", max="+", count=most, idle=_ACK_MILLISECONDS
        )
        return await self._claimed(client, abandoned, idle=_ACK_MILLISECONDS) if abandoned else ()

    async def _claimed(self, client: Redis, pending: Sequence[Mapping[str, Any]], *, idle: int) -> Sequence[Message]:
        topics = self._topics
        counts = {one["message_id"]: int(one["times_delivered"]) for one in pending}
        entries: Any = await client.xclaim(topics.input, topics.group, topics.consumer, idle, list(counts))
        return [self._message(entry, counts[entry[0]] + 1) for entry in entries if entry[1] is not None]

    async def _set_idle(self, messages: Sequence[Message], milliseconds: int) -> None:
        if not messages:
            return
        topics = self._topics
        async with self._translated():
            await self._open().xclaim(
                topics.input,
                topics.group,
                topics.consumer,
                0,
                [one.receipt for one in messages],
                idle=milliseconds,
                justid=True,
            )

    def _message(self, entry: _Entry, deliveries: int = 1) -> Message:
        identifier, fields = entry
        return Message(
            body=fields.get(BODY, b""),
            headers=read_headers((name, value) for name, value in fields.items() if name != BODY),
            position=f"{self._topics.input}:{identifier.decode()}",
            deliveries=deliveries,
            receipt=identifier,
        )

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        where = f"Redis at {self._address.shown}"
        try:
            yield
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise BrokerRefused(f"{where} refuses: {error}", hint=self._address.hint) from None
        except (RedisError, OSError, TimeoutError) as error:
            if "NOAUTH" in str(error) or "WRONGPASS" in str(error) or "NOPERM" in str(error):
                raise BrokerRefused(f"{where} refuses: {error}", hint=self._address.hint) from None
            if "WRONGTYPE" in str(error):
                hint = "Name other keys, or delete those that are no streams."
                raise TopicMissing(f"{where} has another type of key for a topic", hint=hint) from None
            raise BrokerUnavailable(f"{where} does not answer: {error or type(error).__name__}") from None


class _Exists(Exception):
    """The group is there already."""


def _streams(found: Any) -> Sequence[tuple[bytes, Sequence[_Entry]]]:
    """What XREADGROUP returned; RESP2 has a list of pairs and RESP3 a map, whose entries are one list deeper."""
    if isinstance(found, Mapping):
        return [
            (name, entries[0] if entries and isinstance(entries[0], list) else entries)
            for name, entries in found.items()
        ]
    return cast(Sequence[tuple[bytes, Sequence[_Entry]]], found or ())


def _one_level(entries: Any) -> Sequence[_Entry]:
    return cast(Sequence[_Entry], entries[0] if entries and isinstance(entries[0], list) else entries)


def _not_a_stream(topic: str, kind: str) -> TopicMissing:
    return TopicMissing(f"the key {topic!r} is no stream, but {kind}", hint="Name another key, or delete that one.")
