"""Every reason for which a server can end is an Event of the operator, under the same name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pod_events import assert_seen, event_of

from model_server.errors import StartError


def kinds(base: type[StartError]) -> Iterator[type[StartError]]:
    for kind in base.__subclasses__():
        inner = list(kinds(kind))
        yield from inner or [kind]


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in kinds(StartError)])
def test_a_reason_of_the_server_is_the_reason_of_an_event(kind: type[StartError]) -> None:
    assert_seen(kind("file:///m has something wrong with it", hint="Put it right."))


def test_a_message_of_any_length_is_still_an_event() -> None:
    event, _ = event_of(next(kinds(StartError))('"x" ' * 5000, hint="y" * 5000))
    assert 0 < len(event.message) < 1100
