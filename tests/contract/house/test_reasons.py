"""The page of reasons has every phase, condition, reason and Event that the operator can write, and no other."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from written_reasons import Place, Program

from model_operator.api.estimate import ESTIMATE_PROBLEMS
from model_operator.api.source import SOURCE_PROBLEMS
from model_operator.api.status import Mode, Phase
from model_operator.api.stream import STREAM_PROBLEMS
from model_operator.clients import pod_metrics
from model_operator.observation.pod_failures import IMAGE_REASONS, PULL_REASONS
from model_operator.policy.rollout.pauses import PauseReason
from model_operator.policy.status import input_quality

ROOT = Path(__file__).resolve().parents[3]

Sections = Mapping[str, Mapping[str, list[str]]]

PHASE, PAUSE = "a [phase](#phases)", "a [reason of a pause](#reasons-of-a-pause)"
ROLLBACK, POD = "a [reason of a rollback](#reasons-of-a-rollback)", "a [failure of pods](#failures-of-pods)"
REFUSAL = "a [reason of a refused spec](#reasons-of-a-refused-spec)"
SERVER = "a [reason of a failed start](server.md#reasons-of-a-failed-start)"
KUBERNETES = "a reason of Kubernetes"

EVENTS, REPORT = "policy.status.events", "policy.status.report"
INPUTS = "policy.status.input_quality"
PODS = "observation.pod_failures"
#: What expressions that lead to data may be: another table of the page, or the texts that the data can have.
SOURCES: Mapping[tuple[str, str], set[str]] = {
    (EVENTS, "new.rollback.reason"): {ROLLBACK},
    (EVENTS, "failure.reason"): {POD},
    (EVENTS, "after.reason"): {"after.reason"},
    (EVENTS, "entry.result"): {"entry.result"},
    ("engine.reconcile", "reason_of(error)"): {REFUSAL},
    ("policy.status.invalid_spec", "reason_of(error)"): {REFUSAL},
    ("engine.startup_events", "found.phase.capitalize()"): {name.capitalize() for name in pod_metrics._STARTING},
    (INPUTS, "failure.reason"): {"ReferenceProfileMissing", "ReferenceProfileMismatch", "MetadataInvalid"},
    (INPUTS, "last.reason"): set(),
    (INPUTS, "REASONS[report.findings[0].problem]"): set(input_quality.REASONS.values()),
    (REPORT, "str(status.phase)"): {PHASE},
    (REPORT, "problem.reason"): {POD},
    (REPORT, "s.stable_view.source_problem"): set(SOURCE_PROBLEMS),
    (REPORT, "s.stable_view.stream"): set(STREAM_PROBLEMS),
    (REPORT, "s.stable_view.estimate"): set(ESTIMATE_PROBLEMS),
    (REPORT, "s.status.rollback.reason"): {ROLLBACK},
    (REPORT, "status.pauses[0].reason"): {PAUSE},
    ("policy.rollout.rules", "problem.reason"): {POD},
    ("policy.rollout.rollback", "status.rollback.reason"): {ROLLBACK},
    ("policy.rollout.steps", "f\"AllStepsDone{('' if mode == 'Steps' else mode)}\""): {
        f"AllStepsDone{'' if mode is Mode.STEPS else mode}" for mode in Mode
    },
    (PODS, "report.reason"): {SERVER},
    (PODS, "waiting['reason']"): {*IMAGE_REASONS, *PULL_REASONS, KUBERNETES},
    **{
        (PODS, text): {KUBERNETES}
        for text in (
            "status.get('reason')",
            "condition.get('reason')",
            "ended.get('reason')",
            "waiting.get('reason')",
        )
    },
    (PODS, "status.get('phase', 'Failed')"): {"Failed", "Succeeded"},
}


@pytest.fixture(scope="module")
def program() -> Program:
    return Program(SOURCES)


@pytest.fixture(scope="module")
def sections() -> Sections:
    """The rows of the tables of the page, by heading and first cell."""
    text = (ROOT / "docs" / "reference" / "events.md").read_text()
    found = {}
    for part in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:]:
        title, *lines = part.splitlines()
        cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("|")]
        found[title.strip("`")] = {row[0].strip("`"): row[1:] for row in cells[2:]}
    return found


def conditions(program: Program) -> Iterator[tuple[str, str, str]]:
    """Yield type, expression of the status, and reason of every condition that the code can write."""
    for place in program.tuples:
        elements = place.node.elts if isinstance(place.node, ast.Tuple) else []
        if place.module not in (REPORT, INPUTS) or len(elements) != 4 or not isinstance(elements[0], ast.Constant):
            continue
        status = ast.literal_eval(elements[1]) if isinstance(elements[1], ast.Constant) else ""
        for reason in program.texts(Place(place.module, place.function, elements[2])):
            yield str(elements[0].value), status, reason
    [[_, stalled]] = program.functions["_stalled_patch"]
    types = next(node for node in ast.walk(stalled) if isinstance(node, ast.Dict))
    for type_, status in ast.literal_eval(types).items():
        for reason in program.written("_stalled_patch", "reason", 1):
            yield type_, status, reason


def condition_reasons(program: Program) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for type_, _, reason in conditions(program):
        found.setdefault(type_, set()).add(reason)
    # Its problem is not one of pods.
    found["AutoscalerActive"] = found["AutoscalerActive"] - {POD} | problems(program, of_autoscaler=True)
    return found


def problems(program: Program, *, of_autoscaler: bool) -> set[str]:
    """Return the reasons why an autoscaler cannot scale, or those why pods fail."""
    found: set[str] = set()
    for place in program.calls["PodProblem"]:
        assert place.function is not None
        if (place.function.name == "autoscaler_problem") is of_autoscaler:
            found |= program.texts(program.argument(place, "reason"))
    return found


def event_reasons(program: Program) -> dict[str, set[str]]:
    """The reasons of Events by type; of those whose type depends on data, both."""
    found: dict[str, set[str]] = {"Normal": set(), "Warning": set()}
    for place in program.calls["EventDraft"]:
        warning = {keyword.arg: keyword.value for keyword in getattr(place.node, "keywords", ())}.get("is_warning")
        reasons = program.texts(program.argument(place, "reason", 0))
        if not isinstance(warning, ast.Constant | None):
            reasons = {name for reason in reasons for name in _by_result(program, reason)}
            found["Warning"] |= reasons & {ROLLBACK, "RevisionAborted"}
            found["Normal"] |= reasons - {ROLLBACK, "RevisionAborted"} | (
                {"Reverted"} if ROLLBACK in reasons else set()
            )
        elif "after.reason" in reasons:
            found["Warning"] |= set(_reported_when_false(program))
        else:
            found["Warning" if warning and warning.value else "Normal"] |= reasons
    return found


def _by_result(program: Program, reason: str) -> set[str]:
    if reason != "Revisionentry.result":
        return {reason}
    return {f"Revision{result}" for result in program.written("HistoryEntry", "result")}


def _reported_when_false(program: Program) -> Iterator[str]:
    """Yield the reasons of the conditions of which `_troubles` makes Events."""
    [[_, function]] = program.functions["_troubles"]
    loops = [node for node in ast.walk(function) if isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple)]
    types = set(ast.literal_eval(loops[0].iter))
    for type_, status, reason in conditions(program):
        if type_ in types and status == "False":
            yield reason


def test_every_phase_has_a_row(sections: Sections) -> None:
    assert set(sections["Phases"]) == set(Phase)


def test_every_phase_is_written(program: Program) -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "operator" / "model_operator").rglob("*.py")]
    used = {ast.unparse(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {f"Phase.{phase.name}" for phase in Phase} <= used


def test_every_reason_of_a_pause_has_a_row(program: Program, sections: Sections) -> None:
    assert set(sections["Reasons of a pause"]) == program.written("PauseCondition", "reason") == set(PauseReason)


def test_every_reason_of_a_rollback_has_a_row(program: Program, sections: Sections) -> None:
    assert set(sections["Reasons of a rollback"]) == program.written("Rollback", "reason")


def test_every_failure_of_pods_has_a_row(program: Program, sections: Sections) -> None:
    assert set(sections["Failures of pods"]) == problems(program, of_autoscaler=False)


def test_every_reason_of_a_refused_spec_has_a_row(program: Program, sections: Sections) -> None:
    assert set(sections["Reasons of a refused spec"]) == {"InvalidSpec"} | program.written("NotAllowed", "reason")


def test_every_result_and_reason_of_the_history_has_a_row(program: Program, sections: Sections) -> None:
    assert set(sections["Results in the history"]) == program.written("HistoryEntry", "result")
    assert set(sections["Reasons in the history"]) == program.written("HistoryEntry", "reason")


def test_every_condition_has_a_section_with_its_reasons(program: Program, sections: Sections) -> None:
    titles = list(sections)
    types = titles[titles.index("Conditions") + 1 : titles.index("Events")]
    assert {type_: set(sections[type_]) for type_ in types} == condition_reasons(program)


@pytest.mark.parametrize("type_", ["Normal", "Warning"])
def test_every_event_has_a_row(type_: str, program: Program, sections: Sections) -> None:
    assert set(sections[f"Events of type {type_}"]) == event_reasons(program)[type_]


def test_every_row_says_what_to_do(sections: Sections) -> None:
    rows = [(reason, cells) for table in sections.values() for reason, cells in table.items()]
    assert not [reason for reason, (meaning, action) in rows if not meaning or not action]


def test_events_and_conditions_are_written_at_one_place_each(program: Program) -> None:
    """What is collected here is all that is written."""
    assert {place.module for place in program.calls["post_event"]} == {"engine.events"}
    assert {place.module for place in program.calls["Condition"]} == {REPORT}
    assert {place.module for place in program.calls["_condition"]} == {"policy.status.invalid_spec"}


def test_an_expression_that_leads_to_data_is_not_overlooked() -> None:
    with pytest.raises(LookupError, match=r"problem\.reason leads to data"):
        Program({}).written("Rollback", "reason")


def test_every_source_is_one_of_the_code(program: Program) -> None:
    condition_reasons(program), event_reasons(program)
    for constructor in ("PauseCondition", "Rollback", "HistoryEntry", "PodProblem"):
        program.written(constructor, "reason")
    assert set(SOURCES) == program.used
