"""Steps around the model: what they get, what they may return, and what of it the model takes."""

from __future__ import annotations

import sys
from datetime import date
from typing import ClassVar

import numpy as np
import pytest

from model_server.domain.features import Feature
from model_server.domain.model import EmbeddingModel, Signature, SteppedModel, StreamingModel
from model_server.domain.tensors import Tensor, rows_of
from model_server.errors import ArtifactNotTrusted, InputRefused, StartError, StepFailed
from model_server.inputs.columns import Columns
from model_server.inputs.handover import Misfit, handed_over
from model_server.inputs.matrix import Matrix
from model_server.inputs.row_types import read_row_type
from model_server.inputs.tensors import TensorAdapter
from model_server.inputs.untyped import Untyped
from model_server.package.digest import digest
from model_server.package.reader import open_package
from model_server.package.trust import require_trust
from model_server.runtimes.steps import with_steps

NUMBERS = Matrix("x", [Feature(name="a"), Feature(name="b")], np.dtype("float64"))
ONE = Matrix("x", [Feature(name="a")], np.dtype("float32"))
TABLE = Columns([Feature(name="a", dtype="int64"), Feature(name="c", dtype="string")])
IMAGE = TensorAdapter([Tensor("pixels", "FP32", (-1, 2, 2))])


@pytest.fixture(autouse=True)
def own_modules(monkeypatch):
    """What a package makes importable is gone after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))


class Sum:
    """Adds up its two columns; a classifier of what is above 10, where it is asked for probabilities."""

    runs_inline = True
    signature = Signature(feature_count=2)
    probability_output = "probabilities"
    classes: tuple[object, ...] = (0, 1)
    asked: ClassVar[list[bool]] = []

    def predict(self, inputs, *, probabilities):
        self.asked.append(probabilities)
        total = inputs["x"].sum(axis=1)
        outputs = {"label": (total > 10).astype(int)}
        return outputs | {"probabilities": np.column_stack([1 - total / 20, total / 20])} if probabilities else outputs


def package(tmp_path, *, pre="", post="", yaml=""):
    """A package of an ONNX file with these steps, opened as the server does."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"\x08\x0a")
    for name, text in (("pre.py", pre), ("post.py", post), ("model.yaml", yaml)):
        if text:
            (folder / name).write_text(text)
    return open_package(folder, "auto", tmp_path, trusted=True)


def stepped(tmp_path, **files):
    return with_steps(package(tmp_path, **files), Sum(), NUMBERS)


def answer(tmp_path, rows, *, probabilities=False, **files):
    model, adapter = stepped(tmp_path, **files)
    return model.predict(adapter.from_instances(rows, numbers_only=False), probabilities=probabilities)


TWO = "input_features: [{name: n, dtype: int64}, {name: word, dtype: string}]\n"
ROWS = [{"n": 3, "word": "ab"}, {"n": 9, "word": "abc"}]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("return np.column_stack([inputs['n'], [len(w) for w in inputs['word']]])", id="a matrix"),
        pytest.param("return {'b': [len(w) for w in inputs['word']], 'a': inputs['n']}", id="columns by name"),
        pytest.param("return [[n, len(w)] for n, w in zip(inputs['n'], inputs['word'])]", id="a list a row"),
        pytest.param("return [{'a': n, 'b': len(w)} for n, w in zip(*inputs.values())]", id="a dict a row"),
        pytest.param(
            "import pandas; return pandas.DataFrame({'b': map(len, inputs['word']), 'a': inputs['n']})", id="a table"
        ),
    ],
)
def test_a_step_before_returns_what_the_model_takes(tmp_path, body):
    pre = f"import numpy as np\ndef transform(inputs):\n    {body}\n"
    assert answer(tmp_path, ROWS, pre=pre, yaml=TWO)["label"].tolist() == [0, 1]


ROW_CLASSES = {
    "a TypedDict": "from typing import TypedDict\nclass Row(TypedDict):\n    n: int\n    word: str\n",
    "a dataclass": "from dataclasses import dataclass\n@dataclass\nclass Row:\n    n: int\n    word: str\n",
    "a Struct": "from msgspec import Struct\nclass Row(Struct):\n    n: int\n    word: str\n",
    "a pydantic model": "from pydantic import BaseModel\nclass Row(BaseModel):\n    n: int\n    word: str\n",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in ROW_CLASSES.items()])
