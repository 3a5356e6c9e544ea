"""The dashboards of the chart are those of their code, and every expression in them is PromQL."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import promql_parser
import pytest
import yaml
from dashboard_queries import expressions, filled, label_queries, panels

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "modeldeploy"
CHOSEN = {
    "namespace": "shop",
    "model": "fraud",
    "revision": "bcdfghjk",
    "pool": "small",
    "pod": "fraud-bcdfghjk-1",
}


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MADE = _load(ROOT / "helm" / "dashboards" / "generate.py").dashboards()
BODIES: dict[str, dict[str, Any]] = {Path(name).stem: json.loads(text) for name, text in MADE.items()}


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name="md", namespace="serving")
    texts = [text for file, text in files.items() if file.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


@pytest.mark.parametrize("name", MADE)
def test_a_dashboard_is_current(name: str) -> None:
    assert (ROOT / name).read_text() == MADE[name], "run: make dashboards"


def test_the_chart_ships_no_other_dashboard() -> None:
    assert {path.stem for path in (CHART / "dashboards").iterdir()} == set(BODIES)


def test_the_config_maps_hold_the_dashboards_as_they_are() -> None:
    """The braces of a legend are no template of Helm's."""
    values = {"grafana": {"dashboards": {"enabled": True, "annotations": {"grafana_folder": "Models"}}}}
    maps = [one for one in render(values) if one["kind"] == "ConfigMap"]
    assert {name: json.loads(text) for one in maps for name, text in one["data"].items()} == {
        f"{name}.json": body for name, body in BODIES.items()
    }
    for one in maps:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"grafana_folder": "Models"}


@pytest.mark.parametrize("name", BODIES)
def test_a_dashboard_has_a_fixed_uid_and_a_data_source_to_choose(name: str) -> None:
    body = BODIES[name]
    assert body["uid"] == name
    assert "id" not in body  # Grafana would overwrite the dashboard of that number
    first = body["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    for panel in panels(body):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"]


@pytest.mark.parametrize("name", BODIES)
def test_a_variable_depends_on_those_before_it_alone(name: str) -> None:
    known = {"datasource"}
    for variable in BODIES[name]["templating"]["list"][1:]:
        used = {one for one in CHOSEN if f"${one}" in variable["query"]}
        assert used <= known
        known.add(variable["name"])
    used = {one for one in CHOSEN for _, expression in expressions(BODIES[name]) if f"${one}" in expression}
    assert used <= known


@pytest.mark.parametrize("name", BODIES)
def test_no_two_panels_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(BODIES[name]):
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells


EXPRESSIONS = [
    pytest.param(expression, id=f"{name} {number} {title}")
    for name, body in BODIES.items()
    for number, (title, expression) in enumerate(expressions(body))
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_parses(expression: str) -> None:
    text = filled(expression, CHOSEN)
    assert "$" not in text
    promql_parser.parse(text)


@pytest.mark.parametrize("name", BODIES)
def test_a_query_of_a_variable_parses(name: str) -> None:
    for series, label in label_queries(BODIES[name]):
        promql_parser.parse(filled(series, CHOSEN))
        assert label.isidentifier()


RULES = {"metrics": {"prometheusRule": {"enabled": True}}}
#: Half a day, one value a minute.
SERIES = {
    'modeldeploy_operator_leader{namespace="serving",pod="a"}': "0x800",
    'modeldeploy_operator_leader{namespace="other",pod="b"}': "1x800",
    'modeldeploy_operator_reconciles_total{namespace="serving",result="bug"}': "0x780 1x20",
    'modeldeploy_operator_reconciles_total{namespace="serving",result="error"}': "0+60x800",
    'modeldeploy_operator_reconciles_total{namespace="serving",result="ok"}': "0+60x800",
    'modeldeploy_operator_paused{namespace="shop",name="fraud",reason="PauseStep"}': "1x800",
}
FIRED = {
    "ModelOperatorNotLeading": (
        {"severity": "critical"},
        "Models go on serving; rollouts and scaling stand still. Look at the pods in serving.",
    ),
    "ModelOperatorBug": (
        {"severity": "warning"},
        "The affected ModelDeployments have the condition Stalled with the reason InternalError; "
        "the log has the traceback.",
    ),
    "ModelOperatorReconcileErrors": (
        {"severity": "warning"},
        "1 reconciles fail per second; the log of the operator has the reasons.",
    ),
    "ModelRolloutWaits": (
        {"severity": "info", "namespace": "shop", "name": "fraud", "reason": "PauseStep"},
        "It waits for PauseStep: kubectl modeldeploy status fraud -n shop",
    ),
}
_, NO_LEADER = FIRED["ModelOperatorNotLeading"]
SUMMARY = "The rollout of the model fraud has been waiting for twelve hours"


def rules() -> dict[str, Any]:
    (found,) = [one for one in render(RULES) if one["kind"] == "PrometheusRule"]
    return dict(found["spec"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: it comes with Prometheus")
@pytest.mark.parametrize(
    ("series", "fired"),
    [
        pytest.param(SERIES, FIRED, id="all that they are about"),
        pytest.param({name: "1x800" if "leader" in name else "0x800" for name in SERIES}, {}, id="nothing at rest"),
        pytest.param(
            {},
            {"ModelOperatorNotLeading": ({"severity": "critical", "namespace": "serving"}, NO_LEADER)},
            id="no operator at all",
        ),
    ],
)
def test_the_alerts_of_the_operator_fire_for(
    tmp_path: Path, series: dict[str, str], fired: dict[str, tuple[dict[str, str], str]]
) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    expected = []
    for rule in (rule for group in rules()["groups"] for rule in group["rules"]):
        name, alerts = rule["alert"], []
        if name in fired:
            labels, description = fired[name]
            summary = SUMMARY if name == "ModelRolloutWaits" else rule["annotations"]["summary"]
            alerts = [{"exp_labels": labels, "exp_annotations": {"summary": summary, "description": description}}]
        expected.append({"eval_time": "795m", "alertname": name, "exp_alerts": alerts})
    given = [{"series": name, "values": values} for name, values in series.items()]
    tests = [{"interval": "1m", "input_series": given, "alert_rule_test": expected}]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": tests}))
    run = subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
