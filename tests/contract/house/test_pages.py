"""Pages that are made from the code are current, and commands that pages name exist."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = _load(ROOT / "docs" / "generate.py").PAGES
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PROSE = [
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/*/README.md", "benchmarks/*.md", "helm/**/*.md")
    for page in sorted(ROOT.glob(pattern))
]


@pytest.mark.parametrize("name", PAGES)
def test_a_made_page_is_current(name: str) -> None:
    assert (ROOT / name).read_text() == PAGES[name](ROOT), "run: make docs"


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PROSE])
def test_a_make_target_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"`make ([a-z][a-z0-9-]*)", text)) | set(
        re.findall(r"^ {4}make ([a-z][a-z0-9-]*)", text, re.MULTILINE)
    )
    assert named <= TARGETS


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PROSE])
def test_a_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text())  # a pattern in code may look like a link
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", text)
    assert not [link for link in links if not (page.parent / link).exists()]


def test_every_target_of_the_makefile_is_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    unexplained = [name for name in TARGETS if not re.search(rf"^{re.escape(name)}:.*## \S", text, re.MULTILINE)]
    assert not unexplained


@pytest.mark.parametrize("folder", ["helm/modeldeploy/crds", "cli/modeldeploy/data"])
def test_the_chart_and_the_command_line_link_to_the_resource_definition(folder: str) -> None:
    """Git holds the definition once; Helm and the build of the wheel follow the links."""
    link = ROOT / folder / "modeldeployments.yaml"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "crds" / "modeldeployments.yaml"
