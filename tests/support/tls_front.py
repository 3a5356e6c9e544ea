"""An API server over TLS, with an authority and with users of its own: a front before the sandbox's, which speaks HTTP.

It records who asked and how, so that a test can say which credentials and headers a client sent.
"""

import base64
import datetime
import http.client
import ipaddress
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """A certificate authority with its files in `folder`."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / f"{name.replace(' ', '-')}.crt"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, common_name: str, *, hosts: tuple[str, ...] = (), age: int = 1) -> tuple[Path, Path]:
        """Write a certificate for a user, or for a server with these hosts, and its key; return both files.

        It is valid for two days, from `age` days ago on.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        builder = _builder(name, self._name, key, age).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(one) for one in hosts]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        files = self._folder / f"{common_name}.crt", self._folder / f"{common_name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        return files


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, age: int = 1
) -> x509.CertificateBuilder:
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age)
    end = begin + datetime.timedelta(days=2)
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), begin, end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )  # fmt: skip


def _usage(*, signs: bool) -> x509.KeyUsage:
    names = [
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    ]
    return x509.KeyUsage(digital_signature=True, key_cert_sign=signs, crl_sign=signs, **dict.fromkeys(names, False))


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass
class Front:
    """A running front. `accepts` are values of Authorization; certificates of its authority are accepted too."""

    url: str
    authority: Authority
    accepts: set[str] = field(default_factory=set)
    asked: list[Any] = field(default_factory=list)  # the headers of each request
    users: list[str] = field(default_factory=list)  # the name in the client's certificate, "" without one

    def kubeconfig(self, file: Path, user: dict[str, Any], **cluster: Any) -> Path:
        """Write a kubeconfig that leads here, trusting the authority unless something else is said."""
        trust = (
            {} if "insecure-skip-tls-verify" in cluster else {"certificate-authority": str(self.authority.certificate)}
        )
        fields = {"server": self.url, **trust, **cluster}
        file.write_text(yaml.safe_dump(a_config(user, fields)))
        return file


def inline(file: Path) -> str:
    """Return a file as the `-data` fields of a kubeconfig hold it."""
    return base64.b64encode(file.read_bytes()).decode()


def a_config(user: dict[str, Any], cluster: dict[str, Any]) -> dict[str, Any]:
    """Return a kubeconfig with one cluster, one user and one context, each by the name of "here"."""
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here", "namespace": "default"}}],
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "here", "user": user}],
    }


@contextmanager
def front(folder: Path, upstream: str, token: str, hosts: tuple[str, ...] = ("127.0.0.1",)) -> Iterator[Front]:
    """Run a front before the API server at `upstream`, to which it goes with `token`; only GET and PATCH."""
    authority = Authority(folder)
    certificate, key = authority.issue("server", hosts=hosts)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.load_verify_locations(authority.certificate)
    tls.verify_mode = ssl.CERT_OPTIONAL
    running = Front("", authority)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            subject = dict(part[0] for part in (self.connection.getpeercert() or {}).get("subject", ()))
            user = subject.get("commonName", "")
            running.asked.append(self.headers)
            running.users.append(user)
            if user or self.headers.get("Authorization") in running.accepts:
                self._forward()
            else:
                status = {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}
                self._answer(401, json.dumps(status).encode())

        def do_PATCH(self) -> None:
            self.do_GET()

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            passed = {name: self.headers[name] for name in ("Accept", "Content-Type") if self.headers[name]}
            connection = http.client.HTTPConnection(urlsplit(upstream).netloc)
            connection.request(self.command, self.path, body, {**passed, "Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            self._answer(response.status, response.read())
            connection.close()

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Handler, tls) as port:
        running.url = f"https://127.0.0.1:{port}"
        yield running


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve HTTP, or HTTPS with `tls`, on a free port of loopback."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: Any, client_address: Any) -> None:
            """Shake hands in the connection's own thread; a client that does not trust us is no error of ours."""
            if tls is None:
                super().finish_request(request, client_address)
                return
            with suppress(ssl.SSLError, ConnectionError), tls.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)

    server = Server(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
