"""What a batch reads lies where its URI says: who may write tables into a folder does not choose other files for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_server.batch.source import open_input
from model_server.errors import SettingsInvalid


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """The disk of a pod: two claims, and a mounted Secret."""
    for name in ("claims/tables/days", "claims/tables/other", "claims/scores", "secret"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "secret/key").write_text("AKIA")
    (tmp_path / "claims/scores/day.csv").write_text("a\n1\n")
    (tmp_path / "claims/tables/other/day.csv").write_text("a\n1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("link", "target"),
    [
        pytest.param("day.csv", "secret/key", id="a file of a Secret"),
        pytest.param("day", "secret", id="a folder with one"),
        pytest.param("day.csv", "claims/scores/day.csv", id="another claim"),
    ],
)
@pytest.mark.parametrize("path", ["days", "days/*", "days/**"])
def test_a_link_that_leads_out_of_the_claim_is_not_read(pod: Path, path: str, link: str, target: str) -> None:
    (pod / "claims/tables/days" / link).symlink_to(pod / target)
    environ = {"MODEL_SERVER_CLAIMS_DIR": str(pod / "claims")}
    if path == "days/*" and (pod / target).is_dir():
        path = "days/*/*"
    with pytest.raises(SettingsInvalid, match="is a link that leads out of"):
        open_input(f"pvc://tables/{path}", environ).files()
    with pytest.raises(SettingsInvalid, match="is a link that leads out of"):
        open_input(f"file://{pod}/claims/tables/{path}", {}).files()


def test_a_link_within_a_claim_is_read(pod: Path) -> None:
    (pod / "claims/tables/days/day.csv").symlink_to("../other/day.csv")
    source = open_input("pvc://tables/days", {"MODEL_SERVER_CLAIMS_DIR": str(pod / "claims")})
    [file] = source.files()
    assert source.open(file).read() == b"a\n1\n"


def test_a_file_that_becomes_a_link_is_not_read(pod: Path) -> None:
    table = pod / "claims/tables/days/day.csv"
    table.write_text("a\n1\n")
    source = open_input(f"file://{table}", {})
    [file] = source.files()
    table.unlink()
    table.symlink_to(pod / "secret/key")
    with pytest.raises(SettingsInvalid, match="is a link that leads out of"):
        source.open(file)
