"""What `data/rules.yaml` fills into built-in objects and refuses."""

from typing import Any

import pytest

from model_sandbox.apiserver.cel import CompileError, Expression
from model_sandbox.apiserver.defaults import apply_defaults
from model_sandbox.apiserver.kinds import builtin_registry
from model_sandbox.apiserver.schema import Node, Shape, decode
from model_sandbox.apiserver.validation import check

TYPES = builtin_registry().types


def filled(kind: str, body: Any) -> Any:
    node = TYPES.node(kind)
    return apply_defaults(node, decode(node, body, []))


@pytest.mark.parametrize(
    ("kind", "body", "values"),
    [
        pytest.param("Container", {"image": "a"}, {"imagePullPolicy": "Always"}, id="an image without a tag is pulled"),
        pytest.param("Container", {"image": "r:5/a"}, {"imagePullPolicy": "Always"}, id="a port is no tag"),
        pytest.param("Container", {"image": "a:1"}, {"imagePullPolicy": "IfNotPresent"}, id="a tag"),
        pytest.param("Container", {"image": "a:latest"}, {"imagePullPolicy": "Always"}, id="the latest"),
        pytest.param("Container", {"image": "a@sha256:1"}, {"imagePullPolicy": "IfNotPresent"}, id="a digest"),
        pytest.param("Volume", {"name": "v"}, {"emptyDir": {}}, id="a volume of no kind is an empty folder"),
        pytest.param("ServicePort", {"port": 80}, {"targetPort": 80, "protocol": "TCP"}, id="a port leads to itself"),
        pytest.param("JobSpec", {}, {"completions": 1, "parallelism": 1}, id="a job runs once"),
        pytest.param("PodSpec", {"serviceAccount": "s"}, {"serviceAccountName": "s"}, id="the old name of a field"),
        pytest.param(
            "DeploymentStrategy",
            {"type": "RollingUpdate"},
            {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            id="values of a value",
        ),
        pytest.param(
            "HorizontalPodAutoscalerBehavior",
            {"scaleDown": {"selectPolicy": "Min"}},
            {
                "scaleDown": {
                    "selectPolicy": "Min",
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                }
            },
            id="an object is laid under a given one",
        ),
    ],
)
def test_what_is_absent_is_filled_in(kind: str, body: Any, values: Any) -> None:
    assert filled(kind, body).items() >= values.items()


def pod(**more: Any) -> Any:
    return {"containers": [{"name": "main", "image": "a:1", **more}], "volumes": [{"name": "v"}]}


def deployment(**more: Any) -> Any:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()}
    return {"selector": {"matchLabels": {"a": "b"}}, "template": template, **more}