def test_a_class_types_the_inputs_and_is_what_the_step_gets(tmp_path, text):
    get = "row['n'], len(row['word'])" if "TypedDict" in text else "row.n, len(row.word)"
    pre = f"{text}def transform(rows: list[Row]) -> list[list[float]]:\n    return [[{get}] for row in rows]\n"
    model, adapter = stepped(tmp_path, pre=pre)
    assert [(one.name, one.dtype, one.required) for one in adapter.features] == [
        ("n", "int64", True),
        ("word", "string", True),
    ]
    inputs = adapter.from_instances(ROWS, numbers_only=False)
    assert model.predict(inputs, probabilities=False)["label"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        pytest.param("", "dict", id="none: columns by name"),
        pytest.param(": dict[str, np.ndarray]", "dict", id="columns by name"),
        pytest.param(": pandas.DataFrame", "DataFrame", id="a table"),
        pytest.param(": list", "list", id="rows"),
        pytest.param(": list[dict[str, object]]", "list", id="rows that are dicts"),
    ],
)
def test_the_annotation_chooses_the_form(tmp_path, annotation, expected):
    pre = f"""
import numpy as np, pandas
def transform(inputs{annotation}):
    assert type(inputs).__name__ == {expected!r}, type(inputs)
    return [[1, 2]] * 2
"""
    assert answer(tmp_path, ROWS, pre=pre, yaml=TWO)["label"].tolist() == [0, 0]


def test_inputs_that_nobody_declares_are_what_was_sent(tmp_path, caplog):
    model, adapter = stepped(tmp_path, pre="def transform(inputs):\n    return [[len(one), 9] for one in inputs]\n")
    assert isinstance(adapter, Untyped)
    assert "its inputs have no types" in caplog.text
    assert model.predict(adapter.from_instances(["ab", "a"], numbers_only=False), probabilities=False)[
        "label"
    ].tolist() == [1, 0]


ROW_FIELDS = """
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, Optional
from msgspec import Meta
@dataclass
class Row:
    born: date
    grade: Literal["b", "a"]
    level: Literal[1, 2]
    score: Optional[float]
    count: Annotated[int, Meta(ge=0, le=9, description="how many", examples=[3])]
    limit: int | None = None
    plan: str = "free"
    extra: Any = None
"""


def test_the_fields_of_a_class_become_features(tmp_path):
    model, adapter = stepped(
        tmp_path,
        pre=ROW_FIELDS
        + "def transform(rows: list[Row]):\n    assert rows[0].limit is None and rows[0].score is None\n"
        + "    assert (rows[0].plan, rows[1].plan, rows[1].limit) == ('free', 'paid', 7)\n"
        + "    assert str(rows[0].born) == '2000-01-02'\n    return [[row.count, row.level] for row in rows]\n",
    )
    assert adapter.features == (
        Feature(name="born", dtype="date", required=True),
        Feature(name="grade", dtype="string", categories=("a", "b"), required=True),
        Feature(name="level", dtype="int64", categories=(1, 2), required=True),
        Feature(name="score", nullable=True, required=True),
        Feature(name="count", dtype="int64", range=(0, 9), description="how many", example=3, required=True),
        Feature(name="limit", dtype="any", nullable=True),
        Feature(name="plan", dtype="string", nullable=True),
        Feature(name="extra", dtype="any", nullable=True),
    )
    row = {"born": "2000-01-02", "grade": "a", "level": 2, "score": None, "count": 9}
    inputs = adapter.from_instances([row, row | {"plan": "paid", "limit": 7}], numbers_only=False)
    assert model.predict(inputs, probabilities=False)["label"].tolist() == [1, 1]


