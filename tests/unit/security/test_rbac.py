"""Decisions and their reasons, and that they cost microseconds with a full bootstrap policy."""

from __future__ import annotations

import timeit
from typing import Any

import pytest

from anynode.api.objects import Object
from anynode.api.wire import User
from anynode.security import bootstrap, rbac
from anynode.security.rbac import Attributes, Policy, decide

ALICE = User(name="alice", groups=("devs", "system:authenticated"))
ROBOT = User(name="system:serviceaccount:ns:robot", groups=("system:serviceaccounts", "system:serviceaccounts:ns"))


def role(name: str, *rules: Object, namespace: str = "") -> Object:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"kind": "Role" if namespace else "ClusterRole", "metadata": metadata, "rules": list(rules)}


def binding(name: str, to: str, *subjects: Object, namespace: str = "", kind: str = "ClusterRole") -> Object:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"kind": kind, "name": to},
        "subjects": list(subjects),
    }


def rule(verbs: str, resources: str, groups: str = "", **more: Any) -> Object:
    return {"verbs": verbs.split(), "resources": resources.split(), "apiGroups": groups.split(",")} | more


def policy(*contents: Object) -> Policy:
    made = Policy()
    for obj in contents:
        made.put(obj)
    return made


USER = {"kind": "User", "name": "alice"}
GROUP = {"kind": "Group", "name": "devs"}
ACCOUNT = {"kind": "ServiceAccount", "name": "robot"}


def test_reasons_name_binding_role_and_subject() -> None:
    read = rule("get list", "pods")
    asked = Attributes(verb="get", resource="pods", namespace="ns", name="a")
    cluster = policy(role("reader", read), binding("readers", "reader", GROUP))
    said = 'RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "devs"'
    assert decide(ALICE, asked, cluster) == (True, said)
    local = policy(role("reader", read, namespace="ns"), binding("b", "reader", USER, namespace="ns", kind="Role"))
    assert decide(ALICE, asked, local) == (True, 'RBAC: allowed by RoleBinding "b/ns" of Role "reader" to User "alice"')
    robots = policy(role("reader", read), binding("b", "reader", ACCOUNT, namespace="ns"))
    said = 'RBAC: allowed by RoleBinding "b/ns" of ClusterRole "reader" to ServiceAccount "robot/ns"'
    assert decide(ROBOT, asked, robots) == (True, said)
    assert decide(ALICE, asked, robots) == (False, "")
    assert not decide(ROBOT, Attributes(verb="get", resource="pods", namespace="other"), robots).allowed
    assert not decide(ROBOT, Attributes(verb="get", resource="pods"), robots).allowed


def test_a_missing_role_is_said_until_it_is_there() -> None:
    asked = Attributes(verb="list", resource="secrets", namespace="ns")
    made = policy(binding("b", "late", USER, namespace="ns", kind="Role"))
    assert decide(ALICE, asked, made) == (False, 'RBAC: role.rbac.authorization.k8s.io "late" not found')
    made.put(binding("c", "later", USER))
    assert decide(ALICE, asked, made).reason == (
        'RBAC: [clusterrole.rbac.authorization.k8s.io "later" not found, '
        'role.rbac.authorization.k8s.io "late" not found]'
    )
    made.put(role("late", rule("list", "secrets"), namespace="ns"))
    assert decide(ALICE, asked, made).allowed
    made.remove(role("late", namespace="ns"))
    assert not decide(ALICE, asked, made).allowed


@pytest.mark.parametrize(
    ("allowing", "asked", "allowed"),
    [
        (rule("get", "pods"), Attributes(verb="get", resource="pods", subresource="log"), False),
        (rule("get", "pods/log"), Attributes(verb="get", resource="pods", subresource="log"), True),
        (rule("get", "pods/log"), Attributes(verb="get", resource="pods"), False),
        (rule("get", "*/log"), Attributes(verb="get", resource="pods", subresource="log"), True),
        (rule("get", "*/lo"), Attributes(verb="get", resource="pods", subresource="log"), False),
        (rule("*", "*", "*"), Attributes(verb="x", group="g", resource="r", subresource="s"), True),
        (rule("*", "*", "*"), Attributes(verb="get", path="/metrics"), False),
        (rule("get", "pods", "apps"), Attributes(verb="get", resource="pods"), False),
        (rule("get", "pods", resourceNames=["a"]), Attributes(verb="get", resource="pods", name="a"), True),
        (rule("get", "pods", resourceNames=["a"]), Attributes(verb="get", resource="pods", name="b"), False),
        (rule("list", "pods", resourceNames=["a"]), Attributes(verb="list", resource="pods"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}, Attributes(verb="get", path="/healthz"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}, Attributes(verb="get", path="/healthz/x"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}, Attributes(verb="get", path="/healthz/x"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["*"]}, Attributes(verb="post", path="/x"), False),
    ],
)
def test_what_a_rule_covers(allowing: Object, asked: Attributes, allowed: bool) -> None:
    assert decide(ALICE, asked, policy(role("r", allowing), binding("b", "r", USER))).allowed is allowed


