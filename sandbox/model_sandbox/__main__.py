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
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvloop

from model_sandbox.client import Connection, read_kubeconfig, write_kubeconfig
from model_sandbox.control_plane import control_plane
from model_sandbox.controllers import manager
from model_sandbox.node import kubelet
from model_sandbox.node.kubelet import NodeSettings
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_sandbox", description=ABOUT)
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="everything: API server, controllers, scheduler, node, proxy")
    api = commands.add_parser("apiserver", help="the API server alone")
    for one in (up, api):
        one.add_argument("--kubeconfig", type=Path, help="where to write the kubeconfig (default: state folder)")
        one.add_argument("--state", type=Path, help="folder for everything that is written (default: temporary)")
        one.add_argument("--port", type=int, default=0, help="port of the API server (default: any free one)")
        one.add_argument("--token", default="", help=argparse.SUPPRESS)
    up.add_argument(
        "--pods",
        choices=["process", "instant", "none"],
        default="process",
        help="process: run them; instant: Ready at once, no processes; none: no node and no scheduler",
    )
    up.add_argument("--gateway", action="store_true", help="install the Gateway API and route HTTP by HTTPRoutes")
    up.add_argument("--nodes", type=int, default=1, help="how many nodes (default: 1)")
    for name, told in (
        ("controllers", "the controllers against an API server"),
        ("scheduler", "the scheduler against an API server"),
        ("proxy", "the Service proxy against an API server"),
        ("gateway", "a gateway for HTTPRoutes against an API server"),
        ("node", "a node against an API server"),
    ):
        one = commands.add_parser(name, help=told)
        one.add_argument("--kubeconfig", type=Path, default=os.environ.get("KUBECONFIG"))
        if name == "node":
            one.add_argument("--name", default="sandbox-0", help="the node's name")
            one.add_argument("--state", type=Path, help="folder for pods' files (default: temporary)")
            one.add_argument("--pods", choices=["process", "instant"], default="process")
    for one in (up, commands.choices["node"]):
        one.add_argument("--image", type=_image, action="append", default=[], metavar="NAME=COMMAND")
        one.add_argument("--restart-backoff", type=float, default=10.0, help="seconds before the second restart")
    for name in ("up", "node", "proxy"):
        commands.choices[name].add_argument(
            "--network",
            choices=list(NETWORKS),
            default="loopback",
            help="addresses of pods and Services: on loopback, or (as root) in network namespaces of their own",
        )
    for one in commands.choices.values():
        one.add_argument("--exit-with-parent", action="store_true", help="end when the starting process ends")
    return parser


async def _until_signal(work: Callable[[], Awaitable[None]]) -> None:
    """Run until SIGINT or SIGTERM, then end everything that was started."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told.set)
    task, waiter = asyncio.ensure_future(work()), asyncio.ensure_future(told.wait())
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


def _connection(path: Path | str | None) -> Connection:
    if not path:
        raise SystemExit("which API server? Give --kubeconfig FILE or set KUBECONFIG")
    try:
        return read_kubeconfig(Path(path))
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"cannot use the kubeconfig: {error}") from None


async def _up(options: argparse.Namespace, state: Path) -> None:
    kept = state if options.state is not None else None
    async with (
        NETWORKS[getattr(options, "network", "loopback")]() as network,
        control_plane(port=options.port, token=options.token, state=kept, services=network.services) as plane,
    ):
        kubeconfig = options.kubeconfig or state / "kubeconfig"
        write_kubeconfig(kubeconfig, plane.user_url, plane.token)
        connection = Connection(plane.url, plane.token)
        async with asyncio.TaskGroup() as tasks:
            if options.command == "up":
                tasks.create_task(manager.run(connection))
                tasks.create_task(services.run(connection, network))
                if options.gateway:
                    tasks.create_task(gateway.run(connection))
                if options.pods != "none":
                    tasks.create_task(manager.schedule(connection))
                    for index in range(options.nodes):
                        settings = _node_settings(options, state, f"sandbox-{index}", network)
                        tasks.create_task(kubelet.run(connection, settings))
                await plane.first_account()
            print(f"API server: {plane.url}\nexport KUBECONFIG={kubeconfig.absolute()}", flush=True)
            await asyncio.Event().wait()  # until a signal comes, or a part fails


def _node_settings(options: argparse.Namespace, state: Path, name: str, network: Network) -> NodeSettings:
    return NodeSettings(
        name=name,
        state=state / name,
        instant=options.pods == "instant",
        images=dict(options.image),
        backoff=options.restart_backoff,
        network=network,
    )


async def _node(options: argparse.Namespace, state: Path, connection: Connection) -> None:
    async with NETWORKS[options.network]() as network:
        await kubelet.run(connection, _node_settings(options, state, options.name, network))


async def _proxy(options: argparse.Namespace, connection: Connection) -> None:
    async with NETWORKS[options.network]() as network:
        await services.run(connection, network)


def _run(work: Callable[[], Awaitable[None]]) -> None:
    problem = ""
    try:
        # A look at all objects for cycles takes seconds with thousands of them, finds none, and stops everybody.
        gc.set_threshold(10_000, 10, 1_000_000)
        uvloop.run(_until_signal(work))
    except* NetworkError as errors:
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
        state: Path | None = getattr(options, "state", None)
        if state is None:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="model-sandbox-")))
        state = state.absolute()  # pods run in folders of their own
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if options.command in ("up", "apiserver"):
            print(ABOUT, end="", flush=True)
            _run(lambda: _up(options, state))
            return 0
        connection = _connection(options.kubeconfig)
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "controllers": lambda: manager.run(connection),
            "scheduler": lambda: manager.schedule(connection),
            "proxy": lambda: _proxy(options, connection),
            "gateway": lambda: gateway.run(connection),
            "node": lambda: _node(options, state, connection),
        }
        _run(parts[options.command])
    return 0


if __name__ == "__main__":
    sys.exit(main())
