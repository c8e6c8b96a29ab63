"""The policy of a namespace: enforced, warned of and noted, in upstream's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from anynode.admission.chain import Attributes, Chain
from anynode.admission.pod_security import MOST_PODS, PREFIX, PodPolicy, PodSecurity, PodSecuritySettings, policy_of
from anynode.api import resources
from anynode.api.errors import Forbidden, Invalid
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User

PODS = resources.known("pods")
NAMESPACES = resources.known("namespaces")
DEPLOYMENTS = resources.known("deployments", "apps")
GOOD_CONTEXT = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
GOOD = {"containers": [{"name": "c", "image": "i", "securityContext": GOOD_CONTEXT}]}
PLAIN = {"containers": [{"name": "c", "image": "i"}]}
RESTRICTED_SAYS = (
    'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
    'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
    'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
    'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
    '"Localhost")'
)


def space(**labels: str) -> Object:
    said = {PREFIX + mode.replace("_", "-"): value for mode, value in labels.items()}
    return {"metadata": {"name": "ns", "labels": said}}


class Stored:
    def __init__(self, namespace: Object, pods: Iterable[Object] = (), **settings: Any) -> None:
        self.namespace, self.pods = namespace, list(pods)
        self.chain = Chain([PodSecurity(self.lookup, self.list_in, PodSecuritySettings(**settings))])

    def lookup(self, resource: Resource, key: ObjectKey) -> Object | None:
        return self.namespace if key == ObjectKey("", "ns") else None

    def list_in(self, resource: Resource, namespace: str) -> Iterable[Object]:
        return self.pods if namespace == "ns" else ()

    async def write(self, obj: Object, resource: Resource = PODS, **more: Any) -> Attributes:
        given = {"operation": "CREATE", "namespace": "ns", "user": User(name="u")} | more
        attributes = Attributes(obj=obj, resource=resource, **given)
        await self.chain.admit(attributes)
        return attributes


def pod(spec: Object, name: str = "p", **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "spec": spec}


async def test_a_restricted_namespace_refuses_plain_pods() -> None:
    stored = Stored(space(enforce="restricted"))
    with pytest.raises(Forbidden) as caught:
        await stored.write(pod(PLAIN))
    assert caught.value.message == f'pods "p" is forbidden: violates PodSecurity "restricted:latest": {RESTRICTED_SAYS}'
    admitted = await stored.write(pod(GOOD))
    assert admitted.warnings == []
    assert admitted.audit == {f"{PREFIX}enforce-policy": "restricted:latest"}
    windows = PLAIN | {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": True}}
    await stored.write(pod(windows))


async def test_warn_and_audit_let_the_pod_pass() -> None:
    stored = Stored(space(warn="restricted", audit="baseline", audit_version="v1.20"))
    admitted = await stored.write(pod(PLAIN | {"hostPID": True, "hostNetwork": True}))
    host = "host namespaces (hostNetwork=true, hostPID=true)"
    assert admitted.warnings == [f'would violate PodSecurity "restricted:latest": {host}, {RESTRICTED_SAYS}']
    assert admitted.audit == {
        f"{PREFIX}enforce-policy": "privileged:latest",
        f"{PREFIX}audit-violations": f'would violate PodSecurity "baseline:v1.20": {host}',
    }


async def test_what_makes_pods_is_warned_and_never_refused() -> None:
    stored = Stored(space(enforce="restricted"))
    deployment = {"metadata": {"name": "d"}, "spec": {"template": {"metadata": {}, "spec": PLAIN}}}
    admitted = await stored.write(deployment, DEPLOYMENTS)
    assert admitted.warnings == [f'would violate PodSecurity "restricted:latest": {RESTRICTED_SAYS}']
    controller = resources.known("replicationcontrollers")
    assert (await stored.write({"metadata": {"name": "r"}, "spec": {}}, controller)).warnings == []
    loud = Stored(space(enforce="restricted", warn="privileged"))
    assert (await loud.write(deployment, DEPLOYMENTS)).warnings == []


async def test_a_namespace_that_asks_for_nothing_checks_nothing() -> None:
    admitted = await Stored({"metadata": {"name": "ns"}}).write(pod(PLAIN | {"hostPID": True}))
    assert (admitted.warnings, admitted.audit) == ([], {f"{PREFIX}enforce-policy": "privileged:latest"})


async def test_only_updates_that_matter_are_judged() -> None:
    stored = Stored(space(enforce="restricted"))
    await stored.write(pod(PLAIN, labels={"a": "b"}), operation="UPDATE", old=pod(PLAIN))
    await stored.write(pod(PLAIN), operation="UPDATE", old=pod(GOOD), subresource="status")
    changed = {"containers": [{"name": "c", "image": "other"}]}
    debugged = PLAIN | {"ephemeralContainers": [{"name": "d", "image": "i"}]}
    for new, subresource in ((changed, ""), (debugged, "ephemeralcontainers")):
        with pytest.raises(Forbidden):
            await stored.write(pod(new), operation="UPDATE", old=pod(PLAIN), subresource=subresource)
    await stored.write(pod(debugged), operation="UPDATE", old=pod(debugged), subresource="ephemeralcontainers")


@pytest.mark.parametrize(
    ("settings", "spec", "why"),
    [
        ({"usernames": frozenset({"u"})}, PLAIN, "user"),
        ({"namespaces": frozenset({"ns"})}, PLAIN, "namespace"),
        ({"runtime_classes": frozenset({"vm"})}, PLAIN | {"runtimeClassName": "vm"}, "runtimeClass"),
    ],
)
async def test_exemptions(settings: Any, spec: Object, why: str) -> None:
    admitted = await Stored(space(enforce="restricted"), **settings).write(pod(spec))
    assert admitted.audit == {f"{PREFIX}exempt": why}


async def test_an_operators_defaults_hold_where_labels_are_silent() -> None:
    defaults, _ = policy_of({f"{PREFIX}enforce": "baseline"}, PodPolicy())
    stored = Stored({"metadata": {"name": "ns"}}, defaults=defaults)
    with pytest.raises(Forbidden, match='violates PodSecurity "baseline:latest": host namespaces'):
        await stored.write(pod(PLAIN | {"hostIPC": True}))
    await Stored(space(enforce="privileged"), defaults=defaults).write(pod(PLAIN | {"hostIPC": True}))


@pytest.mark.parametrize(
    ("labels", "policy", "wrong"),
    [
        ({"enforce": "baseline"}, ("baseline:latest", "privileged:latest", "baseline:latest"), []),
        (
            {"enforce": "baseline", "enforce-version": "v1.9", "warn-version": "v1.30"},
            ("baseline:v1.9", "privileged:latest", "baseline:v1.30"),
            [],
        ),
        (
            {"enforce": "restricted", "warn": "baseline"},
            ("restricted:latest", "privileged:latest", "baseline:latest"),
            [],
        ),
        (
            {"enforce": "strict", "audit": "x", "warn-version": "1.2"},
            ("restricted:latest", "privileged:latest", "privileged:latest"),
            [
                f'metadata.labels[{PREFIX}enforce] Invalid value: "strict": must be one of privileged, baseline, '
                "restricted",
                f'metadata.labels[{PREFIX}audit] Invalid value: "x": must be one of privileged, baseline, restricted',
                f'metadata.labels[{PREFIX}warn-version] Invalid value: "1.2": must be "latest" or "v1.x"',
            ],
        ),
    ],
)
def test_labels_say_the_policy(labels: dict[str, str], policy: Any, wrong: list[str]) -> None:
    found, causes = policy_of({PREFIX + name: value for name, value in labels.items()}, PodPolicy())
    assert (str(found.enforce), str(found.audit), str(found.warn)) == policy
    assert [f"{each.field} {each.message}" for each in causes] == wrong


async def test_a_namespace_with_wrong_labels_is_refused_until_they_were_there_before() -> None:
    wrong = space(enforce="strict")
    stored = Stored(wrong)
    said = 'Namespace "ns" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict"'
    with pytest.raises(Invalid) as caught:
        await stored.write(wrong, NAMESPACES)
    assert caught.value.message.startswith(said)
    with pytest.raises(Invalid):
        await stored.write(wrong, NAMESPACES, operation="UPDATE", old=space())
    await stored.write(wrong, NAMESPACES, operation="UPDATE", old=wrong)


async def test_a_stricter_policy_tells_of_the_pods_it_would_refuse() -> None:
    host = PLAIN | {"hostPID": True}
    pods = [pod(host, "z"), pod(host, "a"), pod(PLAIN, "fine"), pod(PLAIN | {"hostIPC": True, "volumes": [
        {"name": "v", "hostPath": {"path": "/"}}]}, "both")]  # fmt: skip
    stored = Stored(space(), pods)
    admitted = await stored.write(space(enforce="baseline"), NAMESPACES, operation="UPDATE", old=space())
    assert admitted.warnings == [
        'existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 1 other pod): host namespaces",
        "both: host namespaces, hostPath volumes",
    ]
    for old, new in (
        (space(enforce="restricted"), space(enforce="baseline")),
        (space(enforce="baseline"), space(enforce="baseline", warn="restricted")),
        (space(enforce="baseline"), space(enforce="privileged")),
    ):
        assert (await stored.write(new, NAMESPACES, operation="UPDATE", old=old)).warnings == []
    versioned = space(enforce="baseline", enforce_version="v1.30")
    assert (await stored.write(versioned, NAMESPACES, operation="UPDATE", old=space(enforce="baseline"))).warnings


async def test_no_more_than_so_many_pods_are_looked_at_and_of_each_controller_one_first() -> None:
    owned = [{"kind": "ReplicaSet", "uid": "r", "controller": True}]
    pods = [pod(PLAIN, f"p{each}", ownerReferences=owned) for each in range(MOST_PODS)]
    stored = Stored(space(), [*pods, pod(PLAIN | {"hostPID": True}, "last")])
    admitted = await stored.write(space(enforce="baseline"), NAMESPACES, operation="UPDATE", old=space())
    assert admitted.warnings[0] == (
        f"new PodSecurity enforce level only checked against the first {MOST_PODS} of {MOST_PODS + 1} existing pods"
    )
    assert admitted.warnings[2:] == ["last: host namespaces"]
