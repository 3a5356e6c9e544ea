"""Folders, archives and documents of strangers, given to `import`, `bom`, `bake`, `package` and `lint`."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from modeldeploy.app import build
from modeldeploy.baking.auth import RegistryAuth
from modeldeploy.importing.contents import Archive
from modeldeploy.importing.torchserve import MANIFEST
from modeldeploy.package.digest import files_of
from modeldeploy.requests import Refused

SECRET = "root:secret"
#: Ten to the ninth values in half a kilobyte.
BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10))
CODE = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\ndef transform(inputs):\n    return inputs\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.onnx").write_bytes(b"model")
    (tmp_path / "shadow").write_text(SECRET)
    return package


def refused(*arguments: object) -> str:
    """Run a command that must end with a reason, and not with a traceback."""
    result = CliRunner().invoke(build(), [str(one) for one in arguments])
    assert result.exception is not None
    assert isinstance(result.exception, Refused | SystemExit), result.exception
    return str(result.exception) if isinstance(result.exception, Refused) else result.output


def bake(folder: Path) -> str:
    # Nothing listens there: whatever is refused must be refused before anything is sent.
    return refused("bake", folder, "--base", "127.0.0.1:1/server:1", "--push", "127.0.0.1:1/fraud:1")


# --- links


@pytest.mark.parametrize("target", ["../shadow", "/etc/passwd"])
def test_what_a_link_brings_in_is_not_sent(folder: Path, target: str, tmp_path: Path) -> None:
    (folder / "weights.bin").symlink_to(target)
    assert "by a link that leads out of the package" in bake(folder)
    assert "cp -rL" in refused("package", folder, "--upload", f"file://{tmp_path}/models/fraud")
    assert not (tmp_path / "models").exists()


def test_what_a_link_to_a_folder_brings_in_is_not_sent(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "id_ed25519").write_text(SECRET)
    (folder / "assets").symlink_to("../home")
    assert "by a link that leads out of the package" in bake(folder)


def test_links_inside_of_a_package_are_followed(folder: Path) -> None:
    (folder / "latest.onnx").symlink_to("model.onnx")
    assert files_of(folder) == ["latest.onnx", "model.onnx"]
    assert "cannot be reached" in bake(folder)


def test_links_in_circles_end(folder: Path) -> None:
    for name in "ab":
        (folder / name).symlink_to(".")
    with pytest.raises(Refused, match="a link to a folder that it is in"):
        files_of(folder)


def test_a_link_in_the_folder_of_another_system_is_not_imported(folder: Path, tmp_path: Path) -> None:
    settings = {"name": "x", "implementation": "mlserver_xgboost.XGBoostModel", "parameters": {"uri": "model.json"}}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    (folder / "model.json").symlink_to("../shadow")
    assert "by a link that leads out of" in refused("import", folder, "-o", tmp_path / "out")
    assert SECRET not in "".join(one.read_text() for one in (tmp_path / "out").rglob("*") if one.is_file())


# --- archives


def archive(path: Path, files: dict[str, bytes], manifest: dict[str, object] | None = None) -> Path:
    model = {"modelName": "digits", "serializedFile": "model.pt", "modelVersion": "1.0", "handler": "base_handler"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr(MANIFEST, json.dumps({"model": model | (manifest or {})}))
        for name, content in files.items():
            written.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../../evil.pt", "/tmp/evil.pt", "a/../../evil.pt"])
def test_an_entry_is_written_nowhere_else(tmp_path: Path, name: str) -> None:
    found = archive(tmp_path / "a.mar", {name: b"evil", "model.pt": b"x"}, {"serializedFile": name})
    CliRunner().invoke(build(), ["import", str(found), "-o", str(tmp_path / "out" / "deep")])
    written = [one.relative_to(tmp_path / "out" / "deep") for one in (tmp_path / "out").rglob("*.pt")]
    assert all(one.parts[:2] == ("digits", "package") for one in written)
    assert not Path("/tmp/evil.pt").exists()


def test_all_files_of_an_archive_together_have_a_limit(tmp_path: Path) -> None:
    zeros = bytes(100 * 2**20)
    found = archive(tmp_path / "a.mar", {"model.pt": zeros, "extra/a": zeros, "extra/b": zeros})
    with found.open("rb") as file:
        assert len(file.read()) < 2**20
    contents = Archive(found)
    for name in ("model.pt", "extra/a"):
        contents.copy(name, tmp_path / "copied")
    with pytest.raises(Refused, match="unpacks to 200 times its size"):
        contents.copy("extra/b", tmp_path / "copied")


@pytest.mark.parametrize("seed", range(20))
def test_a_broken_archive_is_refused_and_no_traceback(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    content = bytearray(archive(tmp_path / "a.mar", {"model.pt": b"weights" * 100}).read_bytes())
    for _ in range(dice.randrange(1, 8)):
        content[dice.randrange(len(content))] = dice.randrange(256)
    (tmp_path / "a.mar").write_bytes(content)
    result = CliRunner().invoke(build(), ["import", str(tmp_path / "a.mar"), "-o", str(tmp_path / "out")])
    assert result.exception is None or isinstance(result.exception, Refused | SystemExit), result.exception


# --- documents


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", [BOMB, MERGED, "a: &a [*a]\n"], ids=["aliases", "merges", "within itself"])
def test_aliases_that_stand_for_a_billion_values_are_refused(folder: Path, tmp_path: Path, text: str) -> None:
    bomb = tmp_path / "bomb.yaml"
    bomb.write_text(text)
    assert "aliases stand for more than" in refused("import", bomb, "-o", tmp_path / "out")
    assert "aliases stand for more than" in refused("lint", "-f", bomb)
    (folder / "model.yaml").write_text(text)
    assert "aliases stand for more than" in refused("bom", folder)
    (folder / "model.yaml").unlink()
    mar = archive(tmp_path / "a.mar", {"model.pt": b"x", "config.yaml": text.encode()}, {"configFile": "config.yaml"})
    assert "aliases stand for more than" in refused("import", mar, "-o", tmp_path / "out")


@pytest.mark.parametrize("name", ["a.yaml", "a.json", "config.pbtxt", "model-settings.json"])
@pytest.mark.parametrize("opening", ["[", '{"a":', "a {"])
def test_documents_that_are_nested_too_deeply(tmp_path: Path, name: str, opening: str) -> None:
    (tmp_path / name).write_text(opening * 100_000)
    assert refused("import", tmp_path / name, "-o", tmp_path / "out")
    if name == "a.yaml":
        assert refused("lint", "-f", tmp_path / name)


@pytest.mark.parametrize("name", ["config.pbtxt", "a.yaml", "model-settings.json"])
def test_a_document_of_a_gibibyte_is_not_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**30)
    assert "is larger than 1 MiB" in refused("import", tmp_path / name, "-o", tmp_path / "out")


# --- code


@pytest.mark.parametrize("name", ["pre.py", "post.py", "model.py", "conftest.py", "setup.py"])
def test_no_code_of_what_is_looked_at_runs(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_text(CODE)
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "x", "implementation": "mlserver_xgboost.XGBoostModel", "parameters": {"uri": "m.json"}})
    )
    (folder / "m.json").write_text("{}")
    for command in (["package"], ["bom"], ["lint", "-f"], ["import", "-o", tmp_path / "out"]):
        CliRunner().invoke(build(), [*map(str, command), str(folder)])
    bake(folder)
    assert not list(tmp_path.rglob("ran"))
    assert not list(tmp_path.rglob("__pycache__"))


# --- registries


class Endless(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b" " * 2**16


def signed_in(answer: httpx.Response, realm: str = "https://tokens.example.com/token") -> list[httpx.Request]:
    """Ask a registry whose token service answers so; returns the requests."""
    asked = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if "token" in request.url.path:
            return answer
        challenge = f'Bearer realm="{realm}",service="registry"'
        return httpx.Response(401, headers={"www-authenticate": challenge})

    auth = RegistryAuth(httpx.URL("https://registry.example.com/v2/a"), ("ann", "secret"))
    with httpx.Client(transport=httpx.MockTransport(handle), auth=auth, follow_redirects=True) as client:
        client.get("https://registry.example.com/v2/a/manifests/1")
    return asked


@pytest.mark.timeout(10)
def test_a_token_without_end_is_none() -> None:
    with pytest.raises(Refused, match="sends a token of more than"):
        signed_in(httpx.Response(200, stream=Endless()))


@pytest.mark.parametrize("realm", ["http://169.254.169.254/token", "ftp://a/token", "file:///token"])
def test_a_password_goes_to_no_service_in_the_open(realm: str) -> None:
    with pytest.raises(Refused, match="which is not encrypted"):
        signed_in(httpx.Response(200, json={"token": "t"}), realm)


def test_a_password_does_not_follow_a_redirect_to_another_host() -> None:
    away = httpx.Response(302, headers={"location": "https://evil.example.com/token-of-others"})
    with pytest.raises(httpx.TooManyRedirects):
        signed_in(away)


def test_a_deep_token_is_none() -> None:
    assert len(signed_in(httpx.Response(200, content=b"[" * 100_000))) == 2


# --- what a newcomer does


def test_a_folder_of_folders_says_where_it_looks(tmp_path: Path) -> None:
    (tmp_path / "imported" / "iris").mkdir(parents=True)
    assert "none of the folders below" in " ".join(refused("lint", "-f", tmp_path / "imported").split())


def test_an_evaluation_that_failed_says_why(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(
        json.dumps({"reason": "DatasetInvalid", "message": "accuracy is for classes"})
    )
    said = refused("bom", folder, "--evaluation", tmp_path / "result.json")
    assert "the evaluation failed: DatasetInvalid: accuracy is for classes" in said


def test_a_manifest_steers_neither_a_terminal_nor_the_log_of_a_ci(tmp_path: Path) -> None:
    manifest = tmp_path / "\x1b[31m.yaml"
    manifest.write_text(
        "apiVersion: modeldeploy.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: ok}\n"
        'spec: {model: {storageUri: "s3://models/m"}, "\\e]0;x\\a\\n::error::forged": 1}\n'
    )
    result = CliRunner().invoke(build(), ["lint", "-f", str(manifest)])
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert [line for line in result.output.splitlines() if line.startswith("::")] == []
    assert r"^[]0;x^G\n::error::forged: unknown field" in result.output
