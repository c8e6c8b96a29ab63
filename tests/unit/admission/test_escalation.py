"""Rights are handed out by those who hold them; refusals in upstream's words."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.admission.chain import Attributes, Operation
from anynode.admission.escalation import RoleEscalation
from anynode.api import resources
from anynode.api.errors import Forbidden, NotFound
from anynode.api.objects import Object
from anynode.api.wire import User
from anynode.security.rbac import GROUP, Policy

ALICE = User(name="alice", groups=("system:authenticated",))
ROLES, BINDINGS = resources.known("roles", GROUP), resources.known("rolebindings", GROUP)
CLUSTER_ROLES = resources.known("clusterroles", GROUP)


def rule(verbs: str, plurals: str, group: str = "", **more: Any) -> Object:
    return {"verbs": verbs.split(), "apiGroups": [group], "resources": plurals.split()} | more


def role(name: str, *rules: Object) -> Object:
    return {"kind": "Role", "metadata": {"name": name, "namespace": "ns"}, "rules": list(rules)}


def binding(name: str, to: str, kind: str = "Role") -> Object:
    return {
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": "ns"},
        "roleRef": {"kind": kind, "name": to},
        "subjects": [{"kind": "User", "name": "alice"}],
    }


def policy(*held: Object) -> Policy:
    """What alice holds in namespace ns."""
    made = Policy()
    made.put(role("held", *held))
    made.put(binding("held", "held"))
    return made


async def check(made: Policy, resource: resources.Resource, obj: Object, **more: Any) -> None:
    operation: Operation = "UPDATE" if "old" in more else "CREATE"
    namespace = "ns" if resource.namespaced else ""
    name = obj["metadata"]["name"]
    given = {"operation": operation, "namespace": namespace, "name": name, "user": ALICE} | more
    await RoleEscalation(made).validate(Attributes(resource=resource, obj=obj, **given))


async def test_only_rights_held_may_be_granted() -> None:
    made = policy(rule("get", "configmaps"))
    await check(made, ROLES, role("mine", rule("get", "configmaps")))
    await check(made, ROLES, role("mine", rule("get", "configmaps", resourceNames=["x"])))
    with pytest.raises(Forbidden) as refusal:
        await check(made, ROLES, role("worse", rule("get list", "configmaps secrets")))
    assert refusal.value.message == (
        'roles.rbac.authorization.k8s.io "worse" is forbidden: user "alice" (groups=["system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["configmaps"], Verbs:["list"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}'
    )
    await check(made, ROLES, role("worse", rule("*", "*", "*")), user=User(name="a", groups=("system:masters",)))


async def test_bindings_grant_what_their_role_holds() -> None:
    made = policy(rule("get", "configmaps"))
    made.put(role("strong", rule("delete", "secrets", resourceNames=["x"])))
    made.put({"kind": "ClusterRole", "metadata": {"name": "all"},
              "rules": [rule("*", "*", "*"), {"verbs": ["*"], "nonResourceURLs": ["*"]}]})  # fmt: skip
    await check(made, BINDINGS, binding("b", "held"))
    with pytest.raises(Forbidden, match=r'ResourceNames:\["x"\], Verbs:\["delete"\]'):
        await check(made, BINDINGS, binding("b", "strong"))
    with pytest.raises(Forbidden) as refusal:
        await check(made, BINDINGS, binding("b", "all", "ClusterRole"))
    assert refusal.value.message.endswith(
        '{APIGroups:["*"], Resources:["*"], Verbs:["*"]}\n{NonResourceURLs:["*"], Verbs:["*"]}'
    )
    with pytest.raises(NotFound, match=r'rolebindings\.rbac\.authorization\.k8s\.io "none" not found'):
        await check(made, BINDINGS, binding("b", "none"))


async def test_the_verbs_bind_and_escalate_allow_it() -> None:
    made = policy(rule("bind", "roles", GROUP, resourceNames=["strong"]), rule("escalate", "roles", GROUP))
    made.put(role("strong", rule("delete", "secrets")))
    made.put(role("other", rule("delete", "secrets")))
    await check(made, BINDINGS, binding("b", "strong"))
    await check(made, ROLES, role("new", rule("delete", "secrets")))
    with pytest.raises(Forbidden):
        await check(made, BINDINGS, binding("b", "other"))


async def test_housekeeping_is_not_granting() -> None:
    made, old = policy(), role("r", rule("delete", "secrets"))
    new = {**old, "metadata": {**old["metadata"], "finalizers": ["f"], "ownerReferences": [{"name": "o"}]}}
    await check(made, ROLES, new, old=old)
    with pytest.raises(Forbidden):
        await check(made, ROLES, {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}, old=old)


async def test_aggregation_needs_everything() -> None:
    aggregated = {"kind": "ClusterRole", "metadata": {"name": "a"}, "rules": [], "aggregationRule": {"x": []}}
    with pytest.raises(Forbidden, match="must have cluster-admin privileges to use the aggregationRule"):
        await check(policy(), CLUSTER_ROLES, aggregated)
