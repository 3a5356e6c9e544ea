"""Requests of users in annotations: which are done, and what is said of the others."""

from typing import Any

import pytest
from decision_tables import NEW, NOW, OLD, THIRD, observed, resource, view

from model_operator.api.status import (
    Phase,
    RequestAnswer,
    Status,
)
from model_operator.policy.decide import decide
from model_operator.policy.rollout.annotations import answer_the_rest, ignored_annotations
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.undo import undo


@pytest.mark.parametrize(
    ("tokens", "status", "said"),
    [
        pytest.param(
            {"promote": OLD}, {"canary": NEW}, f"it names '{OLD}', but the rollout is of {NEW}", id="no canary's"
        ),
        pytest.param({"abort": NEW}, {}, f"it names '{NEW}', but there is no rollout", id="no rollout"),
        pytest.param(
            {"promote": f"{NEW}@0"},
            {"canary": NEW, "step_index": 1},
            "it applies to step index 0, but the rollout is at 1",
            id="another step",
        ),
        pytest.param(
            {"retry": NEW}, {"aborted": THIRD}, f"it names '{NEW}', but {THIRD} was aborted", id="not aborted"
        ),
        pytest.param({"promot": NEW}, {"canary": NEW}, "unknown; write one of: promote", id="a typo"),
    ],
)
def test_an_annotation_without_an_effect_is_named(tokens: Any, status: Any, said: str) -> None:
    standing = Status(stable=OLD, phase=Phase.PROGRESSING, **status)
    one = RolloutContext(
        resource=resource(standing, tokens=tokens), status=standing, observed=observed(view(OLD)), now=NOW
    )
    (ignored,) = ignored_annotations(one.under(answer_the_rest(one)))
    assert said in ignored.message


def test_an_undo_of_a_revision_that_is_not_kept_is_refused() -> None:
    answer = undo(resource(Status(stable=OLD), tokens={"undo": "nope@1"}), observed(view(OLD)))
    assert isinstance(answer, RequestAnswer)
    assert not answer.is_accepted
    assert answer.message == f"revision 'nope' is not kept; the kept revisions are: {OLD}"


def test_a_condition_tells_which_annotations_are_ignored() -> None:
    standing = Status(stable=NEW, phase=Phase.HEALTHY)
    looked_at = resource(standing, tokens={"abort": OLD, "retry": OLD})
    condition = decide(looked_at, observed(view(NEW)), now=NOW, url="").status.condition("AnnotationsAccepted")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "AnnotationIgnored")
    assert condition.message.count("it names") == 2


def test_a_token_that_was_acted_upon_is_no_mistake() -> None:
    standing = Status(stable=NEW, phase=Phase.HEALTHY, handled_tokens={"promote": f"{NEW}@1"})
    acted = resource(standing, tokens={"promote": f"{NEW}@1"})
    condition = decide(acted, observed(view(NEW)), now=NOW, url="").status.condition("AnnotationsAccepted")
    assert condition is not None
    assert condition.status == "True"


def test_without_annotations_of_ours_there_is_nothing_to_understand() -> None:
    told = decide(resource(Status(stable=NEW)), observed(view(NEW)), now=NOW, url="").status
    assert told.condition("AnnotationsAccepted") is None
