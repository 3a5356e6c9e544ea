"""The site builds without a warning, needs no other host, and its links lead somewhere; what guides show is valid."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml
from shown_commands import blocks

from model_operator.api.resource import ModelDeployment
from model_operator.manifests.monitoring import alerts
from model_operator.policy.rollout.pauses import PauseReason

pytest.importorskip("mkdocs", reason="mkdocs is in the extra docs")

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NEW_KINDS = ("tutorials", "how-to", "explanation")
PAGES = [pytest.param(page, id=str(page.relative_to(DOCS))) for kind in NEW_KINDS for page in DOCS.glob(f"{kind}/*.md")]


class Links(HTMLParser):
    """The ids of a page, what it loads, and what it links to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids, self.loaded, self.linked = set[str](), list[str](), list[str]()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag in ("script", "img", "iframe", "source") and "src" in found:
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "preload", "preconnect", "icon"):
            self.loaded.append(found["href"])
        if tag == "a" and "href" in found:
            self.linked.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def html(site: Path) -> dict[Path, Links]:
    return {page: Links(page) for page in site.rglob("*.html")}


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def test_no_page_loads_anything_from_another_host(site: Path, html: dict[Path, Links]) -> None:
    assert not [(page.name, one) for page, found in html.items() for one in found.loaded if is_elsewhere(one)]
    styles = "".join(page.read_text() for page in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//[^)\"']+", styles)


def test_every_link_leads_to_a_page_and_a_heading(html: dict[Path, Links]) -> None:
    broken = []
    for page, found in html.items():
        for link in found.linked + found.loaded:
            if is_elsewhere(link) or urlsplit(link).scheme or page.name == "404.html":
                continue
            path, anchor = urldefrag(link)
            target = (page.parent / unquote(path)).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (
                anchor and target in html and unquote(anchor) not in html[target].ids | {"__top"}
            ):
                broken.append(f"{page.name}: {link}")
    assert not broken


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_search_needs_no_server(site: Path, tmp_path: Path) -> None:
    page = f"{(site / 'how-to' / 'alerts.html').as_uri()}?q=kstatus"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    command = [str(CHROMIUM), *options, "--virtual-time-budget=20000", page]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False).stdout
    results = shown.partition('class="md-search-result__list"')[2]
    assert "<h1>Flux</h1>" in results


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_for_whom_it_is(page: Path) -> None:
    title, _, rest = page.read_text().partition("\n")
    assert title.startswith("# ")
    assert rest.lstrip().startswith("*For ")


def documents() -> Iterator[Any]:
    """Every YAML block of the guides, wherever it is indented."""
    for kind in NEW_KINDS:
        for page in sorted(DOCS.glob(f"{kind}/*.md")):
            text = re.sub(r"^( +)```yaml\n(.*?)^\1```", _dedented, page.read_text(), flags=re.MULTILINE | re.DOTALL)
            for number, block in enumerate(blocks(text, "yaml")):
                yield pytest.param(block, id=f"{page.stem} {number}")


def _dedented(match: re.Match[str]) -> str:
    lines = match[2].splitlines(keepends=True)
    return "```yaml\n" + "".join(line.removeprefix(match[1]) for line in lines) + "```"


@pytest.mark.parametrize("block", list(documents()))
def test_a_manifest_of_a_guide_is_valid(block: str, tmp_path: Path) -> None:
    if block.startswith("# values.yaml"):
        helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")
        with helm.Chart.load(str(ROOT / "helm" / "modeldeploy")) as chart:
            chart.validate_schema(yaml.safe_load(block))
        return
    body = yaml.safe_load(block)
    if body.get("kind") != "ModelDeployment":
        return
    (tmp_path / "manifest.yaml").write_text(block)
    command = [sys.executable, "-m", "modeldeploy", "lint", "-f", str(tmp_path / "manifest.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_guide_for_the_night_has_every_reason_of_a_pause() -> None:
    text = (DOCS / "how-to" / "three-in-the-morning.md").read_text()
    assert not [str(reason) for reason in PauseReason if f"`{reason}`" not in text]


def test_the_guide_to_alerts_lists_all_of_them() -> None:
    spec = {
        "model": {"storageUri": "s3://b/m"},
        "hooks": {"retrain": {"url": "https://a.example.com", "quality": [{"name": "accuracy", "min": 0.9}]}},
    }
    metadata = {"name": "fraud", "namespace": "shop", "uid": "u", "resourceVersion": "1", "generation": 1}
    owner = ModelDeployment.from_body({"metadata": metadata, "spec": spec})
    chart = (ROOT / "helm/modeldeploy/templates/prometheusrule.yaml").read_text()
    known = {rule["alert"] for rule in alerts(owner)["rules"]} | set(re.findall(r"- alert: (\w+)", chart))
    text = (DOCS / "how-to" / "alerts.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == known
