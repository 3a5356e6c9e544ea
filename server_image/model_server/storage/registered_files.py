"""Files of a registered version that lie in a storage of their own; for the sources that are registries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from model_server.errors import SettingsInvalid
from model_server.storage import find_source
from model_server.storage.progress import Progress

#: Where a version's files may lie besides the registry: never on the disk of this pod.
SCHEMES = ("s3", "gs", "az", "https", "hf", "oci")
_AZURE = re.compile(r"(?:wasbs|abfss)://(?P<container>[^/@]+)@(?P<account>[a-z0-9]+)\.(?:blob|dfs)\.[^/]+/(?P<key>.+)")


def named_in(uri: str, form: re.Pattern[str], *, hint: str) -> re.Match[str]:
    """What a URI of a registry's form names. Raises SettingsInvalid."""
    match = form.fullmatch(uri)
    if match is None:
        raise SettingsInvalid(f"storageUri {uri!r} names no version of a registered model", hint=hint)
    return match


def stored_at(location: str, uri: str, *, hint: str) -> str:
    """The storage URI of a version's files. Raises SettingsInvalid for a place that no source reads."""
    if match := _AZURE.fullmatch(location):
        return f"az://{match['account']}/{match['container']}/{match['key']}"
    if location.partition("://")[0] in SCHEMES:
        return location
    where = location.partition(":")[0][:32] or "nowhere"
    known = f"wasbs:, abfss: and {', '.join(f'{one}:' for one in SCHEMES)}"
    raise SettingsInvalid(
        f"{uri}: the registry keeps this version at {where}:, which no other machine can read",
        hint=f"{hint}; known are {known}.",
    )


def fetch_version(address: str, root: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download what lies at a storage URI to the folder `root`, whose name is the version's; one file goes into it."""
    fetched = find_source(address).fetch(address, root.parent / ".download", environ=environ, progress=progress)
    if fetched.is_dir():
        return fetched.rename(root)
    root.mkdir(parents=True)
    fetched.rename(root / fetched.name)
    return root
