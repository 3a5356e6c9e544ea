"""The unit of systemd and the options of `modeldeploy serve`."""

import dataclasses
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from modeldeploy.serving.options import ServeOptions
from modeldeploy.serving.unit import unit

OPTIONS = ServeOptions(
    uri="s3://models/fraud",
    port=8080,
    host="127.0.0.1",
    name="fraud",
    poll=timedelta(seconds=90),
    keep="/var/lib/modeldeploy",
    sha256="",
    sign_key="/etc/modeldeploy/key.pub",
    trusted=True,
    judge_requests=200,
    judge_time=timedelta(minutes=5),
    min_agreement=0.95,
    tolerance=0.001,
    max_failures=0,
    max_latency_ratio=3,
)


def test_the_server_is_told_by_settings_and_arguments() -> None:
    assert OPTIONS.settings() == {
        "MODEL_SERVER_STORAGE_URI": "s3://models/fraud",
        "MODEL_SERVER_HOST": "127.0.0.1",
        "MODEL_SERVER_PORT": "8080",
        "MODEL_SERVER_NAME": "fraud",
        "MODEL_SERVER_SIGNATURE_PUBLIC_KEY": "/etc/modeldeploy/key.pub",
        "MODEL_SERVER_TRUSTED": "true",
    }
    assert " ".join(OPTIONS.supervisor_arguments()) == (
        "--poll 90.0 --judge-seconds 300.0 --judge-requests 200 --min-agreement 0.95 --tolerance 0.001 --max-failures 0"
        " --max-latency-ratio 3 --keep /var/lib/modeldeploy"
    )


def a_unit(
    *extra: str, keep: str = "/var/lib/modeldeploy", port: int = 8080, read: str = "/opt/venv/bin/python"
) -> str:
    return unit([sys.executable, *extra], "s3://models/50% off", keep=keep, port=port, read=[read])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(a_unit(), "StateDirectory=modeldeploy", id="systemd makes the folder below /var/lib"),
        pytest.param(a_unit(keep="/data/keep"), "ReadWritePaths=/data/keep", id="another folder is made writable"),
        pytest.param(a_unit(), "ProtectHome=yes", id="no home is seen"),
        pytest.param(
            a_unit(read="/home/eva/venv/bin/python"), "ProtectHome=read-only", id="unless something lies there"
        ),
        pytest.param(a_unit(port=443), "AmbientCapabilities=CAP_NET_BIND_SERVICE", id="a privileged port"),
        pytest.param(a_unit(), "AmbientCapabilities=", id="no capability otherwise"),
        pytest.param(a_unit(), "EnvironmentFile=-/etc/modeldeploy/serve.env", id="credentials are in a file"),
        pytest.param(a_unit("a b", "$HOME", "50%"), f'ExecStart={sys.executable} "a b" $$HOME 50%%', id="quoted"),
        pytest.param(a_unit(), "Description=Model of s3://models/50%% off, served by modeldeploy", id="no specifier"),
    ],
)
def test_the_unit_says(text: str, line: str) -> None:
    assert line in text.splitlines()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("keep", ["/var/lib/modeldeploy", "/data/keep"])
def test_systemd_understands_the_unit(tmp_path: Path, keep: str) -> None:
    file = tmp_path / "modeldeploy-serve.service"
    file.write_text(a_unit(*OPTIONS.own_arguments(), keep=keep, port=443))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_unit_says_every_option_again() -> None:
    words = list(OPTIONS.own_arguments())
    assert words[:2] == ["serve", "s3://models/fraud"]
    named = {word.removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
    fields = {field.name for field in dataclasses.fields(OPTIONS)}
    assert named == fields - {"uri", "sha256"}, "an empty option is left out"
