"""Narrow rights before wide ones, and the first refusal told."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.errors import BadRequest, Forbidden
from anynode.api.wire import ApiRequest, User
from anynode.apiserver import impersonation
from anynode.apiserver.authorization import Authorizer
from anynode.apiserver.impersonation import Impersonation
from anynode.security.rbac import Attributes, Policy

ANN = User(name="ann")
ROOT = User(name="root", groups=("system:masters",))
LIST_PODS = Attributes(verb="list", version="v1", resource="pods", namespace="ns")
AUTHENTICATION = "authentication.k8s.io"


def rule(verb: str, resource: str, group: str = "", *names: str) -> dict[str, Any]:
    return {"verbs": [verb], "apiGroups": [group], "resources": [resource], "resourceNames": list(names)}


def policy(*rules: dict[str, Any], user: str = "ann") -> Policy:
    made = Policy()
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}}
    made.put({**role, "rules": list(rules)})
    made.put(
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "name": user}],
        }
    )
    return made


def acting(wanted: User, *rules: dict[str, Any], user: User = ANN, target: Attributes = LIST_PODS) -> User:
    return Impersonation(Authorizer(policy(*rules, user=user.name))).impersonated(wanted, user, target)


def request(**headers: str) -> ApiRequest:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return ApiRequest(method="GET", path="/", query={}, headers=sent, body=b"", user=None)


def test_headers_are_read() -> None:
    assert impersonation.wanted_user(request()) is None
    asked = request(impersonate_user="bob", impersonate_group="a, b", impersonate_uid="u")
    asked.headers["impersonate-extra-example.com%2fk"] = "x, y"
    wanted = User(name="bob", groups=("a", "b"), uid="u", extra={"example.com/k": ("x", "y")})
    assert impersonation.wanted_user(asked) == wanted
    with pytest.raises(BadRequest, match=r'Groups:\[\]string\{"a"\}.* without impersonating a user name'):
        impersonation.wanted_user(request(impersonate_group="a"))


def test_without_a_right_the_narrow_one_is_named() -> None:
    with pytest.raises(Forbidden) as refused:
        acting(User(name="bob"))
    said = 'pods is forbidden: User "ann" cannot impersonate-on:user-info:list resource "pods" in API group "" '
    assert str(refused.value) == f'{said}in the namespace "ns"'
    with pytest.raises(Forbidden, match="impersonate-on:serviceaccount:list"):
        acting(User(name="system:serviceaccount:ns:bot"))
    with pytest.raises(Forbidden, match="impersonate-on:arbitrary-node:list"):
        acting(User(name="system:node:n1"))


def test_a_narrow_right_holds_for_what_it_names_only() -> None:
    rules = (
        rule("impersonate-on:user-info:list", "pods"),
        rule("impersonate:user-info", "users", AUTHENTICATION, "bob"),
    )
    assert acting(User(name="bob"), *rules).groups == ("system:authenticated",)
    with pytest.raises(Forbidden, match="impersonate-on:user-info:get"):
        acting(User(name="bob"), *rules, target=Attributes(verb="get", version="v1", resource="pods", namespace="ns"))
    with pytest.raises(Forbidden, match='cannot impersonate:user-info resource "users" in API group "authentication'):
        acting(User(name="eve"), *rules)
    with pytest.raises(Forbidden, match='cannot impersonate:user-info resource "groups"'):
        acting(User(name="bob", groups=("devs",)), *rules)


def test_the_wide_right_is_enough() -> None:
    assert acting(User(name="bob"), rule("impersonate", "users")).name == "bob"
    with pytest.raises(Forbidden):
        acting(User(name="bob", uid="u"), rule("impersonate", "users"))
    both = (rule("impersonate", "users"), rule("impersonate", "uids", AUTHENTICATION))
    assert acting(User(name="bob", uid="u"), *both).uid == "u"
    account = acting(User(name="system:serviceaccount:ns:bot"), rule("impersonate", "serviceaccounts"))
    assert account.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")


def test_who_may_all_may_be_anybody() -> None:
    assert acting(User(name="eve", groups=("system:masters",)), user=ROOT).groups[0] == "system:masters"
    assert acting(User(name="system:anonymous"), user=ROOT).groups == ("system:unauthenticated",)
    assert acting(User(name="x", groups=("system:unauthenticated",)), user=ROOT).groups == ("system:unauthenticated",)
    assert acting(User(name="system:node:n1"), user=ROOT).groups == ("system:nodes", "system:authenticated")


def test_the_own_node_needs_a_right_for_all_own_nodes() -> None:
    pod = User(
        name="system:serviceaccount:ns:agent",
        extra={"authentication.kubernetes.io/node-name": ("n1",), "authentication.kubernetes.io/pod-name": ("p",)},
    )
    rules = (
        rule("impersonate-on:associated-node:list", "pods"),
        rule("impersonate:associated-node", "nodes", AUTHENTICATION),
    )
    assert acting(User(name="system:node:n1"), *rules, user=pod).groups == ("system:nodes", "system:authenticated")
    with pytest.raises(Forbidden):
        acting(User(name="system:node:n2"), *rules, user=pod)


def test_odd_extras_are_not_for_the_narrow_rights() -> None:
    rules = (rule("impersonate-on:user-info:list", "pods"), rule("impersonate:user-info", "*", AUTHENTICATION))
    assert acting(User(name="bob", extra={"a": ("b",)}), *rules).extra == {"a": ("b",)}
    with pytest.raises(Forbidden, match='a non-lowercase key in extra is not allowed: "A"'):
        acting(User(name="bob", extra={"A": ("b",)}), *rules)


def test_the_right_that_was_enough_last_is_looked_at_first() -> None:
    known = Impersonation(Authorizer(policy(rule("impersonate", "users", "", "bob"))))
    with pytest.raises(Forbidden, match="impersonate-on:user-info:list"):
        known.impersonated(User(name="eve"), ANN, LIST_PODS)
    known.impersonated(User(name="bob"), ANN, LIST_PODS)
    with pytest.raises(Forbidden, match='users "eve" is forbidden: User "ann" cannot impersonate resource "users"'):
        known.impersonated(User(name="eve"), ANN, LIST_PODS)
