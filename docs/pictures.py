"""Draws the pictures of the documentation from what really runs: `make pictures`.

    python docs/pictures.py

A sandbox with the operator, models in an S3 bucket on loopback, a canary under load, and the dashboard in a browser.
"""

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from scene import KEY, Scene, bucket, load

from modeldeploy.kube import MODELDEPLOYMENTS, Kube
from modeldeploy.report.page import page_of
from modeldeploy.report.story import JudgedRollout
from modeldeploy.stand import Child, stand
from modeldeploy.stand.process import environment

PICTURES = Path(__file__).parent / "pictures"
#: Larger ones make a page slow to read.
MOST_BYTES = 200_000
EXPLANATION_PICTURES: dict[str, dict[str, Any]] = {
    "dashboard-explanation": {"width": 1280, "height": 620},
    "dashboard-explanation-dark": {"width": 1280, "height": 620, "color_scheme": "dark"},
    "dashboard-explanation-phone": {"width": 390, "height": 980},
}


def main() -> None:
    """Draw every picture."""
    PICTURES.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = stack.enter_context(bucket())
        running = stack.enter_context(stand(folder))
        kube = stack.enter_context(Kube.connect(running.kubeconfig))
        scene = Scene(kube, environ)
        scene.begin()
        stack.enter_context(load(scene.address("fraud-score", "risk"), rate=60, has_labels=True))
        stack.enter_context(load(scene.address("churn", "growth"), rate=12))
        scene.roll()
        words = ["--kubeconfig", str(running.kubeconfig), "dashboard", "-A", "--no-browser", "--interval", "3s"]
        command = [sys.executable, "-m", "modeldeploy", *words]
        dashboard = stack.enter_context(Child("dashboard", command, log=folder / "log", env=environment()))
        link = dashboard.wait_for(r"^The dashboard is at (\S+)$", seconds=30)[1]
        threading.Event().wait(110)  # so that there is something to see: two minutes of traffic
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        stack.callback(browser.close)
        draw(browser, link, scene, folder)
    for picture in sorted(PICTURES.glob("*.png")):
        size = picture.stat().st_size
        print(f"{picture.relative_to(PICTURES.parent)}: {size // 1000} kB")
        if size > MOST_BYTES:
            raise SystemExit(f"{picture} has more than {MOST_BYTES} bytes")


def draw(browser: Browser, link: str, scene: Scene, folder: Path) -> None:
    """Draw the dashboard, a report and the API page of a model."""
    base = link.partition("?")[0]
    model = f"{base}models/risk/fraud-score"
    with opened(browser, link, width=1280, height=640) as page:
        page.wait_for_timeout(2000)
        keep(page, "dashboard")
        page.goto(model)
        page.wait_for_timeout(2500)
        keep(page, "dashboard-model", height=1220)
        page.get_by_role("button", name="Show the form").click()
        page.get_by_role("button", name="Predict").click()
        page.get_by_text("Answer", exact=True).wait_for()
        page.locator("[data-part=revisions]").evaluate("part => scrollTo(0, part.offsetTop - 16)")
        keep(page, "dashboard-revisions", height=1000)
        page.locator("[data-part=groups]").evaluate("part => scrollTo(0, part.offsetTop - 16)")
        keep(page, "dashboard-groups", height=420)
        page.evaluate("scrollTo(0, 0)")
        page.locator("main").get_by_role("button", name="Abort", exact=True).click()
        keep(page, "dashboard-abort", height=640)
    for name, options in EXPLANATION_PICTURES.items():
        with opened(browser, link, **options) as page:
            explain(page, f"{base}models/risk/credit")
            keep(page, name)
    with opened(browser, link, width=1280, height=640, color_scheme="dark") as page:
        page.wait_for_timeout(2000)
        keep(page, "dashboard-dark")
        page.goto(model)
        page.wait_for_timeout(2500)
        keep(page, "dashboard-model-dark", height=800)
    with opened(browser, link, width=390, height=844) as page:
        page.wait_for_timeout(2000)
        keep(page, "dashboard-phone")
        page.goto(model)
        page.wait_for_timeout(2500)
        keep(page, "dashboard-model-phone")
    with opened(browser, link, width=1280, height=900) as page:
        report = folder / "report.html"
        body = scene.kube.get(MODELDEPLOYMENTS, "fraud-score", "risk")
        report.write_text(page_of(JudgedRollout.from_body(body)))
        page.set_viewport_size({"width": 800, "height": 1000})
        page.goto(report.as_uri())
        keep(page, "report")
        page.set_viewport_size({"width": 1100, "height": 800})
        page.goto(f"http://{scene.address('churn', 'growth')}/docs")
        page.get_by_text("/predict").first.wait_for()
        page.wait_for_timeout(1000)
        keep(page, "docs")


def explain(page: Page, model: str) -> None:
    """Try a model behind a key, and show what moved its prediction."""
    page.goto(model)
    page.get_by_role("button", name="Show the form").click()
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("Base value").wait_for()
    page.get_by_role("heading", name="Try a prediction").evaluate("part => scrollTo(0, part.offsetTop - 32)")


@contextmanager
def opened(browser: Browser, link: str, *, width: int, height: int, **options: Any) -> Iterator[Page]:
    """A page of a browser of its own, with a session of the dashboard."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.goto(link)
    yield page
    context.close()


def keep(page: Page, name: str, *, height: int | None = None) -> None:
    """Write what a page shows into a file."""
    size = page.viewport_size
    if height and size:
        page.set_viewport_size({**size, "height": height})
        page.wait_for_timeout(300)
    page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")
    if height and size:
        page.set_viewport_size(size)


if __name__ == "__main__":
    main()
