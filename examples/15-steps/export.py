"""Writes loan/model.onnx: a logistic regression of two numbers. Needs onnx; the file is here already."""

from pathlib import Path

from onnx import TensorProto, helper

AGE, INCOME, INTERCEPT = -0.02, -0.00003, 1.5

graph = helper.make_graph(
    [
        helper.make_node("Concat", ["age", "income"], ["numbers"], axis=1),
        helper.make_node(
            "LinearClassifier",
            ["numbers"],
            ["label", "probabilities"],
            domain="ai.onnx.ml",
            classlabels_ints=[0, 1],
            coefficients=[-AGE, -INCOME, AGE, INCOME],
            intercepts=[-INTERCEPT, INTERCEPT],
            post_transform="SOFTMAX",
        ),
    ],
    "loan",
    [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("age", "income")],
    [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ],
)
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
(Path(__file__).parent / "loan" / "model.onnx").write_bytes(model.SerializeToString())
