"""TLS to a broker: whom the server trusts, which certificate it shows, and why a handshake failed.

The files of the Secret are read at each connection, so that renewed certificates need no restart.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from model_server.messaging.broker import (
    BrokerCertificateExpired,
    BrokerError,
    BrokerRefused,
    BrokerUntrusted,
    EncryptionMismatch,
    TLSFilesInvalid,
)

_PROBE_SECONDS = 3.0
#: How long a server may take to say that it does not like the certificate of the client, in seconds.
_ALERT_SECONDS = 1.0
#: Codes of OpenSSL (`X509_V_ERR_`) for a certificate outside of its time, with the words for it.
_TIMES = {9: "is not valid yet", 10: "has expired"}
#: What OpenSSL calls an answer that is no TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")
_WHERE = "the Secret of spec.server.stream.tls"


class WatchedObject(ssl.SSLObject):
    """One TLS connection, which leaves the reason of a failure with its context: clients lose it."""

    def do_handshake(self) -> None:
        """As ssl.SSLObject has it."""
        with self._watched():
            super().do_handshake()

    # What a broker says of the client's certificate comes after the handshake (TLS 1.3).
    def read(self, len: int = 1024, buffer: bytearray | None = None) -> bytes:  # type: ignore[override]  # noqa: A002
        """As ssl.SSLObject has it."""
        with self._watched():
            return super().read(len, buffer)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if isinstance(self.context, WatchedContext):
                self.context.failure = error
            raise


class WatchedContext(ssl.SSLContext):
    """A context that knows the last failure of its connections."""

    sslobject_class = WatchedObject
    failure: ssl.SSLError | None = None


class Encryption:
    """How connections to one broker are encrypted.

    Args:
        folder: a mounted Secret with `ca.crt`, `tls.crt` and `tls.key`, as cert-manager writes it; each may be absent.
        ca_file: authorities to trust besides the system's, where the Secret has no `ca.crt`.
    """

    def __init__(self, folder: Path | None, ca_file: Path | None) -> None:
        self._folder, self._ca_file = folder, ca_file
        self._context: WatchedContext | None = None

    def context(self) -> ssl.SSLContext:
        """A context of what the files hold now. Raises TLSFilesInvalid."""
        # As ssl.create_default_context has it: the chain and the host name are verified.
        self._context = context = WatchedContext(ssl.PROTOCOL_TLS_CLIENT)
        authorities, certificate, key = self._file("ca.crt"), self._file("tls.crt"), self._file("tls.key")
        try:
            if authorities is not None:
                context.load_verify_locations(authorities)
            else:
                context.load_default_certs()
                if self._ca_file is not None:
                    context.load_verify_locations(self._ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _invalid(f"{authorities or self._ca_file} has no certificates in PEM form", error) from None
        if (certificate is None) != (key is None):
            raise _invalid(f"{self._folder} has only one of tls.crt and tls.key", None)
        if certificate is not None and key is not None:
            try:
                context.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as error:
                raise _invalid(f"{certificate} and tls.key beside it are no certificate with its key", error) from None
        return context

    def problem(self, broker: str, *, plain: str, encrypted: str) -> BrokerError | None:
        """What the last failure of the current context means; None where there was none, or none that says it."""
        failure = self._context.failure if self._context is not None else None
        return None if failure is None else problem_of(failure, broker, plain=plain, encrypted=encrypted)

    def _file(self, name: str) -> Path | None:
        if self._folder is None or not (self._folder / name).is_file():
            return None
        return self._folder / name


def problem_of(failure: ssl.SSLError, broker: str, *, plain: str, encrypted: str) -> BrokerError | None:
    """What a failure of TLS means; None where it says nothing of certificates.

    Args:
        broker: the broker with its address, for the message.
        plain, encrypted: the schemes of addresses without and with TLS, for the hint.
    """
    if isinstance(failure, ssl.SSLCertVerificationError):
        if words := _TIMES.get(failure.verify_code):
            return BrokerCertificateExpired(f"the certificate of {broker} {words}", hint="Renew it at the broker.")
        return BrokerUntrusted(
            f"the certificate of {broker} is not trusted: {failure.verify_message}",
            hint=f"Write the authority that signed it as ca.crt into {_WHERE}; the host of the address must be in it.",
        )
    reason = failure.reason or ""
    if any(word in reason for word in _NO_TLS):
        return EncryptionMismatch(
            f"{broker} does not encrypt, and the address does",
            hint=f"Name the port for TLS, or write {plain}:// instead of {encrypted}://.",
        )
    if "ALERT" in reason:
        words = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return BrokerRefused(
            f"{broker} refuses the connection or its certificate: {words}",
            hint=f"Give a certificate that the broker trusts, as tls.crt and tls.key in {_WHERE}.",
        )
    return None


async def speaks_tls(
    servers: Sequence[tuple[str, int]], context: ssl.SSLContext, *, greets_first: bool = False
) -> bool:
    """Whether the first of these hosts and ports that answers has TLS. Sends nothing but the greeting of TLS.

    With `greets_first` TLS begins after a line of the server in plain text.

    What the server says against it is left with a WatchedContext; a client that goes on at once may lose it.
    """
    for host, port in servers:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                reader, writer = await _opened(host, port, context, greets_first=greets_first)
        except ssl.SSLCertVerificationError:
            # Nobody else has a certificate.
            return True
        except ssl.SSLError:
            return False
        except (OSError, TimeoutError, ValueError):
            # A line that is too long is none of a broker.
            continue
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_ALERT_SECONDS):
                await reader.read(1)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True
    return False


async def _opened(
    host: str, port: int, context: ssl.SSLContext, *, greets_first: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not greets_first:
        return await asyncio.open_connection(host, port, ssl=context)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        await reader.readline()
        await writer.start_tls(context, server_hostname=host)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


def _invalid(what: str, error: Exception | None) -> TLSFilesInvalid:
    words = f": {getattr(error, 'strerror', None) or type(error).__name__}" if error is not None else ""
    return TLSFilesInvalid(f"{what}{words}", hint=f"Look at ca.crt, tls.crt and tls.key in {_WHERE}.")
