"""Proxies in a few lines: HTTP CONNECT and SOCKS 5. They record where they were asked to lead to."""

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any


class Tunnel(StreamRequestHandler):
    """One connection through a proxy; `asked` collects targets and, for HTTP, Proxy-Authorization."""

    asked: list[str]

    def join(self, host: str, port: int, ready: bytes) -> None:
        """Copy bytes both ways until one side ends."""
        with socket.create_connection((host, port)) as far:
            self.connection.sendall(ready)
            back = Thread(target=_copy, args=(far, self.connection))
            back.start()
            _copy(self.connection, far)
            back.join()


class HttpTunnel(Tunnel):
    """RFC 9110, CONNECT."""

    def handle(self) -> None:
        words = self.rfile.readline().decode().split()
        if not words:
            return
        headers = http.client.parse_headers(self.rfile)
        self.asked.append(f"{' '.join(words[:2])} {headers.get('Proxy-Authorization', '')}".strip())
        host, _, port = words[1].rpartition(":")
        self.join(host, int(port), b"HTTP/1.1 200 OK\r\n\r\n")


class SocksTunnel(Tunnel):
    """RFC 1928 without authentication, for IPv4 addresses and names."""

    def handle(self) -> None:
        if not (greeting := self.rfile.read(2)):
            return
        self.rfile.read(greeting[1])
        self.connection.sendall(b"\x05\x00")
        kind = self.rfile.read(4)[3]
        host = socket.inet_ntoa(self.rfile.read(4)) if kind == 1 else self.rfile.read(self.rfile.read(1)[0]).decode()
        port = int.from_bytes(self.rfile.read(2), "big")
        self.asked.append(f"{host}:{port}")
        self.join(host, port, b"\x05\x00\x00\x01" + bytes(6))


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def tunnel(kind: type[Tunnel]) -> Iterator[tuple[int, list[str]]]:
    """Run a proxy on loopback; gives its port and the list of what it is asked for."""
    asked: list[str] = []
    handler: Callable[..., Any] = type("Recording", (kind,), {"asked": asked})
    server = ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