def test_a_schema_with_references_and_a_constant_is_read():
    found = read_row_type(
        {
            "$ref": "#/$defs/Row",
            "$defs": {
                "Row": {
                    "properties": {"kind": {"allOf": [{"$ref": "#/$defs/Kind"}]}, "only": {"const": "x"}},
                    "required": ["kind", "only"],
                },
                "Kind": {"enum": ["u", "v"], "type": "string"},
            },
        },
        ["only", "kind"],
    )
    assert [(one.name, one.categories) for one in found.features] == [("only", ("x",)), ("kind", ("u", "v"))]


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        pytest.param({"pre": "import nothing_like_it"}, "DependencyMissing", "pre.py needs the module", id="a module"),
        pytest.param({"pre": "1 / 0"}, "LoadFailed", r"pre.py cannot be imported.*pre.py line 1", id="at import"),
        pytest.param(
            {"pre": "def pre(x) pass"},
            "LoadFailed",
            r"pre.py cannot be imported: SyntaxError: expected ':' \(pre.py line 1\)$",
            id="no Python",
        ),
        pytest.param(
            {"post": "def tranform(o): ..."}, "LoadFailed", "post.py has no function transform", id="its name"
        ),
        pytest.param({"pre": "def transform(): ..."}, "LoadFailed", "does not take 1 argument", id="no argument"),
        pytest.param(
            {"post": "def transform(): ..."}, "LoadFailed", "does not take 1 or 2 arguments", id="none behind"
        ),
        pytest.param({"pre": "async def transform(i): ..."}, "LoadFailed", "is async", id="async"),
        pytest.param(
            {"pre": "def transform(i: 'Nobody'): ..."}, "LoadFailed", "annotations of transform in pre.py", id="unknown"
        ),
        pytest.param(
            {"pre": ROW_CLASSES["a dataclass"] + "def transform(row: Row): ..."},
            "LoadFailed",
            "takes one Row, and is given all rows",
            id="one row",
        ),
        pytest.param(
            {
                "pre": ROW_CLASSES["a TypedDict"] + "def transform(r: list[Row]): ...",
                "yaml": "input_features: [{name: n}]",
            },
            "MetadataInvalid",
            r"pre.py has the input 'word', and model.yaml has not",
            id="other columns in model.yaml",
        ),
        pytest.param(
            {"yaml": "model_features: [{name: n}]"}, "MetadataInvalid", "the package has no pre.py", id="no pre.py"
        ),
    ],
)
def test_a_step_that_cannot_be_used_is_named(tmp_path, files, error, message):
    with pytest.raises(StartError, match=message) as caught:
        stepped(tmp_path, **files)
    assert (type(caught.value).__name__, bool(caught.value.hint)) == (error, True)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        pytest.param(
            {"pre": "raise ValueError('n is odd\\nsecret')"},
            InputRefused,
            "^pre.py refused this input: n is odd$",
            id="value",
        ),
        pytest.param({"pre": "raise KeyError('x')"}, StepFailed, "^pre.py failed on this input$", id="error before"),
        pytest.param({"pre": "import sys; sys.exit(0)"}, StepFailed, "^pre.py failed on this input$", id="exit"),
        pytest.param({"pre": "return [[1, 2]]"}, StepFailed, "pre.py returned 1 rows in 'inputs' for 2", id="rows"),
        pytest.param({"pre": "return None"}, StepFailed, "pre.py returned a NoneType", id="nothing"),
        pytest.param({"pre": "return {}"}, StepFailed, "pre.py returned an empty dict", id="no columns"),
        pytest.param({"pre": "return [['a', 'b']] * 2"}, StepFailed, "holds no numbers", id="text for numbers"),
        pytest.param(
            {"pre": "return [[1, 2, 3]] * 2"},
            StepFailed,
            r"shape \[2, 3\], and the model takes \[rows, 2\]",
            id="columns",
        ),
        pytest.param(
            {"pre": "return {'a': [1, 2], 'z': [1, 2]}"}, StepFailed, "no 'b', and the model takes a, b", id="name"
        ),
        pytest.param(
            {"pre": "return [{'a': 1, 'b': 2}, {'a': 1}]"}, StepFailed, "a row with a behind one", id="a short row"
        ),
        pytest.param(
            {"post": "raise ValueError('x')"}, StepFailed, "^post.py failed on this input$", id="value behind"
        ),
        pytest.param({"post": "return [1]"}, StepFailed, "post.py returned 1 rows in 'label' for 2", id="rows behind"),
        pytest.param(
            {"post": "return {'a': [1]}"}, StepFailed, "post.py returned 1 rows in 'a' for 2", id="rows by name"
        ),
        pytest.param({"post": "return 'yes'"}, StepFailed, "post.py returned a str", id="one text"),
    ],
)
def test_a_step_that_fails_is_named(tmp_path, files, error, message):
    files = {name: f"def transform(one):\n    {body}\n" for name, body in files.items()}
    with pytest.raises(error, match=message) as caught:
        answer(tmp_path, [[1, 2], [3, 4]], **files)
    assert getattr(caught.value, "step", next(iter(files))) == next(iter(files))


