"""What `modeldeploy package` writes is what the model server reads: digest, model.yaml, profile, place."""

import csv
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import http_servers
import joblib
import lightgbm
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from free_ports import free_port
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from typer.testing import CliRunner

from model_server.errors import SignatureMismatch
from model_server.loader import load
from model_server.monitoring.data_quality import DataQuality, limits_by_problem
from model_server.monitoring.drift import Bins
from model_server.package.digest import digest
from model_server.package.metadata import read_metadata
from model_server.settings import read_settings
from model_server.telemetry import Telemetry
from modeldeploy.app import build
from modeldeploy.package.calibrating import write
from modeldeploy.package.selected import dropped_names
from modeldeploy.requests import Refused

WINE = load_wine()
NAMES = [name.replace("/", "_") for name in WINE.feature_names]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package with a trained model alone."""
    folder = tmp_path / "wine"
    folder.mkdir()
    parameters = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    data = lightgbm.Dataset(WINE.data, WINE.target, feature_name=NAMES)
    lightgbm.train(parameters, data, 5).save_model(folder / "model.txt")
    return folder


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "wine.csv"
    with path.open("w", newline="") as file:
        # In another order than the model's, with the label among them.
        writer = csv.writer(file)
        writer.writerow(["kind", *reversed(NAMES)])
        writer.writerows([label, *reversed(row)] for row, label in zip(WINE.data.tolist(), WINE.target, strict=True))
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a classifier of digits, its training data, and labelled rows that it has not seen."""
    tmp_path = tmp_path_factory.mktemp("digits")
    data = load_digits()
    labels = (data.target < 5).astype(int)
    names = [f"p{place}" for place in range(64)]
    (tmp_path / "model").mkdir()
    model = GaussianNB().fit(data.data[:600], labels[:600])
    joblib.dump(model, tmp_path / "model" / "model.joblib")
    for name, part in (("train", slice(0, 600)), ("holdout", slice(600, 1200)), ("few", slice(600, 700))):
        rows = np.column_stack([data.data[part], labels[part]]).astype(int)
        np.savetxt(tmp_path / f"{name}.csv", rows, "%d", ",", header=",".join([*names, "small"]), comments="")
    return tmp_path


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(build(), ["package", *map(str, arguments)])
    if isinstance(result.exception, Refused):
        raise result.exception
    assert result.exit_code == 0, result.output
    model: dict[str, Any] = yaml.safe_load(result.stdout)["model"]
    return model


def test_a_sample_makes_a_package_that_the_server_loads_by_its_pin(tmp_path: Path, folder: Path, sample: Path) -> None:
    said = run(
        folder, "--sample", sample, "--target", "kind", "--version", "7", "--upload", f"file://{tmp_path}/models/wine/7"
    )
    environ = {"MODEL_SERVER_STORAGE_URI": said["storageUri"], "MODEL_SERVER_SHA256": said["sha256"]}
    found = load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)
    assert (found.identity.version, found.metadata.name) == ("7", "wine")
    assert [feature.name for feature in found.adapter.features] == NAMES
    for index, name in enumerate(NAMES):
        reference = found.metadata.reference_profile[name]
        assert reference.counts is not None
        assert reference.edges is not None
        bins = Bins(counts=reference.counts, edges=reference.edges)
        assert bins.count(WINE.data[:, index]).tolist() == list(reference.counts)


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(["age", "spend"], id="names"),
        pytest.param([0, 2], id="numbers"),
        pytest.param([True, False, True, False, False], id="a mask"),
        pytest.param(make_column_selector(dtype_include="float"), id="a selector"),
    ],
)
def test_a_column_that_the_pipeline_drops_may_be_left_out_of_requests(tmp_path: Path, chosen: Any) -> None:
    table = pd.DataFrame(
        {"age": [31.0, 44, 27, 65], "city": list("abca"), "spend": [1.5, 2, 0, 9], "id": [7, 8, 9, 10]}
    )
    table["plan"] = ["x", "y", "x", "y"]
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), chosen), ("plan", OneHotEncoder(), ["plan"]), ("not", "drop", ["city"])]
    )
    folder = tmp_path / "model"
    folder.mkdir()
    model = make_pipeline(columns, LogisticRegression()).fit(table, [0, 1, 0, 1])
    joblib.dump(model, folder / "model.joblib")
    sample = tmp_path / "sample.csv"
    table.drop(columns="id").to_csv(sample, index=False)
    said = run(folder, "--sample", sample, "--trusted", "--ranges")
    metadata = read_metadata(folder / "model.yaml")
    assert [(one.name, one.is_optional) for one in metadata.input_features] == [
        ("age", False),
        ("city", True),
        ("spend", False),
        ("id", True),
        ("plan", False),
    ]
    assert not metadata.reference_profile.keys() & {"city", "id"}

    environ = {"MODEL_SERVER_STORAGE_URI": f"file://{folder}", "MODEL_SERVER_SHA256": said["sha256"]}
    found = load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)
    assert found.adapter.example() is not None
    rows = [{"age": 31, "spend": 1.5, "plan": "x"}, {"age": 65, "city": 5, "spend": 9, "id": "?", "plan": "y"}]
    outputs = found.model.predict(found.adapter.from_instances(rows, numbers_only=False), probabilities=False)
    assert outputs["predict"].tolist() == [0, 1]


