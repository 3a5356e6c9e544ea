"""What `modeldeploy lint` finds, and on which line."""

import json
from pathlib import Path
from typing import Any

import pytest

from modeldeploy.lint import ManifestError, check_object, read_definitions, read_documents
from modeldeploy.lint.files import check_file
from modeldeploy.lint.names import known_formats, known_schemes

DEFINITIONS = read_definitions()
DEFINITION = DEFINITIONS["ModelDeployment"]
NONE = "has no ModelDeployment and no ModelBatch and no ModelPool: nothing was checked"


def found(spec: str, name: str = "fraud") -> list[tuple[int, str, str]]:
    """Line, field and message of each problem; the spec's first line is line 5."""
    head = f"apiVersion: modeldeploy.dev/v1alpha1\nkind: ModelDeployment\nmetadata:\n  name: {name}\n"
    (document,) = read_documents(head + spec)
    problems = [*document.repeated(), *check_object(document.body, DEFINITION)]
    return [(document.line_of(one.path), one.field, one.message) for one in problems]


GOOD = """\
spec:
  model:
    storageUri: s3://models/fraud/7
"""


@pytest.mark.parametrize(
    ("spec", "line", "field", "said"),
    [
        pytest.param(
            "spec:\n  model:\n    storageUri: S3://x\n",
            7,
            "spec.model.storageUri",
            "must be a scheme in lower-case letters",
            id="a rule, on the line of its field",
        ),
        pytest.param(
            "spec:\n  model:\n    storageUri: http://host/m.onnx\n",
            7,
            "spec.model.storageUri",
            "http:// is refused, as it is not encrypted",
            id="a scheme without encryption",
        ),
        pytest.param(
            "spec:\n  model:\n    storageUri: gs:///m\n",
            7,
            "spec.model.storageUri",
            "must name something behind s3://, gs://",
            id="a built-in scheme that names nothing",
        ),
        pytest.param(
            "spec:\n  model: {storageUri: 's3://a/b', format: ONNX}\n",
            6,
            "spec.model.format",
            "does not match",
            id="a format in capitals",
        ),
        pytest.param("spec:\n  model: {}\n", 5, "spec", "spec.model.storageUri is missing", id="a missing field"),
        pytest.param(GOOD + "  replica: 2\n", 8, "spec.replica", "did you mean replicas", id="a typing error"),
        pytest.param(GOOD + "  xyzzy: 2\n", 8, "spec.xyzzy", "known are model, replicas", id="an unknown field"),
        pytest.param(GOOD + "  7: 2\n", 8, "spec.7", "known are model, replicas", id="a number for a field"),
        pytest.param(GOOD + "  replicas: two\n", 8, "spec.replicas", "'two' is no integer", id="a wrong type"),
        pytest.param(GOOD + "  replicas: -1\n", 8, "spec.replicas", "minimum of 0", id="a number out of range"),
        pytest.param(
            GOOD + "  server: {logLevel: loud}\n",
            8,
            "spec.server.logLevel",
            "known are debug, info",
            id="a word that is not on the list",
        ),
        pytest.param(
            GOOD + "  strategy:\n    canary:\n      steps:\n      - pause: {}\n      - pause: {duration: ages}\n",
            12,
            "spec.strategy.canary.steps[1].pause.duration",
            "as in 90s or 1h30m",
            id="a duration in a list",
        ),
        pytest.param(
            GOOD + "  strategy:\n    canary:\n      steps:\n      - pause: {duration: 5}\n",
            11,
            "spec.strategy.canary.steps[0].pause.duration",
            "5 is no duration; write one as in 90s",
            id="a duration without a unit",
        ),
        pytest.param(
            GOOD + "  server:\n    resources:\n      limits: {memory: 1GB}\n",
            10,
            "spec.server.resources.limits.memory",
            "'1GB' is no quantity; write one as in 500m or 2Gi",
            id="a quantity",
        ),
        pytest.param(
            GOOD + "  autoscaling: {minReplicas: 5, maxReplicas: 3}\n",
            8,
            "spec.autoscaling",
            "must not be above",
            id="two fields that contradict each other",
        ),
        pytest.param(
            GOOD + "  strategy: {canary: {}, blueGreen: {}}\n",
            8,
            "spec.strategy",
            "exactly one of",
            id="two strategies",
        ),
        pytest.param(
            GOOD + "  server:\n    env:\n    - {name: A, value: x}\n    - {name: B}\n    - {name: A, value: y}\n",
            12,
            "spec.server.env[2]",
            "name A stands here twice",
            id="two items with one key",
        ),
        pytest.param(
            GOOD + "  hooks:\n    gates:\n    - {name: g, url: 'https://g', before: [Step, Step]}\n",
            10,
            "spec.hooks.gates[0].before[1]",
            "Step stands here twice",
            id="two equal items of a set",
        ),
        pytest.param(
            GOOD + "  server: {env: [{name: A}, {value: x}]}\n",
            8,
            "spec.server.env[1].name",
            "is required",
            id="no key",
        ),
        pytest.param(
            GOOD + "  strategy: {canary: {analysis: {interval: 1d, metrics: [{name: errors, max: 1}]}}}\n",
            8,
            "spec.strategy.canary.analysis.interval",
            "as in 90s or 1h30m",
            id="an interval of days",
        ),
        pytest.param(
            GOOD + "  server: {resources: {limits: {cpu: [1]}}}\n",
            8,
            "spec.server.resources.limits.cpu",
            "[1] is no integer or string",
            id="a wrong type of a value under a name of one's own",
        ),
        pytest.param(
            GOOD + "  replicas: 1\n  replicas: 2\n", 9, "spec.replicas", "stands here twice", id="one field twice"
        ),
        pytest.param(GOOD + "  paused: 'yes'\n", 8, "spec.paused", "'yes' is no boolean", id="a text for a boolean"),
        pytest.param(
            GOOD + "  server: {inputLog: {redact: [null]}}\n",
            8,
            "spec.server.inputLog.redact[0]",
            "null is no string",
            id="nothing in a list",
        ),
    ],
)
def test_a_mistake_is_found(spec: str, line: int, field: str, said: str) -> None:
    ((found_line, found_field, message),) = found(spec)
    assert (found_line, found_field) == (line, field)
    assert said in message