@pytest.mark.parametrize(
    ("kind", "body", "old", "fields"),
    [
        pytest.param("DeploymentSpec", deployment(), None, [], id="nothing is wrong"),
        pytest.param("DeploymentSpec", deployment(replicas=-1), None, ["replicas"], id="below zero"),
        pytest.param(
            "DeploymentSpec",
            deployment(selector={"matchLabels": {"a": "c"}}),
            None,
            ["template.metadata.labels"],
            id="a selector that misses its own template",
        ),
        pytest.param("DeploymentSpec", deployment(), deployment(), [], id="nothing has changed"),
        pytest.param(
            "DeploymentSpec",
            deployment(),
            deployment(selector={"matchLabels": {}}),
            ["selector"],
            id="what may not change",
        ),
        pytest.param("PodSpec", pod(image=""), None, ["containers[0].image"], id="no image"),
        pytest.param("PodSpec", pod(name="Main"), None, ["containers[0].name"], id="no DNS label"),
        pytest.param(
            "PodSpec", pod(ports=[{"containerPort": 0}]), None, ["containers[0].ports[0].containerPort"], id="no port"
        ),
        pytest.param(
            "PodSpec",
            pod(volumeMounts=[{"name": "w", "mountPath": "/w"}, {"name": "v", "mountPath": "/v"}]),
            None,
            ["containers[0].volumeMounts[0].name"],
            id="a mount of a volume that the pod around it does not have",
        ),
        pytest.param(
            "PodSpec",
            {**pod(volumeMounts=[{"name": "v", "mountPath": "/v"}]), "volumes": []},
            pod(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
            ["containers[0].volumeMounts[0].name"],
            id="an unchanged mount whose volume is taken away",
        ),
        pytest.param(
            "PodSpec",
            pod(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}),
            None,
            ["containers[0].resources.requests"],
            id="more asked for than allowed",
        ),
        pytest.param("ServiceSpec", {"type": "ClusterIP"}, None, ["ports"], id="a Service without ports"),
        pytest.param("ServiceSpec", {"clusterIP": "None"}, None, [], id="a headless one needs none"),
        pytest.param(
            "ServiceSpec",
            {"ports": [{"port": 1}, {"port": 2, "name": "b"}]},
            None,
            ["ports[0].name"],
            id="two ports need names",
        ),
        pytest.param(
            "TokenRequestSpec", {"expirationSeconds": 599}, None, ["expirationSeconds"], id="too short a token"
        ),
        pytest.param("SelfSubjectAccessReviewSpec", {}, None, ["resourceAttributes"], id="a question about nothing"),
        pytest.param(
            "SubjectAccessReviewSpec",
            {"resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"verb": "get"}},
            None,
            ["user", "nonResourceAttributes"],
            id="a question about two things and nobody",
        ),
        pytest.param("ConfigMap", {"data": {"a b": "c"}}, None, ["data[a b]"], id="a key with a space"),
        pytest.param(
            "ConfigMap",
            {"data": {"a": "c"}, "immutable": True},
            {"data": {"a": "b"}, "immutable": True},
            ["data"],
            id="what was declared immutable",
        ),
    ],
)
def test_what_is_wrong_is_named(kind: str, body: Any, old: Any, fields: list[str]) -> None:
    causes = check(TYPES.node(kind), filled(kind, body), filled(kind, old) if old is not None else None)
    assert [cause.field for cause in causes] == fields


@pytest.mark.parametrize("text", ["nope(self.a)", "self.a.nope()", "self.a.all(one, one.nope() > 1)"])
def test_a_function_that_nobody_has_is_told_before_a_rule_runs(text: str) -> None:
    with pytest.raises(CompileError, match="undeclared reference to 'nope'"):
        Expression(text, Node(Shape.ANY))


def test_functions_of_the_language_and_of_kubernetes_are_known() -> None:
    text = "size(self.a) > 1 && self.a.all(x, x.startsWith('b') || x.find('c') == '') && math.greatest(1, 2) == 2"
    assert Expression(text, Node(Shape.ANY)).evaluate({"self": {"a": ["b", "c"]}}) is False


def test_a_cause_shows_the_value_that_is_wrong() -> None:
    resources = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}
    [cause] = check(TYPES.node("PodSpec"), filled("PodSpec", pod(resources=resources)), None)
    assert cause.message == 'Invalid value: "2": must be less than or equal to cpu limit of 1'


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        pytest.param("self.a.b == 1", {"a": {"b": 1}}, id="what it names"),
        pytest.param("has(self.l)", {"l": True}, id="of presence, presence"),
        pytest.param("self.l.all(x, x.n > 0)", {"l": [{"n": 1}]}, id="of items, what it names of them"),
        pytest.param("self.l.all(x, x in [1])", {"l": [{"n": 1, "m": 2}]}, id="whole items"),
        pytest.param("self.l.all(i, x, x.n > i)", {"l": [{"n": 1, "m": 2}]}, id="items with their places"),
        pytest.param("size(self) > 1", {"a": {"b": 1, "c": 2}, "l": [{"n": 1, "m": 2}]}, id="all of it"),
    ],
)
def test_an_expression_is_given_what_it_speaks_of(text: str, seen: Any) -> None:
    expression = Expression(text, Node(Shape.ANY, strict=True))
    assert expression.seen("self", {"a": {"b": 1, "c": 2}, "l": [{"n": 1, "m": 2}]}) == seen
