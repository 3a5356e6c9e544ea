"""Imports files of a package's own code: model.py, pre.py, post.py; for `python.py` and `steps.py`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from model_server.errors import DependencyMissing, LoadFailed, first_line


def import_file(path: Path, *, hint: str) -> ModuleType:
    """Import a trusted file of a package, under its own name. The package's folder is importable for it.

    `hint` says what the file has to define. Raises DependencyMissing or LoadFailed.
    """
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = module
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - trusted or pinned by now
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"{path.name} needs the module {error.name}, which is not installed",
            hint="Use a server image that has it.",
        ) from None
    except (Exception, SystemExit) as error:
        raise LoadFailed(f"{path.name} cannot be imported: {where(error, path)}", hint=hint) from None
    return module


def required_function(module: ModuleType, name: str, counts: tuple[int, ...], *, hint: str) -> Callable[..., Any]:
    """A function of the module that takes so many arguments, or one of these numbers. Raises LoadFailed."""
    file = f"{module.__name__}.py"
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None or not callable(function):
        raise LoadFailed(f"{file} has no function {name}", hint=hint)
    if not any(takes(function, count) for count in counts):
        wanted = " or ".join(map(str, counts))
        raise LoadFailed(f"{name} in {file} does not take {wanted} argument{'s' * (counts != (1,))}", hint=hint)
    if inspect.iscoroutinefunction(function):
        raise LoadFailed(f"{name} in {file} is async", hint="Write a plain function: it runs in a thread of its own.")
    return function


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments, by place."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def where(error: BaseException, path: Path) -> str:
    """`ValueError: text (model.py line 12)`: the author's own line, without a trace of ours."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    name, line, text = path.name, lines[-1] if lines else None, first_line(error)
    if isinstance(error, SyntaxError):
        # Its text ends with file and line already, which may be those of a module that the file imports.
        name, line, text = Path(error.filename or path).name, error.lineno, error.msg
    return f"{type(error).__name__}: {text}" + (f" ({name} line {line})" if line else "")
