"""The page of the command line, made from the application itself. Used by `docs/generate.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer.main

from modeldeploy.app import build

#: Options that each command on a cluster takes too, told once.
_SHARED = ("kubeconfig", "kube_context", "namespace", "as_user", "as_group", "as_uid")

_INTRO = """\
# The command line

This page is made from the application by `make docs`. `modeldeploy` reads `$KUBECONFIG` as kubectl does,
and since it is installed as `kubectl-modeldeploy` too, `kubectl modeldeploy ...` is the same.
`modeldeploy --version` shows which one it is.

## Install

There is no release in a registry yet: pip installs from a clone of the repository, with Python 3.11 or newer.

```console
$ pip install '.[cli]'
$ pip install '.[cli,server,server-sklearn]'    # for serve and package --holdout, with the library of the model
$ pip install 'modeldeploy[cli] @ git+https://git.example.com/ml/modeldeploy@COMMIT'    # in pipelines
```

The extra `dashboard` is the command of that name, and `signing` signs packages and images. Elsewhere in these pages
`pip install 'modeldeploy[EXTRAS]'` stands for one of these lines. In a [sandbox](tutorials/index.md#before-you-begin)
all of it is installed.

## How it signs in, and how it ends

It signs in as kubectl does: with tokens, client certificates, name and password, `exec` plugins and OpenID
Connect, through `proxy-url` or `HTTPS_PROXY`, as another user with `--as`; in a pod without a kubeconfig as the
pod's ServiceAccount.

Exit statuses: 0 done; 1 when `lint` found something or a file cannot be read or written; 3 when the cluster or
the name is not there, what was asked for cannot be done, or the API server refuses it; 64 when the command line
itself is wrong; 130 after Ctrl-C. `status` ends with 1 for a failed rollout and 2 for one that is not over (in time);
`diff` with 1 when something would change; `outdated` with 1 when a model is outdated and 2 when the operator has not
reported on one; `import --strict` with 1 when something has no counterpart.

`promote`, `abort`, `retry` and `undo` write annotations that name the revision they speak of. Applying one
twice, or late, does nothing; `kubectl annotate` does the same:

| command | annotation |
|---|---|
| `promote` | `modeldeploy.dev/promote: REVISION@STEP` |
| `promote --full` | `modeldeploy.dev/promote-full: REVISION` |
| `abort` | `modeldeploy.dev/abort: REVISION` |
| `retry` | `modeldeploy.dev/retry: REVISION` |
| `undo` | `modeldeploy.dev/undo: REVISION` |

What follows an `@` in the last four only makes the value new, so that the same can be asked again later.
"""


def page(_root: Path) -> str:
    """The page as Markdown."""
    application: Any = typer.main.get_command(build())
    shared = [one for one in application.params if one.name in _SHARED]
    parts = [_INTRO, "## Options of all commands on a cluster", "They go before its name or after it.", _table(shared)]
    for name, command in application.commands.items():
        own = [one for one in command.params if _is_shown(one)]
        usage = " ".join(["modeldeploy", name, *map(_usage, own)])
        text = [f"## `{name}`", command.help, f"    {usage}", _table(own)]
        parts.append("\n\n".join(part for part in text if part))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _is_shown(parameter: Any) -> bool:
    return parameter.name not in ("help", "install_completion", "show_completion", *_SHARED)


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.name.upper()
        return name if parameter.required else f"[{name}]"
    name = max(parameter.opts, key=len)
    text = name if parameter.is_flag else f"{name} {parameter.name.upper()}"
    return text if parameter.required else f"[{text}]"


def _table(parameters: Sequence[Any]) -> str:
    rows = []
    for one in parameters:
        names = [one.name.upper()] if one.param_type_name == "argument" else [*one.opts, *one.secondary_opts]
        has_default = (isinstance(one.default, str | int) and one.default) or isinstance(one.default, float)
        default = f" Default: `{one.default}`." if has_default else ""
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {one.help}{default} |")
    return "\n".join(["| | |", "|---|---|", *rows])
