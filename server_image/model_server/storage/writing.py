"""Writes small objects below a storage URI: the input log's sink and the results of batch prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore

from model_server.errors import SettingsInvalid
from model_server.storage.s3 import s3_store

Put: TypeAlias = Callable[[str, bytes], None]


def open_folder(uri: str, environ: Mapping[str, str]) -> Put:
    """A function that writes `content` under a relative name. Raises SettingsInvalid for an unknown scheme."""
    parts = urlsplit(uri)
    prefix = unquote(parts.path).strip("/")
    store: ObjectStore
    if parts.scheme == "file":
        folder = Path("/") / prefix
        folder.mkdir(parents=True, exist_ok=True)
        store, prefix = LocalStore(folder), ""
    elif parts.scheme == "s3" and parts.netloc:
        store = s3_store(parts.netloc, environ)
    else:
        raise SettingsInvalid(f"{uri!r} cannot be written to", hint="Known: stdout, http://, https://, file://, s3://.")

    def put(name: str, content: bytes) -> None:
        obstore.put(store, f"{prefix}/{name}".lstrip("/"), content)

    return put
