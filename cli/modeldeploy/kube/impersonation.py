"""User impersonation: `--as`, `--as-group`, `--as-uid`, and the `as...` fields of a kubeconfig's user. PURE.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

from modeldeploy.kube.errors import KubeconfigError

#: What RFC 9110 allows in a header's name besides letters and digits; kubectl escapes the rest, and "%".
_IN_NAMES = "!#$&'*+-.^_`|~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Impersonation:
    """The user that a request is made as; empty fields say nothing."""

    user: str = ""
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def from_user(cls, user: Mapping[str, Any]) -> Self:
        """Read the `as`, `as-groups`, `as-uid` and `as-user-extra` of a kubeconfig's user. Raises `KubeconfigError`."""
        groups, extra = user.get("as-groups") or [], user.get("as-user-extra") or {}
        if not isinstance(groups, list):
            raise KubeconfigError(f"as-groups of the kubeconfig's user has to be a list, not {groups!r}")
        if not isinstance(extra, dict) or not all(isinstance(values, list) for values in extra.values()):
            raise KubeconfigError(f"as-user-extra of the kubeconfig's user has to map names to lists, not {extra!r}")
        uid, name = str(user.get("as-uid") or ""), str(user.get("as") or "")
        return cls(user=name, groups=tuple(map(str, groups)), uid=uid, extra=extra)

    def or_as(self, other: "Impersonation") -> "Impersonation":
        """Return this one, with empty fields taken from another: flags win over the kubeconfig, as in kubectl."""
        return Impersonation(
            user=self.user or other.user,
            groups=self.groups or other.groups,
            uid=self.uid or other.uid,
            extra=self.extra or other.extra,
        )

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers, one for each value. Raises `KubeconfigError` for anything without a user."""
        if not self.user:
            if self.groups or self.uid or self.extra:
                raise KubeconfigError("--as-group and --as-uid (as-groups, as-uid) need a user: add --as USER")
            return []
        headers = [("Impersonate-User", self.user), *(("Impersonate-Group", group) for group in self.groups)]
        if self.uid:
            headers.append(("Impersonate-Uid", self.uid))
        for key, values in self.extra.items():
            headers += [(f"Impersonate-Extra-{quote(str(key), safe=_IN_NAMES)}", str(value)) for value in values]
        # Python sends headers as Latin-1, Kubernetes reads them as UTF-8.
        return [(name, value.encode().decode("latin-1")) for name, value in headers]
