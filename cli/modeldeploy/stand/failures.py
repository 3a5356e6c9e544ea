"""What may keep a stand from coming up, or end it: a line and no traceback. Used by `make sandbox` and the demo."""

import subprocess
import sys
from collections.abc import Callable

import httpx

from modeldeploy.kube import KubeconfigError, KubeError, KubeUnreachable
from modeldeploy.stand.process import StartError

#: Errors of the surroundings, which say themselves what is wrong; anything else is an error of ours, with a traceback.
FAILURES = (
    StartError,
    KubeconfigError,
    KubeError,
    KubeUnreachable,
    OSError,  # TimeoutError of `wait_until` too
    subprocess.TimeoutExpired,
    httpx.TransportError,
)
#: What shells make of an end by Ctrl-C.
INTERRUPTED = 130


def exit_status_of(command: Callable[[], int]) -> int:
    """Run a command and return its exit status: 1 with a line on standard error for a failure, 130 after Ctrl-C."""
    try:
        return command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except FAILURES as error:
        print(f"error: {reason_of(error)}", file=sys.stderr)
        return 1


def reason_of(error: Exception) -> str:
    """Return what a failure says, for a file its name first."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
