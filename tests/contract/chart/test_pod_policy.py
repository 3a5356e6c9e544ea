"""The operator and the chart's ValidatingAdmissionPolicy refuse the same fields of pods, in the same words.

tests/e2e/test_pod_policy.py asks a real API server the same.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pod_policy_cases import CASES, LEVELS, MOUNTED, VALUES, Case

from model_operator.api.pool import ModelPool
from model_operator.api.resource import ModelDeployment
from model_operator.errors import NotAllowed
from model_operator.manifests.pod_policy import check_pool_template
from model_operator.manifests.pool import template_of
from model_operator.settings import Settings, settings_from
from model_sandbox.cel.checker import check
from model_sandbox.cel.types import BOOL, DYN, STRING

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")
cel = pytest.importorskip("cel")

CHART = Path(__file__).resolve().parents[3] / "helm" / "modeldeploy"


@cache
def objects() -> list[dict[str, Any]]:
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(VALUES, name="md", namespace="serving")
    texts = [text for file, text in files.items() if file.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


@cache
def policy() -> dict[str, Any]:
    (found,) = [one["spec"] for one in objects() if one["kind"] == "ValidatingAdmissionPolicy"]
    return dict(found)


@cache
def programs() -> list[tuple[str, Any]]:
    return [(one["name"], cel.compile(one["expression"])) for one in policy()["variables"]]


def executed(program: Any, body: dict[str, Any], namespace: str, variables: dict[str, Any]) -> Any:
    """Return what an expression comes to, with the functions that the API server adds to the standard ones."""
    functions = {"substring": lambda text, *limits: text[slice(*limits) if limits[1:] else slice(limits[0], None)]}
    functions["join"] = lambda texts, between: between.join(texts)
    names = {"object": body, "request": {"namespace": namespace}, "variables": variables}
    return program.execute(cel.Context(variables=names, functions=functions))


def by_the_chart(body: dict[str, Any], namespace: str) -> set[str]:
    """Return what the policy's expressions find in an object."""
    return set(found_in(body, namespace)["problems"])


def found_in(body: dict[str, Any], namespace: str) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for name, program in programs():
        variables[name] = executed(program, body, namespace, variables)
    return variables


def message_of(body: dict[str, Any], namespace: str) -> str:
    """Return what the API server says of an object that the policy refuses."""
    (rule,) = policy()["validations"]
    return str(executed(cel.compile(rule["messageExpression"]), body, namespace, found_in(body, namespace)))


def operator_settings() -> Settings:
    """The settings that the chart gives the operator."""
    (deployment,) = [one for one in objects() if one["kind"] == "Deployment"]
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return settings_from({one["name"]: one["value"] for one in variables if "POD_POLICY" in one["name"]})


def by_the_operator(case: Case, namespace: str) -> set[str]:
    """Return what the operator finds in a case, with the settings that the chart gives it."""
    settings = operator_settings()
    body = case.body
    body["metadata"]["namespace"] = namespace
    try:
        settings.admission.check(ModelDeployment.from_body(body))
    except NotAllowed as error:
        found, _, rest = str(error).partition(f". The pod policy of namespace {namespace} is {LEVELS[namespace]}; ")
        assert "podPolicy of the chart" in rest
        return set(found.split("; "))
    return set()


@pytest.mark.parametrize("namespace", LEVELS)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.title) for case in CASES])
def test_operator_and_admission_policy_refuse_the_same_fields(case: Case, namespace: str) -> None:
    found = by_the_operator(case, namespace)
    assert {problem.partition(" ")[0] for problem in found} == case.refused(LEVELS[namespace])
    assert by_the_chart(case.body, namespace) == found
    if case.batch is not None:
        assert by_the_chart(case.batch, namespace) == found


def test_a_refusal_names_the_field_the_value_and_where_the_list_is() -> None:
    listed, mounted = "(podPolicyExceptions.images of the chart)", MOUNTED.removeprefix("oci://")
    titles = {
        "another image": f"spec.server.image names evil, which is not on the list of images {listed}",
        "a package in an image": f"spec.model.storageUri names {mounted}, which is not on the list of images {listed}",
    }
    for title, said in titles.items():
        (case,) = [one for one in CASES if one.title == title]
        (problem,) = by_the_operator(case, "team-a")
        assert problem.startswith(said)
    account = Case("", {"server": {"podTemplate": {"spec": {"serviceAccountName": "robot"}}}})
    assert (
        "spec.server.podTemplate.spec.serviceAccountName names robot, which is not on the list of ServiceAccounts"
        in (message_of(account.body, "team-a"))
    )


def test_a_message_of_the_admission_policy_is_never_too_long_for_the_api_server() -> None:
    sidecars = [{"name": f"s{index}", "image": "e" * 500} for index in range(20)]
    case = Case("", {"server": {"podTemplate": {"spec": {"containers": sidecars}}}})
    said = message_of(case.body, "team-a")
    assert len(said) < 5 * 1024
    assert " .... The pod policy of namespace team-a is restricted; " in said


@pytest.mark.parametrize("namespace", LEVELS)
@pytest.mark.parametrize(
    "server",
    [
        {},
        {"image": "elsewhere/server:1"},
        {"podTemplate": {"spec": {"serviceAccountName": "robot"}}},
        {"podTemplate": {"spec": {"containers": [{"name": "server", "image": "elsewhere/server:1"}]}}},
    ],
)
def test_operator_and_admission_policy_refuse_the_same_pools(server: dict[str, Any], namespace: str) -> None:
    body = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": "small", "namespace": namespace, "uid": "u", "generation": 1},
        "spec": {"models": [{"name": "a", "storageUri": "pvc://claim/a"}], "server": server},
    }
    admission = operator_settings().admission
    pool = ModelPool.from_body(body)
    try:
        template, overlay = template_of(pool, admission.settings), pool.spec.server.pod_template
        check_pool_template(namespace, template, overlay, admission.settings, admission.pods)
        found: set[str] = set()
    except NotAllowed as error:
        found = set(str(error).partition(". The pod policy")[0].split("; "))
    assert bool(found) is (bool(server) and LEVELS[namespace] == "restricted")
    assert by_the_chart(body, namespace) == found


def test_every_expression_has_the_type_that_the_api_server_wants() -> None:
    names = dict.fromkeys(("object", "oldObject", "request", "variables"), DYN)
    wanted = [(one["expression"], None) for one in policy()["variables"]]
    wanted += [(one["expression"], BOOL) for one in (*policy()["matchConditions"], *policy()["validations"])]
    wanted += [(one["messageExpression"], STRING) for one in policy()["validations"]]
    for text, type_ in wanted:
        checked = check(text, names, {})
        assert checked.report == ""
        assert type_ in (None, checked.type)


def test_the_table_has_no_case_twice_and_refuses_each_kind_of_field() -> None:
    titles = [case.title for case in CASES]
    assert len(set(titles)) == len(titles)
    assert sum(bool(case.baseline) for case in CASES) > 20 < sum(bool(case.restricted) for case in CASES)
