"""What the operator writes into status is what `modeldeploy report` reads, and a browser shows it."""

import asyncio
import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from judged_rollout import answer, mirrored, rollout
from rich.console import Console

from modeldeploy.report.page import page_of
from modeldeploy.report.story import JudgedRollout, NothingToReport
from modeldeploy.rollout import Rollout
from modeldeploy.view import tree_of

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


async def aborted() -> Any:
    """A ModelDeployment whose canary went back for its errors."""
    canary = await rollout()
    for _ in range(6):
        await canary.serve(stable=(1, 2), canary=(20, 2))
    await canary.world.run(canary.key)
    return canary.world.cluster.get("ModelDeployment", canary.key)


async def test_a_rollout_that_went_back_is_told_whole() -> None:
    body = await aborted()
    told = JudgedRollout.from_body(body)
    assert (told.canary, told.result) == (body["status"]["abortedRevision"], "Aborted")
    page = page_of(told)
    assert "errors: canary" in page
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "Verdicts",
        "Weight",
        "errors: bad requests",
        "errors: evidence against the canary",
        "refusals: bad requests",
        "refusals: evidence against the canary",
        "latency: bad requests",
        "latency: evidence against the canary",
    ]


async def test_the_groups_of_a_metric_are_told_with_what_they_lack() -> None:
    body = await aborted()
    groups = {
        "<i>": {"value": 0.5, "answers": 4, "stableValue": 0.75, "stableAnswers": 8},
        "m": {"value": 0.9, "answers": 1000},
    }
    metric = {"name": "group-accuracy", "verdict": "Undecided", "evidence": 1, "failAt": 100, "groups": groups}
    body["status"]["analysis"]["metrics"].append(metric)
    page = page_of(JudgedRollout.from_body(body))
    rows = re.findall(
        r"<tr>(.*?)</tr>", page.partition("Groups of group-accuracy")[2].partition("</table>")[0], re.DOTALL
    )
    assert "&lt;i&gt;" in rows[1]
    assert "0.5000 of 4" in rows[1]
    assert "0.7500 of 8" in rows[1]
    assert "about 211 more" in rows[1]
    assert "more" not in rows[2]


async def test_what_copies_said_is_told_by_report_and_watch() -> None:
    canary = await mirrored()
    await answer(canary, 100, differing=8)
    body = canary.world.cluster.get("ModelDeployment", canary.key)
    page = page_of(JudgedRollout.from_body(body))
    assert "92 of 100 mirrored requests agree (92.00%)" in page
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "Verdicts",
        "Weight",
        "shadow-agreement",
        "shadow-agreement: evidence against the canary",
    ]
    with io.StringIO() as shown:
        Console(file=shown, width=200).print(tree_of(Rollout.from_body(body), [], [], now=canary.world.clock.now()))
        line = "shadow-agreement  Undecided  value 0.92  min 0.95  100 mirrored requests  E 0.919 of 20"
        assert line in shown.getvalue()


async def test_a_rollout_that_is_on_is_told_so_far() -> None:
    canary = await rollout()
    await canary.serve(stable=(1, 2), canary=(3, 2))
    told = JudgedRollout.from_body(canary.world.cluster.get("ModelDeployment", canary.key))
    assert (told.result, told.ended) == ("", None)
    assert "On its way" in page_of(told)


def test_a_resource_that_was_never_judged_says_what_to_do() -> None:
    with pytest.raises(NothingToReport, match=r"strategy\.canary"):
        JudgedRollout.from_body({"metadata": {"name": "fraud"}, "status": {}})


async def test_what_a_cluster_wrote_is_text_and_no_markup() -> None:
    body = await aborted()
    body["status"]["history"][0]["message"] = "<script>alert(1)</script>"
    page = page_of(JudgedRollout.from_body(body))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


#: Tells a browser to say of each line whether it was drawn.
MEASURE = """
<script>
  const lines = [...document.querySelectorAll("path.line")];
  document.title = lines.map(line => line.getTotalLength() > 50).join();
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
async def test_a_browser_draws_the_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(page_of(JudgedRollout.from_body(await aborted())) + MEASURE)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    browser = await asyncio.create_subprocess_exec(
        str(CHROMIUM), *options, page.as_uri(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    shown, _ = await asyncio.wait_for(browser.communicate(), 60)
    lines = re.search(r"<title>(.*?)</title>", shown.decode())
    assert lines is not None
    # The weight; canary, stable and evidence of errors, refusals and latency.
    assert lines[1].split(",") == ["true"] * 10
