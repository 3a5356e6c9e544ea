"""Hugging Face folders: each task answers as transformers' own pipeline does, alone and beside others."""

from __future__ import annotations

import base64
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny_transformers import save_model, save_sentence_transformer, save_tokenizer

from model_server.errors import StartError
from model_server.loader import load
from model_server.settings import read_settings

pytest.importorskip("torch", reason="needs modeldeploy[server-transformers]")
transformers = pytest.importorskip("transformers", reason="needs modeldeploy[server-transformers]")

TEXTS = [
    "The train was late again.",
    "I love this city",
    "Anna lives in Rome, and the food in Rome is very good!",
    "bad",
    "Berlin and Paris are nice",
]
# Importing the libraries takes long on a busy machine.
LONG_SECONDS = 100
ENTITIES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    return folder


@pytest.fixture
def loaded(tmp_path):
    """Loads a package as the server does."""

    def run(path, **settings):
        environ = {"MODEL_SERVER_STORAGE_URI": f"file://{path}"} | settings
        return load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)

    return run


def predict(found, rows, *, probabilities=False):
    inputs = found.adapter.from_instances(rows, numbers_only=False)
    return found.model.predict(inputs, probabilities=probabilities)


def pipeline(task, folder, **options):
    return transformers.pipeline(task, model=str(folder), tokenizer=str(folder), device="cpu", **options)


def test_text_classification_answers_as_the_librarys_pipeline_does(loaded, package):
    save_model(package, "BertForSequenceClassification", ("good", "bad", "neither"))
    found = loaded(package)
    assert found.identity.format == "transformers"
    assert found.class_labels == ("good", "bad", "neither")
    outputs = predict(found, TEXTS, probabilities=True)
    own = pipeline("text-classification", package, top_k=None)(TEXTS)
    assert outputs["predict"].tolist() == [scores[0]["label"] for scores in own]
    by_label = [{one["label"]: one["score"] for one in scores} for scores in own]
    wanted = [[scores[label] for label in found.class_labels] for scores in by_label]
    np.testing.assert_allclose(outputs["predict_proba"], wanted, atol=1e-5)
    assert np.ptp(outputs["predict_proba"], axis=0).min() > 1e-3


def test_a_classifier_of_pairs_takes_two_features(loaded, package):
    save_model(package, "BertForSequenceClassification", ("same", "other"))
    features = [{"name": name, "dtype": "string", "example": "good food"} for name in ("question", "answer")]
    (package / "model.yaml").write_text(json.dumps({"input_features": features}))
    outputs = predict(loaded(package), [["bad food", "good city"], ["love", "rome"]], probabilities=True)
    own = pipeline("text-classification", package, top_k=None)(
        [{"text": "bad food", "text_pair": "good city"}, {"text": "love", "text_pair": "rome"}]
    )
    assert outputs["predict"].tolist() == [scores[0]["label"] for scores in own]


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        pytest.param("multi_label_classification", ("a", "b", "c"), id="several labels"),
        pytest.param("regression", ("score",), id="a number"),
        pytest.param(None, ("relevance",), id="one label"),
    ],
)
def test_other_problems_are_rated_as_the_librarys_pipeline_does(loaded, package, problem, labels):
    save_model(package, "BertForSequenceClassification", labels, problem_type=problem)
    outputs = predict(loaded(package), TEXTS, probabilities=True)
    own = pipeline("text-classification", package, top_k=None)(TEXTS)
    if len(labels) == 1:
        np.testing.assert_allclose(outputs["predict"], [scores[0]["score"] for scores in own], atol=1e-5)
        return
    for place, scores in enumerate(own):
        rated = {one["label"]: one["score"] for one in scores}
        np.testing.assert_allclose(outputs["predict_proba"][place], [rated[label] for label in labels], atol=1e-5)
        assert outputs["predict"][place] == [label for label in labels if rated[label] > 0.5]