def test_a_good_manifest_has_no_problem() -> None:
    assert found(GOOD) == []


def test_rules_see_defaults_as_the_api_server_does() -> None:
    # minReplicas is 1 by default; without the default its rule could not be read at all.
    assert found(GOOD + "  autoscaling: {maxReplicas: 3}\n") == []


def a_canary(routing: str = "gatewayAPI: {parentRefs: [{name: public}]}", more: str = "") -> str:
    return GOOD + f"  strategy:\n    canary:\n      trafficRouting: {{{routing}}}\n{more}"


def a_guard(source: str, bound: str = "max: 1") -> str:
    return GOOD + f"  strategy: {{canary: {{analysis: {{metrics: [{{name: g, {bound}, {source}}}]}}}}}}\n"


def a_query(query: str) -> str:
    return a_guard(f"prometheus: {{address: 'http://p', query: {json.dumps(query)}}}")


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(
            a_canary("gatewayAPI: {parentRefs: [{name: a}], hostnames: ['*.example.com', x, 1a.b-c]}"), id="hosts"
        ),
        pytest.param(a_canary("gatewayAPI: {parentRefs: [{name: a}], pathPrefix: /}"), id="all paths"),
        pytest.param(a_canary("gatewayAPI: {parentRefs: [{name: a}], pathPrefix: '/a.b/..c/v1%20x/'}"), id="a path"),
        pytest.param(
            a_canary("gatewayAPI: {parentRefs: [{name: a, sectionName: x}, {name: a, sectionName: y}]}"),
            id="two listeners of one Gateway",
        ),
        pytest.param(a_canary("gatewayAPI: {parentRefs: [{group: '', kind: Service}]}"), id="the model's own Service"),
        pytest.param(
            a_canary("gatewayAPI: {parentRefs: [{name: a}, {name: a, group: '', kind: Service}]}"),
            id="a Gateway and a Service of one name",
        ),
        pytest.param(
            a_canary(
                "gatewayAPI: {parentRefs: [{name: a}], timeouts: {request: 1m30s, backendRequest: 500ms}, filters: ["
                "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-team, value: risk}]}},"
                "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}},"
                "{type: ExtensionRef, extensionRef: {group: example.com, kind: Limit, name: a}},"
                "{type: ExtensionRef, extensionRef: {group: example.com, kind: Limit, name: b}},"
                "{type: CORS, cors: {allowOrigins: ['*'], allowMethods: [POST]}}]}"
            ),
            id="timeouts and filters",
        ),
        pytest.param(
            a_canary("gatewayAPI: {parentRefs: [{name: a}, {name: a, namespace: other}]}"),
            id="two Gateways of one name",
        ),
        pytest.param(
            a_canary(
                more="      steps:\n      - setHeaderRoute:\n          match:\n"
                "          - {headerName: a, headerValue: {regex: '^(beta|staff)[0-9]+$'}}\n"
                "          - {headerName: b, headerValue: {prefix: '[a'}}\n"
            ),
            id="two headers",
        ),
        pytest.param(a_query('sum(rate(x{r="{{revision}}", n=~"a{2}"}[{{ range }}])) / 2'), id="templates in PromQL"),
        pytest.param(a_query('x{a="{"}'), id="a brace alone"),
        pytest.param(
            a_guard("web: {url: 'http://w/{{name}}', jsonPath: '$.data.my-rate[0][-1].p99'}"), id="a JSON path"
        ),
        pytest.param(a_guard("web: {url: 'http://w', jsonPath: $}"), id="the whole answer"),
        pytest.param(a_guard("web: {url: 'http://w'}", "failureCondition: ' result >= -1.5e-3 '"), id="a condition"),
    ],
)
def test_what_the_operator_and_gateways_understand_is_let_through(spec: str) -> None:
    assert found(spec) == []


