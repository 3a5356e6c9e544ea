"""What is said when there is no way to the API server."""

from pathlib import Path

import kopf
import pytest

from model_operator.handlers import login


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "No such file or directory", id="a kubeconfig that is not there"),
        pytest.param("a: [", "expected the node content", id="one that is no YAML"),
        pytest.param("{}", "[Cc]urrent context is not set", id="one without a context"),
    ],
)
def test_a_kubeconfig_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(kopf.LoginError, match=said) as raised:
        login()
    assert "KUBECONFIG=" in str(raised.value)
