"""What child processes see of the server's environment, which has credentials of the storage in it."""

from __future__ import annotations

from collections.abc import Mapping

_SEEN = frozenset(
    name.casefold()
    for name in (
        *("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "XDG_CACHE_HOME", "SYSTEMROOT"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    )
)


def environment_of_child(environ: Mapping[str, str], *, prefix: str = "") -> dict[str, str]:
    """Return paths, locale, proxies and certificates, and with a `prefix` the variables that begin with it."""
    return {
        name: value
        for name, value in environ.items()
        if (prefix and name.startswith(prefix)) or name.casefold() in _SEEN
    }
