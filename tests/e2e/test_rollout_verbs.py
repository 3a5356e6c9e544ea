"""Who may press promote: the verbs of `rolloutVerbs` in the chart, and the record of who did."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from waiting import wait_until

from modeldeploy.kube import EVENTS, MODELDEPLOYMENTS

CHART = Path(__file__).resolve().parents[2] / "helm" / "modeldeploy"
GATE = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}
EDITOR = {"apiGroups": ["modeldeploy.dev"], "resources": ["modeldeployments"], "verbs": ["get", "list", "patch"]}
ANSWERS = 60


def modeldeploy(space: Any, user: str, *words: str) -> subprocess.CompletedProcess[str]:
    where = ["--kubeconfig", str(space.kubeconfig), "--as", user]
    command = [sys.executable, "-m", "modeldeploy", *words, *where]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def grant(space: Any, user: str, *verbs: str) -> None:
    """Give a user the rights of an editor of ModelDeployments in the namespace, and more verbs."""
    rules = [EDITOR, {**EDITOR, "verbs": list(verbs)}] if verbs else [EDITOR]
    about = {"name": user, "namespace": space.namespace}
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": about, "rules": rules}
    to = {"roleRef": {"apiGroup": group, "kind": "Role", "name": user}}
    subjects = [{"apiGroup": group, "kind": "User", "name": user}]
    binding = {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": about, **to, "subjects": subjects}
    done = space.kubectl("apply", "-f", "-", given=yaml.safe_dump_all([role, binding]))
    assert done.returncode == 0, done.stderr


def paused(space: Any, name: str) -> None:
    """Make a model whose second version waits for a promotion."""
    space.apply(name, "quick/breast-cancer/1", strategy=GATE)
    space.wait_live(name, "1")
    space.apply(name, "quick/breast-cancer/2", strategy=GATE)
    wait_until(lambda: status_of(space, name).get("phase") == "Paused", f"{name} is paused", seconds=ANSWERS)


def status_of(space: Any, name: str) -> dict[str, Any]:
    status: dict[str, Any] = space.kube.get(MODELDEPLOYMENTS, name).get("status", {})
    return status


def test_who_promoted_is_in_the_history_and_in_an_event(space: Any) -> None:
    grant(space, "maria")
    paused(space, "recorded")
    done = modeldeploy(space, "maria", "promote", "recorded")
    assert done.returncode == 0, done.stderr
    space.wait_live("recorded", "2")

    def promoted() -> dict[str, Any]:
        latest: dict[str, Any] = status_of(space, "recorded")["history"][0]
        return latest if latest["result"] == "Promoted" and "requestedBy" in latest else {}

    assert wait_until(promoted, "the history has the promotion", seconds=ANSWERS)["requestedBy"] == "maria"
    events = space.kube.list(EVENTS, space.namespace)
    assert [e for e in events if e["reason"] == "RequestAccepted" and "requested by maria" in e["message"]]
    assert "maria" in modeldeploy(space, "maria", "history", "recorded").stdout


@pytest.fixture
def policy(space: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """Install the chart's policy for this namespace alone."""
    if not request.config.getoption("--cluster"):
        pytest.skip("the sandbox evaluates no ValidatingAdmissionPolicy: needs a cluster (make e2e CLUSTER=...)")
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")
    values = {"rolloutVerbs": {"enabled": True}, "watch": {"namespaces": [space.namespace]}}
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name=f"verbs-{os.getpid()}", namespace=space.namespace)
    (text,) = [text for file, text in files.items() if file.endswith("rollout-verbs.yaml")]
    done = space.kubectl("apply", "-f", "-", given=text)
    assert done.returncode == 0, done.stderr
    yield
    space.kubectl("delete", "-f", "-", given=text)


REQUESTS = [
    ("promote", "promote"),
    ("promote-full", "promote"),
    ("abort", "abort"),
    ("retry", "retry"),
    ("undo", "undo"),
    ("refresh", "refresh"),
]


@pytest.mark.usefixtures("policy")
def test_a_user_without_the_verb_changes_the_model_but_does_not_promote_it(space: Any) -> None:
    for user, verbs in (("editor", ()), ("lead", ("promote", "pause"))):
        grant(space, user, *verbs)
    paused(space, "guarded")

    def annotate(user: str, token: str, value: str) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = space.kubectl(
            "annotate", "mdep", "guarded", f"modeldeploy.dev/{token}={value}", "--overwrite", "--as", user
        )
        return done

    # The API server compiles a new policy within a second.
    wait_until(lambda: annotate("editor", "undo", "none@0").returncode != 0, "the policy is in force", seconds=ANSWERS)
    for token, verb in REQUESTS:
        refused = annotate("editor", token, "none@1")
        assert refused.returncode != 0, token
        assert f"user editor may not {verb} guarded: it takes the verb" in refused.stderr
    held = modeldeploy(space, "editor", "pause", "guarded")
    assert held.returncode != 0
    assert "may not pause or resume guarded" in held.stderr
    refused = modeldeploy(space, "editor", "promote", "guarded")
    assert refused.returncode == 3
    assert 'may not promote guarded: it takes the verb "promote"' in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr

    labelled = space.kubectl("label", "mdep", "guarded", "team=a", "--as", "editor")
    assert labelled.returncode == 0, labelled.stderr
    named = annotate("lead", "promote", "none@0/1 by editor")
    assert "names another user than lead" in named.stderr
    assert status_of(space, "guarded")["phase"] == "Paused"

    done = modeldeploy(space, "lead", "promote", "guarded")
    assert done.returncode == 0, done.stderr
    space.wait_live("guarded", "2")
    assert status_of(space, "guarded")["history"][0].get("requestedBy") == "lead"
    removed = space.kubectl("annotate", "mdep", "guarded", "modeldeploy.dev/promote-", "--as", "editor")
    assert removed.returncode == 0, removed.stderr