def test_token_classification_groups_entities_as_the_librarys_pipeline_does(loaded, package):
    save_model(package, "BertForTokenClassification", ENTITIES)
    outputs = predict(loaded(package), TEXTS)
    own = pipeline("token-classification", package, aggregation_strategy="simple")(TEXTS)
    assert sum(map(len, own)) > 3
    for text, found, wanted in zip(TEXTS, outputs["predict"].tolist(), own, strict=True):
        places = [(one["entity_group"], one["start"], one["end"]) for one in found]
        assert places == [(one["entity_group"], one["start"], one["end"]) for one in wanted]
        np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in wanted], atol=1e-5)
        assert all(one["word"] == text[one["start"] : one["end"]] for one in found)


@pytest.mark.parametrize("several", [None, False, True])
@pytest.mark.parametrize("labels", [["travel", "cooking", "politics"], "travel, sport", ["sport"]])
def test_zero_shot_classification_rates_as_the_librarys_pipeline_does(loaded, package, several, labels):
    save_model(package, "BertForSequenceClassification", ("contradiction", "neutral", "entailment"))
    found = loaded(package)
    template = "this is about {}"
    rows = [
        {"text": text, "candidate_labels": labels, "multi_label": several, "hypothesis_template": template}
        for text in TEXTS
    ]
    outputs = predict(found, rows)
    own = pipeline("zero-shot-classification", package)
    for place, text in enumerate(TEXTS):
        wanted = own(text, candidate_labels=labels, multi_label=bool(several), hypothesis_template=template)
        assert outputs["labels"][place] == wanted["labels"]
        np.testing.assert_allclose(outputs["scores"][place], wanted["scores"], atol=1e-5)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        pytest.param({"candidate_labels": []}, "instances[0].candidate_labels", id="no labels"),
        pytest.param({"candidate_labels": [1]}, "instances[0].candidate_labels", id="a number for a label"),
        pytest.param({"candidate_labels": ["a"] * 101}, "instances[0].candidate_labels", id="too many labels"),
        pytest.param({"candidate_labels": "a", "multi_label": "yes"}, "instances[0].multi_label", id="a word"),
        pytest.param(
            {"candidate_labels": "a", "hypothesis_template": "x"}, "instances[0].hypothesis_template", id="no place"
        ),
    ],
)
def test_what_zero_shot_classification_cannot_take_is_refused(zero_shot, row, field):
    answer = zero_shot.client.post("/predict", json={"instances": [{"text": "good", **row}]})
    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == field


@pytest.fixture(scope="module")
def zero_shot(run_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zero-shot")
    save_model(folder, "BertForSequenceClassification", ("contradiction", "neutral", "entailment"))
    with run_server(tmp_path_factory.mktemp("server"), f"file://{folder}") as server:
        yield server.wait_ready(LONG_SECONDS)


def test_zero_shot_classification_is_served_by_every_protocol(zero_shot):
    row = {"text": TEXTS[0], "candidate_labels": "travel, cooking"}
    wanted = zero_shot.client.post("/predict", json={"instances": [row]}).json()["predictions"][0]
    told = zero_shot.client.get("/v2/models/model").json()["inputs"]
    assert {(one["name"], one["datatype"]) for one in told} == {
        (name, "BYTES") for name in ("text", "candidate_labels", "multi_label", "hypothesis_template")
    }
    tensors = [{"name": name, "shape": [1], "datatype": "BYTES", "data": [value]} for name, value in row.items()]
    for more in ([], [{"name": "multi_label", "shape": [1, 1], "datatype": "BYTES", "data": ["false"]}]):
        answer = zero_shot.client.post("/v2/models/model/infer", json={"inputs": [*tensors, *more]})
        assert answer.status_code == 200, answer.text
        outputs = {output["name"]: json.loads(output["data"][0]) for output in answer.json()["outputs"]}
        assert outputs == wanted
    flag = {"name": "multi_label", "shape": [1], "datatype": "BOOL", "data": [True]}
    answer = zero_shot.client.post("/v2/models/model/infer", json={"inputs": [*tensors, flag]})
    assert json.loads(answer.json()["outputs"][1]["data"][0]) != wanted["scores"]


def mean_of(model, tokenizer, text, most=32):
    import torch

    tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=most)
    with torch.inference_mode():
        return model(**tokens).last_hidden_state[0].mean(0).numpy()


