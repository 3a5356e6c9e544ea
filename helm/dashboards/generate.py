"""Writes the Grafana dashboards of the chart: `make dashboards`. A contract test proves them current.

python helm/dashboards/generate.py
"""

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "helm"))

from dashboards import fleet, model, operator_health, pool, rollout, server  # noqa: E402 - the folder is put on the path above
from dashboards.parts import as_json  # noqa: E402

FOLDER = "helm/modeldeploy/dashboards"


def dashboards() -> Mapping[str, str]:
    """Return the JSON of each dashboard by the name of its file."""
    made = (module.dashboard() for module in (fleet, model, rollout, operator_health, server, pool))
    return {f"{FOLDER}/{one.uid}.json": as_json(one) for one in made}


def main() -> None:
    """Write every dashboard."""
    for name, text in dashboards().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
