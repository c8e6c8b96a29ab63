"""Rules of the API server that conformance tests ask one by one: keys, immutability, admission, accounts, reviews.

Source: ``test/e2e/{common/node,common/storage,scheduling,auth,apimachinery}`` of kubernetes 1.36; the table
``tests/conformance/a1_behaviours.csv`` says which test is which.
"""

from __future__ import annotations

import pathlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.component.api_client import Client, definition, served, version

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.api.wire import User
from anynode.apiserver.assembly import Assembly
from anynode.security.pki import load_or_create_key
from anynode.security.tokens import TokenIssuer
from anynode.storage.memory import MemoryStorage

CORE = "/api/v1/namespaces/default"
ACCOUNTS = f"{CORE}/serviceaccounts"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
AGGREGATED = "application/json;v=v2;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with served() as client:
        await client.post(ACCOUNTS, {"metadata": {"name": "default"}, "automountServiceAccountToken": False})
        yield client


def pod(name: str = "p", resources: object = None, **spec: Any) -> Object:
    container = {"name": "c", "image": "nginx", "resources": resources or {}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def deployment(name: str = "d", replicas: int = 1) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]},
            },
        },
    }


# --- config maps and secrets


@pytest.mark.parametrize("plural", ["configmaps", "secrets"])
async def test_an_empty_key_is_refused(client: Client, plural: str) -> None:
    said = await client.refused(422, "POST", f"{CORE}/{plural}", {"metadata": {"name": "a"}, "data": {"": "dmFsdWU="}})
    assert 'data[]: Invalid value: ""' in said
    assert (await client.ask("GET", f"{CORE}/{plural}/a")).status == 404


@pytest.mark.parametrize("plural", ["configmaps", "secrets"])
async def test_what_is_immutable_cannot_be_changed_or_made_mutable(client: Client, plural: str) -> None:
    value = {"k": "dmFsdWU="}
    made = await client.post(f"{CORE}/{plural}", {"metadata": {"name": "a"}, "data": value})
    await client.put(f"{CORE}/{plural}/a", {**made, "data": {"k": "b3RoZXI="}})
    frozen = await client.merge(f"{CORE}/{plural}/a", {"immutable": True})
    for change in ({"data": value}, {"immutable": False}, {"immutable": None}):
        said = await client.refused(422, "PUT", f"{CORE}/{plural}/a", {**frozen, **change})
        assert "field is immutable when `immutable` is set" in said
    labelled = {**frozen, "metadata": {**frozen["metadata"], "labels": {"still": "allowed"}}}
    assert (await client.put(f"{CORE}/{plural}/a", labelled))["data"] == {"k": "b3RoZXI="}
    await client.delete(f"{CORE}/{plural}/a")


# --- pods


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "100m", "memory": "100Mi"}}, "Guaranteed"),
        ({"requests": {"cpu": "50m"}, "limits": {"memory": "100Mi"}}, "Burstable"),
        ({}, "BestEffort"),
    ],
)
async def test_the_class_of_a_pods_service_follows_from_its_resources(
    client: Client, resources: Object, expected: str
) -> None:
    made = await client.post(f"{CORE}/pods", pod(resources=resources))
    assert made["status"]["qosClass"] == expected


async def test_only_impossible_sysctl_names_are_refused(client: Client) -> None:
    names = ["foo-", "kernel.shmmax", "safe-and-unsafe", "bar.."]
    sysctls = [{"name": name, "value": "100000000"} for name in names]
    said = await client.refused(422, "POST", f"{CORE}/pods", pod(securityContext={"sysctls": sysctls}))
    assert 'Invalid value: "foo-"' in said
    assert 'Invalid value: "bar.."' in said
    assert "safe-and-unsafe" not in said
    assert "kernel.shmmax" not in said


async def test_a_limit_range_fills_in_and_forbids(client: Client) -> None:
    limits: Object = {
        "type": "Container",
        "min": {"cpu": "50m", "memory": "100Mi"},
        "max": {"cpu": "500m", "memory": "500Mi"},
        "default": {"cpu": "500m", "memory": "500Mi"},
        "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
    }
    target = f"{CORE}/limitranges"
    await client.post(target, {"metadata": {"name": "l"}, "spec": {"limits": [limits]}})
    plain = await client.post(f"{CORE}/pods", pod("plain"))
    wanted = {"limits": limits["default"], "requests": limits["defaultRequest"]}
    assert plain["spec"]["containers"][0]["resources"] == wanted
    partial = await client.post(
        f"{CORE}/pods", pod("partial", {"limits": {"cpu": "300m"}, "requests": {"cpu": "300m"}})
    )
    assert partial["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "300m", "memory": "500Mi"},
        "requests": {"cpu": "300m", "memory": "200Mi"},
    }
    small = pod("small", {"requests": {"cpu": "10m"}})
    assert "minimum cpu usage per Container is 50m" in await client.refused(403, "POST", f"{CORE}/pods", small)
    large = pod("large", {"limits": {"cpu": "600m"}})
    assert "maximum cpu usage per Container is 500m" in await client.refused(403, "POST", f"{CORE}/pods", large)
    await client.merge(f"{target}/l", {"spec": {"limits": [{**limits, "min": {"cpu": "5m", "memory": "1Mi"}}]}})
    await client.post(f"{CORE}/pods", small)
    await client.delete(f"{target}/l")
    unlimited = await client.post(f"{CORE}/pods", pod("unlimited"))
    assert unlimited["spec"]["containers"][0]["resources"] == {}


