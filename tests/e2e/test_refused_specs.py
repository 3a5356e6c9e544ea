"""A spec that cannot work is refused by `kubectl apply`, with a sentence that says what to write."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

CRD = yaml.safe_load((Path(__file__).resolve().parents[2] / "crds" / "modeldeployments.yaml").read_text())

MODEL = {"storageUri": "s3://models/fraud/7"}


def canary(**fields: Any) -> dict[str, Any]:
    return {"replicas": 2, "strategy": {"canary": fields}}


def metric(**fields: Any) -> dict[str, Any]:
    return canary(analysis={"metrics": [fields]})


def step(**fields: Any) -> dict[str, Any]:
    return canary(steps=[fields])


COUNTS = {"address": "http://p", "query": "bought", "sampleQuery": "seen"}


def ab_test(**fields: Any) -> dict[str, Any]:
    routing = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}}
    needed = {"metric": "conversion", "minimumSampleSize": 100, "trafficRouting": routing}
    return {"strategy": {"abTest": {**needed, **fields}}}


def gateway(**fields: Any) -> dict[str, Any]:
    return canary(trafficRouting={"gatewayAPI": {"parentRefs": [{"name": "public"}], **fields}})


def add_header(name: str, value: str) -> dict[str, Any]:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": name, "value": value}]}}


def match(name: str, **value: str) -> dict[str, Any]:
    return {"headerName": name, "headerValue": value}


def header_route(*matches: dict[str, Any]) -> dict[str, Any]:
    routing = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}}
    return canary(trafficRouting=routing, steps=[{"setHeaderRoute": {"match": list(matches)}}])


def guard(*, query: str = "up", **fields: Any) -> dict[str, Any]:
    return metric(name="guard", prometheus={"address": "http://p", "query": query}, **fields)


def web(**fields: str) -> dict[str, Any]:
    return metric(name="guard", max=1, web={"url": "http://w", **fields})


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a missing storageUri", {"model": {}}, "spec.model.storageUri: Required value"),
    ("a storageUri without a scheme", {"model": {"storageUri": "models/7"}}, "must be a scheme in lower-case letters"),
    ("a scheme that encrypts nothing", {"model": {"storageUri": "http://models/7"}}, "http:// is refused"),
    ("a URI that names nothing", {"model": {"storageUri": "s3://"}}, "must be a scheme in lower-case letters"),
    ("a URI without a bucket", {"model": {"storageUri": "s3:///models"}}, "must name something behind s3://"),
    ("a relative file", {"model": {"storageUri": "file://models"}}, "must name something behind"),
    (
        "an unknown field",
        {"model": {**MODEL, "storageURL": "s3://x"}},
        'unknown field "spec.model.storageURL"',
    ),
    ("a wrong type", {"replicas": "two"}, "spec.replicas"),
    ("a format that is no name", {"model": {**MODEL, "format": "ONNX "}}, "spec.model.format"),
    (
        "a sha256 that is none",
        {"model": {**MODEL, "sha256": "abc"}},
        "must be 64 lower-case hexadecimal digits",
    ),
    ("a duration that is none", {"model": {**MODEL, "pollInterval": "soon"}}, "spec.model.pollInterval"),
    ("negative replicas", {"replicas": -1}, "should be greater than or equal to 0"),
    (
        "replicas and autoscaling",
        {"replicas": 2, "autoscaling": {"maxReplicas": 3}},
        "give either spec.replicas or spec.autoscaling",
    ),
    (
        "more minReplicas than maxReplicas",
        {"autoscaling": {"minReplicas": 5, "maxReplicas": 3}},
        "minReplicas must not be above autoscaling.maxReplicas",
    ),
    (
        "a sink that is none",
        {"server": {"inputLog": {"sink": "printer"}}},
        "inputLog.sink must be stdout, a storage URI",
    ),
    (
        "a variable of the server's settings",
        {"server": {"env": [{"name": "MODEL_SERVER_PORT", "value": "1"}]}},
        "variables that begin with MODEL_SERVER_ are set from the fields",
    ),
    (
        "two strategies",
        {"strategy": {"canary": {}, "blueGreen": {}}},
        "needs exactly one of canary, blueGreen",
    ),
    ("a negative surge", canary(maxSurge=-1), "must be a number of pods from 0 to 1000"),
    ("a surge of words", canary(maxSurge="some"), "or a percentage such as 25%"),
    (
        "a canary without room",
        {"replicas": 1, "strategy": {"canary": {"maxSurge": 0}}},
        "a canary of one replica without a router needs room",
    ),
    (
        "a canary without room, in percent",
        {"replicas": 1, "strategy": {"canary": {"maxSurge": "0%", "maxUnavailable": 1}}},
        "a canary of one replica without a router needs room",
    ),
    (
        "an autoscaled canary that may have one pod, without room",
        {
            "autoscaling": {"minReplicas": 1, "maxReplicas": 3},
            "strategy": {"canary": {"maxSurge": 0, "maxUnavailable": 1}},
        },
        "a canary of one replica without a router needs room",
    ),
    ("a surge beyond all measure", canary(maxSurge=100_000_000), "must be a number of pods from 0 to 1000"),
    ("a duration beyond all measure", canary(maxPauseDuration="9999999999999d"), "maxPauseDuration"),
    (
        "an interval of days",
        canary(analysis={"interval": "1d", "metrics": [{"name": "errors", "fail": {}}]}),
        "analysis.interval",
    ),
    (
        "an interval of no time",
        canary(analysis={"interval": "0s", "metrics": [{"name": "errors", "fail": {}}]}),
        "analysis.interval must be 1s or longer",
    ),
    (
        "a guard that compares",
        canary(analysis={"metrics": [{"name": "queue", "pass": {}, "web": {"url": "https://q", "jsonPath": "$.n"}}]}),
        "decides by min, max or failureCondition",
    ),
    (
        "a guard that no value meets",
        canary(
            analysis={"metrics": [{"name": "q", "min": 10, "max": 3, "web": {"url": "https://q", "jsonPath": "$.n"}}]}
        ),
        "min must not be above max",
    ),
    (
        "an accuracy in percent",
        canary(analysis={"metrics": [{"name": "accuracy", "min": 90}]}),
        "min must be above 0 and up to 1",
    ),
    ("errors in percent", canary(analysis={"metrics": [{"name": "errors", "max": 5}]}), "max must be above 0 and up"),
    (
        "a data set without a scheme",
        step(evaluate={"dataset": "holdout.csv", "target": "label", "metrics": [{"name": "accuracy", "min": 0.9}]}),
        "dataset must begin with one of s3://",
    ),
    (
        "memory in no unit",
        {"server": {"resources": {"limits": {"memory": "1Gig"}}}},
        "spec.server.resources.limits.memory",
    ),
    (
        "a rollout without room",
        canary(maxSurge=0, maxUnavailable=0),
        "maxSurge and maxUnavailable must not both be 0",
    ),
    ("no router named", canary(trafficRouting={}), "trafficRouting needs gatewayAPI, which Istio"),
    (
        "a router by its own resource",
        canary(trafficRouting={"istio": {"hosts": ["fraud.example.com"]}}),
        'unknown field "spec.strategy.canary.trafficRouting.istio"',
    ),
    ("a hostname with a scheme", gateway(hostnames=["https://fraud.example.com"]), "and no scheme, port or address"),
    ("a hostname in capitals", gateway(hostnames=["Fraud.example.com"]), "a hostname has lower-case letters"),
    ("an address for a hostname", gateway(hostnames=["10.0.0.1"]), "and no scheme, port or address"),
    ("a path without a slash", gateway(pathPrefix="fraud"), "pathPrefix begins with /"),
    ("a path with a space", gateway(pathPrefix="/fraud detection"), "pathPrefix begins with / and holds"),
    ("a path with an empty part", gateway(pathPrefix="/models//fraud"), "pathPrefix must hold no //"),
    ("a path that goes up", gateway(pathPrefix="/models/.."), "pathPrefix must hold no //, /./, /../"),
    ("a path with a hidden slash", gateway(pathPrefix="/models%2Ffraud"), "pathPrefix must hold no"),
    (
        "one Gateway twice",
        gateway(parentRefs=[{"name": "public"}, {"name": "public"}]),
        "parentRefs must differ: leave out the one",
    ),
    (
        "a Gateway and one listener of it",
        gateway(parentRefs=[{"name": "public"}, {"name": "public", "sectionName": "http"}]),
        "parentRefs to one Gateway must all have a sectionName",
    ),
    ("a parent without a name", gateway(parentRefs=[{"kind": "Gateway"}]), "a parent needs a name"),
    (
        "a Service of the group of Gateways",
        gateway(parentRefs=[{"kind": "Service"}]),
        "a parent of kind Service has the group ''",
    ),
    ("a timeout without a unit", gateway(timeouts={"request": "30"}), "timeouts.request"),
    (
        "a backend timeout above the whole",
        gateway(timeouts={"request": "10s", "backendRequest": "1m"}),
        "timeouts.backendRequest must not be longer",
    ),
    ("a filter that redirects", gateway(filters=[{"type": "RequestRedirect"}]), "filters[0].type: Unsupported value"),
    ("a filter without its field", gateway(filters=[{"type": "URLRewrite"}]), "a filter has the field of its type"),
    (
        "two filters of one type",
        gateway(filters=[add_header("x-team", "a"), add_header("x-plan", "b")]),
        "a filter of each type goes once",
    ),
    (
        "a header of the operator",
        gateway(filters=[add_header("X-Modeldeploy-Assigned", "1")]),
        "headers whose names begin with x-modeldeploy-",
    ),
    (
        "a filter that changes no header",
        gateway(filters=[{"type": "ResponseHeaderModifier", "responseHeaderModifier": {}}]),
        "write at least one of set, add and remove",
    ),
    (
        "a path rewritten in two ways",
        gateway(
            filters=[
                {
                    "type": "URLRewrite",
                    "urlRewrite": {"path": {"type": "ReplaceFullPath", "replacePrefixMatch": "/"}},
                }
            ]
        ),
        "path has the field of its type",
    ),
    ("a namespace that is none", gateway(parentRefs=[{"name": "public", "namespace": "My_Space"}]), "[0].namespace"),
    (
        "a header twice",
        header_route(match("x-team", exact="a"), match("X-Team", exact="b")),
        "a header can be matched once (upper and lower case are the same)",
    ),
    ("a regex that cannot be compiled", header_route(match("x-team", regex="[a")), "not a valid regex"),
    ("a regex that looks ahead", header_route(match("x-team", regex="(?=a)b")), "not a valid regex"),
    (
        "weights that do not grow",
        canary(steps=[{"setWeight": 50}, {"setWeight": 20}]),
        "must grow from step to step",
    ),
    ("a weight twice", canary(steps=[{"setWeight": 5}, {"setWeight": 5}]), "must grow from step to step"),
    ("a weight above 100", step(setWeight=101), "should be less than or equal to 100"),
    ("a step of two things", step(setWeight=5, pause={}), "a step does exactly one thing"),
    ("an empty step", step(), "a step does exactly one thing"),
    ("a pause that is no duration", step(pause={"duration": "a while"}), "steps[0].pause.duration"),
    (
        "a shortest time above the longest",
        step(analysis={"minDuration": "2h", "maxDuration": "1h"}),
        "minDuration must not be above maxDuration",
    ),
    (
        "an evaluation that demands nothing",
        step(evaluate={"dataset": "s3://d", "target": "label", "metrics": [{"name": "accuracy"}]}),
        "needs min, max or maxDropFromStable",
    ),
    (
        "a header matched in two ways",
        step(setHeaderRoute={"match": [{"headerName": "x", "headerValue": {"exact": "1", "prefix": "1"}}]}),
        "headerValue needs exactly one of exact, regex or prefix",
    ),
    (
        "a mirror without a router",
        step(setMirrorRoute={"percentage": 10}),
        "setHeaderRoute and setMirrorRoute need trafficRouting",
    ),
    ("an empty canary scale", step(setCanaryScale={}), "needs exactly one of replicas, weight"),
    ("a metric that decides nothing", metric(name="errors"), "a metric decides nothing without"),
    ("an unknown metric", metric(name="vibes", max=1), "unknown metric; built in are errors, latency"),
    ("an alpha of 0", canary(analysis={"alpha": 0, "metrics": [{"name": "errors", "fail": {}}]}), "alpha"),
    (
        "an interval longer than the step",
        canary(
            steps=[{"analysis": {"maxDuration": "1m"}}],
            analysis={"interval": "5m", "metrics": [{"name": "errors", "fail": {}}]},
        ),
        "analysis.interval is longer than an analysis step's maxDuration",
    ),
    ("a least rate of errors", metric(name="errors", min=0.1), "better when they are small: write max"),
    ("a largest accuracy", metric(name="accuracy", max=0.9), "better when they are large: write min"),
    (
        "a drop of errors",
        metric(name="errors", fail={"maxDropFromStable": 0.1}),
        "maxDropFromStable is for metrics of feedback",
    ),
    ("latency without a limit", metric(name="latency", max=1), "latency needs slowerThan"),
    ("an agreement of none", metric(name="shadow-agreement", min=0), "shadow-agreement needs min"),
    ("an agreement of more than all", metric(name="shadow-agreement", min=1.5), "above 0 and up to 1"),
    ("a distance of nothing", metric(name="shadow-distance", max=0), "shadow-distance needs max"),
    ("a ratio of agreement", metric(name="shadow-agreement", min=0.9, fail={}), "they have min and max, and no fail"),
    ("a tolerated error", metric(name="errors", max=0.1, tolerance=1), "tolerance says which numbers shadow-agreement"),
    ("a distance of errors", metric(name="errors", max=0.1, distance="Relative"), "distance says how shadow-distance"),
    (
        "a failure condition on nothing",
        metric(name="errors", failureCondition="result > 1"),
        "failureCondition judges the result of prometheus, web or datadog",
    ),
    (
        "a condition of two",
        guard(failureCondition="result > 1 || result < 0"),
        "failureCondition compares result with a",
    ),
    ("a condition on nothing known", guard(failureCondition="value > 1"), "failureCondition compares result with a"),
    ("an unknown template", guard(max=1, query='errors{pod="{{pod}}"}'), "unknown template: {{name}}, {{namespace}}"),
    (
        "a test with an unknown template",
        ab_test(metric="revenue", prometheus={**COUNTS, "sampleQuery": "seen[{{interval}}]"}),
        "unknown template: {{name}}, {{namespace}}",
    ),
    ("an unknown template in a URL", web(url="http://w/{{model}}"), "unknown template: {{name}}, {{namespace}}"),
    ("a path of kubectl's", web(jsonPath="{.value}"), "jsonPath begins with $ and goes on with names and places"),
    ("a path that searches", web(jsonPath="$..value"), "jsonPath begins with $ and goes on with names and places"),
    ("a path with quotes", web(jsonPath="$['value']"), "jsonPath begins with $ and goes on with names and places"),
    (
        "a metric of two sources",
        metric(
            name="guard",
            max=1,
            prometheus={"address": "http://p", "query": "up"},
            web={"url": "http://w"},
        ),
        "a metric has one source: prometheus, web or datadog",
    ),
    (
        "a query of Datadog with an unknown template",
        metric(name="guard", max=1, datadog={"query": "avg:load{pod:{{pod}}}", "secretName": "datadog"}),
        "unknown template: {{name}}, {{namespace}}",
    ),
    (
        "a query of Datadog without keys",
        metric(name="guard", max=1, datadog={"query": "avg:load{*}"}),
        "datadog.secretName: Required value",
    ),
    (
        "a query of Datadog over no time",
        metric(name="guard", max=1, datadog={"query": "avg:load{*}", "secretName": "datadog", "interval": "0s"}),
        "datadog.interval must be 1s or longer",
    ),
    (
        "a test without a user",
        ab_test(stickiness={}),
        "stickiness needs exactly one of header or cookie",
    ),
    ("a test of errors", ab_test(metric="errors", prometheus=COUNTS), "errors are judged in every A/B test"),
    ("a test of nothing that feedback knows", ab_test(metric="revenue"), "unknown metric; feedback knows conversion"),
    (
        "a test without a router",
        {"strategy": {"abTest": {"metric": "conversion", "minimumSampleSize": 100}}},
        "trafficRouting: Required value",
    ),
    (
        "a cookie with a space in its name",
        ab_test(stickiness={"cookie": "a b"}),
        "stickiness.cookie in body should match",
    ),
    (
        "a drift reference that is none",
        {"monitoring": {"drift": {"reference": "last"}}},
        "drift.reference must be package",
    ),
    (
        "what is pinned and polled",
        {"model": {**MODEL, "sha256": "a" * 64, "pollInterval": "1m"}},
        "give either sha256 or pollInterval",
    ),
    ("hasty polling", {"model": {**MODEL, "pollInterval": "10ms"}}, "pollInterval must be at least 1s"),
    ("a cache nowhere", {"model": {**MODEL, "cache": {}}}, "cache needs exactly one of claimName or hostPath"),
    ("gRPC on the port of HTTP", {"server": {"grpcPort": 8080}}, "grpcPort must not be 80, 443, 8080 or 8089"),
    (
        "a certificate behind a router",
        {
            "server": {"tls": {"secretName": "t"}},
            **canary(trafficRouting={"gatewayAPI": {"parentRefs": [{"name": "public"}]}}),
        },
        "server.tls goes without trafficRouting",
    ),
    (
        "the Secret of another namespace",
        {"hooks": {"gates": [{"name": "g", "secretName": "../../kube-system/secrets/token"}]}},
        "spec.hooks.gates[0].secretName",
    ),
    (
        "a Secret for the storage that is a path",
        {"model": {"storageUri": "s3://models/a", "secretName": "../other"}},
        "spec.model.secretName",
    ),
    ("a gate nowhere", {"hooks": {"gates": [{"name": "g"}]}}, "a gate needs url, or secretName"),
    ("a notification to nobody", {"hooks": {"notifications": [{"name": "chat"}]}}, "a notification needs url"),
    ("a retraining by nobody", {"hooks": {"retrain": {}}}, "retrain needs url, or secretName"),
    (
        "a retraining by two",
        {
            "hooks": {
                "retrain": {"url": "http://x", "jobTemplate": {"spec": {"template": {"spec": {"containers": [{}]}}}}}
            }
        },
        "or else jobTemplate",
    ),
    (
        "a training Job that runs nothing",
        {"hooks": {"retrain": {"jobTemplate": {"spec": {"template": {}}}}}},
        "jobTemplate.spec.template.spec",
    ),
    (
        "metrics beside a target",
        {"autoscaling": {"maxReplicas": 3, "targetRequestsPerSecond": 5, "metrics": [{"type": "Resource"}]}},
        "give either autoscaling.metrics or target",
    ),
    (
        "a target of no requests",
        {"autoscaling": {"maxReplicas": 3, "targetRequestsPerSecond": 0}},
        "spec.autoscaling.targetRequestsPerSecond",
    ),
    (
        "a negative tolerance",
        {"autoscaling": {"maxReplicas": 3, "behavior": {"scaleUp": {"tolerance": -1}}}},
        "tolerance must not be negative",
    ),
    (
        "a policy without a period",
        {"autoscaling": {"maxReplicas": 3, "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1}]}}}},
        "spec.autoscaling.behavior.scaleUp.policies[0].periodSeconds: Required value",
    ),
    (
        "no policy at all",
        {"autoscaling": {"maxReplicas": 3, "behavior": {"scaleDown": {"policies": []}}}},
        "spec.autoscaling.behavior.scaleDown.policies",
    ),
    (
        "a window of a day",
        {"autoscaling": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 86400}}}},
        "spec.autoscaling.behavior.scaleDown.stabilizationWindowSeconds",
    ),
    ("a label with blanks", {"commonLabels": {"my team": "risk"}}, "commonLabels: a key must be a name"),
    ("a label of ours", {"commonLabels": {"modeldeploy.dev/name": "x"}}, "commonLabels: keys under modeldeploy.dev"),
    (
        "a label that we set",
        {"commonLabels": {"app.kubernetes.io/name": "x"}},
        "commonLabels: keys under modeldeploy.dev",
    ),
    ("a label with a long value", {"commonLabels": {"team": "x" * 64}}, "spec.commonLabels.team"),
    ("a value that is none", {"commonLabels": {"team": "risk & fraud"}}, "spec.commonLabels.team"),
    ("an annotation's key", {"commonAnnotations": {"a/b/c": ""}}, "commonAnnotations: a key must be a name"),
    (
        "an annotation of a controller",
        {"commonAnnotations": {"deployment.kubernetes.io/revision": "7"}},
        "commonAnnotations: keys under modeldeploy.dev",
    ),
    (
        "a retraining for no cause",
        {"hooks": {"retrain": {"url": "http://train", "drift": False}}},
        "retrain needs a cause: drift true",
    ),
    (
        "a retraining for a large accuracy",
        {"hooks": {"retrain": {"url": "http://train", "quality": [{"name": "accuracy", "max": 0.9}]}}},
        "log-loss needs max; accuracy",
    ),
]


NAMES = [
    ("a name too long for a Service of a revision", "x" * 49, "at most 48 characters"),
    ("a name that no Service could have", "7up", "must begin with a letter"),
]
CASES = [(case, f"refused-{number}", spec, sentence) for number, (case, spec, sentence) in enumerate(REFUSED)]
CASES += [(case, name, {}, sentence) for case, name, sentence in NAMES]


def manifest(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": MODEL, **spec},
    }


@pytest.fixture(scope="module")
def told(space: Any) -> dict[str, str]:
    """What kubectl says of each object when all are applied at once: to start it for each takes most of the time."""
    given = yaml.safe_dump_all([manifest(name, spec) for _, name, spec, _ in CASES])
    done = space.kubectl("apply", "-f", "-", given=given)
    assert done.stdout == "", "nothing was taken"
    said: dict[str, str] = {}
    for message in re.split(r"^(?=The ModelDeployment |Error from server)", done.stderr, flags=re.MULTILINE):
        named = re.search(r'ModelDeployment(?:\.modeldeploy\.dev)? "([^"]+)" is invalid', message)
        said[named[1] if named else ""] = said.get(named[1] if named else "", "") + message
    return said


@pytest.mark.parametrize(
    ("name", "sentence"), [pytest.param(name, sentence, id=case) for case, name, _, sentence in CASES]
)
def test_what_cannot_work_is_refused(told: dict[str, str], name: str, sentence: str) -> None:
    # What cannot even be read is refused without its name.
    assert sentence in told.get(name, told.get("", ""))


def rules_of(schema: dict[str, Any]) -> list[str]:
    found = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    for child in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        found += rules_of(child)
    return found


def test_every_rule_of_the_schema_is_tried_above() -> None:
    schema = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    sentences = [sentence for _, _, sentence in REFUSED]
    untried = {rule for rule in rules_of(schema) if not any(sentence in rule for sentence in sentences)}
    assert not untried
