"""The dashboard in a real browser, on real rollouts: it follows, acts, refuses, and can be read by everybody."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import joblib
import pytest
import yaml
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sklearn.neighbors import KNeighborsClassifier

from modeldeploy.kube import MODELDEPLOYMENTS, MODELPOOLS, Resource
from modeldeploy.stand import Child, wait_until
from modeldeploy.stand.process import environment

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"), pytest.mark.timeout(300)]
expect.set_options(timeout=20_000)  # milliseconds: other tests run beside these
#: What each text of a cluster may try to be.
SCRIPT = "<img/src=x/onerror=document.title=`hacked`>"
FITS = "document.documentElement.scrollWidth <= innerWidth"
GATED = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 75}, {"pause": {}}], "maxSurge": 1}}
Space = Any  # of conftest.py
REQUEST = Path(__file__).resolve().parents[2] / "examples" / "01-minimal" / "request.json"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


def start(kubeconfig: Path, log: Path) -> tuple[Child, str]:
    """A dashboard of the namespace, and the link that it has printed."""
    words = ["--kubeconfig", str(kubeconfig), "dashboard", "--no-browser", "--interval", "1s"]
    child = Child("dashboard", [sys.executable, "-m", "modeldeploy", *words], log=log, env=environment())
    return child, child.wait_for(r"^The dashboard is at (\S+)$", seconds=30)[1]


@pytest.fixture(scope="module")
def link(space: Space, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    child, link = start(space.kubeconfig, tmp_path_factory.mktemp("dashboard") / "log")
    with child:
        yield link


@pytest.fixture
def page(browser: Browser, link: str) -> Iterator[Page]:
    """A page of the dashboard that fails its test for any error of the script, and for what the policy has refused."""
    yield from opened(browser, link)


def opened(browser: Browser, link: str, **options: Any) -> Iterator[Page]:
    context = browser.new_context(**options)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Security Policy" in message.text else None)
    page.goto(link)
    yield page
    context.close()
    assert errors == []


def canary(space: Space, name: str, strategy: Any = GATED) -> None:
    """A model whose second version waits at the first gate."""
    space.apply(name, "quick/breast-cancer/1", strategy=strategy)
    space.wait_live(name, "1")
    space.apply(name, "quick/breast-cancer/2", strategy=strategy)
    wait_until(lambda: phase(space, name) == "Paused", f"{name} waits", seconds=60)


def phase(space: Space, name: str) -> str:
    return str((space.kube.get(MODELDEPLOYMENTS, name).get("status") or {}).get("phase"))


def open_model(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def answer_dialog(page: Page, label: str) -> str:
    """Press a button, confirm, and return what the dialog says in the end."""
    page.locator("main").get_by_role("button", name=label, exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=label, exact=True).click()
    close = dialog.get_by_role("button", name="Close")
    expect(close).to_be_visible(timeout=20_000)
    told = dialog.get_by_role("status").inner_text()
    close.click()
    return told


def serious(page: Page) -> list[str]:
    """What axe-core finds that keeps people from reading or using the page."""
    page.evaluate(Path(AXE_FILE_PATH).read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:150] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_a_new_model_appears_and_becomes_healthy_without_a_reload(space: Space, page: Page) -> None:
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    space.apply("fresh", "quick/breast-cancer/1")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="fresh", exact=True))
    expect(row.get_by_text("Healthy")).to_be_visible(timeout=60_000)
    expect(row).to_contain_text("1/1")
    space.kube.delete(MODELDEPLOYMENTS, "fresh")
    expect(row).to_have_count(0, timeout=60_000)


def test_promote_goes_on_with_the_next_step_and_then_to_the_end(space: Space, page: Page) -> None:
    canary(space, "promoted")
    open_model(page, "promoted")
    expect(page.get_by_text("Waits until a person promotes or aborts.")).to_be_visible()
    page.locator("main").get_by_role("button", name="Promote", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("step 3 of 4: send 75 % of the traffic")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert "step 2/4" in space.kube.get(MODELDEPLOYMENTS, "promoted")["status"]["message"], "Escape asks for nothing"
    answer_dialog(page, "Promote")
    expect(page.get_by_text("step 4/4").first).to_be_visible(timeout=60_000)
    answer_dialog(page, "Promote fully")
    expect(page.locator("h1")).to_contain_text("Healthy", timeout=90_000)
    expect(page.get_by_role("button", name="Undo to this")).to_be_visible()


def test_abort_leaves_stable_and_offers_to_retry(space: Space, page: Page) -> None:
    canary(space, "aborted")
    open_model(page, "aborted")
    answer_dialog(page, "Abort")
    expect(page.get_by_role("button", name="Retry")).to_be_visible(timeout=60_000)
    page.get_by_role("link", name="Models", exact=True).click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="aborted", exact=True))
    expect(row).to_contain_text("Aborted")


def test_pause_and_resume_say_what_is_held(space: Space, page: Page) -> None:
    canary(space, "held")
    open_model(page, "held")
    answer_dialog(page, "Pause")
    expect(page.get_by_text("The rollout is paused (spec.paused). Resume it to go on.")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("cell", name="true", exact=True)).to_be_visible()  # what differs from what was applied
    answer_dialog(page, "Resume")
    expect(page.get_by_role("button", name="Resume")).to_have_count(0, timeout=30_000)


def test_a_confirmation_that_has_become_old_does_nothing(space: Space, page: Page) -> None:
    canary(space, "moved")
    open_model(page, "moved")
    page.locator("main").get_by_role("button", name="Promote", exact=True).click()
    state = space.kube.get(MODELDEPLOYMENTS, "moved")["status"]
    token = f"{state['canaryRevision']}@{state['currentStepIndex']}"
    space.kube.merge(MODELDEPLOYMENTS, "moved", {"metadata": {"annotations": {"modeldeploy.dev/promote": token}}})
    wait_until(lambda: _step(space, "moved") == 3, "the rollout has moved on", seconds=60)
    page.get_by_role("dialog").get_by_role("button", name="Promote", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("moved has changed since")
    assert _step(space, "moved") == 3


def _step(space: Space, name: str) -> int:
    return int(space.kube.get(MODELDEPLOYMENTS, name)["status"].get("currentStepIndex", 0))


def test_a_prediction_is_tried_with_the_form_of_the_model(space: Space, page: Page) -> None:
    space.apply("tried", "quick/breast-cancer/1")
    space.wait_live("tried", "1")
    open_model(page, "tried")
    page.get_by_role("button", name="Show the form").click()
    expect(page.locator("#prediction")).to_contain_text("No explanation: explanations are off: set MODEL_SERVER")
    field = page.get_by_role("textbox", name="mean_radius")
    expect(field).to_be_focused()
    field.fill("10")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".answer")).to_contain_text('"predictions": [\n    1\n  ]', timeout=20_000)
    field.fill("a lot")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".answer")).to_contain_text("mean_radius: 'a lot' is no number.")
    page.get_by_text("Write the request as JSON").click()
    page.get_by_role("textbox", name="Request as JSON").fill('{"instances": [[1]]}')
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".answer")).to_contain_text("Refused with 422")


def test_a_model_behind_a_key_is_tried_and_explained(space: Space, page: Page) -> None:
    package = space.cluster.models / "keyed"
    package.mkdir()
    # No library explains a nearest neighbour, so that the server estimates.
    model = KNeighborsClassifier(n_neighbors=1).fit([[0, 1], [2, 1]], [0, 1])
    joblib.dump(model, package / "model.joblib")
    metadata = {
        "input_features": [{"name": name, "dtype": "float64", "example": 2.0} for name in ("size", "noise")],
        "reference_profile": {name: {"edges": [0, 1, 2], "counts": [50, 50]} for name in ("size", "noise")},
    }
    (package / "model.yaml").write_text(yaml.safe_dump(metadata))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"ours": "s3cret"}}
    space.kube.apply(Resource("", "v1", "secrets"), secret)
    explanations = {"name": "server", "env": [{"name": "MODEL_SERVER_EXPLANATIONS", "value": "true"}]}
    server = {
        "auth": {"secretName": "keys", "protect": ["docs"]},
        "podTemplate": {"spec": {"containers": [explanations]}},
    }
    space.apply("keyed", "keyed", model={"version": "1"}, server=server, monitoring={"slices": [{"name": "team"}]})
    space.wait_live("keyed", "1")
    for label in (1, 0):
        told = {"prediction": 1, "label": label, "groups": {"team": "blue"}}
        httpx.post(f"{space.url('keyed')}/feedback", json=told, headers={"x-api-key": "s3cret"}).raise_for_status()
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    open_model(page, "keyed")
    page.get_by_role("button", name="Show the form").click()
    expect(page.locator("#prediction")).to_contain_text("The model needs an API key.")
    assert serious(page) == []
    page.get_by_label("API key").fill("wrong")
    page.get_by_role("button", name="Show the form").click()
    expect(page.get_by_role("alert")).to_contain_text("The model does not accept this API key.")
    page.get_by_label("API key").fill("s3cret")
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="size", exact=True)).to_be_focused()
    page.get_by_role("button", name="Explain").click()
    answer = page.locator(".answer")
    expect(answer).to_contain_text("together 1")
    expect(answer).to_contain_text("Scale: probability of class 1.")
    expect(answer.get_by_role("listitem").first).to_contain_text("size")
    expect(answer).to_contain_text("± is its standard error")
    for dark in (False, True):
        page.emulate_media(color_scheme="dark" if dark else "light")
        assert serious(page) == []
    page.set_viewport_size({"width": 360, "height": 760})
    assert page.evaluate(FITS), "the page is cut"
    page.set_viewport_size({"width": 1280, "height": 720})
    page.get_by_label("API key").fill("wrong")
    page.get_by_role("button", name="Predict").click()
    expect(answer).to_contain_text("The model does not accept this API key.")
    row = page.get_by_role("region", name="Feedback by team").get_by_role("row").filter(has_text="blue")
    expect(row).to_contain_text("0.500")
    expect(row).to_contain_text("about 383 more")
    assert not [url for url in addresses if "s3cret" in url]
    assert "s3cret" not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie")


def test_the_fleet_shows_what_models_use_and_cost(space: Space, page: Page, tmp_path: Path) -> None:
    asked = {"requests": {"cpu": "750m", "memory": "2Gi"}}
    for name in ("wasteful", "modest"):
        space.apply(name, "quick/breast-cancer/1", server={"resources": asked} if name == "wasteful" else {})
    for name in ("wasteful", "modest"):
        space.wait_live(name, "1")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="wasteful", exact=True))

    def shows(text: str) -> bool:
        page.get_by_role("link", name="Fleet", exact=True).click()
        return text in row.inner_text()

    wait_until(lambda: shows("none in"), "the pod was looked at", seconds=30)
    expect(row).to_contain_text("of 0.75")
    expect(page.locator("main")).to_contain_text("no rates given, so that no cost is shown")
    assert serious(page) == []
    page.set_viewport_size({"width": 360, "height": 760})
    assert page.evaluate(FITS), "the page is cut"
    httpx.post(f"{space.url('wasteful')}/predict", content=REQUEST.read_bytes(), headers=JSON).raise_for_status()
    (tmp_path / "rates.yaml").write_text("currency: EUR\ncpuHour: 0.04\ngibHour: 0.005\n")
    words = ["fleet", "--rates", str(tmp_path / "rates.yaml"), "--over", "1s", "-o", "json"]
    command = [sys.executable, "-m", "modeldeploy", "--kubeconfig", str(space.kubeconfig), *words]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, env=environment()).stdout)
    by_name = {one["name"]: one for one in found["models"]}
    wasteful, modest = by_name["wasteful"], by_name["modest"]
    assert wasteful["requested"] == {"cpu": 0.75, "memory": 2 * 2**30, "gpus": 0}
    assert 0 < wasteful["used"]["memory"] < 2**30
    assert wasteful["idle"]["memory"] == 2 * 2**30 - wasteful["used"]["memory"]
    assert wasteful["lastRequestTime"] is not None
    assert modest["lastRequestTime"] is None
    assert wasteful["costPerMonth"] == pytest.approx(730 * (0.75 * 0.04 + 2 * 0.005), abs=0.01)
    assert found["models"][0] is wasteful, "what wastes most is first"


def test_pools_have_pages_with_their_pods_and_models(space: Space, page: Page, tmp_path: Path) -> None:
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    (tmp_path / "model.py").write_text(
        "def load_model(path): return 1\ndef predict(model, inputs): return [1] * len(inputs)\n"
    )
    listed = [{"name": "one", "storageUri": tmp_path.as_uri(), "trusted": True}]
    listed += [{"name": "gone", "storageUri": "file:///nowhere"}]
    manifest = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "small"}}
    space.kube.apply(MODELPOOLS, {**manifest, "spec": {"models": listed, "processes": 1}})

    def state() -> str:
        return str((space.kube.get(MODELPOOLS, "small").get("status") or {}).get("phase"))

    wait_until(lambda: state() == "Ready", "the pool is ready", seconds=60)
    for name in ("one", "gone"):
        httpx.post(f"{space.url('small')}/v1/models/{name}:predict", json={"instances": [[1]]}, timeout=30)
    wait_until(lambda: state() == "Degraded", "the failure is seen", seconds=60)
    page.get_by_role("link", name="Pools", exact=True).click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="small", exact=True))
    expect(row).to_contain_text("Degraded")
    assert serious(page) == []
    page.get_by_role("link", name="small", exact=True).click()
    expect(page.get_by_role("row").filter(has_text="gone")).to_contain_text("ArtifactNotFound")
    expect(page.get_by_role("row", name="one loaded 1 of 1")).to_have_count(1)
    expect(page.locator("main")).to_contain_text("of 1,024 MiB (")
    assert serious(page) == []
    page.set_viewport_size({"width": 360, "height": 760})
    assert page.evaluate(FITS), "the page is cut"
    space.kube.delete(MODELPOOLS, "small")


def test_who_may_only_look_is_told_so_in_a_sentence(space: Space, browser: Browser, tmp_path: Path, page: Page) -> None:
    canary(space, "watched")
    bind = ("--clusterrole=view", f"--serviceaccount={space.namespace}:viewer")
    for words in (("serviceaccount", "viewer"), ("rolebinding", "viewer", *bind)):
        assert space.kubectl("create", *words).returncode == 0
    config = yaml.safe_load(space.kubeconfig.read_text())
    server = config["clusters"][0]["cluster"]
    server["server"] = server["server"].partition("/as/")[0]
    config["users"][0]["user"] = {"token": space.kubectl("create", "token", "viewer").stdout.strip()}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    child, link = start(tmp_path / "kubeconfig", tmp_path / "log")
    with child:
        for looked in opened(browser, link):
            open_model(looked, "watched")
            told = answer_dialog(looked, "Abort")
            assert told.startswith("You are not allowed to do this.")
            assert 'cannot patch resource "modeldeployments"' in told
            looked.get_by_role("button", name="Show the form").click()
            expect(looked.get_by_role("alert")).to_contain_text("needs the right to get services/proxy")
            expect(looked.locator("#notices")).to_contain_text("needs the right to get pods/proxy")
    assert phase(space, "watched") == "Paused"


def test_what_a_cluster_says_is_text(space: Space, page: Page) -> None:
    package = space.cluster.models / "evil"
    package.mkdir()
    code = "def load_model(path):\n    return None\n\n\ndef predict(model, inputs):\n    return inputs[:, 0]\n"
    (package / "model.py").write_text(code)
    metadata = {"name": "evil", "input_features": [{"name": SCRIPT, "dtype": "float64", "example": 1.0}]}
    (package / "model.yaml").write_text(yaml.safe_dump(metadata))
    space.apply("evil", "evil", model={"version": SCRIPT})
    space.wait_live("evil", SCRIPT)
    missing = f"{space.cluster.models_uri}/{SCRIPT}"
    space.apply("missing", "evil", model={"storageUri": missing})
    wait_until(lambda: phase(space, "missing") == "Degraded", "missing has failed", seconds=60)
    page.reload()
    expect(page.locator("#rows")).to_contain_text(SCRIPT)
    open_model(page, "evil")
    page.get_by_role("button", name="Show the form").click()
    expect(page.locator("#prediction")).to_contain_text(SCRIPT)
    page.goto(page.url.replace("/evil", "/missing"))
    expect(page.locator("main")).to_contain_text(SCRIPT)
    page.get_by_text("Show as YAML").click()
    for name in ("evil", "missing"):
        page.goto(page.url.rpartition("/")[0] + f"/{name}")
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
        assert page.locator("main img, main script").count() == 0
        assert "hacked" not in page.title()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screen_reader_can_read_it(space: Space, browser: Browser, link: str, scheme: str) -> None:
    if phase_or_none(space, "read") is None:
        canary(space, "read")
    for page in opened(browser, link, color_scheme=scheme):
        expect(page.get_by_role("link", name="read", exact=True)).to_be_visible()
        assert serious(page) == []
        open_everything(page)
        assert serious(page) == []
        page.locator("main").get_by_role("button", name="Abort", exact=True).click()
        assert serious(page) == []


def test_a_phone_shows_it_whole(space: Space, browser: Browser, link: str) -> None:
    if phase_or_none(space, "read") is None:
        canary(space, "read")
    for page in opened(browser, link, viewport={"width": 360, "height": 760}):
        expect(page.get_by_role("link", name="read", exact=True)).to_be_visible()
        assert page.evaluate(FITS), "the list is cut"
        open_everything(page)
        assert page.evaluate(FITS), "the page is cut"


def open_everything(page: Page) -> None:
    open_model(page, "read")
    page.get_by_role("button", name="Show the form").click()
    expect(page.get_by_role("button", name="Predict")).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()


def phase_or_none(space: Space, name: str) -> str | None:
    found = [one for one in space.kube.list(MODELDEPLOYMENTS) if one["metadata"]["name"] == name]
    return phase(space, name) if found else None


def test_the_keyboard_reaches_everything(space: Space, page: Page) -> None:
    canary(space, "keys")
    page.goto(page.url.rstrip("/") + f"/models/{space.namespace}/keys")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    abort = page.locator("main").get_by_role("button", name="Abort", exact=True)
    for _ in range(12):
        page.keyboard.press("Tab")
        if abort.evaluate("button => button === document.activeElement"):
            break
    expect(abort).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    for _ in range(4):
        page.keyboard.press("Tab")
        assert not page.evaluate("!!document.activeElement.closest('main')"), "the dialog keeps the focus"
    page.keyboard.press("Escape")
    expect(abort).to_be_focused()


def test_an_update_takes_the_focus_from_nothing(space: Space, page: Page) -> None:
    canary(space, "focus")
    page.goto(page.url.rstrip("/") + f"/models/{space.namespace}/focus")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()

    def update(team: str) -> None:
        """Change what the head and the manifest show, and wait until the page shows it."""
        assert space.kubectl("label", "mdep", "focus", f"team={team}", "--overwrite").returncode == 0
        expect(page.get_by_text(f"team={team}", exact=True)).to_be_visible()

    link = page.locator("main").get_by_role("link", name=space.namespace, exact=True)
    link.focus()
    update("a")
    expect(link).to_be_focused()
    summary = page.locator("summary", has_text="Show as YAML")
    summary.focus()
    update("b")
    expect(summary).to_be_focused()
    abort = page.locator("main").get_by_role("button", name="Abort", exact=True)
    abort.press("Enter")
    cancel = page.get_by_role("dialog").get_by_role("button", name="Cancel")
    expect(cancel).to_be_focused()
    update("c")
    expect(cancel).to_be_focused()
    page.keyboard.press("Escape")
    expect(abort).to_be_focused()
