"""Every stage of the examples, as Kustomize and Helm make it, is what the API server takes."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
STAGES = ("dev", "test", "acceptance", "prod")
MODELS = "s3://models"


def of_kustomize(folder: str) -> str:
    command = ["kubectl", "kustomize", str(EXAMPLES / "13-stages" / folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("${MODELS}", MODELS)


def of_helm(stage: str) -> str:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")
    folder = EXAMPLES / "17-helm-stages"
    values = {"models": MODELS} | yaml.safe_load((folder / f"values-{stage}.yaml").read_text())
    with helm.Chart.load(str(folder / "chart")) as chart:
        return "\n---\n".join(chart.render(values, name="screening").values())


@pytest.mark.parametrize(
    ("render", "stage"),
    [
        pytest.param(of_kustomize, "base", id="the base of Kustomize"),
        *(pytest.param(of_kustomize, f"overlays/{stage}", id=f"{stage} by Kustomize") for stage in STAGES),
        *(pytest.param(of_helm, stage, id=f"{stage} by Helm") for stage in STAGES),
    ],
)
def test_a_stage_is_taken_by_the_api_server(render: Callable[[str], str], stage: str, kubeconfig: Path) -> None:
    command = ["kubectl", "--kubeconfig", str(kubeconfig), "apply", "--server-side", "--dry-run=server", "-f", "-"]
    done = subprocess.run(command, input=render(stage), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "modeldeployment.modeldeploy.dev/screening serverside-applied" in done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_both_tools_make_the_same_stage(stage: str) -> None:
    one, other = yaml.safe_load(of_kustomize(f"overlays/{stage}"))["spec"], yaml.safe_load(of_helm(stage))["spec"]
    assert {"replicas": 1} | one == other


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param({"models": MODELS, "replica": 2}, "replica", id="a value that the chart does not know"),
        pytest.param({}, "models", id="no place for the models"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_sent(values: dict[str, Any], said: str) -> None:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")
    with (
        helm.Chart.load(str(EXAMPLES / "17-helm-stages" / "chart")) as chart,
        pytest.raises(helm.HelmError, match=said),
    ):
        chart.render(values, name="screening")
