"""Waiting in tests: call a check until its result is true, and fail the test after a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
#: A sentence for the failure, or a function that makes it.
What = str | Callable[[], str]


def wait_until(check: Callable[[], T | None], what: What = "", *, seconds: float = 60) -> T:
    """Call `check` until its result is true; return the result."""
    deadline = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < deadline, _failure(check, what, seconds)
        time.sleep(0.02)
    return result


async def eventually(check: Callable[[], Awaitable[T | None]], what: What = "", seconds: float = 60) -> T:
    """Await `check()` until its result is true; return the result."""
    deadline = time.monotonic() + seconds
    while not (result := await check()):
        assert time.monotonic() < deadline, _failure(check, what, seconds)
        await asyncio.sleep(0.02)
    return result


async def until(check: Callable[[], object], what: What = "", seconds: float = 60) -> None:
    """Let others run until the result of `check` is true."""

    async def look() -> bool:
        return bool(check())

    await eventually(look, what or getattr(check, "__name__", ""), seconds)


def _failure(check: Callable[[], object], what: What, seconds: float) -> str:
    reason = what() if callable(what) else what or getattr(check, "__name__", "it holds")
    return f"after {seconds:g} s still not: {reason}"
