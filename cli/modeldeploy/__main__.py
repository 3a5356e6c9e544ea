"""Entry point of `modeldeploy` and `kubectl modeldeploy`: runs the command, turns errors into one line.

Exit statuses: those of the command; 1 when a file cannot be read or written; 2 when the operator has not answered a
request in time; 3 when the cluster or the name is not there or the request is refused; 64 when the command line is
wrong.
"""

import sys

from modeldeploy.app import build
from modeldeploy.kube import KubeconfigError, KubeError, KubeUnreachable
from modeldeploy.plain import plain
from modeldeploy.report.story import NothingToReport
from modeldeploy.requests import NoAnswer, Refused
from modeldeploy.session import UnknownName

USAGE = 64
REFUSED = 3
NOT_OVER = 2


def main() -> None:
    """Run the command line and exit."""
    try:
        build()()
    except SystemExit as end:
        sys.exit(USAGE if _is_usage_error(end.__context__) else end.code)
    except (KubeError, KubeconfigError, KubeUnreachable, NothingToReport, Refused, UnknownName) as error:
        print(f"error: {plain(str(error))}", file=sys.stderr)
        sys.exit(REFUSED)
    except NoAnswer as error:
        print(f"error: {plain(str(error))}", file=sys.stderr)
        sys.exit(NOT_OVER)
    except OSError as error:  # what a command could not read or write, its own output too
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _is_usage_error(cause: BaseException | None) -> bool:
    """Whether the parser ended the program: it exits with 2, which `status` uses for "not over"."""
    return hasattr(cause, "format_message")


if __name__ == "__main__":
    main()