def test_what_a_pipeline_passes_through_or_another_class_selects_is_not_dropped() -> None:
    table = pd.DataFrame({"age": [31.0, 44], "spend": [1.5, 2]})
    scaled = [("age", StandardScaler(), ["age"])]
    assert dropped_names(ColumnTransformer(scaled).fit(table)) == ["spend"]
    assert dropped_names(ColumnTransformer(scaled, remainder="passthrough").fit(table)) == []
    unnamed = ColumnTransformer([("age", StandardScaler(), [0])]).fit(table.to_numpy())
    assert dropped_names(unnamed) == (), "an array must have all columns"

    class Selecting(ColumnTransformer):  # type: ignore[misc]
        """May look at all columns."""

    assert dropped_names(Selecting(scaled).fit(table)) == ()


@pytest.mark.parametrize(
    ("correlation", "tail"),
    [
        pytest.param(0.0, lambda rows: rows, id="independent"),
        pytest.param(0.8, lambda rows: rows, id="one cause"),
        pytest.param(0.5, np.exp, id="one cause and long tails"),
    ],
)
def test_one_in_a_thousand_rows_like_those_of_the_sample_is_an_outlier(
    folder: Path, tmp_path: Path, correlation: float, tail: Callable[[Any], Any]
) -> None:
    random = np.random.default_rng(4)
    cause, own = random.normal(size=(12_000, 1)), random.normal(size=(12_000, len(NAMES)))
    rows = tail(np.sqrt(correlation) * cause + np.sqrt(1 - correlation) * own)
    sample = tmp_path / "made-up.csv"
    np.savetxt(sample, rows[:4_000], delimiter=",", header=",".join(NAMES), comments="")
    run(folder, "--sample", sample)
    metadata = read_metadata(folder / "model.yaml")
    assert metadata.reference_correlation == pytest.approx(correlation, abs=0.05)
    telemetry = Telemetry()
    quality = DataQuality(metadata.input_features, metadata, limits_by_problem(0.05), telemetry)
    quality.update([{"inputs": row[None]} for row in rows[4_000:]])
    page = telemetry.render().decode()
    (outliers,) = re.findall(r"^modeldeploy_outlier_rows_total\{.*\} (\S+)", page, re.MULTILINE)
    assert 0 < float(outliers) / 8_000 < 0.004


