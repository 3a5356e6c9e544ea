"""The commands and answers that a page shows."""

import json
import re


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def shows(output: str, answer: dict[str, object]) -> bool:
    """Whether a line of the output is a JSON object that holds the fields of `answer`."""
    for line in output.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and all(found.get(key) == value for key, value in answer.items()):
            return True
    return False
