"""Reads a kubeconfig: where the API server is and who is asking. Used by `Kube.connect`.

Covers what kubectl's files hold in practice: tokens, token files, client certificates (as files or
inline), certificate authorities, basic auth, and `exec` plugins as cloud providers use them.
"""

import base64
import json
import os
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modeldeploy.kube.errors import KubeconfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach one cluster: `headers` carry the credentials, `verify` is httpx's TLS setting."""

    server: str
    namespace: str
    headers: dict[str, str]
    verify: ssl.SSLContext


def read_access(path: Path | None = None, context: str | None = None) -> Access:
    """Read `path`, else the files of $KUBECONFIG, else ~/.kube/config. Raises `KubeconfigError`."""
    file = path or _default_path()
    if not file.is_file():
        raise KubeconfigError(f"{file} does not exist; set KUBECONFIG, or start a sandbox with: make sandbox")
    try:
        config = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise KubeconfigError(f"{file} is not YAML: {error}") from error
    chosen = context or config.get("current-context") or ""
    link = _named(config, "contexts", chosen, file)["context"]
    cluster = _named(config, "clusters", link.get("cluster", ""), file)["cluster"]
    user = _named(config, "users", link["user"], file)["user"] if link.get("user") else {}
    if user.get("exec"):
        user = {**user, **_ask_plugin(user["exec"])}
    return Access(
        server=str(cluster["server"]).rstrip("/"),
        namespace=link.get("namespace") or "default",
        headers=_headers(user, file.parent),
        verify=_tls(cluster, user, file.parent),
    )


def _default_path() -> Path:
    files = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return next((file for file in files if file.is_file()), files[0] if files else Path.home() / ".kube/config")


def _named(config: dict[str, Any], section: str, name: str, file: Path) -> dict[str, Any]:
    entries = {entry["name"]: entry for entry in config.get(section) or []}
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise KubeconfigError(f"{file} has no entry {name!r} in {section}; known are: {known}")
    found: dict[str, Any] = entries[name]
    return found


def _headers(user: dict[str, Any], folder: Path) -> dict[str, str]:
    token = user.get("token")
    if not token and user.get("tokenFile"):
        token = (folder / user["tokenFile"]).read_text().strip()
    if token:
        return {"Authorization": f"Bearer {token}"}
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def _tls(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    if not str(cluster["server"]).startswith("https"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and need not read the system's authorities
    authority = _inline_or_file(cluster, "certificate-authority", folder)
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate = _inline_or_file(user, "client-certificate", folder)
    key = _inline_or_file(user, "client-key", folder)
    if certificate and key:
        # The ssl module reads key pairs from files only; this one is gone again at once.
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(certificate + b"\n" + key)
            pair.flush()
            tls.load_cert_chain(pair.name)
    return tls


def _inline_or_file(section: dict[str, Any], key: str, folder: Path) -> bytes | None:
    if section.get(f"{key}-data"):
        return base64.b64decode(section[f"{key}-data"])
    return (folder / section[key]).read_bytes() if section.get(key) else None


def _ask_plugin(plugin: dict[str, Any]) -> dict[str, Any]:
    """Run a credential plugin (client.authentication.k8s.io) and translate its answer."""
    command = [plugin["command"], *(plugin.get("args") or [])]
    given = {entry["name"]: entry["value"] for entry in plugin.get("env") or []}
    request = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
    env = {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(request)}
    try:
        answer = subprocess.run(command, env=env, check=True, capture_output=True, timeout=60).stdout
        status = json.loads(answer)["status"]
    except FileNotFoundError as error:
        raise KubeconfigError(f"the credential plugin {command[0]} is not installed") from error
    except (subprocess.SubprocessError, ValueError, KeyError) as error:
        raise KubeconfigError(f"the credential plugin {' '.join(command)} gave no credential: {error}") from error
    translated = {"token": status.get("token")}
    for ours, theirs in (("client-certificate", "clientCertificateData"), ("client-key", "clientKeyData")):
        if status.get(theirs):
            translated[f"{ours}-data"] = base64.b64encode(status[theirs].encode()).decode()
    return translated
