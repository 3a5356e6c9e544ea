"""Formats whose libraries are large: run where they are installed, with models really trained here."""

from __future__ import annotations

import os
import warnings
import zipfile

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression

from model_server.domain.numbers import Numbers
from model_server.errors import PredictionError, StartError
from model_server.loader import load
from model_server.settings import read_settings

WINE = load_wine()
ROWS = ((WINE.data - WINE.data.mean(0)) / WINE.data.std(0)).astype(np.float32)
FEATURES = "input_features:\n" + "".join(f"- {{name: x{index}, example: 0.5}}\n" for index in range(13))


# PyTorch points to torch.export by warnings; its older form is what many people have.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning", "ignore:__array__ implementation:DeprecationWarning:keras"
)


@pytest.fixture
def loaded(tmp_path):
    """Loads a package as the server does."""

    def run(path, **settings):
        environ = {"MODEL_SERVER_STORAGE_URI": f"file://{path}", "MODEL_SERVER_TRUSTED": "true"} | settings
        return load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)

    return run


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    return folder


def predict(found):
    return found.model.predict(found.adapter.from_instances(ROWS.tolist(), numbers_only=True), probabilities=False)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs modeldeploy[server-torch]")


@pytest.fixture
def network(torch):
    """A classifier of wines, trained for a moment."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(13, 8), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(8, 3))
    rows, labels = torch.tensor(ROWS), torch.tensor(WINE.target)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(rows), labels).backward()
        optimizer.step()
    return module


def answers(torch, network):
    with torch.inference_mode():
        return network.eval()(torch.tensor(ROWS)).numpy()


def save_script(torch, module, path):
    """PyTorch asks for `torch.export` by now; the files that people have are still read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated")
        torch.jit.script(module).save(path)


def test_a_torchscript_module_saved_in_training_mode_predicts_like_the_trained_one(loaded, package, torch, network):
    save_script(torch, network.train(), package / "model.pt")
    (package / "model.yaml").write_text(FEATURES)
    found = loaded(package)
    assert found.identity.format == "torchscript"
    scores = predict(found)["predict"]
    np.testing.assert_allclose(scores, answers(torch, network), rtol=1e-5, atol=1e-6)
    assert (scores.argmax(1) == WINE.target).mean() > 0.95


def test_a_torchscript_module_is_given_whole_numbers_in_its_own_type(loaded, package, torch, network):
    save_script(torch, network.half(), package / "model.pt")
    found = loaded(package)
    whole, broken = (np.array([[n] * 13], dtype) for n, dtype in ((1, np.int64), (1.0, np.float64)))
    for rows in (whole, broken, whole):
        (scores,) = found.model.predict({"inputs": rows}, probabilities=False).values()
        assert scores.dtype == np.float16
    with pytest.raises(RuntimeError):
        found.model.predict({"inputs": whole[:, :5]}, probabilities=False)


