"""`python -m model_sandbox`: the whole sandbox (`up`), or one part of it against any API server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
import yaml

from model_sandbox.apiserver.auth import User, read_users
from model_sandbox.client import ApiFailure, Client, Connection, read_kubeconfig, write_kubeconfig
from model_sandbox.control_plane import HOST, ControlPlane, control_plane
from model_sandbox.controllers import manager, scheduler
from model_sandbox.controllers.base import Part, run
from model_sandbox.node import kubelet
from model_sandbox.node.host import NodeSettings
from model_sandbox.node.network import NETWORKS, Network, NetworkError
from model_sandbox.proxy import gateway, services

ABOUT = """\
model sandbox: a Kubernetes-shaped control plane and node on this machine, for trying out, tests and CI.
It is not Kubernetes: pods are local processes without isolation, addresses lead to this machine, nothing is pulled.
"""


def _image(text: str) -> tuple[str, tuple[str, ...]]:
    name, equals, command = text.partition("=")
    if not equals or not name or not command:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=COMMAND, as in busybox=/bin/busybox")
    return name, tuple(shlex.split(command))


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a port is a number from 1 to 65535, or 0 for any free one")
    return int(text)


def _users(path: str) -> dict[str, User]:
    try:
        return read_users(path)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


Parts = Callable[[argparse.Namespace, Path, Network], list[Part]]  # what a command runs besides the API server


def _all(options: argparse.Namespace, state: Path, network: Network) -> list[Part]:
    nodes = [] if options.pods == "none" else [scheduler.run, *_nodes(options, state, network)]
    return [manager.run, *_proxy(options, state, network), *nodes, *([gateway.run] if options.gateway else [])]


def _proxy(_: argparse.Namespace, __: Path, network: Network) -> list[Part]:
    return [partial(services.run, network)]


def _nodes(options: argparse.Namespace, state: Path, network: Network) -> list[Part]:
    common: dict[str, Any] = {
        "instant": options.pods == "instant",
        "images": dict(options.image),
        "backoff": options.restart_backoff,
        "network": network,
    }
    names = [options.name] if "name" in options else [f"sandbox-{index}" for index in range(options.nodes)]
    return [partial(kubelet.run, NodeSettings(name=name, state=state / name, **common)) for name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_sandbox", description=ABOUT)
    parser.set_defaults(network="loopback", state=None)
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common, serving, joining, running, networked = (argparse.ArgumentParser(add_help=False) for _ in range(5))

    common.add_argument("--exit-with-parent", action="store_true", help="end when the starting process ends")
    serving.add_argument("--kubeconfig", type=Path, help="where to write the kubeconfig (default: state folder)")
    serving.add_argument("--state", type=Path, help="folder for everything that is written (default: temporary)")
    serving.add_argument("--port", type=_port, default=0, help="port of the API server (default: any free one)")
    serving.add_argument("--token", default="", help=argparse.SUPPRESS)
    serving.add_argument(
        "--token-auth-file",
        type=_users,
        default={},
        metavar="FILE",
        dest="users",
        help='further users, as for kube-apiserver: lines of token,user,uid,"group,group"',
    )
    joining.add_argument("--kubeconfig", type=Path, default=os.environ.get("KUBECONFIG"))
    running.add_argument("--image", type=_image, action="append", default=[], metavar="NAME=COMMAND")
    running.add_argument("--restart-backoff", type=float, default=10.0, help="seconds before the second restart")
    networked.add_argument(
        "--network",
        choices=list(NETWORKS),
        default="loopback",
        help="addresses of pods and Services: on loopback, or (as root) in network namespaces of their own",
    )

    def add(name: str, parts: Parts, told: str, *groups: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=told, parents=[common, *groups])
        command.set_defaults(parts=parts)
        return command

    up = add("up", _all, "everything: API server, controllers, scheduler, node, proxy", serving, running, networked)
    add("apiserver", lambda *_: [], "the API server alone", serving)
    add("controllers", lambda *_: [manager.run], "the controllers against an API server", joining)
    add("scheduler", lambda *_: [scheduler.run], "the scheduler against an API server", joining)
    add("proxy", _proxy, "the Service proxy against an API server", joining, networked)
    add("gateway", lambda *_: [gateway.run], "a gateway for HTTPRoutes against an API server", joining)
    node = add("node", _nodes, "a node against an API server", joining, running, networked)
    up.add_argument(
        "--pods",
        choices=["process", "instant", "none"],
        default="process",
        help="process: run them; instant: Ready at once, no processes; none: no node and no scheduler",
    )
    up.add_argument("--gateway", action="store_true", help="install the Gateway API and route HTTP by HTTPRoutes")
    up.add_argument("--nodes", type=int, default=1, help="how many nodes (default: 1)")
    node.add_argument("--name", default="sandbox-0", help="the node's name")
    node.add_argument("--state", type=Path, help="folder for pods' files (default: temporary)")
    node.add_argument("--pods", choices=["process", "instant"], default="process")
    return parser


class NotStarted(Exception):
    """The surroundings do not allow the start; the message says what is in the way."""


async def _serve(options: argparse.Namespace, state: Path) -> None:
    """An API server, with all the rest or alone."""
    kubeconfig = (options.kubeconfig or state / "kubeconfig").absolute()
    async with (
        NETWORKS[options.network]() as network,
        _control_plane(options, state, kubeconfig, network) as plane,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(run(Connection(plane.url, plane.token), *options.parts(options, state, network)))
        if options.command == "up":  # from when on a pod may be created
            await plane.until_there("serviceaccounts", ("default", "default"))
        print(f"API server: {plane.url}\nexport KUBECONFIG={kubeconfig}", flush=True)
        await asyncio.Event().wait()  # until a signal comes, or a part fails


@contextlib.asynccontextmanager
async def _control_plane(
    options: argparse.Namespace, state: Path, kubeconfig: Path, network: Network
) -> AsyncIterator[ControlPlane]:
    """Start an API server and write its kubeconfig. Raises NotStarted."""
    kept = state if options.state is not None else None
    plane = control_plane(
        port=options.port, token=options.token, state=kept, extra_users=options.users, services=network.services
    )
    async with contextlib.AsyncExitStack() as stack:
        try:
            started = await stack.enter_async_context(plane)
            write_kubeconfig(kubeconfig, started.url, started.token)
        except OSError as error:
            where = f"use {error.filename}" if error.filename else f"listen on {HOST}:{options.port}"
            raise NotStarted(f"cannot {where}: {_reason(error)}") from error
        except ValueError as error:
            raise NotStarted(f"cannot use the state in {state}: {error}") from error
        yield started


async def _join(options: argparse.Namespace, state: Path, connection: Connection) -> None:
    """One part, against any API server. Raises NotStarted when that does not answer."""
    server = connection.url.partition("/as/")[0]  # what follows is a token
    try:
        async with Client(connection, "model-sandbox") as client:
            version = await client.get("/version")
    except (aiohttp.ClientError, TimeoutError, ApiFailure) as error:
        raise NotStarted(f"the API server {server} does not answer: {_reason(error)}") from error
    if version is None:
        raise NotStarted(f"{server} answers, but is no API server")
    async with NETWORKS[options.network]() as network:
        await run(connection, *options.parts(options, state, network))


def _reason(error: Exception) -> str:
    """Return the system's own words for an error where there are some: libraries repeat the address in theirs."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, aiohttp.ClientSSLError):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _connection(path: Path | str | None) -> Connection:
    if not path:
        raise SystemExit("error: which API server? Give --kubeconfig FILE or set KUBECONFIG")
    try:
        return read_kubeconfig(Path(path))
    except OSError as error:
        raise SystemExit(f"error: cannot read {error.filename or path}: {_reason(error)}") from None
    except yaml.YAMLError as error:
        raise SystemExit(f"error: the kubeconfig {path} is not YAML: {' '.join(str(error).split())}") from None
    except KeyError as error:
        raise SystemExit(f"error: the kubeconfig {path} lacks {error}") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise SystemExit(f"error: cannot use the kubeconfig: {error}") from None


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGINT or SIGTERM, then end everything that was started."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told.set)
    task, waiter = asyncio.ensure_future(work), asyncio.ensure_future(told.wait())
    await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    while not task.done():
        task.cancel()  # a cancellation can be lost at the edge of a timeout: it is said again
        await asyncio.wait([task], timeout=1)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _exit_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent ends, however it ends."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit("the starting process has already ended")


def _run(work: Coroutine[Any, Any, None]) -> None:
    problem = ""
    try:
        # A look at all objects for cycles takes seconds with thousands of them, finds none, and stops everybody.
        gc.set_threshold(10_000, 10, 1_000_000)
        uvloop.run(_until_signal(work))
    except* (NetworkError, NotStarted) as errors:
        problem = str(errors.exceptions[0])
    if problem:
        raise SystemExit(f"error: {problem}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the answer is the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options.exit_with_parent:
        _exit_with_parent()
    with contextlib.ExitStack() as stack:
        temporary = options.state or stack.enter_context(tempfile.TemporaryDirectory(prefix="model-sandbox-"))
        state = Path(temporary).absolute()  # pods run in folders of their own
        try:
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SystemExit(f"error: cannot use the folder {state}: {error.strerror}") from None
        if options.command in ("up", "apiserver"):
            print(ABOUT, end="", flush=True)
            _run(_serve(options, state))
        else:
            _run(_join(options, state, _connection(options.kubeconfig)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
