"""Writes the pages that are made from the code: `make docs`. A contract test proves them current.

python docs/generate.py
"""

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from generators import argocd, chart, cli, events, operator, plots, reference, server  # noqa: E402 - the folder is put on the path above

PAGES: dict[str, Callable[[Path], str]] = {
    "docs/reference/modeldeployment.md": reference.page,
    "docs/reference/modelbatch.md": reference.batches,
    "docs/reference/modelpool.md": reference.pools,
    "docs/reference/server.md": server.page,
    "docs/reference/events.md": events.page,
    "docs/reference/chart.md": chart.page,
    "docs/cli.md": cli.page,
    "docs/operator.md": operator.page,
    "docs/explanation/plots/false-aborts.svg": plots.false_aborts,
    "docs/explanation/plots/detection.svg": plots.detection,
    "integrations/argocd/argocd-cm.yaml": argocd.page,
}


def main() -> None:
    """Write every page."""
    for name, write in PAGES.items():
        page = ROOT / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(write(ROOT))
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
