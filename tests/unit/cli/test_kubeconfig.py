"""How a kubeconfig is read, and what is said when it cannot be."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from modeldeploy.kube import KubeconfigError
from modeldeploy.kube.access import read_access


def a_config(user: dict[str, Any], *, current: str = "here", **cluster: Any) -> dict[str, Any]:
    return {
        "current-context": current,
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1234/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }


def written(folder: Path, config: Any) -> Path:
    file = folder / "config"
    file.write_text(yaml.safe_dump(config))
    return file


def test_server_and_namespace_are_the_contexts(tmp_path: Path) -> None:
    access = read_access(written(tmp_path, a_config({})))
    assert (access.configuration.host, access.namespace) == ("http://127.0.0.1:1234", "ml")


def test_the_first_file_of_the_variable_that_exists_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, a_config({"token": "t"}))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{file}")
    assert read_access().namespace == "ml"


def test_the_files_of_the_variable_are_one_and_the_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = [{"name": "there", "context": {"cluster": "d", "user": "u", "namespace": "first"}}]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = written(tmp_path / "a", {"current-context": "there", "contexts": contexts})
    users = [{"name": "u", "user": {"tokenFile": "token"}}, {"name": "w", "user": {}}]
    clusters = [{"name": "d", "cluster": {"server": "http://127.0.0.1:4321"}}]
    other = [{"name": "there", "context": {"cluster": "c", "user": "u", "namespace": "second"}}]
    second = written(
        tmp_path / "b", {"current-context": "here", "contexts": other, "clusters": clusters, "users": users}
    )
    (tmp_path / "b" / "token").write_text("beside its file")
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    access = read_access()
    assert (access.namespace, access.configuration.host) == ("first", "http://127.0.0.1:4321")
    assert access.configuration.api_key == {"BearerToken": "Bearer beside its file"}


def test_an_empty_file_is_one_without_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").write_text("\n")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'empty'}:{written(tmp_path, a_config({}))}")
    assert read_access().namespace == "ml"


HTTPS = "https://127.0.0.1:1234"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        pytest.param([1], "is no kubeconfig: it needs lists of named entries", id="a list"),
        pytest.param(None, "config: is empty", id="an empty file"),
        pytest.param(
            {"current-context": "x", "contexts": {"name": "x"}},
            "is no kubeconfig: it needs lists of named entries",
            id="contexts that are none",
        ),
        pytest.param(
            {"current-context": "x", "contexts": ["x"]},
            "is no kubeconfig: it needs lists of named entries",
            id="a context without a name",
        ),
        pytest.param(a_config({}, server=""), "cluster 'c' has no server", id="a cluster without a server"),
        pytest.param(
            a_config({}, server="here:1"), "'here:1' is no http:// or https:// URL", id="a server without a scheme"
        ),
        pytest.param(a_config({}, server="https://[::1"), "is no http:// or https:// URL", id="half an address"),
        pytest.param(a_config({}, server="https://h:x"), "is no http:// or https:// URL", id="a port that is none"),
        pytest.param(a_config({"tokenFile": "empty"}), "tokenFile .*empty is empty", id="an empty token file"),
        pytest.param(
            a_config({"as": "j", "as-groups": "g"}), "as-groups .* a list, not 'g'", id="groups that are none"
        ),
        pytest.param(
            a_config({"as": "j", "as-user-extra": {"k": "v"}}), "has to map names to lists", id="extra that is none"
        ),
        pytest.param(a_config({"as-groups": ["g"]}), "need a user: add --as USER", id="groups of nobody"),
        pytest.param(
            a_config({"tokenFile": "absent"}), "tokenFile .*absent cannot be read: No such", id="no token file"
        ),
        pytest.param(
            a_config({}, server=HTTPS, **{"certificate-authority": "absent"}),
            "certificate-authority .*absent cannot be read: No such file",
            id="no certificate authority",
        ),
        pytest.param(
            a_config({}, server=HTTPS, **{"certificate-authority-data": "abc"}),
            "certificate-authority-data is not base64",
            id="a certificate authority that is no base64",
        ),
        pytest.param(
            a_config({}, server=HTTPS, **{"certificate-authority-data": "Zm9v"}),
            "certificate-authority is no certificate in PEM",
            id="a certificate authority that is none",
        ),
        pytest.param(
            a_config({"client-certificate-data": "Zm9v", "client-key-data": "Zm9v"}, server=HTTPS),
            "client-certificate and client-key are no pair in PEM",
            id="a client certificate that is none",
        ),
        pytest.param(a_config({}, current="there"), "'there' in contexts; known are: here", id="an unknown context"),
        pytest.param({**a_config({}), "clusters": []}, "'c' in clusters; known are: none", id="a cluster left out"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(KubeconfigError, match=said):
        read_access(written(tmp_path, config))


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="make sandbox"):
        read_access(tmp_path / "absent")


@pytest.mark.parametrize("text", [b"a: [", b"\x80\x05\x95", b"\0\0"], ids=["half a list", "a pickle", "zeros"])
def test_a_file_that_is_no_yaml_says_so(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "config"
    file.write_bytes(text)
    with pytest.raises(KubeconfigError, match="is not YAML"):
        read_access(file)


def test_a_folder_is_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="cannot be read: Is a directory"):
        read_access(tmp_path)
