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
from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class _Entry:
    """One cluster, context or user, and the folder that its file names are relative to."""

    name: str
    fields: dict[str, Any]
    folder: Path


def read_access(path: Path | None = None, context: str | None = None) -> Access:
    """Read `path`, else the files of $KUBECONFIG, else ~/.kube/config. Raises `KubeconfigError`.

    Of several files the first one that has an entry wins, as with kubectl.
    """
    files = [path] if path else _default_paths()
    there = [file for file in files if file.exists()]
    if not there:
        raise KubeconfigError(f"{files[0]} does not exist; set KUBECONFIG, or start a sandbox with: make sandbox")
    configs = [(file, _read(file)) for file in there]
    shown = ", ".join(map(str, there))
    chosen = context or next((one["current-context"] for _, one in configs if one.get("current-context")), "")
    if not chosen:
        raise KubeconfigError(f"{shown}: has no current-context; name one with --context")
    link = _named(configs, "context", chosen, shown).fields
    cluster = _named(configs, "cluster", link.get("cluster", ""), shown)
    user = _named(configs, "user", link["user"], shown) if link.get("user") else _Entry("", {}, cluster.folder)
    if user.fields.get("exec"):
        user.fields.update(_ask_plugin(user.fields["exec"]))
    return Access(
        server=_server(cluster),
        namespace=link.get("namespace") or "default",
        headers=_headers(user),
        verify=_tls(cluster, user),
    )


def _default_paths() -> list[Path]:
    files = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return files or [Path.home() / ".kube/config"]


def _read(file: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise KubeconfigError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise KubeconfigError(f"{file} is no kubeconfig: it holds a {type(config).__name__} where a mapping is needed")
    return config


def _named(configs: Sequence[tuple[Path, dict[str, Any]]], kind: str, name: str, shown: str) -> _Entry:
    section, known = f"{kind}s", []
    for file, config in configs:
        entries = config.get(section) or []
        if not isinstance(entries, list) or not all(isinstance(one, dict) and "name" in one for one in entries):
            raise KubeconfigError(f"{file}: {section} is no list of named entries")
        for entry in entries:
            if entry["name"] == name:
                return _Entry(name, dict(entry.get(kind) or {}), file.parent)
            known.append(entry["name"])
    raise KubeconfigError(
        f"{shown} has no entry {name!r} in {section}; known are: {', '.join(sorted(known)) or 'none'}"
    )


def _server(cluster: _Entry) -> str:
    server = str(cluster.fields.get("server") or "")
    if not server:
        raise KubeconfigError(f"cluster {cluster.name!r} has no server in the kubeconfig")
    if not server.startswith(("http://", "https://")):
        raise KubeconfigError(f"cluster {cluster.name!r}: server {server!r} is no http:// or https:// URL")
    return server.rstrip("/")


def _headers(user: _Entry) -> dict[str, str]:
    fields = user.fields
    token = fields.get("token")
    if not token and fields.get("tokenFile"):
        token = _bytes_of(user, "tokenFile").decode(errors="replace").strip()
    if token:
        return {"Authorization": f"Bearer {token}"}
    if fields.get("username"):
        pair = f"{fields['username']}:{fields.get('password', '')}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def _tls(cluster: _Entry, user: _Entry) -> ssl.SSLContext:
    if not _server(cluster).startswith("https"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and need not read the system's authorities
    authority = _inline_or_file(cluster, "certificate-authority")
    try:
        tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    except (ssl.SSLError, ValueError) as error:
        raise KubeconfigError(f"cluster {cluster.name!r}: certificate-authority is no certificate in PEM") from error
    if cluster.fields.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate = _inline_or_file(user, "client-certificate")
    key = _inline_or_file(user, "client-key")
    if certificate and key:
        # The ssl module reads key pairs from files only; this one is gone again at once.
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(certificate + b"\n" + key)
            pair.flush()
            try:
                tls.load_cert_chain(pair.name)
            except ssl.SSLError as error:
                told = "client-certificate and client-key are no pair in PEM"
                raise KubeconfigError(f"user {user.name!r}: {told}") from error
    return tls


def _inline_or_file(entry: _Entry, key: str) -> bytes | None:
    if inline := entry.fields.get(f"{key}-data"):
        try:
            return base64.b64decode("".join(str(inline).split()), validate=True)
        except ValueError as error:
            raise KubeconfigError(f"{entry.name!r}: {key}-data is not base64") from error
    return _bytes_of(entry, key) if entry.fields.get(key) else None


def _bytes_of(entry: _Entry, key: str) -> bytes:
    path = entry.folder / str(entry.fields[key])
    try:
        return path.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{entry.name!r}: {key} {path} cannot be read: {error.strerror}") from error


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