def test_embeddings_are_the_mean_of_a_texts_tokens(loaded, package):
    model = save_model(package, "BertModel")
    tokenizer = transformers.AutoTokenizer.from_pretrained(package)
    outputs = predict(loaded(package), TEXTS)
    assert outputs["predict"].dtype == np.float32
    np.testing.assert_allclose(outputs["predict"], [mean_of(model, tokenizer, text) for text in TEXTS], atol=1e-5)


def test_sentence_transformers_own_files_are_read(loaded, package):
    model = save_sentence_transformer(package)
    tokenizer = transformers.AutoTokenizer.from_pretrained(package)
    texts = [*TEXTS, "good " * 40]
    outputs = predict(loaded(package), texts)
    wanted = np.array([mean_of(model, tokenizer, text, most=16) for text in texts])
    np.testing.assert_allclose(outputs["predict"], wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_lasttoken": True},
        {"pooling_mode": "mean"},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_sqrt_len_tokens": True},
    ],
    ids=lambda pooling: " ".join(pooling),
)
@pytest.mark.parametrize("kind", ["embeddings", "classes"])
def test_what_a_row_gives_does_not_depend_on_its_neighbours(loaded, package, pooling, kind):
    if kind == "embeddings":
        save_sentence_transformer(package, normalize=False, **pooling)
    else:
        save_model(package, "BertForSequenceClassification", ("a", "b"))
    found = loaded(package)
    rows = [*TEXTS, "good " * 30, "a", "the food " * 9] * 5
    together = predict(found, rows, probabilities=True)
    for place in range(len(TEXTS) + 3):
        alone = predict(found, [rows[place]], probabilities=True)
        for name, array in alone.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(together[name][place], array[0], atol=1e-5, rtol=0)


def test_requests_that_arrive_together_are_answered_as_each_alone(embedder):
    texts = [*TEXTS, "good " * 14] * 4

    def embed(text):
        return embedder.client.post("/v1/embeddings", json={"input": text}).json()["data"][0]["embedding"]

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(embed, texts))
    np.testing.assert_allclose(together, [embed(text) for text in texts], atol=1e-5)


def test_embeddings_are_served_as_openai_clients_ask_for_them(embedder):
    one = embedder.client.post("/v1/embeddings", json={"input": TEXTS[0], "model": "model"})
    assert one.status_code == 200, one.text
    body = one.json()
    # [CLS] the train was late again . [SEP]
    assert body["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    assert (body["object"], body["model"]) == ("list", "model")
    asked = {"input": TEXTS, "encoding_format": "base64", "dimensions": 16, "user": "anna"}
    several = embedder.client.post("/v1/embeddings", json=asked).json()["data"]
    assert [(item["object"], item["index"]) for item in several] == [("embedding", place) for place in range(5)]
    vectors = [np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in several]
    np.testing.assert_allclose(vectors[0], body["data"][0]["embedding"], atol=1e-5)
    plain = embedder.client.post("/predict", json={"instances": TEXTS}).json()["predictions"]
    np.testing.assert_allclose(vectors, plain, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        pytest.param({}, 422, "input: is missing", id="no input"),
        pytest.param({"input": []}, 422, "at least one row", id="no text"),
        pytest.param({"input": ""}, 422, "got an empty one", id="an empty text"),
        pytest.param({"input": ["a", ""]}, 422, "input[1]: ", id="an empty text among others"),
        pytest.param({"input": [1, 2, 3]}, 422, "vocabulary of another model", id="tokens"),
        pytest.param({"input": [[1, 2], [3]]}, 422, "vocabulary of another model", id="lists of tokens"),
        pytest.param({"input": {"a": 1}}, 422, "got an object", id="an object"),
        pytest.param({"input": [None]}, 422, "got null", id="null"),
        pytest.param({"input": "a", "dimensions": 8}, 422, "dimensions: expected 16", id="other dimensions"),
        pytest.param({"input": "a", "encoding_format": "hex"}, 422, "expected float or base64", id="another format"),
        pytest.param({"input": "a", "texts": 1}, 422, "known are input, model", id="an unknown field"),
        pytest.param({"input": "a", "model": 7}, 422, "model: expected a string", id="a number for a model"),
        pytest.param({"input": "a", "model": "ada"}, 404, "is not served here", id="another model"),
        pytest.param({"input": ["a"] * 10_001}, 413, "input: 10001 rows", id="too many texts"),
        pytest.param([], 400, "expected a JSON object", id="a list"),
    ],
)
def test_what_is_no_request_for_embeddings_is_refused(embedder, body, status, said):
    answer = embedder.client.post("/v1/embeddings", json=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]