def test_both_digests_are_what_a_shell_computes(tmp_path: Path, folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("sub/ä.bin", "sub/b", "Z", "a b", "日本", "😀"):
        (folder / name).write_bytes(name.encode())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked").write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    shell = r"find -L . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
    printed = subprocess.run(["sh", "-c", shell], cwd=folder, capture_output=True, text=True, check=True).stdout[:64]
    assert run(folder)["sha256"] == digest(folder) == printed


PRE = "def transform(inputs):\n    return [[float(word) for word in text.split()] for text in inputs['text']]\n"


def test_the_sample_of_a_package_with_a_step_describes_what_goes_into_it(tmp_path: Path, folder: Path) -> None:
    (folder / "pre.py").write_text(PRE)
    rows = [[" ".join(map(str, row)), label] for row, label in zip(WINE.data.tolist(), WINE.target, strict=True)]
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "kind"], *rows])
    pinned = run(folder, "--sample", tmp_path / "texts.csv", "--target", "kind")
    environ = {"MODEL_SERVER_STORAGE_URI": folder.as_uri(), "MODEL_SERVER_SHA256": pinned["sha256"]}
    loaded = load(read_settings(environ), tmp_path, environ=environ, report=lambda phase, text: None)
    assert [(feature.name, feature.dtype) for feature in loaded.adapter.features] == [("text", "string")]
    inputs = loaded.adapter.from_instances([row[0] for row in rows], numbers_only=False)
    answers = loaded.model.predict(inputs, probabilities=False)["predict"]
    assert np.mean(answers.argmax(axis=1) == WINE.target) > 0.7


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param("pre.py", "def tranform(inputs): ...", "has no function transform", id="another name"),
        pytest.param("post.py", "def transform(", "is no Python", id="half a function"),
    ],
)
def test_a_step_that_no_server_loads_is_refused(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(Refused, match=message):
        run(folder)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("transform = str.upper", id="a name"),
        pytest.param("from numpy import cumsum as transform", id="an import"),
        pytest.param("try:\n    import fast\nexcept ImportError: ...", id="what only running it tells"),
    ],
)
def test_a_step_may_be_defined_in_any_way(folder: Path, text: str) -> None:
    (folder / "post.py").write_text(text)
    assert run(folder)["sha256"]


def test_ranges_become_rules_of_the_server(folder: Path, sample: Path) -> None:
    run(folder, "--sample", sample, "--target", "kind", "--ranges")
    features = read_metadata(folder / "model.yaml").input_features
    assert np.allclose(np.array([one.range for one in features]), np.column_stack([WINE.data.min(0), WINE.data.max(0)]))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        pytest.param("a,b\n1,2\n", ["--target", "c"], "no column 'c'; it has a, b", id="no such target"),
        pytest.param("a,b\n1,2\n", [], "trained with 'alcohol', and the sample has a, b", id="not the model's columns"),
        pytest.param("a,b\n1\n", [], "line 2: 1 cells for 2 columns", id="a short line"),
        pytest.param("a,a\n1,2\n", [], "each once", id="a name twice"),
        pytest.param("a,b\n", [], "has no rows", id="no rows"),
        pytest.param("", [], "must name every column", id="an empty file"),
        pytest.param("a;b\n1;2\n", [], "separated by ';': write it with commas", id="semicolons"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(
    tmp_path: Path, folder: Path, content: str, options: list[str], message: str
) -> None:
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(Refused, match=message):
        run(folder, "--sample", tmp_path / "s.csv", *options)
    assert not (folder / "model.yaml").exists()


@pytest.mark.parametrize(
    "options", [["--target", "kind"], ["--version", "7"], ["--name", "x"], ["--ranges"], ["--trusted"]]
)
def test_what_only_a_sample_would_write_is_not_ignored(folder: Path, options: list[str]) -> None:
    result = CliRunner().invoke(build(), ["package", str(folder), *options])
    assert result.exit_code == 2
    assert f"{options[0]} says what is written into model.yaml" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        pytest.param(
            "model.joblib", "model.joblib was not read, which runs its code (add --trusted for that)", id="pickle"
        ),
        pytest.param("model.onnx", "the model's file does not tell its inputs", id="any other file"),
    ],
)
def test_columns_that_nobody_vouched_for_are_named(tmp_path: Path, sample: Path, file: str, reason: str) -> None:
    folder = tmp_path / "unknown"
    folder.mkdir()
    (folder / file).write_bytes(b"a model")
    result = CliRunner().invoke(build(), ["package", str(folder), "--sample", str(sample)])
    assert f"{reason}: taken are all columns of the sample" in result.stderr
    assert "--target leaves out the one that is predicted" in result.stderr
    assert f"kind, {NAMES[-1]}, " in result.stderr


