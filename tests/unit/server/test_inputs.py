"""JSON rows and tensors become the arrays a model is called with."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.domain.features import Feature, Metadata
from model_server.domain.model import Identity, LoadedModel, Signature
from model_server.domain.tensors import Tensor
from model_server.errors import InvalidInput, MetadataInvalid, RequestError
from model_server.inputs.columns import Columns
from model_server.inputs.matrix import Matrix, matrix_dtype
from model_server.inputs.selection import select_adapter
from model_server.inputs.tensors import TensorAdapter
from model_server.inputs.untyped import Untyped
from model_server.protocols import mlflow
from model_server.protocols.payload import Payload
from model_server.protocols.v2 import Tensors

AGE = Feature(name="age", dtype="int64", range=(0, 130))
SPEND = Feature(name="spend", nullable=True)
GRADE = Feature(name="grade", dtype="int8", categories=(1, 2, 3))
PLAN = Feature(name="plan", dtype="string", categories=("free", "paid"))
ACTIVE = Feature(name="active", dtype="bool")


def a_model(adapter):
    """A model of which only the inputs matter."""
    identity = Identity(model="m", version="1", revision="")
    model = SimpleNamespace(probability_output="", classes=())
    return LoadedModel(identity=identity, metadata=Metadata(), adapter=adapter, model=model, outputs=())


def matrix(*features):
    return Matrix("m", features, matrix_dtype(features))


@pytest.mark.parametrize("numbers_only", [True, False])
@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        pytest.param([{"age": 1, "grade": 2}], [[1, 2]], id="an object"),
        pytest.param([{"grade": 2, "age": 1}], [[1, 2]], id="names decide, not their order"),
        pytest.param([[1, 2], [3, 1]], [[1, 2], [3, 1]], id="lists"),
        pytest.param([{"age": 1, "grade": 2}, [3, 1]], [[1, 2], [3, 1]], id="objects and lists together"),
        pytest.param([[1.0, 2.0]], [[1, 2]], id="whole floats are integers"),
    ],
)
def test_matrix_takes(instances, expected, numbers_only):
    array = matrix(AGE, GRADE).from_instances(instances, numbers_only=numbers_only)["m"]
    assert array.dtype == np.int64
    assert array.tolist() == expected


LARGE = {"int64": 2**63 - 1, "uint64": 2**64 - 1}


@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("beside", [3, 3.0], ids=["a whole number", "a float that is whole"])
def test_the_largest_whole_numbers_are_kept_to_the_last_digit(dtype, beside):
    adapter = matrix(Feature(name="a", dtype=dtype), Feature(name="b", dtype=dtype))
    for value in (LARGE[dtype], 2**53 + 1):
        assert adapter.from_instances([[value, beside]], numbers_only=True)["m"].tolist() == [[value, 3]]


@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("beside", [3, 3.0], ids=["a whole number", "a float that is whole"])
def test_v2_keeps_the_largest_whole_numbers(dtype, beside):
    adapter = matrix(Feature(name="a", dtype=dtype), Feature(name="b", dtype=dtype))
    tensor = {"name": "m", "shape": [1, 2], "datatype": dtype.upper(), "data": [LARGE[dtype], beside]}
    payload = Payload(orjson.dumps({"inputs": [tensor]}), {})
    assert Tensors().decode(payload, a_model(adapter), max_rows=1).inputs["m"].tolist() == [[LARGE[dtype], 3]]


@pytest.mark.parametrize("dtype", LARGE)
def test_a_whole_number_that_is_one_too_large_is_refused(dtype):
    adapter = matrix(Feature(name="a", dtype=dtype), Feature(name="b", dtype=dtype))
    for value in (LARGE[dtype] + 1, float(LARGE[dtype] + 1)):
        with pytest.raises(InvalidInput, match=f"fits {dtype}"):
            adapter.from_instances([[value, 3]], numbers_only=True)


@pytest.mark.parametrize(
    ("dtype", "tensor", "row", "message"),
    [
        pytest.param(
            "float64", "INT64", [2.7], "expected an integer, got 2.7", id="a fraction for a graph of integers"
        ),
        pytest.param("int64", "INT32", [2**40], "fits int32", id="a number that is too large for the graph"),
        pytest.param("int64", "UINT8", [-1], "fits uint8", id="a negative number for a graph without"),
        pytest.param("float64", "FP32", [1e300], "fits float32", id="a number that is infinite to the graph"),
    ],
)
@pytest.mark.parametrize("shape", [(-1, 1), (-1,)], ids=["a table", "a column"])
def test_what_the_graph_cannot_hold_is_refused_whatever_model_yaml_says(dtype, tensor, row, message, shape):
    metadata = Metadata(input_features=(Feature(name="a", dtype=dtype),))
    adapter = select_adapter(metadata, Signature(tensors=(Tensor("a", tensor, shape),)))
    with pytest.raises(InvalidInput, match=message):
        adapter.from_instances([row], numbers_only=True)


def test_a_graph_with_an_input_a_column_takes_lists_in_the_order_of_model_yaml():
    declared = Metadata(input_features=(Feature(name="b", dtype="string"), Feature(name="a")))
    adapter = select_adapter(declared, Signature(tensors=(Tensor("a", "FP32", (-1, 1)), Tensor("b", "BYTES", (-1, 1)))))
    arrays = adapter.from_instances([["x", 1.5]], numbers_only=True)
    assert (arrays["a"].tolist(), arrays["b"].tolist()) == ([1.5], ["x"])


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        pytest.param({"age": 1}, "instances[0].grade", "is missing", id="a missing feature"),
        pytest.param({"age": 1, "grade": 1, "x": 0}, "instances[0].x", "is not a feature", id="an extra feature"),
        pytest.param({"ag": 1, "grade": 1}, "instances[0].ag", "did you mean age?", id="a misspelt feature"),
        pytest.param([1], "instances[0]", "expected 2 values, got 1", id="a short list"),
        pytest.param([1.5, 1], "instances[0].age", "expected an integer, got 1.5", id="a fraction"),
        pytest.param(["1", 1], "instances[0].age", 'expected an integer, got "1"', id="a number in quotes"),
        pytest.param([True, 1], "instances[0].age", "expected an integer, got true", id="a boolean"),
        pytest.param([None, 1], "instances[0].age", "got null", id="a null"),
        pytest.param([131, 1], "instances[0].age", "from 0 to 130, got 131", id="above the range"),
        pytest.param([1, 4], "instances[0].grade", "expected one of 1, 2, 3, got 4", id="no such category"),
        pytest.param([1, [2]], "instances[0].grade", "expected an integer, got [2]", id="a list in a list"),
        pytest.param("abc", "instances[0]", "expected an object or a list of 2 values", id="text for a row"),
    ],
)
def test_matrix_names_the_fault(row, field, message):
    with pytest.raises(InvalidInput) as caught:
        matrix(AGE, GRADE).from_instances([row], numbers_only="True" not in repr(row) and "None" not in repr(row))
    assert caught.value.problems[0].field == field
    assert message in caught.value.problems[0].message


@pytest.mark.parametrize(("known", "suggestions"), [(10, 3), (1_000, 0)], ids=["few features", "many features"])
def test_only_a_few_strange_names_are_compared_with_the_known(known, suggestions):
    # Each with each would keep the event loop for minutes.
    adapter = matrix(*(Feature(name=f"feature_{place}") for place in range(known)))
    with pytest.raises(InvalidInput, match="and 19 more") as caught:
        adapter.from_instances([{f"featur_{place}": 1 for place in range(200)}], numbers_only=True)
    assert sum("did you mean" in problem.message for problem in caught.value.problems) == suggestions
    assert len(caught.value.problems) == 20


def test_a_null_is_told_what_would_allow_it():
    with pytest.raises(InvalidInput, match="expected a number, got null; `nullable: true` in"):
        matrix(Feature(name="x")).from_instances([[None]], numbers_only=False)


def test_every_bad_row_is_named():
    with pytest.raises(InvalidInput) as caught:
        matrix(AGE, GRADE).from_instances([[1, 1], [1, 9], [-1, 1]], numbers_only=True)
    assert [problem.field for problem in caught.value.problems] == ["instances[1].grade", "instances[2].age"]


def test_a_nullable_feature_may_be_null_or_left_out():
    adapter = matrix(SPEND, Feature(name="other"))
    array = adapter.from_instances([{"spend": None, "other": 1}, {"other": 2}, [3, 4]], numbers_only=False)["m"]
    assert np.isnan(array[:2, 0]).all()
    assert array[2].tolist() == [3, 4]


@given(
    st.lists(
        st.lists(st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=3)), max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_the_fast_path_and_the_careful_path_agree(instances):
    adapter = Matrix("m", (Feature(name="a", range=(-5, 5)), Feature(name="b", dtype="float32")), np.dtype(np.float64))
    plain = not any(isinstance(value, bool) or value is None for row in instances for value in row)
    outcomes = []
    for is_plain in {plain, False}:
        try:
            outcomes.append(adapter.from_instances(instances, numbers_only=is_plain)["m"].tolist())
        except InvalidInput as error:
            outcomes.append(error.message)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    good = all(
        len(row) == 2
        and all(type(value) in (int, float) for value in row)
        and -5 <= row[0] <= 5
        and abs(row[1]) <= float(np.finfo(np.float32).max)
        for row in instances
    )
    assert isinstance(outcomes[0], list) is good


def test_columns_keep_each_features_type():
    arrays = Columns((AGE, PLAN, ACTIVE)).from_instances(
        [[31, "free", True], {"active": False, "age": 5, "plan": "paid"}], numbers_only=False
    )
    assert arrays["age"].dtype == np.int64
    assert arrays["plan"].tolist() == ["free", "paid"]
    assert arrays["active"].tolist() == [True, False]


def test_columns_take_one_tensor_a_feature():
    adapter = Columns((AGE, PLAN))
    plan = np.array([b"free", "paid"], dtype=object)
    arrays = adapter.from_tensors({"plan": plan, "age": np.array([[1], [2]])})
    assert (arrays["age"].tolist(), arrays["plan"].tolist()) == ([1, 2], ["free", "paid"])
    with pytest.raises(InvalidInput, match=r"inputs\[plan\]\[0\]: expected one of"):
        adapter.from_tensors({"plan": np.array(["gold"], dtype=object), "age": np.array([1])})
    with pytest.raises(InvalidInput, match=r"inputs\[plan\]: is missing"):
        adapter.from_tensors({"age": np.array([1])})


IMAGE = Tensor("image", "FP32", (-1, 2, 2))


def test_bytes_that_are_no_text_are_refused():
    raw = np.array(["free", b"\xff"], dtype=object)
    with pytest.raises(InvalidInput, match=r"inputs\[plan\]\[1\]: expected text in UTF-8"):
        Columns((Feature(name="plan", dtype="string"),)).from_tensors({"plan": raw})


def test_tensors_take_nested_lists():
    array = TensorAdapter([IMAGE]).from_instances([[[1, 2], [3, 4]], {"image": [[5, 6], [7, 8]]}], numbers_only=True)[
        "image"
    ]
    assert array.shape == (2, 2, 2)
    assert array.dtype == np.float32


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        pytest.param([[1, 2]], "instances[0]: expected rows of shape [2,2], got [2]", id="too flat"),
        pytest.param([[[1, 2], [3]]], "instances[0]: expected nested lists of equal lengths", id="ragged"),
        pytest.param([[["a", "b"], ["c", "d"]]], "instances[0]: expected FP32 values, got BYTES", id="text"),
        pytest.param([{"img": 1}], "instances[0].img: is not an input of this model", id="a wrong name"),
        pytest.param([[[1e300, 0], [0, 0]]], "instances[0]: expected finite numbers that fit FP32", id="too large"),
    ],
)
def test_tensors_name_the_fault(instances, message):
    with pytest.raises(InvalidInput) as caught:
        TensorAdapter([IMAGE]).from_instances(instances, numbers_only=True)
    assert message in caught.value.message


def from_csv(*features, text):
    payload = Payload(text.encode(), {b"content-type": b"text/csv"})
    return mlflow.Tables().decode(payload, a_model(Columns(features)), max_rows=9).inputs


def test_csv_is_read_by_the_features_types():
    features = (Feature(name="id", dtype="int64"), ACTIVE, Feature(name="plan", dtype="string", nullable=True), SPEND)
    text = f"id,active,plan,spend\n{2**53 + 1},True,1,2.5\n3.0,false,,\n"
    arrays = from_csv(*features, text=text)
    assert arrays["id"].tolist() == [2**53 + 1, 3]
    assert arrays["active"].tolist() == [True, False]
    assert arrays["plan"].tolist() == ["1", None]
    assert arrays["spend"][0] == 2.5
    assert np.isnan(arrays["spend"][1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("spend\n1_000\n", 'spend: expected a number, got "1_000"', id="separators of Python"),
        pytest.param("spend,spend\n1,2\n", "the header: has two columns 'spend'", id="one name twice"),
        pytest.param("spend\n1,2\n", "is not a feature", id="a long row"),
        pytest.param("spend\n" + "1\n" * 100, "rows: more than the 9 that", id="too many rows"),
    ],
)
def test_csv_that_would_be_misread_is_refused(text, message):
    with pytest.raises(RequestError, match=message):
        from_csv(SPEND, text=text)


def test_a_table_with_one_name_twice_is_refused():
    body = orjson.dumps({"dataframe_split": {"columns": ["spend", "spend"], "data": [[1, 2]]}})
    payload = Payload(body, {})
    with pytest.raises(InvalidInput, match="has two columns 'spend'"):
        mlflow.Tables().decode(payload, a_model(Columns((SPEND,))), max_rows=9)


def test_anything_tells_true_from_1():
    assert Untyped().from_instances([[1, True], [0, 2]], numbers_only=False)["inputs"].tolist() == [[1, True], [0, 2]]
    assert Untyped().from_instances([[1, True], [0, 2]], numbers_only=False)["inputs"].dtype == object
    assert Untyped().from_instances([[False, True]], numbers_only=False)["inputs"].dtype == np.bool_


def test_anything_passes_on_what_it_gets():
    adapter = Untyped()
    assert adapter.from_instances([[1, 2], [3, 4]], numbers_only=True)["inputs"].dtype == np.int64
    assert adapter.from_instances(["a", {"b": 1}], numbers_only=True)["inputs"].tolist() == ["a", {"b": 1}]


@pytest.mark.parametrize(
    ("features", "signature", "adapter"),
    [
        pytest.param((), Signature(feature_count=3), Matrix, id="an estimator counts its features"),
        pytest.param((), Signature(feature_names=("a", "b")), Matrix, id="an estimator names its features"),
        pytest.param((AGE, PLAN), Signature(), Columns, id="text needs columns"),
        pytest.param((AGE,), Signature(as_columns=True), Columns, id="the model selects columns by name"),
        pytest.param((), Signature(tensors=(Tensor("x", "FP32", (-1, 4)),)), Matrix, id="a tabular graph"),
        pytest.param((), Signature(tensors=(IMAGE,)), TensorAdapter, id="a graph of images"),
        pytest.param(
            (),
            Signature(tensors=(Tensor("a", "FP32", (-1, 1)), Tensor("b", "BYTES", (-1, 1)))),
            Columns,
            id="a graph with an input a column",
        ),
        pytest.param((), Signature(), Untyped, id="nothing is known"),
    ],
)
def test_the_layout_follows_model_and_metadata(features, signature, adapter):
    assert isinstance(select_adapter(Metadata(input_features=features), signature), adapter)


@pytest.mark.parametrize(
    ("feature", "datatype", "message"),
    [
        pytest.param(PLAN, "FP32", "plan is of dtype string, and the model takes FP32", id="text for numbers"),
        pytest.param(ACTIVE, "FP32", "active is of dtype bool, and the model takes FP32", id="booleans for numbers"),
        pytest.param(AGE, "BYTES", "age is of dtype int64, and the model takes BYTES", id="numbers for text"),
        pytest.param(
            SPEND, "INT64", "spend: nullable needs a float, string or time dtype", id="nothing among integers"
        ),
        pytest.param(Feature(name="x", example=2.5), "INT64", "example 2.5 is not a int64", id="a fraction as example"),
    ],
)
def test_a_feature_of_another_type_than_the_graphs_is_refused(feature, datatype, message):
    with pytest.raises(MetadataInvalid, match=message):
        select_adapter(
            Metadata(input_features=(feature,)), Signature(tensors=(Tensor(feature.name, datatype, (-1, 1)),))
        )


@pytest.mark.parametrize(
    ("names", "signature", "message"),
    [
        pytest.param("ab", Signature(feature_count=3), "lists 2, and the model was trained with 3", id="another count"),
        pytest.param("ba", Signature(feature_names=("a", "b")), "in another order", id="another order"),
        pytest.param(
            "ac",
            Signature(feature_names=("a", "b")),
            "names 'c', which the model was not trained with",
            id="another name",
        ),
    ],
)
def test_metadata_that_contradicts_the_model_is_refused(names, signature, message):
    metadata = Metadata(input_features=tuple(Feature(name=name) for name in names))
    with pytest.raises(MetadataInvalid, match=message):
        select_adapter(metadata, signature)


NULLABLE = (Feature(name="a", nullable=True), Feature(name="b"), Feature(name="n", dtype="int32", range=(0, 9)))
BOUNDED = (Feature(name="a", nullable=True, range=(1, 2)), Feature(name="c", nullable=True, categories=(1.0, 2.0)))


@pytest.mark.parametrize(
    ("features", "rows"),
    [
        pytest.param(NULLABLE, [[None, 1.5, 3], [2, 2.5, 4]], id="a null where one is allowed"),
        pytest.param(NULLABLE, [{"b": 1.5, "n": 3, "a": None}], id="by name"),
        pytest.param(NULLABLE, [{"b": 1.5, "n": 3}], id="left out"),
        pytest.param(NULLABLE, [[1.0, None, 3]], id="a null where none is allowed"),
        pytest.param(NULLABLE, [[None, 1.0, None]], id="a null for a whole number"),
        pytest.param(NULLABLE, [[None, 1.0, 10]], id="a value outside its range beside a null"),
        pytest.param(NULLABLE, [[None, 1.0, 1.5]], id="a fraction for a whole number beside a null"),
        pytest.param(NULLABLE, [[None, True, 3]], id="a truth beside a null"),
        pytest.param(NULLABLE, [[None, "1.5", 3]], id="a number as text beside a null"),
        pytest.param(BOUNDED, [[None, None]], id="nulls where values have rules"),
        pytest.param(BOUNDED, [[3, None]], id="a value against its rule"),
        pytest.param(BOUNDED, [[None, 3]], id="no category"),
        pytest.param(BOUNDED, [[[None], None]], id="a list for a value"),
    ],
)
def test_a_null_is_read_at_once_as_it_is_read_value_by_value(features, rows):
    adapter = matrix(*features)

    def outcome(read):
        try:
            return read()["m"]
        except InvalidInput as error:
            return [(problem.field, problem.message) for problem in error.problems]

    quick, careful = (
        outcome(lambda: adapter.from_instances(rows, numbers_only=False)),
        outcome(lambda: adapter._carefully(rows)),
    )
    if isinstance(careful, list):
        assert quick == careful
    else:
        assert quick.dtype == careful.dtype
        assert np.array_equal(quick, careful, equal_nan=True)