@pytest.fixture(scope="module")
def embedder(run_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedder")
    save_sentence_transformer(folder)
    with run_server(tmp_path_factory.mktemp("server"), f"file://{folder}") as server:
        yield server.wait_ready(LONG_SECONDS)


def test_the_document_of_an_embedding_model_has_a_route_whose_examples_work(embedder):
    document = embedder.client.get("/openapi.json").json()
    operation = document["paths"]["/v1/embeddings"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert embedder.client.post("/v1/embeddings", json=example["value"]).status_code == 200
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    first = next(iter(content["examples"].values()))["value"]
    assert embedder.client.post("/v1/embeddings", json=first).json()["usage"] == example["usage"]
    row = document["components"]["schemas"]["Row"]["properties"]["text"]
    assert row["type"] == "string"
    assert "first 16 tokens" in row["description"]


def test_other_models_have_no_route_of_embeddings(serve, package):
    save_model(package, "BertForSequenceClassification", ("good", "bad"))
    server = serve(f"file://{package}").wait_ready(LONG_SECONDS)
    document = server.client.get("/openapi.json").json()
    assert "/v1/embeddings" not in document["paths"]
    assert "openai" not in [tag["name"] for tag in document["tags"]]
    answer = server.client.post("/v1/embeddings", json={"input": "a"})
    assert (answer.status_code, answer.json()["error"]) == (404, "this model gives no embeddings")


def test_a_checkpoint_beside_other_frameworks_weights_is_found(loaded, package):
    save_model(package, "BertForSequenceClassification", ("good", "bad"))
    for name in ("tf_model.h5", "model.onnx", "optimizer.pt", "rng_state.pth", "training_args.bin"):
        (package / name).write_bytes(b"PK")
    assert loaded(package).identity.format == "transformers"


def without(name):
    return lambda folder: (folder / name).unlink()


def overwrite(name, text):
    return lambda folder: (folder / name).write_text(text)


def change_config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def add_head(folder):
    (folder / "model_head.joblib").write_bytes(b"\x80\x05")


@pytest.mark.parametrize(
    ("damage", "reason", "said"),
    [
        pytest.param(without("config.json"), "FormatUnknown", "config.json with *.safetensors", id="no config"),
        pytest.param(without("tokenizer.json"), "LoadFailed", "the tokenizer", id="no tokenizer"),
        pytest.param(overwrite("config.json", "{"), "ArtifactCorrupt", "config.json is not JSON", id="half a config"),
        pytest.param(overwrite("config.json", "[]"), "ArtifactCorrupt", "is not an object", id="a list for a config"),
        pytest.param(overwrite("config.json", "{}"), "LoadFailed", "has no model_type", id="another library's config"),
        pytest.param(change_config(model_type="bart9000"), "LoadFailed", "bart9000", id="an unknown family"),
        pytest.param(
            change_config(architectures=["BertForMaskedLM"]), "LoadFailed", "feature-extraction", id="another task"
        ),
        pytest.param(change_config(architectures=None), "LoadFailed", "no architecture", id="no architecture"),
        pytest.param(
            change_config(architectures=["BertForTokenClassification"], num_hidden_layers=3),
            "LoadFailed",
            "the weights lack",
            id="weights that are not all there",
        ),
        pytest.param(cut_weights, "ArtifactCorrupt", "the weights cannot be read", id="half the weights"),
        pytest.param(overwrite("model.yaml", "task: chat"), "LoadFailed", "'chat'", id="a task nobody serves"),
        pytest.param(
            overwrite("model.yaml", "task: zero-shot-classification"), "LoadFailed", "entailment", id="no entailment"
        ),
        pytest.param(
            overwrite("model.yaml", "format: transformers\nartifacts: [model.safetensors]"),
            "FormatMismatch",
            "is a folder",
            id="artifacts",
        ),
        pytest.param(
            overwrite("model.yaml", "input_features: [{name: age}]"), "MetadataInvalid", "dtype string", id="a number"
        ),
        pytest.param(
            overwrite("model.yaml", "input_features: [" + ", ".join(f"{{name: {n}}}" for n in "abc") + "]"),
            "MetadataInvalid",
            "the task takes 2",
            id="three features",
        ),
        pytest.param(
            change_config(auto_map={"AutoModel": "modeling.Own"}), "ArtifactNotTrusted", "modeling.Own", id="own code"
        ),
        pytest.param(add_head, "FormatAmbiguous", "model_head.joblib (sklearn)", id="a head of scikit-learn"),
    ],
)
def test_a_folder_that_cannot_be_served_says_why(loaded, package, damage, reason, said):
    save_model(package, "BertForSequenceClassification", ("good", "bad"))
    damage(package)
    with pytest.raises(StartError) as caught:
        loaded(package)
    assert caught.value.reason == reason, caught.value
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint


OWN_CODE = """
from transformers import BertForSequenceClassification


class Own(BertForSequenceClassification):
    def forward(self, *args, **kwargs):
        answer = super().forward(*args, **kwargs)
        answer.logits = answer.logits * 0 + 1
        return answer
"""


def test_code_of_the_package_is_run_where_it_is_trusted(loaded, package, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    save_model(package, "BertForSequenceClassification", ("good", "bad"))
    change_config(auto_map={"AutoModelForSequenceClassification": "modeling.Own"})(package)
    (package / "modeling.py").write_text(OWN_CODE)
    outputs = predict(loaded(package, MODEL_SERVER_TRUSTED="true"), TEXTS, probabilities=True)
    np.testing.assert_allclose(outputs["predict_proba"], 0.5)


def test_code_of_another_repository_is_never_fetched(loaded, package):
    save_model(package, "BertForSequenceClassification", ("good", "bad"))
    change_config(auto_map={"AutoModelForSequenceClassification": "owner/repo--modeling.Own"})(package)
    with pytest.raises(StartError, match="code of another repository"):
        loaded(package, MODEL_SERVER_TRUSTED="true")


@pytest.mark.parametrize(
    ("pooling", "said"),
    [
        pytest.param({"pooling_mode_weightedmean_tokens": True}, "weightedmean", id="another mode"),
        pytest.param({"pooling_mode_mean_tokens": False}, "has no mode", id="no mode"),
        pytest.param({"pooling_mode_mean_tokens": True, "include_prompt": False}, "the prompt", id="no prompt"),
    ],
)
def test_a_pooling_that_is_not_served_is_refused(loaded, package, pooling, said):
    save_sentence_transformer(package, **pooling)
    with pytest.raises(StartError, match=said) as caught:
        loaded(package)
    assert caught.value.reason == "LoadFailed"


def test_a_dense_layer_behind_the_pooling_is_refused(loaded, package):
    save_sentence_transformer(package)
    modules = json.loads((package / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.Dense"
    (package / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(StartError, match="Transformer, Pooling, Dense"):
        loaded(package)


def test_the_prompt_of_a_sentence_transformer_is_put_in_front(loaded, package):
    save_sentence_transformer(package)
    plain = predict(loaded(package), ["love " + text for text in TEXTS])["predict"]
    prompts = {"prompts": {"query": "love ", "document": ""}, "default_prompt_name": "query"}
    (package / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    np.testing.assert_allclose(predict(loaded(package), TEXTS)["predict"], plain, atol=1e-6)


def test_a_masked_language_model_gives_embeddings_when_it_is_asked_to(loaded, package):
    model = save_model(package, "BertForMaskedLM")
    (package / "model.yaml").write_text("task: feature-extraction\n")
    tokenizer = transformers.AutoTokenizer.from_pretrained(package)
    wanted = [mean_of(model.bert, tokenizer, text) for text in TEXTS]
    np.testing.assert_allclose(predict(loaded(package), TEXTS)["predict"], wanted, atol=1e-5)


def test_a_model_without_a_token_for_padding_is_called_a_row_at_a_time(loaded, package):
    import torch

    tokenizer = save_tokenizer(package)
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=32, num_labels=3, initializer_range=0.5
    )
    transformers.GPT2ForSequenceClassification(config).save_pretrained(package)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (package / name).exists():
            told = json.loads((package / name).read_text())
            told.pop("pad_token", None)
            told["model_input_names"] = ["input_ids", "attention_mask"]
            (package / name).write_text(json.dumps(told))
    found = loaded(package)
    together = predict(found, TEXTS, probabilities=True)["predict_proba"]
    alone = [predict(found, [text], probabilities=True)["predict_proba"][0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_texts_end_beyond_the_models_length_is_not_read(loaded, package):
    save_model(package, "BertForSequenceClassification", ("good", "bad"))
    found = loaded(package)
    long, longer = "food " * 30, "food " * 30 + "bad " * 5000
    both = predict(found, [long, longer], probabilities=True)["predict_proba"]
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("food bad " * 200, id="many words"),
        pytest.param("food " + " " * 5_000 + "bad good " * 50, id="blanks"),
        pytest.param("food " + "x" * 700 + " bad " * 50, id="a long word where the first begin ends"),
        pytest.param(" " * 600 + "good", id="a word behind blanks"),
    ],
)
def test_the_begin_of_a_long_text_has_the_tokens_of_the_whole(loaded, package, text):
    save_model(package, "BertForSequenceClassification", ("good", "bad"))
    own = pipeline("text-classification", package, top_k=None)([text, TEXTS[1]], truncation=True)
    found = loaded(package)
    rated = predict(found, [text, TEXTS[1]], probabilities=True)["predict_proba"]
    wanted = [[{one["label"]: one["score"] for one in scores}[label] for label in found.class_labels] for scores in own]
    np.testing.assert_allclose(rated, wanted, atol=1e-5)


def test_shards_are_read(loaded, package):
    model = save_model(package, "BertForSequenceClassification", ("good", "bad"))
    wanted = predict(loaded(package), TEXTS, probabilities=True)["predict_proba"]
    (package / "model.safetensors").unlink()
    model.save_pretrained(package, max_shard_size="5KB")
    assert len(list(package.glob("*.safetensors"))) > 1
    np.testing.assert_allclose(predict(loaded(package), TEXTS, probabilities=True)["predict_proba"], wanted, atol=1e-6)


def test_an_archive_of_the_folder_is_served(loaded, package, tmp_path):
    save_model(package, "BertForSequenceClassification", ("good", "bad"))
    archive = shutil.make_archive(str(tmp_path / "model"), "gztar", package)
    assert loaded(archive).identity.format == "transformers"