def test_what_is_there_is_not_written_over_without_a_word(tmp_path: Path, folder: Path, sample: Path) -> None:
    place = f"file://{tmp_path}/there"
    first = run(folder, "--sample", sample, "--upload", place)
    with pytest.raises(Refused, match="exists: leave --sample out"):
        run(folder, "--sample", sample)
    with pytest.raises(Refused, match="holds 2 files already"):
        run(folder, "--upload", place)
    (folder / "model.yaml").unlink()
    second = run(folder, "--upload", place, "--force")
    assert first["sha256"] != second["sha256"] == digest(tmp_path / "there")


@pytest.mark.parametrize("place", ["https://host/x", "s3://bucket", "az://account/container", "/models"])
def test_a_place_that_cannot_be_written_to_is_refused(folder: Path, place: str) -> None:
    with pytest.raises(Refused, match="no place to upload to; known are s3://"):
        run(folder, "--upload", place)


class NoIdentity(http_servers.Handler):
    """The machine of no cloud: it has no identity to give, and a storage there refuses."""

    def do_PUT(self) -> None:
        self.answer(status=404)

    def do_GET(self) -> None:
        self.answer(status=404 if "meta-data" in self.path else 403)


def test_an_upload_without_credentials_says_what_to_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    with http_servers.served(NoIdentity) as address:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://{address}")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        with pytest.raises(Refused, match="there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            run(folder, "--upload", "s3://models/wine/7")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        with pytest.raises(Refused, match=r"refused the credentials; check AWS_ACCESS_KEY_ID .* list and write there"):
            run(folder, "--upload", "s3://models/wine/7")


class TestHoldout:
    """`--holdout` measures what the probabilities mean, with the server's own predictions."""

    def package(self, digits: Path, *options: object) -> dict[str, Any]:
        said = ["--sample", digits / "train.csv", "--target", "small", "--trusted", "--force"]
        return run(digits / "model", *said, *options)

    def test_the_server_reads_the_calibration_and_corrects_what_the_model_is_too_sure_of(self, digits: Path) -> None:
        self.package(digits, "--holdout", digits / "holdout.csv")
        found = read_metadata(digits / "model" / "model.yaml").calibration
        assert found is not None
        assert (found.rows, found.classes, len(found.tables)) == (600, (0, 1), 2)
        assert found.error < 0.06 < 0.1 < found.raw_error

    def test_it_is_written_beside_what_somebody_wrote(self, tmp_path: Path) -> None:
        path = tmp_path / "model.yaml"
        path.write_text("name: digits  # by hand")
        write(path, {"rows": 300}, replace=False)
        assert path.read_text() == "name: digits  # by hand\ncalibration: {rows: 300}\n"
        with pytest.raises(Refused, match="has a calibration: measure it again with --force"):
            write(path, {"rows": 400}, replace=False)
        write(path, {"rows": 400}, replace=True)
        assert yaml.safe_load(path.read_text()) == {"name": "digits", "calibration": {"rows": 400}}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param(["--holdout", "few.csv"], "has 100 rows, and a calibration needs 200", id="few rows"),
            pytest.param(["--holdout", "none.csv"], "none.csv is no file", id="no such file"),
        ],
    )
    def test_rows_that_say_nothing_are_refused(self, digits: Path, options: list[str], message: str) -> None:
        with pytest.raises(Refused, match=message):
            self.package(digits, options[0], digits / options[1])

    def test_a_model_that_runs_code_has_to_be_trusted(self, digits: Path) -> None:
        with pytest.raises(Refused, match="runs code when it is loaded: add --trusted"):
            run(digits / "model", "--holdout", digits / "holdout.csv", "--target", "small", "--force")

    def test_a_model_of_numbers_has_no_calibration(self, digits: Path) -> None:
        folder = digits / "numbers"
        folder.mkdir()
        joblib.dump(LinearRegression().fit(np.eye(64), np.ones(64)), folder / "model.joblib")
        with pytest.raises(Refused, match=r"the model answers numbers\. Of a classifier, list the classes"):
            run(folder, "--holdout", digits / "holdout.csv", "--target", "small", "--trusted")

    def test_labels_need_the_name_of_their_column(self, digits: Path) -> None:
        result = CliRunner().invoke(build(), ["package", str(digits / "model"), "--holdout", str(digits / "few.csv")])
        assert result.exit_code == 2
        assert "--holdout needs --target COLUMN" in " ".join(result.output.replace("│", " ").split())


