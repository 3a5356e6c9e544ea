"""Printer columns and ages."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from model_sandbox.apiserver import cells, jsonpath, tables
from model_sandbox.apiserver.auth import Attributes, Tokens, User, is_allowed, read_users
from model_sandbox.apiserver.store import Store

BODY = {"spec": {"a.b": 1, "l": [{"n": 1}, {"n": 2}]}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec['a.b']", [1]),
        (".spec.a\\.b", [1]),
        (".spec.l[0].n", [1]),
        (".spec.l[-1].n", [2]),
        (".spec.l[*].n", [1, 2]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        ('.status.conditions[?(@.type=="Other")].status', []),
        (".spec.l[?(@.n>1)].n", [2]),
        (".nothing.here", []),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert jsonpath.find(path, BODY) == found


def test_a_path_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot read"):
        jsonpath.find(".spec[", BODY)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (90000, "25h"),
        (10**6, "11d"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert cells.duration(seconds) == text


NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "value", "cell"),
    [
        ("string", True, "true"),
        ("string", {"b": 1}, '{"b":1}'),
        ("integer", "x", None),
        ("date", "2029-12-31T23:59:00Z", "60s"),
        ("boolean", "yes", None),
    ],
)
def test_cells_of_custom_columns(column: str, value: Any, cell: Any) -> None:
    assert tables.custom_cell({"type": column, "jsonPath": ".x"}, {"x": value}, NOW) == cell


def rbac(store: Store, rules: list[Any], *, namespace: str = "") -> None:
    store.put("clusterroles.rbac.authorization.k8s.io", ("", "r"), {"metadata": {"name": "r"}, "rules": rules})
    binding = {
        "metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "sa", "namespace": "n"}],
    }
    plural = "rolebindings" if namespace else "clusterrolebindings"
    store.put(f"{plural}.rbac.authorization.k8s.io", (namespace, "b"), binding)


USER = User("system:serviceaccount:n:sa", ("system:authenticated",))
PODS = {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}


@pytest.mark.parametrize(
    ("wants", "allowed"),
    [
        pytest.param(Attributes("get", "", "pods", "n", "x"), True, id="what a rule names"),
        pytest.param(Attributes("get", "", "pods/log", "n", "x"), True, id="a subresource that is named"),
        pytest.param(Attributes("list", "", "pods", "n"), False, id="another verb"),
        pytest.param(Attributes("get", "", "pods/status", "n", "x"), False, id="a subresource that is not named"),
        pytest.param(Attributes("get", "apps", "pods", "n", "x"), False, id="another group"),
        pytest.param(Attributes("get", path="/version"), True, id="the version is public"),
        pytest.param(Attributes("get", path="/metrics"), False, id="another path"),
    ],
)
def test_rights_of_a_service_account(wants: Attributes, allowed: bool) -> None:
    store = Store()
    rbac(store, [PODS])
    assert is_allowed(store, USER, wants) is allowed


def test_a_role_binding_reaches_its_namespace_alone() -> None:
    store = Store()
    rbac(store, [PODS], namespace="n")
    assert is_allowed(store, USER, Attributes("get", "", "pods", "n", "x"))
    assert not is_allowed(store, USER, Attributes("get", "", "pods", "other", "x"))
    assert not is_allowed(store, USER, Attributes("get", "", "pods", "", "x"))


def test_a_rule_may_be_about_some_names() -> None:
    store = Store()
    rbac(store, [{**PODS, "resourceNames": ["x"]}])
    assert is_allowed(store, USER, Attributes("get", "", "pods", "n", "x"))
    assert not is_allowed(store, USER, Attributes("get", "", "pods", "n", "y"))


def test_a_role_for_people_is_put_together_from_those_with_its_label_over_two_steps() -> None:
    kind, label = "clusterroles.rbac.authorization.k8s.io", "rbac.authorization.k8s.io/aggregate-to"
    store = Store()
    rbac(store, [])
    for name, of, rules in (("r", "", []), ("edit", "admin", []), ("more", "edit", [PODS])):
        role = {"metadata": {"name": name, "labels": {f"{label}-{of}": "true"}}, "rules": rules}
        selects = {"r": "admin", "edit": "edit"}.get(name)
        chosen = {"clusterRoleSelectors": [{"matchLabels": {f"{label}-{selects}": "true"}}]}
        store.put(kind, ("", name), {**role, **({"aggregationRule": chosen} if selects else {})})
    assert is_allowed(store, USER, Attributes("get", "", "pods", "n", "x"))
    assert not is_allowed(store, USER, Attributes("delete", "", "pods", "n", "x"))


def account(store: Store, uid: str) -> None:
    store.put("serviceaccounts", ("n", "sa"), {"metadata": {"name": "sa", "namespace": "n", "uid": uid}})


@pytest.mark.parametrize(
    ("spoil", "now", "uid"),
    [
        pytest.param(lambda token: token[:-2] + "xx", 0.0, "u", id="another signature"),
        pytest.param(lambda token: token, 200.0, "u", id="expired"),
        pytest.param(lambda token: token, 0.0, "other", id="of an account that was made anew"),
        pytest.param(lambda token: "", 0.0, "u", id="empty"),
        pytest.param(lambda token: "a.b.c", 0.0, "u", id="nonsense"),
    ],
)
def test_a_bad_token_is_nobody(spoil: Any, now: float, uid: str) -> None:
    store = Store()
    account(store, uid)
    tokens = Tokens({}, b"key")
    token = tokens.issue("n", "sa", "u", expires=100)
    assert tokens.user(f"Bearer {spoil(token)}", now=now, store=store) is None


def test_a_good_token_names_its_account() -> None:
    store = Store()
    account(store, "u")
    tokens = Tokens({}, b"key")
    token = tokens.issue("n", "sa", "u", expires=100)
    user = tokens.user(f"Bearer {token}", now=0.0, store=store)
    assert user is not None
    assert user.name == "system:serviceaccount:n:sa"
    assert "system:serviceaccounts:n" in user.groups


def test_users_of_a_token_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text('# token, user, uid, groups\nt1,ada,7,"devs, ops"\nt2,bob,\n')
    everybody = "system:authenticated"
    assert read_users(str(path)) == {
        "t1": User("ada", ("devs", "ops", everybody), "7"),
        "t2": User("bob", (everybody,)),
    }
    path.write_text("t1\n")
    with pytest.raises(ValueError, match=r"line 1: write token,user,uid"):
        read_users(str(path))
