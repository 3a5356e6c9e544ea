"""Entry point of `make demo`: exit status 0 only if everything held, and nothing is left running."""

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from rich.console import Console

from modeldeploy.demo.narrator import DemoFailed, Narrator
from modeldeploy.demo.story import Story
from modeldeploy.kube import KubeError, KubeUnreachable
from modeldeploy.stand import StartError


def main() -> int:
    """Play the demo once; 0 when all of it held, 1 when something did not, 130 when interrupted."""
    narrator = Narrator(Console(highlight=False, soft_wrap=True))
    folder = Path(tempfile.mkdtemp(prefix="modeldeploy-demo-"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _interrupt)
    try:
        with Story(folder, narrator) as story:
            try:
                story.play()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        narrator.say("\ninterrupted; everything was stopped and removed")
        return 130
    except (DemoFailed, StartError, TimeoutError, KubeError, KubeUnreachable) as error:
        narrator.failure(str(error))
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End the play. Python drops what a handler raises inside a callback, such as those of an import: ask again."""
    signal.setitimer(signal.ITIMER_REAL, 2)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