class TestSigning:
    """`--sign` writes what `spec.model.signature` asks for."""

    @pytest.fixture
    def key(self, tmp_path: Path) -> Path:
        private = ec.generate_private_key(ec.SECP256R1())
        path = tmp_path / "model.key"
        path.write_bytes(pem(private, serialization.NoEncryption()))
        public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (tmp_path / "model.pub").write_bytes(public)
        return path

    def load(self, folder: Path, **settings: object) -> Any:
        given = {"STORAGE_URI": f"file://{folder}", "SIGNATURE_PUBLIC_KEY": folder.parent / "model.pub", **settings}
        environ = {f"MODEL_SERVER_{name}": str(value) for name, value in given.items()}
        return load(
            read_settings(environ), Path(mkdtemp(dir=folder.parent)), environ=environ, report=lambda phase, text: None
        )

    def test_a_signed_package_is_loaded_and_its_digest_covers_the_signature(self, folder: Path, key: Path) -> None:
        said = run(folder, "--sign", key)
        assert said == {"sha256": digest(folder)}
        assert self.load(folder, SHA256=said["sha256"]).identity.format == "lightgbm"

    def test_the_signature_is_uploaded_with_the_files(self, tmp_path: Path, folder: Path, key: Path) -> None:
        run(folder, "--sign", key, "--upload", f"file://{tmp_path}/models/wine/7")
        assert (tmp_path / "models/wine/7/model.sig").exists()

    def test_a_package_that_was_changed_is_refused_until_it_is_signed_again(self, folder: Path, key: Path) -> None:
        run(folder, "--sign", key)
        (folder / ".gitattributes").write_text("added")
        with pytest.raises(SignatureMismatch, match=r"\.gitattributes"):
            self.load(folder)
        run(folder, "--sign", key)
        assert self.load(folder)

    def test_an_encrypted_key_takes_its_password_from_the_environment(
        self, folder: Path, key: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        key.write_bytes(pem(private, serialization.BestAvailableEncryption(b"open sesame")))
        with pytest.raises(Refused, match="MODELDEPLOY_SIGNING_PASSWORD"):
            run(folder, "--sign", key)
        monkeypatch.setenv("MODELDEPLOY_SIGNING_PASSWORD", "open sesame")
        run(folder, "--sign", key)
        assert self.load(folder)

    @pytest.mark.parametrize(
        "content",
        [pytest.param(None, id="no file"), pytest.param(b"key", id="no key"), pytest.param("ed", id="Ed25519")],
    )
    def test_a_key_that_cannot_sign_is_refused(self, tmp_path: Path, folder: Path, content: bytes | str | None) -> None:
        key = tmp_path / "odd.key"
        if content == "ed":
            key.write_bytes(pem(ed25519.Ed25519PrivateKey.generate(), serialization.NoEncryption()))
        elif isinstance(content, bytes):
            key.write_bytes(content)
        with pytest.raises(Refused, match=r"odd\.key cannot sign: .*openssl ecparam"):
            run(folder, "--sign", key)
        assert not (folder / "model.sig").exists()

    def test_a_link_in_the_folder_is_refused(self, tmp_path: Path, folder: Path, key: Path) -> None:
        (folder / "link").symlink_to(key)
        with pytest.raises(Refused, match="symlink"):
            run(folder, "--sign", key)

    def test_without_a_network_an_identity_says_what_it_needs(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(Refused, match=r"tuf-repo-cdn\.sigstore\.dev.* SIGSTORE_IDENTITY_TOKEN.* --sign"):
            run(folder, "--sign-keyless")

    def test_one_signature_is_by_one_signer(self, folder: Path, key: Path) -> None:
        result = CliRunner().invoke(build(), ["package", str(folder), "--sign", str(key), "--sign-keyless"])
        assert result.exit_code == 2
        assert "do not go together" in result.output


def pem(private: Any, encryption: serialization.KeySerializationEncryption) -> bytes:
    found: bytes = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return found
