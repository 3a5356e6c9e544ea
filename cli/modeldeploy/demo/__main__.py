"""Entry point of `make demo`: exit status 0 only if everything held, and nothing is left running."""

import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from rich.console import Console

from modeldeploy.demo.narrator import DemoFailed, Narrator
from modeldeploy.demo.story import Story
from modeldeploy.stand.failures import FAILURES, INTERRUPTED, reason_of


def main() -> int:
    """Play the demo once; 0 when all of it held, 1 when something did not, 130 when interrupted."""
    narrator = Narrator(Console(highlight=False, soft_wrap=True))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="modeldeploy-demo-", ignore_cleanup_errors=True) as folder:
            _play(Path(folder), narrator)
    except KeyboardInterrupt:
        narrator.say("\ninterrupted; everything was stopped and removed")
        return INTERRUPTED
    except (DemoFailed, *FAILURES) as error:
        narrator.failure(reason_of(error))
        return 1
    return 0


def _play(folder: Path, narrator: Narrator) -> None:
    with Story(folder, narrator) as story:
        try:
            story.play()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End the play. Python drops what a handler raises inside a callback, such as those of an import: ask again."""
    signal.setitimer(signal.ITIMER_REAL, 2)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
