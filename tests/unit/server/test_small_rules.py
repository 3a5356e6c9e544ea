"""Settings, digests, requirements, progress and last words."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess

import orjson
import pytest
from packaging.requirements import Requirement

from model_server.errors import (
    ArtifactNotFound,
    DependencyMismatch,
    DigestMismatch,
    SettingsInvalid,
    StorageUnavailable,
)
from model_server.logs import JsonFormatter, Lines
from model_server.package.digest import digest, verify_pin
from model_server.package.requirements import check_requirements, parse_requirements
from model_server.settings import read_settings
from model_server.storage.progress import Progress, describe
from model_server.termination import exit_code, termination_message

URI = {"MODEL_SERVER_STORAGE_URI": "file:///m"}


def test_settings_are_read_and_empty_ones_are_absent():
    settings = read_settings(
        URI | {"MODEL_SERVER_PORT": "9000", "MODEL_SERVER_SHA256": "", "MODEL_SERVER_INPUT_LOG_REDACT": "ssn, name"}
    )
    assert (settings.port, settings.sha256, settings.input_log_redact) == (9000, "", ("ssn", "name"))


def test_what_a_service_of_the_same_name_injects_is_no_setting():
    links = {"MODEL_SERVER_SERVICE_HOST": "10.0.0.1", "MODEL_SERVER_PORT_8080_TCP_ADDR": "10.0.0.1"}
    assert read_settings(URI | links).port == 8080


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param({}, "MODEL_SERVER_STORAGE_URI: is missing", id="no storage URI"),
        pytest.param(URI | {"MODEL_SERVER_PORT": "99999"}, "MODEL_SERVER_PORT: ", id="no such port"),
        pytest.param(
            URI | {"MODEL_SERVER_LOG_LEVEL": "loud"}, "'debug', 'info'", id="an unknown level lists the known"
        ),
        pytest.param(
            {"MODEL_SERVER_PORT": "x", "MODEL_SERVER_TRUSTED": "maybe"},
            "MODEL_SERVER_TRUSTED: expected true or false, got text; "
            "MODEL_SERVER_PORT: expected a whole number, got text; "
            "MODEL_SERVER_STORAGE_URI: is missing",
            id="all bad settings are named at once",
        ),
        pytest.param(
            URI | {"MODEL_SERVER_AUTH_PROTECT": "metrics"},
            "MODEL_SERVER_AUTH_PROTECT is set",
            id="no keys to protect with",
        ),
        pytest.param(
            URI | {"MODEL_SERVER_AUTH_PROTECT": "docs,probes", "MODEL_SERVER_AUTH_DIR": "/k"},
            "'metrics', 'docs'",
            id="what cannot be protected",
        ),
        pytest.param(URI | {"MODEL_SERVER_SHA256": "abc"}, "MODEL_SERVER_SHA256: ", id="half a digest"),
        pytest.param(URI | {"MODEL_SERVER_TRUSTD": "1"}, "MODEL_SERVER_TRUSTD is not a setting", id="a misspelt name"),
    ],
)
def test_a_bad_setting_names_its_variable(environ, message):
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(environ)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_folders_digest_is_the_shells(tmp_path):
    for name in ("b.txt", "a/Z.bin", "a/ä.txt", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    command = "find -L . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    shell = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert digest(tmp_path) == shell.stdout.split()[0]


def test_a_pin_must_match():
    verify_pin("ab", "", "u")
    verify_pin("ab", "AB", "u")
    with pytest.raises(DigestMismatch, match="u has sha256 ab, and cd is pinned"):
        verify_pin("ab", "cd", "u")


def test_requirements_are_parsed_with_all_that_pip_allows():
    text = "# comment\n\n-i x\nscikit-learn==1.7.2 --hash=sha256:ab \\\nnumpy>=2 # why\nx; python_version<'3'\n"
    assert [str(one) for one in parse_requirements(text)] == [
        "scikit-learn==1.7.2",
        "numpy>=2",
        'x; python_version < "3"',
    ]


def test_a_mismatch_tells_both_versions():
    installed = {"scikit-learn": "1.9.1", "numpy": "2.4.6"}.get
    check_requirements([Requirement("numpy>=2,<3"), Requirement("x; python_version<'3'")], installed)
    with pytest.raises(DependencyMismatch) as caught:
        check_requirements([Requirement("scikit-learn==1.2"), Requirement("scipy")], installed)
    assert caught.value.message == "scikit-learn 1.2 needed, 1.9.1 installed; scipy needed, none installed"


def test_progress_is_told_in_words_and_not_too_often():
    now = [0.0]
    told: list[str] = []
    progress = Progress(told.append, clock=lambda: now[0])
    progress.expect(2_000_000)
    for moment in (0.1, 0.2, 0.6, 0.7, 1.2):
        now[0] = moment
        progress.advance(200_000)
    assert told == ["30 % of 2.0 MB, 1.0 MB/s, 1 s left", "50 % of 2.0 MB, 833.3 kB/s, 1 s left"]
    assert describe(5, 0, 0) == "5 B, 0 B/s"


def test_a_long_message_is_cut_and_stays_json():
    told = json.loads(termination_message(ArtifactNotFound('"ä' * 5000, hint="h" * 5000)))
    assert told["reason"] == "ArtifactNotFound"
    assert len(termination_message(ArtifactNotFound('"ä' * 5000, hint="h" * 5000))) <= 4096


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(ArtifactNotFound("x"), 65, id="a bad artifact"),
        pytest.param(StorageUnavailable("x"), 69, id="storage that did not answer"),
        pytest.param(SettingsInvalid("x"), 78, id="bad settings"),
    ],
)
def test_exit_codes_are_those_of_sysexits(error, code):
    assert exit_code(error) == code


@pytest.mark.parametrize("text", ["short", "long " * 5_000], ids=["short lines", "lines longer than one write"])
def test_a_log_that_nobody_reads_holds_nobody_up(text):
    reader, writer = os.pipe()
    handler = Lines(writer)
    handler.setFormatter(JsonFormatter({}))
    record = logging.makeLogRecord({"msg": text, "name": "x", "levelname": "INFO"})
    for _ in range(2_000):
        handler.emit(record)
    read = b""
    while select.select([reader], [], [], 0)[0]:
        read += os.read(reader, 1 << 20)
    handler.emit(record)
    read += os.read(reader, 1 << 20)
    os.close(writer)
    os.close(reader)
    lines = [line for line in read.split(b"\n") if line]
    whole = [orjson.loads(line) for line in lines if line.endswith(b"}")]
    assert len(whole) >= len(lines) - 1, "one line may be cut"
    assert next(one["lost"] for one in whole if "lost" in one) > 100
    assert whole[-1]["message"] == text