async def test_a_pod_needs_the_runtime_class_it_names(client: Client) -> None:
    classes = "/apis/node.k8s.io/v1/runtimeclasses"
    wanted = pod(runtimeClassName="sandbox")
    said = await client.refused(403, "POST", f"{CORE}/pods", wanted)
    assert 'pod rejected: RuntimeClass "sandbox" not found' in said
    await client.post(classes, {"metadata": {"name": "sandbox"}, "handler": "h"})
    assert (await client.post(f"{CORE}/pods", wanted))["spec"]["runtimeClassName"] == "sandbox"
    await client.delete(f"{classes}/sandbox")
    again = pod("q", runtimeClassName="sandbox")
    assert 'RuntimeClass "sandbox" not found' in await client.refused(403, "POST", f"{CORE}/pods", again)


async def test_a_pod_may_have_a_volume_of_a_csi_driver(client: Client) -> None:
    volume = {"name": "v", "csi": {"driver": "d.example.com", "volumeAttributes": {"k": "v"}}}
    made = await client.post(f"{CORE}/pods", {**pod(volumes=[volume]), "metadata": {"name": "p", "labels": {"t": "y"}}})
    assert volume in made["spec"]["volumes"]
    selected = f"{CORE}/pods?labelSelector=t%3Dy"
    patched = await client.merge(f"{CORE}/pods/p", {"metadata": {"labels": {"patched": "true"}}})
    assert patched["spec"]["volumes"] == made["spec"]["volumes"]
    assert len((await client.get(selected))["items"]) == 1
    await client.delete(f"{selected}&gracePeriodSeconds=0")
    assert (await client.get(selected))["items"] == []


# --- who is who, and who may what


@pytest.mark.parametrize(
    ("account", "own", "mounted"),
    [
        (None, None, True), (None, True, True), (None, False, False),
        (True, None, True), (True, True, True), (True, False, False),
        (False, None, False), (False, True, True), (False, False, False),
    ],
)  # fmt: skip
async def test_a_token_is_mounted_unless_pod_or_account_decline(
    client: Client, account: bool | None, own: bool | None, mounted: bool
) -> None:
    said = {} if account is None else {"automountServiceAccountToken": account}
    await client.post(ACCOUNTS, {"metadata": {"name": "bot"}, **said})
    spec: Object = {} if own is None else {"automountServiceAccountToken": own}
    made = await client.post(f"{CORE}/pods", pod(serviceAccountName="bot", **spec))
    mounts = made["spec"]["containers"][0].get("volumeMounts") or []
    at = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert [each["mountPath"] for each in mounts] == ([at] if mounted else [])


async def test_a_token_is_reviewed(tmp_path: pathlib.Path) -> None:
    clock = SystemClock()
    issuer = TokenIssuer(load_or_create_key(tmp_path / "sa.key"), "https://kubernetes.default.svc", clock)
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=clock, random=random.Random(1), tokens=issuer) as assembly,
    ):
        client = Client(assembly)
        account = await client.post(ACCOUNTS, {"metadata": {"name": "bot"}})
        asked = await client.post(f"{ACCOUNTS}/bot/token", {"spec": {"expirationSeconds": 600}})
        assert asked["status"]["expirationTimestamp"]
        reviews = "/apis/authentication.k8s.io/v1/tokenreviews"
        found = (await client.post(reviews, {"spec": {"token": asked["status"]["token"]}}))["status"]
        assert found["authenticated"] is True
        assert "error" not in found
        assert found["user"]["username"] == "system:serviceaccount:default:bot"
        assert found["user"]["uid"] == account["metadata"]["uid"]
        unknown = (await client.post(reviews, {"spec": {"token": f"{asked['status']['token']}x"}}))["status"]
        assert not unknown.get("authenticated")


