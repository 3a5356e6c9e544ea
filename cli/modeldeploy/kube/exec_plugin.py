"""Credential plugins (`exec` of a kubeconfig's user), run by the official client. Used by `loader`.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kubernetes.config import ConfigException
from kubernetes.config.dateutil import parse_rfc3339
from kubernetes.config.exec_provider import ExecProvider
from kubernetes.config.kube_config import ConfigNode

from modeldeploy.kube.errors import KubeconfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a plugin gave: a token, a certificate with its key in PEM, or all of them."""

    token: str
    certificate: str
    key: str
    expiry: datetime | None


def ask(plugin: Any, cluster: Any, who: str, folder: Path) -> Credential:
    """Run a plugin from `folder`, to which its command may be relative. Raises `KubeconfigError` with what it said."""
    plugin_name = f"{who}: the credential plugin {plugin.safe_get('command')}"
    shown = _with_authority(cluster) if plugin.safe_get("provideClusterInfo") else cluster
    try:
        return _credential(ExecProvider(plugin, str(folder), shown).run())
    except FileNotFoundError as error:
        hint = " ".join(str(plugin.safe_get("installHint") or "").split())
        raise KubeconfigError(f"{plugin_name} is not installed{': ' + hint if hint else ''}") from error
    except ConfigException as error:
        raise KubeconfigError(f"{plugin_name} gave no credential: {_one_line(error)}") from error
    except AttributeError as error:
        # On a terminal the library leaves its standard error to the plugin, and then asks for its text.
        raise KubeconfigError(f"{plugin_name} failed; what it says stands above") from error
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise KubeconfigError(f"{plugin_name} gave no credential: {_one_line(error)}") from error


def _credential(status: Any) -> Credential:
    if not isinstance(status, dict):
        raise ConfigException("the status of its answer is no mapping")
    certificate, key = status.get("clientCertificateData") or "", status.get("clientKeyData") or ""
    if bool(certificate) != bool(key):
        raise ConfigException("clientCertificateData and clientKeyData belong together")
    if not status.get("token") and not certificate:
        raise ConfigException("its answer holds neither token nor clientCertificateData")
    token, expiry = str(status.get("token") or ""), _time(status.get("expirationTimestamp"))
    return Credential(token=token, certificate=certificate, key=key, expiry=expiry)


def _time(text: Any) -> datetime | None:
    try:
        return parse_rfc3339(text) if text else None
    except ValueError:
        raise ConfigException(f"expirationTimestamp {text!r} is no time as in 2030-01-31T12:00:00Z") from None


def _with_authority(cluster: Any) -> Any:
    """Return the cluster as `provideClusterInfo` has it: the authority inline (the library: the file's name)."""
    fields = dict(cluster.value)
    name = fields.pop("certificate-authority", None)
    if name and not fields.get("certificate-authority-data"):
        try:
            data = (Path(cluster.path).parent / name).read_bytes()
        except OSError as error:
            problem = f"certificate-authority {error.filename} cannot be read: {error.strerror}"
            raise KubeconfigError(problem) from error
        fields["certificate-authority-data"] = base64.b64encode(data).decode()
    return ConfigNode(cluster.name, fields, cluster.path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).removeprefix("exec: ").split())
