"""Who asks: every way of a kubeconfig to sign in, against an API server over TLS with an authority of its own."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tls_front import Front, inline

from modeldeploy.kube import MODELDEPLOYMENTS, Kube, KubeconfigError

Run = Any  # the fixture `run`: how a command ended


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        pytest.param({"token": "t0ken"}, "Bearer t0ken", id="a token"),
        pytest.param({"tokenFile": "token"}, "Bearer from-file", id="a file with the token, beside the kubeconfig"),
        pytest.param({"token": "x", "tokenFile": "token"}, "Bearer from-file", id="the file wins over the token"),
        pytest.param({"username": "a", "password": "ü"}, "Basic YTrDvA==", id="name and password"),
    ],
)
def test_credentials_are_sent(run: Run, server: Front, tmp_path: Path, user: dict[str, Any], sent: str) -> None:
    (tmp_path / "token").write_text("from-file\n")
    server.accepts.add(sent)
    done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", user))
    assert (done.code, done.err) == (0, "no ModelDeployments in namespace default")


@pytest.mark.parametrize("is_inline", [True, False], ids=["inline", "in files beside the user's kubeconfig"])
def test_a_client_certificate_signs_in(
    run: Run, server: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_inline: bool
) -> None:
    certificate, key = server.authority.issue("jane")
    (tmp_path / "users").mkdir()
    for name, file in (("jane.crt", certificate), ("jane.key", key)):
        (tmp_path / "users" / name).write_bytes(file.read_bytes())
    user = (
        {"client-certificate-data": inline(certificate), "client-key-data": inline(key)}
        if is_inline
        else {"client-certificate": "jane.crt", "client-key": "jane.key"}
    )
    # Cluster and user stand in two files in two folders.
    config = yaml.safe_load(server.kubeconfig(tmp_path / "config", user).read_text())
    users = {"users": config.pop("users"), "current-context": "elsewhere"}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    (tmp_path / "users" / "config").write_text(yaml.safe_dump(users))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'config'}:{tmp_path / 'users' / 'config'}")
    assert run("get", kubeconfig=None).code == 0
    assert server.users == ["jane"]


def a_plugin(folder: Path, script: str) -> dict[str, Any]:
    """Return the `exec` of a user; the plugin counts its calls in a file and may be as a cloud provider's is."""
    plugin = folder / "plugin"
    plugin.write_text(f'#!/bin/sh\necho call >> "{folder}/calls"\n{script}\n')
    plugin.chmod(0o755)
    version = "client.authentication.k8s.io/v1"
    env = [{"name": "WHO", "value": "x"}]
    return {"exec": {"apiVersion": version, "command": "./plugin", "args": ["me"], "env": env}}


def credential(**status: str) -> str:
    return json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status})


def says(**status: str) -> str:
    """A shell command that prints a credential, with the shell's variables in it."""
    return f"cat <<END\n{credential(**status)}\nEND"


def test_a_plugin_gives_the_token(run: Run, server: Front, tmp_path: Path) -> None:
    server.accepts.add("Bearer for-me-x")
    user = a_plugin(tmp_path, says(token="for-$1-$WHO"))
    assert run("get", kubeconfig=server.kubeconfig(tmp_path / "config", user)).code == 0


def test_a_plugin_gives_a_certificate(run: Run, server: Front, tmp_path: Path) -> None:
    certificate, key = server.authority.issue("robot")
    given = says(clientCertificateData=certificate.read_text(), clientKeyData=key.read_text())
    user = a_plugin(tmp_path, given.replace("\\n", "\\\\n"))
    done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", user))
    assert (done.code, server.users) == (0, ["robot"]), done.err


def test_a_plugin_is_told_the_cluster_when_it_wants_to_be(run: Run, server: Front, tmp_path: Path) -> None:
    server.accepts.add("Bearer t")
    user = a_plugin(tmp_path, f'echo "$KUBERNETES_EXEC_INFO" > "{tmp_path}/info"\n{says(token="t")}')
    user["exec"]["provideClusterInfo"] = True
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "me"}}
    assert run("get", kubeconfig=server.kubeconfig(tmp_path / "config", user, extensions=[extension])).code == 0
    told = json.loads((tmp_path / "info").read_text())["spec"]["cluster"]
    assert told["server"] == server.url
    assert base64.b64decode(told["certificate-authority-data"]) == server.authority.certificate.read_bytes()
    assert told["config"] == {"audience": "me"}


@pytest.mark.parametrize(
    ("expiry", "calls"),
    [
        pytest.param("2020-01-01T00:00:00Z", 4, id="a token that is over is asked for with each request"),
        pytest.param("2999-01-01T00:00:00Z", 1, id="a token that lasts is asked for once"),
    ],
)
def test_a_token_is_asked_for_again_when_it_is_over(server: Front, tmp_path: Path, expiry: str, calls: int) -> None:
    server.accepts.add("Bearer t")
    user = a_plugin(tmp_path, says(token="t", expirationTimestamp=expiry))
    with Kube.connect(server.kubeconfig(tmp_path / "config", user)) as kube:
        for _ in range(3):
            kube.list(MODELDEPLOYMENTS)
    assert (tmp_path / "calls").read_text().count("call") == calls