async def test_a_subject_review_says_what_the_request_would_meet(client: Client) -> None:
    account = await client.post(ACCOUNTS, {"metadata": {"name": "e2e"}})
    name = "system:serviceaccount:default:e2e"
    groups = ("system:authenticated", "system:serviceaccounts", "system:serviceaccounts:default")
    impersonated = Client(client.assembly, User(name=name, groups=groups, uid=account["metadata"]["uid"]))
    asked = {"verb": "list", "resource": "configmaps", "namespace": "default", "version": "v1"}
    spec = {"resourceAttributes": asked, "user": name, "groups": list(groups), "uid": account["metadata"]["uid"]}
    everywhere = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    here = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"

    async def answers() -> tuple[bool, bool, bool]:
        wide = await client.post(everywhere, {"spec": spec})
        local = await client.post(here, {"metadata": {"namespace": "default"}, "spec": spec})
        met = (await impersonated.ask("GET", f"{CORE}/configmaps")).status == 200
        return wide["status"]["allowed"], local["status"]["allowed"], met

    assert await answers() == (False, False, False)
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    await client.post(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "e2e", "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    await client.post(f"{rbac}/rolebindings", {"metadata": {"name": "b"}, "subjects": [subject], "roleRef": role})
    assert await answers() == (True, True, True)


# --- forms of answers


async def test_reviews_have_no_table(client: Client) -> None:
    body = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    assert (await client.ask("POST", reviews, body, accept=table)).status == 406


async def test_the_version_is_told(client: Client) -> None:
    told = await client.get("/version")
    assert (told["major"], told["minor"]) == ("1", "36")
    assert told["gitVersion"].startswith("v1.36.")


async def test_every_group_has_its_preferred_version_and_resources(client: Client) -> None:
    for group in (await client.get("/apis"))["groups"]:
        assert group["preferredVersion"] in group["versions"]
        assert (await client.get(f"/apis/{group['name']}"))["preferredVersion"] == group["preferredVersion"]
        for each in group["versions"]:
            found = await client.get(f"/apis/{each['groupVersion']}")
            assert found["groupVersion"] == each["groupVersion"]
            assert found["resources"]


async def test_discovery_in_one_document(client: Client) -> None:
    for target, names in (
        ("/api", {"": {"pods", "configmaps"}}),
        ("/apis", {"apps": {"deployments"}, "batch": {"jobs"}, "apiextensions.k8s.io": {"customresourcedefinitions"}}),
    ):
        response = await client.ask("GET", target, accept=AGGREGATED)
        assert response.content_type == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        groups = {each["metadata"].get("name", ""): each for each in response.decoded()["items"]}
        for group, wanted in names.items():
            resources = groups[group]["versions"][0]["resources"]
            assert wanted <= {each["resource"] for each in resources}
    plain = await client.ask("GET", "/apis", accept=f"{AGGREGATED.replace('v=v2', 'v=v9')},application/json")
    assert plain.decoded()["kind"] == "APIGroupList"


async def test_custom_resources_stand_in_discovery_in_one_document(client: Client) -> None:
    await client.define(definition(version({"type": "object"})))
    found = (await client.ask("GET", "/apis", accept=AGGREGATED)).decoded()
    group = next(each for each in found["items"] if each["metadata"]["name"] == "example.com")
    (told,) = group["versions"]
    assert told["version"] == "v1"
    (resource,) = told["resources"]
    assert (resource["resource"], resource["scope"], resource["responseKind"]["kind"]) == ("foos", "Namespaced", "Foo")


# --- policies


def on_deployments(**spec: Any) -> Object:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
    return {"metadata": {"name": "p"}, "spec": {"matchConstraints": {"resourceRules": [rule]}, **spec}}


@pytest.mark.parametrize("variables", [False, True])
async def test_a_policy_judges_deployments(client: Client, variables: bool) -> None:
    named = {"name": "replicas", "expression": "object.spec.replicas"}
    told: Object = {"validations": [{"expression": "object.spec.replicas > 1", "messageExpression": "'too few'"}]}
    if variables:
        validation = {"expression": "variables.odd", "messageExpression": "'too few: ' + string(variables.replicas)"}
        odd = {"name": "odd", "expression": "variables.replicas > 1 && variables.replicas % 2 == 1"}
        told = {"variables": [named, odd], "validations": [validation]}
    await client.post(f"{ADMISSION}/validatingadmissionpolicies", on_deployments(**told))
    binding = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}}
    await client.post(f"{ADMISSION}/validatingadmissionpolicybindings", binding)
    said = await client.refused(422, "POST", DEPLOYMENTS, deployment(replicas=1))
    assert "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too few" in said
    await client.post(DEPLOYMENTS, deployment(replicas=3))


