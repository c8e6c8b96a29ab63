"""Who may is remembered without names where the right has none, and forgotten when a rule changes."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.errors import Forbidden
from anynode.api.wire import ApiRequest, User
from anynode.apiserver import requestinfo
from anynode.apiserver.authorization import Authorizer
from anynode.apiserver.requestinfo import RequestInfo
from anynode.security.rbac import Policy

ANN = User(name="ann")


def policy(*names: str) -> Policy:
    """Ann may get pods: those of these names, or all."""
    rule: dict[str, Any] = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": list(names)}
    made = Policy()
    made.put({"kind": "ClusterRole", "metadata": {"name": "r"}, "rules": [rule]})
    made.put(
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "name": "ann"}],
        }
    )
    return made


def asked(method: str, path: str) -> RequestInfo:
    return requestinfo.parse(ApiRequest(method=method, path=f"/api/v1/namespaces/n/{path}"))


def test_a_right_without_a_name_holds_for_every_name() -> None:
    authorizer = Authorizer(policy())
    for name in ("a", "b", "a"):
        authorizer.permit(asked("GET", f"pods/{name}"), ANN)
    for refused in (asked("DELETE", "pods/a"), asked("GET", "pods/a/log"), asked("GET", "secrets/a")):
        with pytest.raises(Forbidden):
            authorizer.permit(refused, ANN)
    with pytest.raises(Forbidden):
        authorizer.permit(asked("GET", "pods/a"), User(name="bob"))


def test_a_right_to_one_name_holds_for_no_other() -> None:
    authorizer = Authorizer(policy("a"))
    for _ in range(2):
        authorizer.permit(asked("GET", "pods/a"), ANN)
        with pytest.raises(Forbidden, match='pods "b" is forbidden'):
            authorizer.permit(asked("GET", "pods/b"), ANN)


def test_what_was_allowed_is_forgotten_with_its_rule() -> None:
    authorizer = Authorizer(policy())
    authorizer.permit(asked("GET", "pods/a"), ANN)
    authorizer.policy = Policy()
    authorizer.forget()
    with pytest.raises(Forbidden):
        authorizer.permit(asked("GET", "pods/a"), ANN)