def test_credentials_that_the_server_takes_no_more_are_asked_for_again(server: Front, tmp_path: Path) -> None:
    user = a_plugin(tmp_path, says(token="number-$(wc -l < calls | tr -d ' ')"))
    with Kube.connect(server.kubeconfig(tmp_path / "config", user)) as kube:
        server.accepts.add("Bearer number-1")
        kube.list(MODELDEPLOYMENTS)
        server.accepts.clear()
        server.accepts.add("Bearer number-2")
        kube.list(MODELDEPLOYMENTS)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("echo 'log in first' >&2; exit 7", "process returned 7. log in first", id="it fails"),
        pytest.param("echo hello", "failed to decode process output", id="it says something else"),
        pytest.param(says(), "neither token nor clientCertificateData", id="it gives nothing"),
        pytest.param(says(clientCertificateData="x"), "belong together", id="a certificate without a key"),
        pytest.param("echo '{}'", "malformed response. missing key 'apiVersion'", id="an empty object"),
        pytest.param(says(token="t", expirationTimestamp="soon"), "expirationTimestamp", id="an expiry that is none"),
    ],
)
def test_a_plugin_without_a_credential_is_told(run: Run, server: Front, tmp_path: Path, script: str, said: str) -> None:
    done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", a_plugin(tmp_path, script)))
    assert (done.code, server.asked) == (3, [])  # nobody asked as nobody
    assert done.err.startswith("error: user 'here': the credential plugin ./plugin gave no credential: ")
    assert said in done.err


def test_a_plugin_that_is_not_there_says_how_to_get_it(run: Run, server: Front, tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin", "installHint": "get\nit"}
    done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", {"exec": plugin}))
    assert done.err == "error: user 'here': the credential plugin no-such-plugin is not installed: get it"


IN_FILE = {"token": "t", "as": "jane", "as-groups": ["a", "b"], "as-uid": "7", "as-user-extra": {"Sc ope": ["x", "y"]}}


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        pytest.param([], ["jane", "a", "b", "7", "x", "y"], id="the kubeconfig's"),
        pytest.param(["--as", "joé"], ["jo\u00c3\u00a9", "a", "b", "7", "x", "y"], id="--as wins, as UTF-8"),
        pytest.param(
            ["--as-group", "c", "--as-group=d", "--as-uid", "8"], ["jane", "c", "d", "8", "x", "y"], id="groups and uid"
        ),
    ],
)
def test_impersonation(run: Run, server: Front, tmp_path: Path, words: list[str], sent: list[str]) -> None:
    server.accepts.add("Bearer t")
    config = server.kubeconfig(tmp_path / "config", IN_FILE)
    for order in ([*words, "get"], ["get", *words]):
        assert run(*order, kubeconfig=config).code == 0
        headers = server.asked.pop()
        names = ["User", "Group", "Uid", "Extra-Sc%20ope"]
        assert [value for name in names for value in headers.get_all(f"Impersonate-{name}")] == sent


def test_groups_need_a_user(run: Run, server: Front, tmp_path: Path) -> None:
    done = run("get", "--as-group", "admins", kubeconfig=server.kubeconfig(tmp_path / "config", {"token": "t"}))
    assert (done.code, server.asked) == (3, [])
    assert "need a user: add --as USER" in done.err


def test_nobody_is_refused_in_one_line(run: Run, server: Front, tmp_path: Path) -> None:
    done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", {}))
    assert done.code == 3
    assert done.err == "error: Unauthorized: the API server does not take the kubeconfig's credentials"


def test_an_empty_user_says_what_is_missing(server: Front, tmp_path: Path) -> None:
    file = server.kubeconfig(tmp_path / "config", {"tokenFile": "absent"})
    with pytest.raises(KubeconfigError, match=r"user 'here': tokenFile .*absent cannot be read: No such file"):
        Kube.connect(file)


def test_a_pod_signs_in_as_its_service_account(server: Front, tmp_path: Path) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("the ServiceAccount's files lie in a mount namespace of their own, which needs root")
    server.accepts.add("bearer of-the-pod")
    (tmp_path / "token").write_text("of-the-pod")
    (tmp_path / "namespace").write_text("team-a")
    (tmp_path / "ca.crt").write_bytes(server.authority.certificate.read_bytes())
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    script = f'mount -t tmpfs none /var/run && mkdir -p {folder} && cp * {folder} && exec "$0" -m modeldeploy get'
    address = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": server.url.rpartition(":")[2]}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **address},
        capture_output=True,
        text=True,
    )
    assert done.stderr == "no ModelDeployments in namespace team-a\n"
