"""The page of ModelPools has every reason that the operator gives them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
OPERATOR = ROOT / "operator" / "model_operator"
_GIVEN = re.compile(r'(?:reason=|else |PoolEvent\(|_report_invalid\(body, )"([A-Z]\w+[a-z])"')


def test_every_reason_of_a_pool_is_on_its_page() -> None:
    texts = [(OPERATOR / name).read_text() for name in ("policy/pools.py", "engine/pools/reconcile.py")]
    given = {reason for text in texts for reason in _GIVEN.findall(text)} - {"Ready", "Pending", "Degraded"}
    assert {"PodsReady", "PodsNotReady", "ModelsFailed", "NoneFailed", "ApplyFailed"} <= given
    page = (ROOT / "docs" / "reference" / "modelpool.md").read_text()
    shown = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert given - shown == set()
