"""What ends a wait, and what does not."""

import pytest

from modeldeploy.kube import KubeError, KubeUnreachable
from modeldeploy.patience import look_again

AWAY = KubeUnreachable("http://here does not answer")
BUSY = KubeError(503, "ServiceUnavailable", "busy")


class World:
    """Fails with each error in turn, then is seen."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def look(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "seen"


def test_a_server_that_comes_back_is_waited_for_and_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(AWAY, BUSY, KubeError(429, "TooManyRequests", "later"))
    assert look_again(world.look, pause=0, longest=60) == "seen"
    assert capsys.readouterr().err == "http://here does not answer; trying again\n"


@pytest.mark.parametrize("error", [KubeError(403, "Forbidden", "no"), KubeError(404, "NotFound", "gone")])
def test_an_answer_is_an_answer(error: KubeError) -> None:
    with pytest.raises(KubeError, match=error.args[0]):
        look_again(World(error).look, pause=0, longest=60)


def test_patience_has_an_end() -> None:
    with pytest.raises(KubeUnreachable):
        look_again(World(AWAY, AWAY).look, pause=0, longest=-1)
