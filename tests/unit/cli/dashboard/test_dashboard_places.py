"""How many pages are open at once: nobody shuts the others out."""

from contextlib import ExitStack

import pytest

from modeldeploy.dashboard.places import Places, Reader


@pytest.fixture
def places() -> Places:
    return Places(200)


def open_all(stack: ExitStack, places: Places, address: str, token: str = "") -> tuple[int, int]:
    """Open as many as there are for one reader; return their number, and by which status the next is refused."""
    for count in range(1_000):
        status = stack.enter_context(places.taken(Reader(address, token)))
        if status:
            return count, status
    raise AssertionError("no end of places")


def test_who_opens_all_that_are_to_be_had_leaves_places_to_others(places: Places) -> None:
    with ExitStack() as stack:
        assert open_all(stack, places, "10.0.0.1") == (50, 429)
        assert open_all(stack, places, "10.0.0.2") == (38, 429)
        assert open_all(stack, places, "10.0.0.3") == (28, 429)
    with ExitStack() as stack:
        assert open_all(stack, places, "10.0.0.9") == (50, 429), "all were given back"


def test_invented_tokens_share_the_places_of_their_address(places: Places) -> None:
    with ExitStack() as stack:
        held = sum(open_all(stack, places, "10.0.0.1", f"Bearer {number}")[0] for number in range(500))
        assert held == 100
        assert open_all(stack, places, "10.0.0.2")[0] == 25


def test_users_of_one_proxy_do_not_shut_each_other_out(places: Places) -> None:
    with ExitStack() as stack:
        assert open_all(stack, places, "10.0.0.1", "Bearer ann") == (50, 429)
        assert open_all(stack, places, "10.0.0.1", "Bearer bob") == (25, 429)


def test_a_full_dashboard_says_so(places: Places) -> None:
    with ExitStack() as stack:
        for number in range(200):
            assert not stack.enter_context(places.taken(Reader(f"10.0.{number}.1", "")))
        assert open_all(stack, places, "10.1.0.1") == (0, 503)