@pytest.mark.parametrize(
    ("post", "outputs", "probabilities", "classes"),
    [
        pytest.param("return outputs", ["label", "probabilities"], "probabilities", (0, 1), id="as they were"),
        pytest.param("return outputs['label']", ["label"], "", (0, 1), id="the prediction alone"),
        pytest.param("return outputs['label'] + 5", ["label"], "", (), id="other labels"),
        pytest.param("return {'risk': outputs['probabilities'][:, 1]}", ["risk"], "", (), id="another answer"),
        pytest.param("return {'probabilities': outputs['probabilities']}", ["probabilities"], "", (), id="them alone"),
    ],
)
def test_what_a_step_behind_returns_is_the_answer(tmp_path, post, outputs, probabilities, classes):
    model, adapter = stepped(tmp_path, post=f"def transform(outputs):\n    {post}\n")
    inputs = adapter.from_instances([[1, 2], [8, 9]], numbers_only=True)
    model.settle(model.predict(inputs, probabilities=True))
    assert (model.probability_output, model.classes) == (probabilities, classes)
    assert list(model.predict(inputs, probabilities=True)) == outputs
    assert list(model.predict(inputs, probabilities=False)) == [one for one in outputs if one != probabilities]


def test_a_step_behind_sees_the_probabilities_and_the_inputs_of_the_first(tmp_path):
    pre = "def transform(inputs):\n    inputs['n'] += 100\n    return [[1, 2]] * len(inputs['n'])\n"
    post = "def transform(outputs, inputs):\n    assert 'probabilities' in outputs\n    return inputs['n']\n"
    assert answer(tmp_path, ROWS, pre=pre, post=post, yaml=TWO)["label"].tolist() == [3, 9]


def test_the_parts_of_a_call_are_timed(tmp_path):
    model, adapter = stepped(tmp_path, pre="def transform(inputs):\n    return [[1, 2]]\n")
    assert isinstance(model, SteppedModel)
    assert not isinstance(Sum(), SteppedModel)
    model.predict(adapter.from_instances([1], numbers_only=True), probabilities=False)
    assert list(model.take_times()) == model.steps == ["pre", "model"]
    assert model.take_times() == {}


@pytest.mark.parametrize(
    ("adapter", "arrays", "expected"),
    [
        pytest.param(ONE, {"inputs": np.array([1, 2])}, {"x": [[1.0], [2.0]]}, id="a flat array for one column"),
        pytest.param(NUMBERS, {"b": np.array([1, 2]), "a": np.array([3.0, np.nan])}, None, id="what is missing passes"),
        pytest.param(NUMBERS, {"inputs": np.array([[1, None], [2, 3]], dtype=object)}, None, id="None among numbers"),
        pytest.param(
            TABLE,
            {"c": np.array(["u", "v"]), "a": np.array([[1.0], [2.0]])},
            {"a": [1, 2], "c": ["u", "v"]},
            id="columns in the order of the model",
        ),
        pytest.param(IMAGE, {"inputs": np.zeros((2, 2, 2))}, None, id="a tensor under any name"),
    ],
)
def test_arrays_are_handed_over_as_the_model_takes_them(adapter, arrays, expected):
    found = handed_over(arrays, adapter, 2)
    assert rows_of(found) == 2
    if expected is not None:
        assert {name: array.tolist() for name, array in found.items()} == expected


@pytest.mark.parametrize(
    ("adapter", "arrays", "message"),
    [
        pytest.param(TABLE, {"c": np.array(["u", "v"]), "a": np.array(["x", "y"])}, "'a' of .*takes int64", id="text"),
        pytest.param(
            TABLE, {"c": np.array([["u"] * 2] * 2), "a": np.array([1, 2])}, r"'c' of shape \[2, 2\]", id="wide"
        ),
        pytest.param(TABLE, {"a": np.array([1, 2]), "c": np.ones(2), "d": np.ones(2)}, "'d', and the model", id="more"),
        pytest.param(IMAGE, {"inputs": np.zeros((2, 3))}, r"expected rows of shape \[2,2\]", id="another rank"),
    ],
)
def test_arrays_that_the_model_does_not_take_are_told(adapter, arrays, message):
    with pytest.raises(Misfit, match=message):
        handed_over(arrays, adapter, 2)


