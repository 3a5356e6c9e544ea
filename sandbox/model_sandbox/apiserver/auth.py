"""Who asks, and whether they may: bearer tokens, ServiceAccount tokens, RBAC.

`server.py` asks this before every request. A ServiceAccount's token is a signed JWT that names it, so that
what a pod may do is decided by the RBAC objects of its ServiceAccount, as on a cluster.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_sandbox.apiserver.errors import ApiError, Obj, forbidden
from model_sandbox.apiserver.selectors import match_selector
from model_sandbox.apiserver.store import Store

MASTERS = "system:masters"
RBAC = "rbac.authorization.k8s.io"
ACCOUNT = "system:serviceaccount:"  # what the name of a ServiceAccount as a user begins with


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated user."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""

    def body(self) -> Obj:
        """The userInfo of reviews."""
        info: Obj = {"username": self.name, "groups": list(self.groups)}
        return {**info, "uid": self.uid} if self.uid else info


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a request wants to do."""

    verb: str
    group: str = ""
    resource: str = ""  # with its subresource: pods/log
    namespace: str = ""
    name: str = ""
    path: str = ""  # for what is no resource


def named_user(name: str, groups: Sequence[str], uid: str = "") -> User:
    """A user by name, with the groups that every user or ServiceAccount of that name has."""
    own = ["system:authenticated"]
    if name.startswith(ACCOUNT):
        own = ["system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}", *own]
    return User(name, tuple(dict.fromkeys([*groups, *own])), uid)


def read_users(path: str) -> dict[str, User]:
    """The users of a token file by token, in lines of `token,user,uid,"group,group"`. Raises OSError and ValueError."""
    users = {}
    with Path(path).open(newline="") as file:
        for number, line in enumerate(csv.reader(file, skipinitialspace=True), start=1):
            if not line or line[0].startswith("#"):
                continue
            if not 3 <= len(line) <= 4 or not all(line[:2]):
                raise ValueError(f'{path}, line {number}: write token,user,uid,"group,group"; groups may be left out')
            token, name, uid, groups = [*line, ""][:4]
            users[token] = named_user(name, list(filter(None, map(str.strip, groups.split(",")))), uid)
    return users


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Tokens:
    """Checks and issues tokens. `static` maps tokens to users; `secret` signs ServiceAccount tokens."""

    def __init__(self, static: Mapping[str, User], secret: bytes) -> None:
        self._static = dict(static)
        self._secret = secret

    def issue(self, namespace: str, name: str, uid: str, *, expires: int) -> str:
        """A ServiceAccount's token that is good until `expires` (Unix time)."""
        claims = {
            "iss": "https://kubernetes.default.svc",
            "aud": ["https://kubernetes.default.svc"],
            "sub": f"{ACCOUNT}{namespace}:{name}",
            "exp": expires,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        }
        header = {"alg": "HS256", "typ": "JWT"}
        signed = f"{_segment(json.dumps(header).encode())}.{_segment(json.dumps(claims).encode())}"
        return f"{signed}.{self._sign(signed)}"

    def _sign(self, text: str) -> str:
        return _segment(hmac.new(self._secret, text.encode(), hashlib.sha256).digest())

    def user(self, header: str, *, now: float, store: Store) -> User | None:
        """The user of an Authorization header; None when the token is not good."""
        if not header:
            return ANONYMOUS
        scheme, _, token = header.encode("ascii", "replace").decode().partition(" ")
        if scheme.lower() != "bearer":
            return None
        for known, user in self._static.items():
            if hmac.compare_digest(known.encode(), token.strip().encode()):
                return user
        return self._service_account(token.strip(), now, store)

    def _service_account(self, token: str, now: float, store: Store) -> User | None:
        signed, _, signature = token.rpartition(".")
        if not signed or not hmac.compare_digest(self._sign(signed), signature):
            return None
        payload = signed.partition(".")[2]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        about = claims["kubernetes.io"]
        namespace, account = about["namespace"], about["serviceaccount"]
        entry = store.get("serviceaccounts", (namespace, account["name"]))
        if claims["exp"] < now or entry is None or entry.body["metadata"]["uid"] != account["uid"]:
            return None
        return named_user(claims["sub"], (), account["uid"])


