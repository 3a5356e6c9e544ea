"""Settings from the environment: what is wrong is named with what to write instead."""

import subprocess
import sys

import pytest

from model_operator.settings import InvalidSettings, described, settings_from


def test_what_is_not_set_has_its_default_and_others_variables_are_left_alone() -> None:
    settings = settings_from(
        {"PATH": "/bin", "MODEL_OPERATOR_METRICS_PORT": "9090", "MODEL_OPERATOR_LOG_FORMAT": "text"}
    )
    assert (settings.metrics_port, settings.health_port, settings.log_format) == (9090, 8081, "text")
    assert settings.identity, "host name and process"
    assert settings_from({"MODEL_OPERATOR_LEADER_ELECTION": "False"}).leader_election is False


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        pytest.param("METRICS_PORT", "http", "write a whole number", id="a word for a number"),
        pytest.param("METRICS_PORT", "0", "write a whole number >= 1", id="too small"),
        pytest.param("HEALTH_PORT", "65536", "write a whole number <= 65535", id="too large"),
        pytest.param("PRE_STOP_SECONDS", "-1", "write a whole number >= 0", id="negative"),
        pytest.param("LEADER_ELECTION", "maybe", "write true or false", id="neither true nor false"),
        pytest.param("LOG_LEVEL", "loud", "write debug or info or warning or error", id="an unknown level"),
        pytest.param("LOG_FORMAT", "yaml", "write json or text", id="an unknown format"),
        pytest.param("MONITORING_LABELS", "release", "write key=value,key=value", id="labels"),
    ],
)
def test_a_wrong_value_is_named(name: str, text: str, wanted: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        settings_from({f"MODEL_OPERATOR_{name}": text})
    assert str(raised.value) == f"MODEL_OPERATOR_{name} is '{text}'; {wanted}"


def test_an_unknown_variable_lists_those_that_are_known() -> None:
    with pytest.raises(
        InvalidSettings, match="MODEL_OPERATOR_PORT is unknown; the known variables are MODEL_OPERATOR_SERVER_IMAGE,"
    ):
        settings_from({"MODEL_OPERATOR_PORT": "1"})


def test_help_names_each_setting_and_connects_to_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "model_operator", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert all(variable in done.stdout for variable, _, _ in described())
