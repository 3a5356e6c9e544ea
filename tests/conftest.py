"""What every test gets: the switches `--cluster` and `--heavy`, and a check for asyncio tasks left behind.

Used by pytest alone. Timeouts and warnings-as-errors are set in pyproject.toml.
"""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no counterexample.
# The same examples in every run, so that a change is judged by what it changed; HYPOTHESIS_PROFILE=search
# looks for new ones.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("project", settings.get_profile("search"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "project"))

#: Files that take minutes.
LONGEST = frozenset(
    {
        "test_batches.py",
        "test_examples.py",
        "test_messaging.py",
        "test_rollouts.py",
        "test_sleep.py",
        "test_tutorials.py",
    }
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        action="store_true",
        help="run the end-to-end tests on the cluster that KUBECONFIG leads to, not in a sandbox",
    )
    parser.addoption("--heavy", action="store_true", help="run the tests that take minutes too (make test-heavy)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Files are shared out in this order: one that takes minutes must not begin last.
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            # First in, last out: so that tasks of the test's other fixtures are seen as well.
            item.fixturenames.insert(0, "no_task_left_behind")
        if item.get_closest_marker("cluster") and not config.getoption("--cluster"):
            item.add_marker(pytest.mark.skip(reason="needs a real cluster: --cluster"))
        if item.get_closest_marker("heavy") and not config.getoption("--heavy"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: make test-heavy"))


@pytest.fixture
async def no_task_left_behind() -> AsyncIterator[None]:
    """Fail a test that ends while one of its tasks is still running."""
    yield
    for _ in range(3):  # a task that was just cancelled ends within the next turns of the loop
        await asyncio.sleep(0)
    leaked = asyncio.all_tasks() - {asyncio.current_task()}
    if leaked:
        pytest.fail("tasks left behind:\n" + "\n".join(f"  {task}" for task in leaked))
