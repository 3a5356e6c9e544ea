"""Credentials of registries where `docker login` and its like keep them: `config.json`, or a helper that it names.

https://docs.docker.com/reference/cli/docker/login/#credential-stores
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modeldeploy.requests import Refused

_HELPER_SECONDS = 30
#: What a helper answers as the user of an identity token, which only a token service takes.
IDENTITY_TOKEN = "<token>"  # noqa: S105 -- the name of no secret


def credentials_of(host: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """User and password for a registry, ("", "") where none are kept.

    Raises:
        Refused: the file is no configuration of Docker's, or its helper fails.
    """
    folder = environ.get("DOCKER_CONFIG") or str(Path(environ.get("HOME", "/")) / ".docker")
    path = Path(folder) / "config.json"
    if not path.is_file():
        return "", ""
    try:
        document = json.loads(path.read_bytes())
        helper = (document.get("credHelpers") or {}).get(host) or document.get("credsStore")
        entries: Mapping[str, Any] = document.get("auths") or {}
        entry: Mapping[str, Any] = next((entries[name] for name in entries if _host_of(name) == host), {})
        if "username" in entry:
            return str(entry["username"]), str(entry["password"])
        if entry.get("auth"):
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            return user, password.rstrip("\0")
    except (ValueError, AttributeError, KeyError, TypeError):
        raise Refused(f"{path} is no configuration of Docker's: write it with `docker login {host}`") from None
    return _from_helper(str(helper), host) if helper else ("", "")


def _host_of(entry: str) -> str:
    return entry.removeprefix("https://").removeprefix("http://").split("/")[0]


def _from_helper(helper: str, host: str) -> tuple[str, str]:
    if re.fullmatch(r"[\w.-]+", helper, re.ASCII) is None:
        raise Refused(f"{helper!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=host, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False
        )
        if "credentials not found" in done.stdout:
            return "", ""
        if done.returncode:
            raise Refused(f"{program} gives no credentials for {host}: {done.stdout.strip() or done.stderr.strip()}")
        found = json.loads(done.stdout)
        return str(found["Username"]), str(found["Secret"])
    except FileNotFoundError:
        raise Refused(f"config.json of Docker names {program}, which is not on the PATH") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{program} did not answer within {_HELPER_SECONDS} s") from None
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{program} answers with something that is no credentials") from None