def test_changed_and_removed_bindings_leave_nothing_behind() -> None:
    asked = Attributes(verb="get", resource="pods")
    made = policy(role("r", rule("get", "pods")), binding("b", "r", USER, GROUP))
    made.put(binding("b", "r", ACCOUNT | {"namespace": "ns"}))
    assert not decide(ALICE, asked, made).allowed
    assert decide(ROBOT, asked, made).allowed
    made.remove(binding("b", "r"))
    assert not decide(ROBOT, asked, made).allowed
    assert not made._by_subject


def test_masters_pass_without_any_policy() -> None:
    admin = User(name="admin", groups=("system:masters",))
    assert decide(admin, Attributes(verb="x", resource="y"), Policy()) == (True, "")


def test_refusals_as_users_read_them() -> None:
    asked = Attributes(verb="get", group="apps", resource="deployments", subresource="status", namespace="ns")
    said = 'User "alice" cannot get resource "deployments/status" in API group "apps" in the namespace "ns"'
    assert rbac.refusal(ALICE, asked) == said
    assert rbac.refusal(ALICE, asked, "why") == f"{said}: why"
    nodes = Attributes(verb="list", resource="nodes")
    assert rbac.refusal(ALICE, nodes).endswith('cannot list resource "nodes" in API group "" at the cluster scope')
    assert rbac.refusal(ALICE, Attributes(verb="get", path="/a&b")) == 'User "alice" cannot get path "/a&amp;b"'


def test_escalation_names_single_rights() -> None:
    held = [rule("get list", "pods"), rule("get", "secrets", resourceNames=["s"])]
    assert rbac.uncovered([rule("get", "pods"), rule("get", "secrets", resourceNames=["s"])], held) == []
    assert rbac.uncovered([rule("get watch", "pods secrets")], held) == [
        rule("watch", "pods"), rule("get", "secrets"), rule("watch", "secrets"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def bootstrapped() -> Policy:
    return policy(*(each.obj for each in bootstrap.objects() if each.resource.group == rbac.GROUP))


def test_the_bootstrap_policy_does_what_its_names_say(bootstrapped: Policy) -> None:
    anybody = User(name="system:anonymous", groups=("system:unauthenticated",))
    assert decide(anybody, Attributes(verb="get", path="/version"), bootstrapped).allowed
    assert not decide(anybody, Attributes(verb="get", path="/api"), bootstrapped).allowed
    assert decide(ALICE, Attributes(verb="get", path="/api/v1"), bootstrapped).allowed
    assert not decide(ALICE, Attributes(verb="list", resource="pods", namespace="ns"), bootstrapped).allowed
    scheduler = User(name="system:kube-scheduler", groups=("system:authenticated",))
    bind = Attributes(verb="create", resource="pods", subresource="binding", namespace="ns")
    assert decide(scheduler, bind, bootstrapped).allowed
    rules, wrong = rbac.rules_for(ALICE, "ns", bootstrapped)
    assert {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"]} in rules
    assert wrong == ""


def test_a_decision_takes_microseconds(bootstrapped: Policy) -> None:
    asked = Attributes(verb="update", resource="pods", subresource="status", namespace="ns", name="p")
    for count in range(5_000):
        bootstrapped.put(binding(f"b{count}", "view", {"kind": "User", "name": f"user-{count}"}, namespace="ns"))
    user = User(name="user-7", groups=("system:authenticated",))
    seconds = min(timeit.repeat(lambda: decide(user, asked, bootstrapped), number=200, repeat=5)) / 200
    assert seconds < 100e-6