def test_what_is_null_is_left_out_as_the_api_server_does() -> None:
    assert found(GOOD + "    version:\n  server: {resources: {limits: {cpu: null}}}\n  strategy:\n") == []


def test_a_date_is_a_text_as_for_kubectl() -> None:
    assert found(GOOD + "    version: 2026-11-21\n") == []


def test_items_without_their_key_are_no_duplicates() -> None:
    problems = found(GOOD + "  server: {env: [{value: x}, {value: y}]}\n")
    assert [message for _, _, message in problems] == ["is required", "is required"]


def test_every_problem_is_told_at_once() -> None:
    assert len(found(GOOD + "  replicas: two\n  paused: maybe\n")) == 2


@pytest.mark.parametrize("metadata", [{}, {"metadata": None}], ids=["left out", "null"])
def test_a_name_is_needed(metadata: dict[str, Any]) -> None:
    body = {"apiVersion": DEFINITION.api_version, "kind": DEFINITION.kind, **metadata}
    (problem,) = check_object({**body, "spec": {"model": {"storageUri": "s3://a/b"}}}, DEFINITION)
    assert (problem.field, problem.message) == ("metadata", "is required")


def test_a_rule_about_the_name_is_held() -> None:
    ((_, _, message),) = found(GOOD, name="x" * 49)
    assert "at most 48 characters" in message


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        pytest.param("empty.yaml", "", NONE, id="an empty file"),
        pytest.param("notes.txt", "just words\n", NONE, id="a text"),
        pytest.param("list.yaml", "kind: List\nitems: 3\n", "has no ModelDeployment", id="a list that is none"),
        pytest.param(
            "others.yaml",
            "kind: Service\n---\nkind: Deployment\n",
            f"{NONE}; there are: Deployment, Service",
            id="other kinds",
        ),
        pytest.param("model.joblib", b"\x80\x05\x95\x00", "is no YAML: 'utf-8' codec", id="a model"),
        pytest.param("zeros", b"\0\0\0\0", "is no YAML: unacceptable character", id="zeros"),
        pytest.param("deep.yaml", "[" * 500, "is nested too deep", id="a file without a bottom"),
        pytest.param(
            "self.yaml",
            "&a\nkind: ModelDeployment\napiVersion: modeldeploy.dev/v1alpha1\nspec: *a\n",
            "its aliases stand for more than",
            id="a file in itself",
        ),
        pytest.param(
            "old.yaml",
            "kind: ModelDeployment\napiVersion: modeldeploy.dev/v1\n",
            "old.yaml:2: apiVersion: 'modeldeploy.dev/v1' is unknown; known is modeldeploy.dev/v1alpha1",
            id="another API version",
        ),
    ],
)
def test_a_file_without_a_manifest_is_wrong(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    checked = check_file(file, DEFINITIONS)
    assert len(checked.problems) == 1
    assert said in checked.problems[0]


def test_a_folder_stands_for_its_manifests(tmp_path: Path) -> None:
    head = "apiVersion: modeldeploy.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: x}\n"
    (tmp_path / "deep").mkdir()
    for name, text in {
        "b.yml": head + "spec: {}\n",
        "a.yaml": head + GOOD,
        "c.json": "{}",
        "d.txt": "x",
        "deep/e.yaml": "",
    }.items():
        (tmp_path / name).write_text(text)
    checked = check_file(tmp_path, DEFINITIONS)
    [problem] = checked.problems
    assert checked.checked == ["ModelDeployment"] * 2
    assert problem.startswith(f"{tmp_path}/b.yml:4: spec: spec.model.storageUri is missing")


HEAD = "apiVersion: modeldeploy.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: x}\n"


@pytest.mark.parametrize(
    ("model", "line", "field", "said"),
    [
        pytest.param(
            "{storageUri: 's3://a/b', format: onyx}", 5, "spec.model.format", "mean onnx?", id="a typing error"
        ),
        pytest.param(
            "{storageUri: 's3://a/b', format: prophet}", 5, "spec.model.format", "built in are auto, ", id="a format"
        ),
        pytest.param(
            "\n    storageUri: webhdfs://node/m", 6, "spec.model.storageUri", "built in are az, file, gs", id="a scheme"
        ),
        pytest.param("\n    storageUri: dbfs:///m", 6, "spec.model.storageUri", "a plug-in", id="without a host"),
    ],
)
def test_a_name_that_is_not_built_in_is_a_warning(tmp_path: Path, model: str, line: int, field: str, said: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{HEAD}spec:\n  model: {model}\n")
    checked = check_file(file, DEFINITIONS)
    assert (checked.checked, checked.problems) == (["ModelDeployment"], [])
    (warning,) = checked.warnings
    assert warning.startswith(f"{file}:{line}: warning: {field}: ")
    assert "is this a plug-in" in warning
    assert said in warning


def test_what_is_built_in_is_no_warning(tmp_path: Path) -> None:
    models = [{"storageUri": "s3://a/b", "format": name} for name in sorted(known_formats())]
    others = {"file": "file:///b", "models": "models:/a@b"}
    models += [{"storageUri": others.get(scheme, f"{scheme}://a/b")} for scheme in known_schemes()]
    file = tmp_path / "all.yaml"
    file.write_text("\n---\n".join(f"{HEAD}spec:\n  model: {json.dumps(model)}\n" for model in models))
    checked = check_file(file, DEFINITIONS)
    assert (len(checked.checked), checked.problems, checked.warnings) == (len(models), [], [])


def test_a_folder_without_a_manifest_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Service\n")
    (tmp_path / "b.yaml").write_text("kind: Deployment\n")
    told = f"{tmp_path}: {NONE}; there are: Deployment, Service"
    assert check_file(tmp_path, DEFINITIONS).problems == [told]


def test_manifests_in_a_list_are_checked(tmp_path: Path) -> None:
    item = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "x"}, "spec": {}}
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Service"}, item]}, indent=1))
    checked = check_file(file, DEFINITIONS)
    [problem] = checked.problems
    assert checked.checked == ["ModelDeployment"]
    assert problem.partition(":")[2].startswith("14: spec: spec.model.storageUri is missing")


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- x"])
def test_what_is_no_yaml_is_told_with_the_line(text: str) -> None:
    with pytest.raises(ManifestError, match="line 1"):
        list(read_documents(text))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param((), 1, id="the document"),
        pytest.param(("b", 1, "c"), 4, id="a field in a list"),
        pytest.param(("b", 7), 2, id="the nearest that is there"),
    ],
)
def test_the_line_of_a_field(path: Any, line: int) -> None:
    (document,) = read_documents("a: 1\nb:\n- c: 1\n- c: 2\n")
    assert document.line_of(path) == line


