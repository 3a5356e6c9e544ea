"""The page of ModelBatches has every reason that the operator gives them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
POLICY = ROOT / "operator" / "model_operator" / "policy"
#: As `BatchCondition(reason=...)`, `BatchEvent(...)`, `_unresolved(...)`, and words of a choice between two.
_GIVEN = re.compile(r'(?:reason=|or |word = |else |BatchEvent\(|_unresolved\(pinned, )"([A-Z]\w+[a-z])"')


def test_every_reason_of_a_batch_is_on_its_page() -> None:
    texts = [(POLICY / name).read_text() for name in ("batches.py", "batch_runs.py")]
    given = {reason for text in texts for reason in _GIVEN.findall(text)} - {"Running", "Pending"}
    assert {"ModelNotFound", "RunHeld", "JobResumed", "ShardsCompleted"} <= given
    page = (ROOT / "docs" / "reference" / "modelbatch.md").read_text()
    shown = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert given - shown == set()
