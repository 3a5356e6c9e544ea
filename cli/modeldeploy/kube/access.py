"""The official client's Configuration for a kubeconfig or a pod's ServiceAccount. Used by `transport`.

The library reads files and credentials (`loader.py` says where kubectl does more). What it does not know at
all is set here: impersonation, and how kubectl picks a proxy.
"""

import copy
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_incluster_config
from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME
from kubernetes.config.kube_config import KubeConfigMerger

from modeldeploy.kube.errors import KubeconfigError
from modeldeploy.kube.impersonation import Impersonation
from modeldeploy.kube.loader import Loader

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_SECTIONS = ("clusters", "contexts", "users")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach one cluster. `headers` go with every request, besides the credentials."""

    configuration: Any
    namespace: str
    headers: Sequence[tuple[str, str]]

    def with_token(self, token: str) -> "Access":
        """Return the way to the same server as the user of a bearer token, and with no other credential."""
        configuration = copy.copy(self.configuration)
        configuration.api_key, configuration.api_key_prefix = {"authorization": f"Bearer {token}"}, {}
        configuration.username = configuration.password = None
        configuration.cert_file = configuration.key_file = None
        configuration.refresh_api_key_hook = None
        return Access(configuration=configuration, namespace=self.namespace, headers=())


def read_access(
    path: Path | None = None, context: str | None = None, impersonation: Impersonation | None = None
) -> Access:
    """Read `path`, else the files of $KUBECONFIG, else ~/.kube/config, else the pod's ServiceAccount.

    Raises `KubeconfigError`.
    """
    files = [path] if path else _default_paths()
    there = [file for file in files if _exists(file)]
    chosen = impersonation or Impersonation()
    if there:
        return _from_files(there, context, chosen)
    if path is None and os.environ.get(SERVICE_HOST_ENV_NAME):
        return _in_cluster(chosen)
    raise KubeconfigError(f"{files[0]} does not exist; set KUBECONFIG, or start a sandbox with: make sandbox")


def _default_paths() -> list[Path]:
    files = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return files or [Path.home() / ".kube/config"]


def _exists(file: Path) -> bool:
    """Whether there is anything, readable or not."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise KubeconfigError(f"{file} cannot be read: {error.strerror}") from error
    return True


def _from_files(files: Sequence[Path], context: str | None, impersonation: Impersonation) -> Access:
    merger, shown = _merged(files), ", ".join(map(str, files))
    # The library takes the last file's, kubectl the first that is set.
    currents = (config.get("current-context") for config in merger.config_files.values())
    name = context or next((one for one in currents if one), None)
    if not name:
        raise KubeconfigError(f"{shown}: has no current-context; name one with --context")
    link = _entry(merger, "contexts", name, shown)
    _entry(merger, "clusters", link.get("cluster"), shown)
    user = _entry(merger, "users", link["user"], shown) if link.get("user") else {}
    headers = impersonation.or_as(Impersonation.from_user(user)).headers()
    configuration = Configuration()
    try:
        loader = Loader(merger.config, name, config_base_path=None, config_persister=merger.save_changes)
        loader.load_and_set(configuration)
    except ConfigException as error:
        raise KubeconfigError(f"{shown}: {error}") from error
    _set_proxy(configuration, has_own="proxy" in vars(loader))
    _check_tls(configuration, link)
    return Access(configuration=configuration, namespace=str(link.get("namespace") or "default"), headers=headers)


def _in_cluster(impersonation: Impersonation) -> Access:
    configuration = Configuration()
    try:
        load_incluster_config(configuration)
    except ConfigException as error:
        raise KubeconfigError(f"no kubeconfig, and no ServiceAccount of a pod: {error}") from error
    configuration.retries = False
    namespace = os.environ.get("POD_NAMESPACE") or _POD_NAMESPACE.read_text(encoding="utf-8").strip()
    return Access(configuration=configuration, namespace=namespace, headers=impersonation.headers())


def _merged(files: Sequence[Path]) -> Any:
    """Return the library's merger with all files in it: of entries of one name it takes the first, as kubectl does."""
    merger = KubeConfigMerger("")
    for file in files:
        try:
            merger.load_config(str(file))
        except ConfigException:
            continue  # it is empty, which is no error to kubectl
        except OSError as error:
            raise KubeconfigError(f"{file} cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise KubeconfigError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
        except (TypeError, AttributeError, KeyError) as error:
            raise KubeconfigError(_no_kubeconfig(file)) from error
        merger.paths.append(str(file))
        config = merger.config_files[str(file)]
        for section in _SECTIONS:
            if not all(isinstance(one, dict) and "name" in one for one in config.get(section) or []):
                raise KubeconfigError(_no_kubeconfig(file))
    if merger.config is None:
        raise KubeconfigError(f"{', '.join(map(str, files))}: is empty")
    merger.config_saved = copy.deepcopy(merger.config_files)
    return merger


def _no_kubeconfig(file: Path) -> str:
    return f"{file} is no kubeconfig: it needs lists of named entries: {', '.join(_SECTIONS)}"


def _entry(merger: Any, section: str, name: Any, shown: str) -> dict[str, Any]:
    """Return what stands under a name. Raises `KubeconfigError` with the names that there are."""
    entries = {node["name"]: node.value for node in merger.config.value[section]}
    if name not in entries:
        names = ", ".join(sorted(map(str, entries))) or "none"
        raise KubeconfigError(f"{shown} has no entry {name!r} in {section}; known are: {names}")
    return entries[name].get(section.removesuffix("s")) or {}


def _set_proxy(configuration: Any, *, has_own: bool) -> None:
    """Choose the proxy as kubectl does.

    `proxy-url` holds whatever NO_PROXY says, HTTPS_PROXY never for this machine itself, and both may carry a password.
    """
    configuration.retries = False  # a command says at once what is wrong; those that wait ask again by themselves
    if has_own:
        configuration.no_proxy = None
    elif _is_loopback(urlsplit(configuration.host).hostname or ""):
        configuration.proxy = None
    proxy = urlsplit(configuration.proxy or "")
    if proxy.username:
        pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        configuration.proxy_headers = urllib3.make_headers(proxy_basic_auth=pair)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_tls(configuration: Any, link: dict[str, Any]) -> None:
    """Say which part of the kubeconfig is no certificate, where a handshake would only fail."""
    if not configuration.host.startswith("https://"):
        return
    if not configuration.verify_ssl:
        # It was asked for in the kubeconfig: no warning with every request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    try:
        tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    except (ssl.SSLError, OSError) as error:
        problem = "certificate-authority is no certificate in PEM"
        raise KubeconfigError(f"cluster {link.get('cluster')!r}: {problem}") from error
    if not configuration.cert_file:
        return
    try:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    except (ssl.SSLError, OSError) as error:
        problem = "client-certificate and client-key are no pair in PEM"
        raise KubeconfigError(f"user {link.get('user')!r}: {problem}") from error