BATCH = """\
apiVersion: modeldeploy.dev/v1alpha1
kind: ModelBatch
metadata: {name: nightly}
spec:
  model: {name: fraud}
  input: {uri: s3://tables/*.csv}
  output: {uri: "s3://scores/today"}
"""
POOL = """\
apiVersion: modeldeploy.dev/v1alpha1
kind: ModelPool
metadata: {name: shops}
spec:
  models:
  - {name: a, storageUri: s3://models/a}
"""


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        pytest.param(
            BATCH + "  shard: 3\n", "ModelBatch", "8: spec.shard: unknown field; did you mean shards?", id="batch"
        ),
        pytest.param(
            BATCH.replace("today", "{date}") + "  schedule: every day\n",
            "ModelBatch",
            "8: spec.schedule: schedule must have five fields",
            id="no schedule",
        ),
        pytest.param(
            BATCH + "  schedule: 0 2 * * *\n",
            "ModelBatch",
            "4: spec: a scheduled batch needs a folder for each run",
            id="a rule of batches",
        ),
        pytest.param(POOL + "  - {name: b}\n", "ModelPool", "7: spec.models[1].storageUri: is required", id="pool"),
        pytest.param(
            POOL + "  - {name: a, storageUri: 's3://b'}\n",
            "ModelPool",
            "7: spec.models[1]: name a stands here twice",
            id="twice",
        ),
        pytest.param(
            POOL.replace("models/a}", "models/a, format: onyx}"),
            "ModelPool",
            "6: warning: spec.models[0].format: 'onyx' is not built in",
            id="a warning",
        ),
    ],
)
def test_batches_and_pools_are_checked_too(tmp_path: Path, text: str, kind: str, said: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    checked = check_file(file, DEFINITIONS)
    (line,) = [*checked.problems, *checked.warnings]
    assert checked.checked == [kind]
    assert line.startswith(f"{file}:{said}"), line


@pytest.mark.parametrize("text", [BATCH, POOL])
def test_good_batches_and_pools_have_no_problem(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    checked = check_file(file, DEFINITIONS)
    assert (checked.problems, checked.warnings) == ([], [])