@pytest.mark.parametrize(
    ("expression", "path", "wanted"),
    [
        ("Object{spec: Object.spec{replicas: 1337}}", ("spec", "replicas"), 1337),
        (
            'Object{metadata: Object.metadata{annotations: {"mutated-by": "admission-policy"}}}',
            ("metadata", "annotations"),
            {"mutated-by": "admission-policy"},
        ),
    ],
    ids=["replicas", "annotations"],
)
async def test_a_policy_changes_deployments(
    client: Client, expression: str, path: tuple[str, str], wanted: object
) -> None:
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    policy = on_deployments(mutations=[mutation], reinvocationPolicy="Never")
    await client.post(f"{ADMISSION}/mutatingadmissionpolicies", policy)
    binding = {"metadata": {"name": "b"}, "spec": {"policyName": "p"}}
    await client.post(f"{ADMISSION}/mutatingadmissionpolicybindings", binding)
    made = await client.post(DEPLOYMENTS, deployment())
    assert made[path[0]][path[1]] == wanted
    await client.delete(f"{ADMISSION}/mutatingadmissionpolicybindings/b")
    assert (await client.post(DEPLOYMENTS, deployment("e")))[path[0]].get(path[1]) != wanted


# --- watches


def config_map(name: str, label: str, **data: str) -> Object:
    return {"metadata": {"name": name, "labels": {"watch-this-configmap": label}}, "data": data}


async def test_watches_see_what_their_selector_selects(client: Client) -> None:
    maps = f"{CORE}/configmaps"
    select = f"{maps}?labelSelector=watch-this-configmap"
    async with (
        client.watching(f"{select}%3Da") as first,
        client.watching(f"{select}%3Db") as second,
        client.watching(f"{select}%20in%20(a,b)") as both,
    ):
        for label in ("a", "b"):
            await client.post(maps, config_map(label, label))
            await client.merge(f"{maps}/{label}", {"data": {"mutation": "1"}})
            await client.delete(f"{maps}/{label}")
        life = ["ADDED", "MODIFIED", "DELETED"]
        await both.reach(6)
        assert (first.types, second.types, both.types) == (life, life, [*life, *life])
        assert first.events[1][1]["data"] == {"mutation": "1"}


async def test_an_object_that_leaves_and_enters_a_selector(client: Client) -> None:
    maps = f"{CORE}/configmaps"
    async with client.watching(f"{maps}?labelSelector=watch-this-configmap%3Dyes") as sink:
        await client.post(maps, config_map("a", "yes"))
        await client.merge(f"{maps}/a", {"data": {"mutation": "1"}})
        await client.merge(f"{maps}/a", {"metadata": {"labels": {"watch-this-configmap": "no"}}})
        await client.merge(f"{maps}/a", {"data": {"mutation": "2"}})
        await client.merge(f"{maps}/a", {"metadata": {"labels": {"watch-this-configmap": "yes"}}})
        await client.merge(f"{maps}/a", {"data": {"mutation": "3"}})
        await client.delete(f"{maps}/a")
        seen = await sink.reach(6)
    assert sink.types == ["ADDED", "MODIFIED", "DELETED", "ADDED", "MODIFIED", "DELETED"]
    assert [each["data"].get("mutation") for _, each in seen if "data" in each] == ["1", "1", "2", "3", "3"]


async def test_a_watch_goes_on_where_another_stopped(client: Client) -> None:
    maps = f"{CORE}/configmaps"
    async with client.watching(maps) as broken:
        await client.post(maps, config_map("w", "x"))
        await client.merge(f"{maps}/w", {"data": {"mutation": "1"}})
        last = (await broken.reach(2))[-1][1]["metadata"]["resourceVersion"]
    await client.merge(f"{maps}/w", {"data": {"mutation": "2"}})
    await client.delete(f"{maps}/w")
    async with client.watching(f"{maps}?resourceVersion={last}") as resumed:
        seen = await resumed.reach(2)
    assert [(kind, each["data"]["mutation"]) for kind, each in seen] == [("MODIFIED", "2"), ("DELETED", "2")]


async def test_watches_from_different_versions_see_one_order(client: Client) -> None:
    maps = f"{CORE}/configmaps"
    for number in range(20):
        await client.post(maps, config_map(f"c{number}", "x"))
        await client.merge(f"{maps}/c{number // 2}", {"data": {"n": str(number)}})
    async with client.watching(f"{maps}") as live:
        listed = await client.get(maps)
        start = int(min(each["metadata"]["resourceVersion"] for each in listed["items"]))
        async with client.watching(f"{maps}?resourceVersion={start}") as early:
            for number in range(20):
                await client.delete(f"{maps}/c{number}")
            await early.reach(20)
            versions = [int(each["metadata"]["resourceVersion"]) for _, each in early.events]
            assert versions == sorted(versions)
            ends = [each["metadata"]["resourceVersion"] for kind, each in live.events if kind == "DELETED"]
            assert ends == [each["metadata"]["resourceVersion"] for kind, each in early.events if kind == "DELETED"]
            assert len(ends) == 20