@pytest.mark.parametrize(
    ("fields", "adapter"),
    [
        pytest.param("a: float\n    b: float = 4.0", Matrix, id="numbers of one kind side by side"),
        pytest.param("a: int\n    b: float = 4.0", Columns, id="each column as it is, where they differ"),
    ],
)
def test_numbers_reach_a_class_as_it_declares_them(tmp_path, fields, adapter):
    pre = f"""
from __future__ import annotations
from dataclasses import dataclass
@dataclass
class Row:
    {fields}
def transform(rows: list[Row]):
    assert type(rows[0].a).__name__ == Row.__annotations__["a"]
    return [[row.a, row.b] for row in rows]
"""
    model, first = stepped(tmp_path, pre=pre)
    assert type(first) is adapter
    inputs = first.from_instances([{"a": 7}, {"a": 5, "b": 1}], numbers_only=True)
    assert model.predict(inputs, probabilities=False)["label"].tolist() == [1, 0]


def test_dates_reach_the_step_as_dates(tmp_path):
    pre = "def transform(rows: list):\n    return [[row['day'].year - 2000, 0] for row in rows]\n"
    model, adapter = stepped(tmp_path, pre=pre, yaml="input_features: [{name: day, dtype: date, nullable: true}]")
    inputs = adapter.from_instances([{"day": str(date(2020, 2, 3))}], numbers_only=False)
    assert model.predict(inputs, probabilities=False)["label"].tolist() == [1]


def test_steps_need_a_pin_or_trust_whatever_the_format(tmp_path):
    opened = package(tmp_path, pre="def transform(inputs): ...", post="def transform(outputs): ...")
    with pytest.raises(ArtifactNotTrusted, match=r"code in pre.py and post.py, and is neither pinned") as caught:
        require_trust(opened.format, trusted=False, digest="abc", steps=opened.steps)
    assert "sha256 to abc" in caught.value.hint
    require_trust(opened.format, trusted=True, digest="abc", steps=opened.steps)
    require_trust(opened.format, trusted=False, digest="abc")


def test_a_lone_file_has_no_steps_beside_it(tmp_path):
    opened = package(tmp_path, pre="def transform(inputs): ...")
    assert [path.name for path in opened.steps] == ["pre.py"]
    assert open_package(opened.artifacts[0], "auto", tmp_path, trusted=True).steps == ()


def test_another_step_is_another_package(tmp_path):
    opened = package(tmp_path, pre="def transform(inputs): return inputs")
    before = digest(opened.root)
    (opened.root / "pre.py").write_text("def transform(inputs): return [[1, 2]] * len(inputs)")
    assert digest(opened.root) != before


class Counting(Sum):
    """Answers in two steps."""

    def stream(self, inputs):
        for factor in (1, 2):
            yield {"label": inputs["x"].sum(axis=1) * factor}


def test_each_step_of_a_stream_passes_the_step_behind(tmp_path):
    pre = "def transform(inputs):\n    return inputs * 10\n"
    post = "def transform(outputs, inputs):\n    return outputs['label'] + inputs[:, 0]\n"
    model, adapter = with_steps(package(tmp_path, pre=pre, post=post), Counting(), NUMBERS)
    assert isinstance(model, StreamingModel)
    inputs = adapter.from_instances([[1, 2]], numbers_only=True)
    assert [outputs["label"].tolist() for outputs in model.stream(inputs)] == [[31.0], [61.0]]


class Vectors(Sum):
    """Gives embeddings of texts."""

    token_output = "tokens"

    def count_tokens(self, texts):
        return len(texts)


@pytest.mark.parametrize(
    ("files", "is_embedding"),
    [
        pytest.param({"pre": "def transform(one): ..."}, True, id="texts that are cleaned first"),
        pytest.param({"post": "def transform(one): ..."}, False, id="an answer of another kind"),
    ],
)
def test_embeddings_stay_what_they_are_without_a_step_behind(tmp_path, files, is_embedding):
    model, _ = with_steps(package(tmp_path, **files), Vectors(), NUMBERS)
    assert isinstance(model, EmbeddingModel) is is_embedding
