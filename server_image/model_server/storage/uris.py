"""Takes the URIs of object stores apart: `scheme://bucket/key`, in which every character stands for itself.

A key may hold `#`, `?`, `%` and `+`, and none of them means there what it means in a URL: `s3://models/run#7` is the
object `run#7`, as it is for the providers' own tools.
"""

from __future__ import annotations

from model_server.errors import SettingsInvalid


def split_object_uri(uri: str) -> tuple[str, str]:
    """Bucket (or account) and key, "" where one is missing; slashes at the key's ends are no part of it.

    Raises SettingsInvalid for a key with an empty segment or a relative one, which the library cannot ask for.
    """
    bucket, _, key = uri.partition("://")[2].partition("/")
    key = key.strip("/")
    if key and not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise SettingsInvalid(
            f"storageUri {uri!r} has an empty segment, `.` or `..` in its key, which cannot be read",
            hint="Correct the URI; or copy the package to a key without them.",
        )
    return bucket, key


def local_path(uri: str) -> str:
    """The path of `file:///path` or `pvc://claim/path`, as written there: `#` and `?` are part of a file's name."""
    return "/" + uri.partition("://")[2].partition("/")[2]