def test_a_torchscript_module_keeps_tokens_whole_and_takes_a_dictionary(loaded, package, torch):
    class Bag(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.EmbeddingBag(100, 2).to(torch.bfloat16)

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.words(batch["tokens"])

    bag = Bag()
    save_script(torch, bag, package / "model.pt")
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    found = loaded(package).model.predict({"tokens": tokens}, probabilities=False)
    with torch.inference_mode():
        np.testing.assert_allclose(found["predict"], bag({"tokens": torch.tensor(tokens)}).float().numpy())


def test_an_output_that_is_no_tensor_is_named(loaded, package, torch):
    class Nested(torch.nn.Module):
        def forward(self, x):
            return x, [x, x]

    save_script(torch, Nested(), package / "model.pt")
    with pytest.raises(PredictionError, match="output-1 is a list"):
        loaded(package).model.predict({"inputs": np.ones((1, 2))}, probabilities=False)


def test_a_program_of_torch_export_knows_its_inputs(loaded, package, torch, network):
    rows = torch.export.Dim("rows")
    program = torch.export.export(network.eval(), (torch.zeros(2, 13),), dynamic_shapes=({0: rows},))
    torch.export.save(program, package / "model.pt2")
    found = loaded(package)
    assert len(found.adapter.features) == 13
    np.testing.assert_allclose(predict(found)["predict"], answers(torch, network), rtol=1e-5, atol=1e-6)


def save_weights(torch, network, folder):
    torch.save(network.state_dict(), folder / "model.pt")


def save_one_row(torch, network, folder):
    torch.export.save(torch.export.export(network.eval(), (torch.zeros(1, 13),)), folder / "model.pt2")


def save_texts(torch, network, folder):
    class Lengths(torch.nn.Module):
        def forward(self, texts: list[str]):
            return torch.tensor([float(len(text)) for text in texts])

    save_script(torch, Lengths(), folder / "model.pt")


def save_bfloat16(torch, network, folder):
    rows, free = torch.zeros(2, 13, dtype=torch.bfloat16), ({0: torch.export.Dim("rows")},)
    program = torch.export.export(network.to(torch.bfloat16).eval(), (rows,), dynamic_shapes=free)
    torch.export.save(program, folder / "model.pt2")


def save_half(torch, network, folder):
    save_script(torch, network, folder / "model.pt")
    (folder / "model.pt").write_bytes((folder / "model.pt").read_bytes()[:500])


def save_no_program(torch, network, folder):
    with zipfile.ZipFile(folder / "model.pt2", "w") as archive:
        archive.writestr("model/archive_format", "pt2")


@pytest.mark.parametrize(
    ("save", "reason", "message"),
    [
        pytest.param(save_weights, "LoadFailed", "holds weights", id="weights without code"),
        pytest.param(save_one_row, "LoadFailed", "takes 1 rows and no other number", id="a program for one row"),
        pytest.param(save_texts, "LoadFailed", r"takes texts as List\[str\]", id="a module for texts"),
        pytest.param(save_bfloat16, "LoadFailed", "which this server cannot send", id="a program for bfloat16"),
        pytest.param(save_half, "ArtifactCorrupt", "no PyTorch archive", id="half a file"),
        pytest.param(save_no_program, "LoadFailed", "cannot be loaded", id="an archive without a program"),
    ],
)
def test_a_file_that_is_no_pytorch_model_is_told_by_its_reason(loaded, package, torch, network, save, reason, message):
    save(torch, network, package)
    with pytest.raises(StartError, match=message) as caught:
        loaded(package)
    assert caught.value.reason == reason
    assert caught.value.hint


@pytest.fixture
def keras(monkeypatch):
    pytest.importorskip("torch", reason="needs modeldeploy[server-keras]")
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    return pytest.importorskip("keras", reason="needs modeldeploy[server-keras]")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_keras_model_predicts_like_the_trained_one(loaded, package, keras, suffix):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((13,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(ROWS, WINE.target, epochs=30, verbose=0)
    model.save(package / f"model.{suffix}")
    found = loaded(package)
    assert found.identity.format == "keras"
    assert len(found.adapter.features) == 13
    scores = predict(found)["predict"]
    np.testing.assert_allclose(scores, model.predict(ROWS, verbose=0), rtol=1e-5, atol=1e-6)
    assert (scores.argmax(1) == WINE.target).mean() > 0.8


def test_a_keras_model_gets_its_inputs_as_it_was_made(loaded, package, keras):
    left, right = keras.Input((2,), name="left"), keras.Input((1,), name="right")
    answer = keras.layers.Concatenate()([right, left])
    keras.Model({"right": right, "left": left}, [answer, left]).save(package / "model.keras")
    found = loaded(package)
    given = found.adapter.from_instances([{"left": [1, 2], "right": [3]}], numbers_only=True)
    outputs = found.model.predict(given, probabilities=False)
    assert [value.tolist() for value in outputs.values()] == [[[3, 1, 2]], [[1, 2]]]


def test_weights_of_keras_without_a_model_are_told(loaded, package, keras):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).save_weights(package / "model.weights.h5")
    with pytest.raises(StartError, match="holds weights") as caught:
        loaded(package)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        pytest.param([("Dense", 1, "sigmoid")], Numbers("probabilities", 1), id="a sigmoid"),
        pytest.param([("Dense", 3, "softmax")], Numbers("probabilities", 3), id="a softmax"),
        pytest.param([("Dense", 3), ("Softmax",)], Numbers("probabilities", 3), id="a softmax of its own"),
        pytest.param([("Dense", 3, "sigmoid")], Numbers("scores", 3), id="several sigmoids"),
        pytest.param([("Dense", 1)], Numbers("unknown", 1), id="a number"),
        pytest.param([("Dense", 6), ("Reshape", (2, 3))], None, id="a matrix"),
    ],
)
def test_the_last_layer_of_a_keras_model_says_what_its_answer_is(loaded, package, keras, layers, kind):
    last = [getattr(keras.layers, name)(*given) for name, *given in layers]
    keras.Sequential([keras.Input((13,)), *last]).save(package / "model.keras")
    assert loaded(package).model.numbers == kind


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param({"model.keras": b"PK\x03\x04"}, "ArtifactCorrupt", id="half a .keras file"),
        pytest.param({"model.h5": b"\x89HDF\r\n\x1a\n"}, "ArtifactCorrupt", id="half an .h5 file"),
    ],
)
def test_a_file_that_is_no_keras_model_is_told_by_its_reason(loaded, package, keras, content, reason):
    for name, data in content.items():
        (package / name).write_bytes(data)
    with pytest.raises(StartError) as caught:
        loaded(package)
    assert caught.value.reason == reason


