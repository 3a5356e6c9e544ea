"""How a pod's server is asked: through the API server with the user's rights, or at its address inside a cluster."""

import contextlib
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlencode

import urllib3

from modeldeploy.dashboard.view.pods import Pod
from modeldeploy.kube import PODS, Kube, KubeconfigError, KubeError, KubeUnreachable

#: Seconds to connect and to wait for an answer, and the most bytes of one.
_TIMEOUT = urllib3.Timeout(connect=2, read=5)
_MOST_BYTES = 2_000_000


class PodSilent(Exception):
    """A pod has not answered. `is_forbidden`: the API server does not let the user ask any."""

    def __init__(self, message: str, *, is_forbidden: bool = False) -> None:
        super().__init__(message)
        self.is_forbidden = is_forbidden


class PodReader(Protocol):
    """Asks one pod for a page. Called from several threads."""

    def read(self, pod: Pod, path: str, query: Mapping[str, list[str]]) -> bytes:
        """Return the body of the answer. Raises `PodSilent`."""


class ThroughApiServer:
    """Asks by the API server's proxy, which needs the right `get` on `pods/proxy`."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def read(self, pod: Pod, path: str, query: Mapping[str, list[str]]) -> bytes:
        """Return the body of the answer. Raises `PodSilent`."""
        name = f"{pod.scheme}:{pod.name}:{pod.port}"
        try:
            answer = self._kube.relay(PODS, name, _with(path, query), pod.namespace)
        except KubeError as error:
            raise PodSilent(str(error), is_forbidden=error.code == 403) from error
        except (KubeUnreachable, KubeconfigError) as error:
            raise PodSilent(str(error)) from error
        if answer.status != 200:
            raise PodSilent(f"{pod.name} answers {path} with {answer.status}")
        return answer.body


class AtItsAddress:
    """Asks the pod's address itself, as the operator does: no right is needed, a network policy may forbid it."""

    def __init__(self) -> None:
        # A model's certificate names its Service and not a pod's address; nothing secret is sent.
        self._pool = urllib3.PoolManager(num_pools=64, cert_reqs="CERT_NONE", assert_hostname=False, retries=False)
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def read(self, pod: Pod, path: str, query: Mapping[str, list[str]]) -> bytes:
        """Return the body of the answer. Raises `PodSilent`."""
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        url = f"{pod.scheme}://{host}:{pod.port}{_with(path, query)}"
        try:
            response = self._pool.request("GET", url, timeout=_TIMEOUT, preload_content=False, redirect=False)
            with contextlib.closing(response):
                if response.status != 200:
                    raise PodSilent(f"{pod.name} answers {path} with {response.status}")
                body: bytes = response.read(_MOST_BYTES, decode_content=False)
                return body
        except urllib3.exceptions.HTTPError as error:
            raise PodSilent(f"{pod.name} does not answer: {' '.join(str(error).split())}") from error


def _with(path: str, query: Mapping[str, list[str]]) -> str:
    return f"{path}?{urlencode(query, doseq=True)}" if query else path
