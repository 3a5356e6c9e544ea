"""What the demo prints: steps, commands as one would type them, their real output, and what held."""

import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text


class DemoFailed(Exception):
    """Something that the demo promises did not hold; the message says what."""


class Narrator:
    """Prints to a terminal with colours, elsewhere as plain text."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._steps += 1
        self._console.print(Text(f"\n{self._steps}. {title}", style="bold cyan"))

    def say(self, text: str) -> None:
        """A sentence between the steps."""
        self._console.print(Text(text))

    def command(self, words: Sequence[str]) -> None:
        """A command that is about to run, as a person would type it."""
        self._console.print(Text(f"$ {shlex.join(words)}", style="bold"))

    def output(self, text: str) -> None:
        """What a command printed."""
        for line in text.rstrip("\n").splitlines():
            self._console.print(Text(f"  {line}"))

    def held(self, sentence: str) -> None:
        """A promise that was checked and held."""
        self._console.print(Text(f"ok: {sentence}", style="green"))

    def failure(self, text: str) -> None:
        """Why the demo failed."""
        self._console.print(Text(f"\nFAILED: {text}", style="bold red"))

    def check(self, holds: bool, sentence: str, otherwise: str) -> None:
        """Tell that `sentence` holds. Raises `DemoFailed` with `otherwise` when it does not."""
        if not holds:
            raise DemoFailed(otherwise)
        self.held(sentence)