def pmml_of(model):
    """A logistic regression in PMML's words, as exporters write it."""
    fields = "".join(f'<DataField name="x{i}" optype="continuous" dataType="double"/>' for i in range(13))
    used = "".join(f'<MiningField name="x{i}"/>' for i in range(13))
    values = "".join(f'<Value value="{label}"/>' for label in WINE.target_names)
    tables = "\n".join(
        f'<RegressionTable targetCategory="{label}" intercept="{intercept!r}">'
        + "".join(f'<NumericPredictor name="x{i}" coefficient="{one!r}"/>' for i, one in enumerate(weights))
        + "</RegressionTable>"
        for label, intercept, weights in zip(
            WINE.target_names, model.intercept_.tolist(), model.coef_.tolist(), strict=True
        )
    )
    return f"""<?xml version="1.0"?>
<PMML xmlns="http://www.dmg.org/PMML-4_3" version="4.3"><Header/>
<DataDictionary>{fields}<DataField name="kind" optype="categorical" dataType="string">{values}</DataField>
</DataDictionary>
<RegressionModel functionName="classification" normalizationMethod="softmax">
<MiningSchema>{used}<MiningField name="kind" usageType="target"/></MiningSchema>
{tables}
</RegressionModel></PMML>
"""


@pytest.fixture
def pmml():
    return pytest.importorskip("sklearn_pmml_model", reason="needs modeldeploy[server-pmml]")


def test_a_pmml_model_needs_no_trust_and_predicts_like_the_one_it_was_written_from(loaded, package, pmml):
    model = LogisticRegression().fit(ROWS, WINE.target_names[WINE.target])
    (package / "model.pmml").write_text(pmml_of(model))
    found = loaded(package, MODEL_SERVER_TRUSTED="false")
    assert [feature.name for feature in found.adapter.features] == [f"x{index}" for index in range(13)]
    outputs = found.model.predict(found.adapter.from_instances(ROWS.tolist(), numbers_only=True), probabilities=True)
    assert outputs["predict"].tolist() == model.predict(ROWS).tolist()
    np.testing.assert_allclose(outputs["predict_proba"], model.predict_proba(ROWS), rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("<PMML", "ArtifactCorrupt", id="half a document"),
        pytest.param("<PMML><Header/></PMML>", "LoadFailed", id="a document without a model"),
        pytest.param(
            "<PMML><DataDictionary><DataField name='a'/></DataDictionary><ClusteringModel/></PMML>",
            "LoadFailed",
            id="a model nobody here knows",
        ),
    ],
)
def test_a_file_that_is_no_pmml_model_is_told_by_its_reason(loaded, package, pmml, text, reason):
    (package / "model.pmml").write_text(text)
    with pytest.raises(StartError) as caught:
        loaded(package)
    assert caught.value.reason == reason
