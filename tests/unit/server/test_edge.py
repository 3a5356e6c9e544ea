"""`modeldeploy serve`: by what a package is refused, and what is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model_server.edge.command import MOST_REQUESTS
from model_server.edge.comparison import Judgement, compare
from model_server.edge.judging import Fault, Limits, Replayed, Times, Verdict, judge
from model_server.edge.packages import PackageStore, Refusal
from model_server.edge.server_process import CannotAsk, ServerEnded
from model_server.edge.threads import in_thread
from model_server.errors import ArtifactNotFound, SettingsInvalid, StorageUnavailable
from model_server.monitoring import request_log
from model_server.supervision import SupervisorMetrics, SupervisorReport, read_report, write_report

Store = Callable[..., PackageStore]
LIMITS = Limits(min_agreement=0.9, max_failures=0.01, max_latency_ratio=2, tolerance=0)
FAULTS = (Fault(feature="age", count=2),)
SLOW = {"stable": Times(median=0.010), "canary": Times(median=0.025)}


@pytest.mark.parametrize(
    ("replayed", "is_accepted", "said"),
    [
        pytest.param(Replayed(requests=100, agreed=100), True, "100 of 100 requests are answered alike", id="alike"),
        pytest.param(Replayed(requests=100, agreed=90), True, "90 of 100", id="the limit itself is allowed"),
        pytest.param(Replayed(requests=100, agreed=89), False, "(89.0%), at least 90.0% required", id="otherwise"),
        pytest.param(
            Replayed(requests=100, agreed=98, refused=2, faults=FAULTS),
            False,
            "2 of 100 requests that the old package answers fail: age (2); 1% allowed",
            id="failures",
        ),
        pytest.param(Replayed(requests=100, agreed=99, refused=1), True, "99 of 100", id="failures that are allowed"),
        pytest.param(Replayed(requests=0, agreed=0), False, "no request in time", id="no answer"),
        pytest.param(
            Replayed(requests=100, agreed=100, timed=100, slower=51, **SLOW),
            False,
            "51 of 100 answers take more than 2 times as long: 25 ms in the median instead of 10 ms",
            id="slow",
        ),
        pytest.param(
            Replayed(requests=100, agreed=100, timed=100, slower=50, **SLOW), True, "", id="half of them may be slow"
        ),
        pytest.param(
            Replayed(
                requests=100,
                agreed=100,
                timed=100,
                slower=100,
                stable=Times(median=0.0001),
                canary=Times(median=0.0009),
            ),
            True,
            "",
            id="less than a millisecond is not slow",
        ),
        pytest.param(
            Replayed(requests=10, agreed=0, refused=5, faults=FAULTS),
            False,
            "1% allowed; 0 of 5 requests are answered alike",
            id="every reason is said",
        ),
    ],
)
def test_judge(replayed: Replayed, is_accepted: bool, said: str) -> None:
    verdict = judge(replayed, LIMITS)
    assert verdict.is_accepted is is_accepted
    assert said in verdict.message


class Asked:
    """A server that gives these answers by path, the last of them again and again; an error is raised."""

    def __init__(self, *, has_ended: bool = False, **answers: list[Any]) -> None:
        self.has_ended = has_ended
        self.questions: list[tuple[str, dict[str, Any]]] = []
        self._answers = answers

    def ended(self) -> ServerEnded:
        return ServerEnded(65, "LoadFailed: its own words.")

    async def ask(self, path: str, **question: Any) -> dict[str, Any]:
        self.questions.append((path, question))
        answers = self._answers[path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, Any] = answer
        return found


def kept(count: int) -> dict[str, Any]:
    return {"kept": count, "requests": [{"size": 1}] * count}


def compared(serving: Asked, candidate: Asked, *, requests: int = 2, seconds: float = 0, workers: int = 1) -> Verdict:
    how = Judgement(requests=requests, seconds=seconds, workers=workers, limits=LIMITS)
    return asyncio.run(compare(lambda: serving, candidate, how))


AGREES = {"requests": 2, "agreed": 2, "faults": [], "timed": 2, "stable": {"median": 0.1, "p95": 0.2}}


@pytest.mark.parametrize(
    ("serving", "candidate", "is_accepted", "said"),
    [
        pytest.param(Asked(requests=[kept(2)]), Asked(replay=[AGREES]), True, "2 of 2 requests", id="alike"),
        pytest.param(Asked(requests=[kept(1)]), Asked(replay=[AGREES]), True, "2 of 2", id="the time is over"),
        pytest.param(Asked(requests=[kept(0)]), Asked(), True, "no request was answered", id="nobody asked"),
        pytest.param(
            Asked(requests=[CannotAsk("400: redacted")]),
            Asked(),
            False,
            "cannot be compared: 400: redacted",
            id="not kept",
        ),
        pytest.param(
            Asked(requests=[kept(2)]),
            Asked(replay=[CannotAsk("no answer")]),
            False,
            "no answer",
            id="it does not answer",
        ),
    ],
)
def test_compare(serving: Asked, candidate: Asked, is_accepted: bool, said: str) -> None:
    verdict = compared(serving, candidate)
    assert verdict.is_accepted is is_accepted
    assert said in verdict.message


def test_a_candidate_that_ends_meanwhile_says_why() -> None:
    for seconds in (0, 5):
        with pytest.raises(ServerEnded, match="its own words"):
            compared(
                Asked(requests=[kept(1), kept(2)]),
                Asked(has_ended=True, replay=[CannotAsk("no answer")]),
                seconds=seconds,
            )


def test_of_several_workers_the_one_with_most_requests_counts() -> None:
    serving, candidate = Asked(requests=[kept(1), kept(0), kept(2), kept(5)]), Asked(replay=[AGREES])
    compared(serving, candidate, requests=5, workers=2)
    assert len(candidate.questions[0][1]["requests"]) == 5


def test_without_requests_to_judge_by_nobody_is_asked() -> None:
    assert compared(Asked(), Asked(), requests=0).message == "it is not judged"


def test_a_server_keeps_as_many_requests_as_may_be_asked_for() -> None:
    assert MOST_REQUESTS == request_log.MOST_REQUESTS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Opens the folder, as a process at its start does; give a URI that is not the source's."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.onnx").write_bytes(b"one")
    with ExitStack() as stack:

        def open_store(uri: str = "", *, is_signed: bool = False) -> PackageStore:
            packages = PackageStore(tmp_path / "keep", uri or source.as_uri(), {}, is_signed=is_signed)
            stack.callback(packages.close)
            return packages

        yield open_store


def test_a_package_is_a_copy_and_is_found_after_a_restart(store: Store, tmp_path: Path) -> None:
    packages = store()
    package = packages.bring(packages.look())
    packages.keep(package)
    (tmp_path / "source" / "model.onnx").write_bytes(b"another")
    assert (packages.path_of(package) / "model.onnx").read_bytes() == b"one"
    packages.close()
    again = store()
    assert again.kept() == package
    assert again.look() != package.source
    assert again.bring(again.look()).number == package.number + 1


def test_a_package_that_was_changed_on_disk_is_not_served(store: Store, tmp_path: Path) -> None:
    packages = store()
    package = packages.bring(packages.look())
    packages.keep(package)
    file = packages.path_of(package) / "model.onnx"
    file.chmod(0o600)
    file.write_bytes(b"changed")
    assert packages.kept() is None


def test_a_package_of_another_uri_is_not_served(store: Store, tmp_path: Path) -> None:
    packages = store()
    packages.keep(packages.bring(packages.look()))
    packages.close()
    assert store("s3://models/another").kept() is None


def test_a_refusal_leaves_what_is_kept_and_a_new_package_ends_it(store: Store, tmp_path: Path) -> None:
    packages = store()
    package = packages.bring(packages.look())
    packages.keep(package)
    packages.refuse(Refusal(source="x", sha256="y", message="worse"))
    packages.close()
    again = store()
    assert (again.kept(), again.state.refused) == (package, Refusal(source="x", sha256="y", message="worse"))
    again.keep(package)
    assert again.state.refused is None


def test_a_package_that_changes_while_it_is_fetched_is_tried_again(store: Store, tmp_path: Path) -> None:
    packages = store()
    with pytest.raises(StorageUnavailable, match="changed while it was fetched"):
        packages.bring("a fingerprint of before")
    assert list((tmp_path / "keep" / "packages").iterdir()) == []


def test_nothing_at_the_uri_leaves_nothing(store: Store, tmp_path: Path) -> None:
    packages = store((tmp_path / "absent").as_uri())
    with pytest.raises(ArtifactNotFound):
        packages.bring("any")
    assert list((tmp_path / "keep" / "packages").iterdir()) == []


def test_the_signature_of_one_file_is_brought_with_it(store: Store, tmp_path: Path) -> None:
    (tmp_path / "source" / "model.onnx.sig").write_bytes(b"signature")
    packages = store((tmp_path / "source" / "model.onnx").as_uri(), is_signed=True)
    path = packages.path_of(packages.bring(packages.look()))
    assert path.with_name("model.onnx.sig").read_bytes() == b"signature"


def test_a_folder_that_others_can_write_to_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep").chmod(0o777)
    with pytest.raises(SettingsInvalid, match="777: others can write to it"):
        store()


def test_two_processes_do_not_share_a_folder(store: Store, tmp_path: Path) -> None:
    first = store()
    with pytest.raises(SettingsInvalid, match="another modeldeploy serve"):
        store()
    first.close()


def test_the_report_is_shown_as_metrics(tmp_path: Path) -> None:
    def shown() -> dict[tuple[str, str], float]:
        return {
            (sample.name, "/".join(sample.labels.values())): sample.value
            for family in SupervisorMetrics(tmp_path).collect()
            for sample in family.samples
        }

    assert read_report(tmp_path) == SupervisorReport()
    assert ("modeldeploy_edge_refused", "abc/worse") not in shown()
    write_report(tmp_path, SupervisorReport(switched=2, refused=1, reason="worse", source="abc", is_offline=True))
    assert shown() == {
        ("modeldeploy_edge_updates_total", "switched"): 2,
        ("modeldeploy_edge_updates_total", "refused"): 1,
        ("modeldeploy_edge_refused", "abc/worse"): 1,
        ("modeldeploy_edge_offline", ""): 1,
    }
    (tmp_path / "report.json").write_bytes(b"{")
    assert read_report(tmp_path) == SupervisorReport()


def test_a_thread_gives_its_result_or_its_error() -> None:
    assert asyncio.run(in_thread(lambda: 7)) == 7
    with pytest.raises(msgspec.DecodeError):
        asyncio.run(in_thread(lambda: msgspec.json.decode(b"{")))
