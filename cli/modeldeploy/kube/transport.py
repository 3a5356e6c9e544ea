"""Requests to the API server through the official client, and one line for each way they fail. Used by `client`.

Only here and in `access`, `loader` and `exec_plugin` is the official client imported, which takes a third of a second:
`client` imports this module when it connects, so that `--help` and the commands without a cluster do not pay for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from urllib3.exceptions import HTTPError, ProxyError, SSLError

from modeldeploy.kube.access import Access
from modeldeploy.kube.documents import loads
from modeldeploy.kube.errors import KubeconfigError, KubeError, KubeUnreachable

#: Seconds to connect, and to wait for an answer.
_TIMEOUT = (10.0, 30.0)
#: The same for a watch, which an API server ends itself after `WATCH_SECONDS`.
WATCH_SECONDS = 300
_WATCH_TIMEOUT = (10.0, WATCH_SECONDS + 30.0)
#: Bytes of an answer that is relayed.
_LARGEST_ANSWER = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Relayed:
    """What a server behind the API server's proxy answered."""

    status: int
    body: bytes


class _Client(ApiClient):  # type: ignore[misc]
    """The library's client with headers of its own: those that repeat, as Impersonate-Group does, fit in no dict."""

    def __init__(self, access: Access) -> None:
        super().__init__(access.configuration)
        self.user_agent = f"modeldeploy/{version('modeldeploy')}"
        self._headers = access.headers

    def call_api(self, method: str, url: str, header_params: Any = None, *rest: Any, **options: Any) -> Any:
        headers = urllib3.HTTPHeaderDict(header_params or {})
        for name, value in self._headers:
            headers.add(name, value)
        return super().call_api(method, url, headers, *rest, **options)


class Transport:
    """Sends requests to one API server. Close it."""

    def __init__(self, access: Access) -> None:
        self._shown, self._proxy = _address(access.configuration.host), _address(access.configuration.proxy or "")
        try:
            self._client = _Client(access)
        except (HTTPError, ValueError, ImportError) as error:
            raise KubeconfigError(f"the proxy {self._proxy} cannot be used: {error}") from error
        # Paths are known: nothing is discovered, and no cache of it written to the folder for temporary files.
        self._dynamic = DynamicClient(self._client, discoverer=lambda *_: None)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
        content_type: str = "application/json",
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send one request and return the object that is answered. Raises `KubeError`, `KubeUnreachable`."""
        with self._errors():
            response = self._request(method, path, query, accept, content_type, body)
            status, text = response.status, response.data
        answer = _json(text)
        if not isinstance(answer, dict) or "kind" not in answer:
            raise self._stranger(status)
        return answer

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the lines of an answer as they arrive, as a watch does. Raises `KubeError`, `KubeUnreachable`."""
        with self._errors():
            response = self._request("get", path, query, timeout=_WATCH_TIMEOUT)
            try:
                yield from response
            finally:
                response.close()

    def relay(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
    ) -> Relayed:
        """Send a request through the API server's proxy; what the server behind it answers is no error.

        Raises `KubeError`, `KubeUnreachable`.
        """
        with self._errors():
            try:
                response = self._request(method, path, query, "*/*", body=body, headers=headers)
                data = response.read(_LARGEST_ANSWER + 1, decode_content=True)
                response.close()
            except ApiException as error:
                answer = _json(error.body)
                if not error.status or (isinstance(answer, dict) and answer.get("kind") == "Status"):
                    raise
                return Relayed(int(error.status), _bytes(error.body))
        if len(data) > _LARGEST_ANSWER:
            raise KubeUnreachable(f"the answer of {path} has more than {_LARGEST_ANSWER} bytes")
        return Relayed(response.status, data)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        accept: str = "application/json",
        content_type: str = "application/json",
        body: Mapping[str, Any] | None = None,
        timeout: tuple[float, float] = _TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return urllib3's answer, whose body was not read yet."""
        return self._dynamic.request(
            method,
            path,
            body=body,
            query_params=[(name, value) for name, value in (query or {}).items() if value],
            header_params={**(headers or {}), "Accept": accept},
            content_type=content_type,
            serialize=False,
            _request_timeout=timeout,
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise our errors for the library's."""
        try:
            yield
        except ApiException as error:
            if not error.status:  # what the library makes of a failed TLS handshake
                raise self._untrusted(str(error.reason)) from error
            if error.status < 400:  # a redirect, to which credentials do not follow
                raise self._stranger(error.status) from error
            # It has all that the library knows; in a notebook one trace is read, and three are not.
            raise refusal(int(error.status), str(error.reason), error.body) from None
        except SSLError as error:
            raise self._untrusted(str(error)) from error
        except ProxyError as error:
            problem = f"{self._shown} is not reached by the proxy {self._proxy}: {_reason(error.original_error)}"
            raise KubeUnreachable(problem) from error
        except HTTPError as error:
            raise KubeUnreachable(f"{self._shown} does not answer: {_reason(error)}") from error
        except ValueError:  # from http.client, with the header's content: it may be a token
            problem = "a token or a name of the kubeconfig does not fit into a header: it has a line break in it"
            raise KubeconfigError(problem) from None

    def _stranger(self, status: int) -> KubeUnreachable:
        problem = f"answers with {status} and no object of Kubernetes: is there an API server at this address?"
        return KubeUnreachable(f"{self._shown} {problem}")

    def _untrusted(self, reason: str) -> Exception:
        """Return the error for a failed handshake: what the kubeconfig has to change, where it is the certificate."""
        text = " ".join(reason.removeprefix("SSLError").split())
        if "CERTIFICATE_VERIFY_FAILED" not in text:
            return KubeUnreachable(f"{self._shown} does not answer: {text}")
        if "ostname mismatch" in text or "IP address mismatch" in text:
            hint = "set tls-server-name of the kubeconfig's cluster to a name that it is valid for"
        else:
            hint = "set certificate-authority of the kubeconfig's cluster to the authority that signed it"
        return KubeconfigError(f"the certificate of {self._shown} is not trusted: {_reason(text)}; {hint}")


def _address(url: str) -> str:
    """Return what to name a server or proxy by: user and path may hold a secret."""
    parts = urllib3.util.parse_url(url)
    return f"{parts.scheme}://{parts.netloc}"


def refusal(status: int, phrase: str, body: str | bytes | Sequence[Any] | None) -> KubeError:
    """Return what an answer that is an error says, as Kubernetes' Status or as anything else."""
    answer = _json(body)
    if isinstance(answer, dict) and answer.get("message"):
        code, message = int(answer.get("code") or status), str(answer["message"])
        reason = str(answer.get("reason") or "")
    else:
        code, reason = status, phrase
        text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
        message = f"{code} {reason}: {' '.join(text.split())[:300]}"
    hint = ": the API server does not take the kubeconfig's credentials" if code == 401 else ""
    return KubeError(code, reason, message + hint)


def _json(body: Any) -> Any:
    """What the body says as JSON, None where it is something else."""
    try:
        return loads(body)
    except (ValueError, TypeError):
        return None


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body or "").encode()


def _reason(error: Exception | str) -> str:
    """Return the last part of one of urllib3's messages, which begin with objects and their addresses."""
    text = " ".join(str(error).split())
    for opening in ("certificate verify failed: ", "Failed to establish a new connection: ", "Failed to resolve "):
        _, found, tail = text.partition(opening)
        if found:
            return (opening if opening.startswith("Failed to r") else "") + tail.partition(" (_ssl.c")[0]
    return text