def is_allowed(store: Store, user: User, wants: Attributes) -> bool:
    """Whether the RBAC objects allow it."""
    if MASTERS in user.groups or (wants.resource in _SELF and wants.verb == "create" and user is not ANONYMOUS):
        return True
    if wants.path and wants.path.startswith(_PUBLIC if user is ANONYMOUS else _KNOWN):
        return True
    return any(_matches(rule, wants) for rule in rules(store, user, wants.namespace))


_PUBLIC = ("/version", "/healthz", "/livez", "/readyz")
_KNOWN = (*_PUBLIC, "/api", "/openapi")
_SELF = ("selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews")


def rules(store: Store, user: User, namespace: str) -> Iterator[Obj]:
    """The rules of every role that is bound to a user, in the cluster and in a namespace."""
    bindings = [store.scan(f"clusterrolebindings.{RBAC}")]
    bindings += [store.scan(f"rolebindings.{RBAC}", namespace)] if namespace else []
    for (space, _), entry in itertools.chain(*bindings):
        if any(_is_bound(subject, user, space) for subject in entry.body.get("subjects") or []):
            yield from _role(store, entry.body["roleRef"], space)


def _is_bound(subject: Obj, user: User, namespace: str) -> bool:
    kind, name = subject.get("kind"), subject.get("name")
    if kind == "ServiceAccount":
        return user.name == f"{ACCOUNT}{subject.get('namespace') or namespace}:{name}"
    return (kind == "User" and name == user.name) or (kind == "Group" and name in user.groups)


def _role(store: Store, reference: Obj, namespace: str) -> list[Obj]:
    cluster = reference["kind"] == "ClusterRole"
    entry = store.get(f"{'cluster' if cluster else ''}roles.{RBAC}", ("" if cluster else namespace, reference["name"]))
    if entry is None:
        return []
    # What a controller would write into a role that is put together from others is looked up at each question.
    roles, todo = {}, [entry.body]
    while todo:
        role = todo.pop()
        roles[role["metadata"]["name"]] = role
        for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []:
            found = (one.body for _, one in store.scan(f"clusterroles.{RBAC}"))
            chosen = (one for one in found if match_selector(selector, one["metadata"].get("labels") or {}))
            todo += [one for one in chosen if one["metadata"]["name"] not in roles]
    return [rule for role in roles.values() for rule in role.get("rules") or ()]


def _matches(rule: Obj, wants: Attributes) -> bool:
    def names(member: str, *wanted: str) -> bool:
        return not {"*", *wanted}.isdisjoint(rule.get(member) or ())

    if not names("verbs", wants.verb):
        return False
    if wants.path:
        urls = rule.get("nonResourceURLs") or []
        return any(url == wants.path or (url.endswith("*") and wants.path.startswith(url[:-1])) for url in urls)
    part, only = wants.resource.partition("/")[2], rule.get("resourceNames")
    known = names("apiGroups", wants.group) and names("resources", wants.resource, *((f"*/{part}",) if part else ()))
    return known and (not only or wants.name in only)


def refuse(user: User, wants: Attributes) -> ApiError:
    """The 403 that says what was not allowed."""
    if wants.path:
        why = f'User "{user.name}" cannot {wants.verb} path "{wants.path}"'
        return ApiError(403, "Forbidden", f"forbidden: {why}", details={})
    place = f'in the namespace "{wants.namespace}"' if wants.namespace else "at the cluster scope"
    why = f'User "{user.name}" cannot {wants.verb} resource "{wants.resource}" in API group "{wants.group}" {place}'
    return forbidden(wants.resource.partition("/")[0], wants.group, wants.name, why)
