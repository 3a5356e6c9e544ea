"""The code around a package's model: whether the server will find a `transform` in pre.py and post.py. Runs nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

from modeldeploy.requests import Refused

PRE, POST = "pre.py", "post.py"
_FUNCTION = "transform"


def steps_of(folder: Path) -> list[str]:
    """The names of the steps that a package has, in their order. Raises Refused for one that no server loads."""
    found = [name for name in (PRE, POST) if (folder / name).is_file()]
    for name in found:
        try:
            tree = ast.parse((folder / name).read_bytes(), filename=name)
        except (SyntaxError, ValueError) as error:
            raise Refused(f"{folder / name} is no Python: {error}") from None
        names = list(_defined(tree.body))
        if _FUNCTION not in names and "*" not in names:
            raise Refused(
                f"{folder / name} has no function {_FUNCTION}: it is the step "
                f"{'before' if name == PRE else 'behind'} the model; rename the file if it is something else"
            )
    return found


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    """The names that a module's statements bind, "*" where only running it would tell."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in statement.names)
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            yield "*"
