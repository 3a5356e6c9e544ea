"""Make the stream, send messages, read answers: python messages.py create|send|read ..."""

import asyncio
import os
import sys
from pathlib import Path

import nats

REQUEST = Path(__file__).parents[1] / "01-minimal" / "request.json"


async def create() -> None:
    client = await nats.connect(os.environ["NATS"])
    await client.jetstream().add_stream(name="screening", subjects=["screening.*"])
    await client.close()


async def send(name: str, body: bytes) -> None:
    client = await nats.connect(os.environ["NATS"])
    await client.jetstream().publish("screening.requests", body, headers={"x-request-id": name})
    await client.close()


async def read(subject: str, name: str) -> None:
    """Print the body of the message, and behind a dead letter its reason."""
    client = await nats.connect(os.environ["NATS"])
    messages = await client.jetstream().subscribe(subject, ordered_consumer=True)
    while True:
        message = await messages.next_msg(timeout=60)
        if message.headers["x-request-id"] == name:
            break
    print(message.data.decode())
    for header in ("x-modeldeploy-reason", "x-modeldeploy-field", "x-modeldeploy-revision"):
        if header in message.headers:
            print(f"{header}: {message.headers[header]}")
    await client.close()


match sys.argv[1:]:
    case ["create"]:
        asyncio.run(create())
    case ["send", name]:
        asyncio.run(send(name, REQUEST.read_bytes()))
    case ["send", name, body]:
        asyncio.run(send(name, body.encode()))
    case ["read", subject, name]:
        asyncio.run(read(subject, name))
    case _:
        sys.exit(__doc__)
