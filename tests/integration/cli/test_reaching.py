"""How the command line reaches an API server: certificates, server names and proxies, and one line when it does not."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tls_front import Authority, Front, a_config, front
from tunnels import HttpTunnel, SocksTunnel, tunnel

Run = Any  # the fixture `run`: how a command ended
USER = {"token": "t"}


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def named(kubeconfig: Path, tmp_path: Path) -> Any:
    """A front whose certificate is for a name alone."""
    config = yaml.safe_load(kubeconfig.read_text())
    url, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
    with front(tmp_path, url, token, hosts=("kubernetes.example",)) as running:
        running.accepts.add("Bearer t")
        yield running


def test_an_unknown_authority_is_told(run: Run, server: Front, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another authority").certificate
    file = server.kubeconfig(tmp_path / "config", USER, **{"certificate-authority": str(other)})
    done = run("get", kubeconfig=file)
    assert (done.code, server.asked) == (3, [])
    assert done.err.startswith(f"error: the certificate of {server.url} is not trusted: ")
    assert "certificate-authority of the kubeconfig's cluster" in done.err


def test_another_host_name_is_told(run: Run, named: Front, tmp_path: Path) -> None:
    done = run("get", kubeconfig=named.kubeconfig(tmp_path / "config", USER))
    assert (done.code, named.asked) == (3, [])
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in done.err
    assert "tls-server-name" in done.err


def test_the_server_name_of_the_kubeconfig_is_asked_for(run: Run, named: Front, tmp_path: Path) -> None:
    file = named.kubeconfig(tmp_path / "config", USER, **{"tls-server-name": "kubernetes.example"})
    assert run("get", kubeconfig=file).code == 0
    with tunnel(HttpTunnel) as (port, _):
        file = named.kubeconfig(
            tmp_path / "config",
            USER,
            **{"tls-server-name": "kubernetes.example", "proxy-url": f"http://127.0.0.1:{port}"},
        )
        assert run("get", kubeconfig=file).code == 0


def test_verification_can_be_skipped_quietly(run: Run, named: Front, tmp_path: Path) -> None:
    done = run("get", kubeconfig=named.kubeconfig(tmp_path / "config", USER, **{"insecure-skip-tls-verify": True}))
    assert (done.code, done.err) == (0, "no ModelDeployments in namespace default")


@pytest.mark.parametrize(
    ("kind", "scheme", "asked"),
    [
        pytest.param(HttpTunnel, "http", "CONNECT {}", id="http"),
        pytest.param(SocksTunnel, "socks5", "{}", id="socks5"),
    ],
)
def test_the_proxy_of_the_kubeconfig_leads_there(
    run: Run, server: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, scheme: str, asked: str
) -> None:
    server.accepts.add("Bearer t")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # of which proxy-url knows nothing
    with tunnel(kind) as (port, record):
        file = server.kubeconfig(tmp_path / "config", USER, **{"proxy-url": f"{scheme}://127.0.0.1:{port}"})
        assert run("get", kubeconfig=file).code == 0
    assert record == [asked.format(server.url.removeprefix("https://"))]


def test_a_proxy_gets_the_password_in_its_address(run: Run, server: Front, tmp_path: Path) -> None:
    server.accepts.add("Bearer t")
    with tunnel(HttpTunnel) as (port, record):
        file = server.kubeconfig(tmp_path / "config", USER, **{"proxy-url": f"http://me:s%40d@127.0.0.1:{port}"})
        assert run("get", kubeconfig=file).code == 0
    assert record[0].endswith("Basic bWU6c0Bk")


def test_a_proxy_that_is_none_is_told(run: Run, server: Front, tmp_path: Path) -> None:
    done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", USER, **{"proxy-url": "ftp://127.0.0.1:1"}))
    assert done.code == 3
    assert done.err.startswith("error: the proxy ftp://127.0.0.1:1 cannot be used: ")


def test_a_token_that_fits_in_no_header_is_not_shown(run: Run, server: Front, tmp_path: Path) -> None:
    done = run("get", kubeconfig=server.kubeconfig(tmp_path / "config", {"token": "s3\ncret"}))
    assert (done.code, server.asked) == (3, [])
    assert "does not fit into a header" in done.err
    assert "s3" not in done.err


@pytest.mark.parametrize(
    ("variables", "goes_through"),
    [
        pytest.param({"HTTPS_PROXY": "{}"}, True, id="HTTPS_PROXY"),
        pytest.param({"HTTPS_PROXY": "{}", "NO_PROXY": ".example"}, False, id="NO_PROXY"),
        pytest.param({"HTTPS_PROXY": "{}", "NO_PROXY": "elsewhere"}, True, id="NO_PROXY of others"),
    ],
)
def test_proxies_of_the_environment(
    run: Run,
    named: Front,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    goes_through: bool,
) -> None:
    port = named.url.rpartition(":")[2]
    with tunnel(HttpTunnel) as (proxy, record):
        for name, value in variables.items():
            monkeypatch.setenv(name, value.format(f"http://127.0.0.1:{proxy}"))
        # No such host is known here: without the proxy there is no way, and through it the name has come.
        file = named.kubeconfig(tmp_path / "config", USER, server=f"https://kubernetes.example:{port}")
        run("get", kubeconfig=file)
        assert record == ([f"CONNECT kubernetes.example:{port}"] if goes_through else [])


def test_this_machine_needs_no_proxy(run: Run, server: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.accepts.add("Bearer t")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert run("get", kubeconfig=server.kubeconfig(tmp_path / "config", USER)).code == 0


@pytest.mark.parametrize(
    ("address", "proxy", "said"),
    [
        pytest.param("https://127.0.0.1:9", None, "https://127.0.0.1:9 does not answer: ", id="nobody there"),
        pytest.param("https://no.invalid", None, "https://no.invalid does not answer: ", id="no such host"),
        pytest.param(
            "https://127.0.0.1:9", "http://127.0.0.1:8", "by the proxy http://127.0.0.1:8", id="no proxy there"
        ),
    ],
)
def test_what_does_not_answer_is_told_in_one_line(tmp_path: Path, address: str, proxy: str | None, said: str) -> None:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(a_config(USER, {"server": address, **({"proxy-url": proxy} if proxy else {})})))
    command = [sys.executable, "-m", "modeldeploy", "get", "--kubeconfig", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["get", "--help"], ["lint", "."], ["package", "."]], ids=" ".join
)
def test_commands_without_a_cluster_do_not_load_its_client(tmp_path: Path, words: list[str]) -> None:
    code = (
        "import sys\n"
        "from modeldeploy.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n    print('loaded:', {'kubernetes', 'urllib3', 'httpx', 'requests'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.endswith("loaded: set()\n"), done.stdout + done.stderr


def test_nothing_is_left_in_the_folder_for_temporary_files(server: Front, tmp_path: Path) -> None:
    certificate, key = server.authority.issue("jane")
    config = server.kubeconfig(tmp_path / "config", {"client-certificate": str(certificate), "client-key": str(key)})
    folder = tmp_path / "tmp"
    folder.mkdir()
    command = [sys.executable, "-m", "modeldeploy", "get", "--kubeconfig", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, env={"TMPDIR": str(folder), "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
