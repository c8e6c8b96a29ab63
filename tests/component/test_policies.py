"""Admission policies in a whole API server: what they decide, change, warn of, and what type checking finds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, ApiResponse, User, parse_query
from anynode.apiserver.assembly import ApiServerSettings, Assembly
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",))
GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"


class Client:
    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly

    async def ask(self, method: str, target: str, body: Any = None, user: User = ADMIN, media: str = "") -> ApiResponse:
        path, _, query = target.partition("?")
        raw = b"" if body is None else orjson.dumps(body)
        headers = {"content-type": media} if media else {}
        return await self.assembly.server.handle(
            ApiRequest(method=method, path=path, query=parse_query(query), headers=headers, body=raw, user=user)
        )

    async def make(self, target: str, body: Any, user: User = ADMIN) -> Object:
        answer = await self.ask("POST", target, body, user)
        assert answer.status == 201, answer.decoded()
        made: Object = answer.decoded()
        return made

    async def policy(self, *validations: Object, name: str = "p", **spec: Any) -> None:
        body = {"metadata": {"name": name}, "spec": {"matchConstraints": match(), "validations": validations, **spec}}
        await self.make(f"{GROUP}/validatingadmissionpolicies", body)

    async def bind(self, *actions: str, name: str = "b", policy: str = "p", **spec: Any) -> None:
        body = {"policyName": policy, "validationActions": actions or ["Deny"], **spec}
        await self.make(f"{GROUP}/validatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": body})

    async def mutating(self, *mutations: Object, name: str = "m", **spec: Any) -> None:
        body = {"matchConstraints": match(), "reinvocationPolicy": "Never", "mutations": mutations, **spec}
        await self.make(f"{GROUP}/mutatingadmissionpolicies", {"metadata": {"name": name}, "spec": body})
        binding = {"metadata": {"name": name}, "spec": {"policyName": name}}
        await self.make(f"{GROUP}/mutatingadmissionpolicybindings", binding)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    settings = ApiServerSettings(check_policy_types=True)
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=SystemClock(), random=random.Random(1), settings=settings) as assembly,
    ):
        yield Client(assembly)


def match(
    plural: str = "configmaps", *, group: str = "", operations: tuple[str, ...] = ("CREATE", "UPDATE"), **more: Any
) -> Object:
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": list(operations), "resources": [plural]}
    return {"resourceRules": [{**rule, **more}]}


def config_map(name: str = "a", **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


async def test_a_denial_is_told_with_its_reason(client: Client) -> None:
    await client.policy({"expression": "size(object.data) < 2", "message": "too much", "reason": "Forbidden"})
    await client.bind()
    await client.make(MAPS, config_map(x="1"))
    refused = await client.ask("POST", MAPS, config_map("b", x="1", y="2"))
    said = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too much"
    body = refused.decoded()
    assert (refused.status, body["reason"]) == (403, "Forbidden")
    assert body["message"] == f'configmaps "b" is forbidden: {said}'
    assert body["details"]["causes"] == [{"message": said}]


async def test_policies_hold_from_the_moment_they_are_bound_until_they_are_gone(client: Client) -> None:
    await client.policy({"expression": "false"})
    await client.make(MAPS, config_map("one"))
    await client.bind()
    assert (await client.ask("POST", MAPS, config_map("two"))).status == 422
    await client.ask("DELETE", f"{GROUP}/validatingadmissionpolicybindings/b")
    await client.make(MAPS, config_map("two"))


@pytest.mark.parametrize(
    ("expression", "message"),
    [("'  ' + object.metadata.name + '  '", "a"), ("''", "plain"), ("'x\\ny'", "plain"), ("string(1/0)", "plain")],
)
async def test_message_expressions(client: Client, expression: str, message: str) -> None:
    await client.policy({"expression": "false", "message": "plain", "messageExpression": expression})
    await client.bind()
    refused = (await client.ask("POST", MAPS, config_map())).decoded()
    assert refused["message"].endswith(f"denied request: {message}")


async def test_failures_are_denials_unless_they_are_ignored(client: Client) -> None:
    await client.policy({"expression": "object.data.missing == 'x'"}, name="strict")
    await client.policy({"expression": "object.data.missing == 'x'"}, name="lax", failurePolicy="Ignore")
    await client.bind(name="lax", policy="lax")
    await client.make(MAPS, config_map("one", x="1"))
    await client.bind(name="strict", policy="strict")
    refused = (await client.ask("POST", MAPS, config_map("two", x="1"))).decoded()
    assert refused["message"].endswith(
        "expression 'object.data.missing == 'x'' resulted in error: no such key: missing"
    )


async def test_warnings_and_excluded_objects(client: Client) -> None:
    excluded = {**match()["resourceRules"][0], "resourceNames": ["free"]}
    await client.policy(
        {"expression": "false", "message": "hm"}, matchConstraints={**match(), "excludeResourceRules": [excluded]}
    )
    await client.bind("Warn", "Audit")
    warned = await client.ask("POST", MAPS, config_map())
    said = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': hm"
    assert warned.headers["warning"] == f'299 - "{said}"'
    assert "warning" not in (await client.ask("POST", MAPS, config_map("free"))).headers


async def test_variables_parameters_and_the_namespace(client: Client) -> None:
    await client.make(MAPS, {"metadata": {"name": "limits", "labels": {"kind": "limit"}}, "data": {"most": "1"}})
    await client.policy(
        {
            "expression": "variables.count <= int(params.data.most)",
            "messageExpression": "namespaceObject.metadata.name",
        },
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        variables=[
            {"name": "all", "expression": "object.data"},
            {"name": "count", "expression": "size(variables.all)"},
        ],
    )
    await client.bind(paramRef={"name": "limits", "parameterNotFoundAction": "Deny"})
    await client.make(MAPS, config_map(x="1"))
    refused = (await client.ask("POST", MAPS, config_map("b", x="1", y="2"))).decoded()
    assert refused["message"].endswith("denied request: default")
    await client.ask("DELETE", f"{MAPS}/limits")
    refused = (await client.ask("POST", MAPS, config_map("c"))).decoded()
    assert "failed to configure binding: no params found for policy binding with `Deny`" in refused["message"]


async def test_a_kind_of_parameters_nobody_serves(client: Client) -> None:
    await client.policy({"expression": "true"}, paramKind={"apiVersion": "x.example/v1", "kind": "Nothing"})
    await client.bind(paramRef={"name": "n", "parameterNotFoundAction": "Allow"})
    refused = (await client.ask("POST", MAPS, config_map())).decoded()
    why = "failed to configure policy: failed to find resource referenced by paramKind: 'x.example/v1, Kind=Nothing'"
    assert refused["message"].endswith(f"ValidatingAdmissionPolicy 'p' denied request: {why}")


async def test_costs_are_limited(client: Client) -> None:
    long = "[1,2,3,4,5,6,7,8,9,0]"
    deep = f"{long}.all(a, {long}.all(b, {long}.all(c, {long}.all(d, {long}.all(e, {long}.all(f, a+b+c+d+e+f >= 0))))))"
    await client.policy({"expression": deep})
    await client.bind()
    refused = (await client.ask("POST", MAPS, config_map())).decoded()
    assert refused["message"].endswith("resulted in error: operation cancelled: actual cost limit exceeded")


async def test_the_authorizer_answers_for_the_user_and_for_service_accounts(client: Client) -> None:
    check = "authorizer.requestResource.check('delete').allowed()"
    await client.policy({"expression": check, "message": "may not delete"})
    await client.bind()
    role = {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]}
    await client.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    binding = {
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}],
    }
    await client.make("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    await client.make(MAPS, config_map())
    refused = await client.ask("POST", MAPS, config_map("b"), User(name="ann"))
    assert refused.decoded()["message"].endswith("denied request: may not delete")


async def test_configurations_merge_and_patches_apply(client: Client) -> None:
    label = "Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}}}"
    add = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]"
    await client.mutating({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": label}}, name="m1")
    await client.mutating({"patchType": "JSONPatch", "jsonPatch": {"expression": add}}, name="m2")
    made = await client.make(
        f"{MAPS}?dryRun=All", {**config_map(x="1"), "metadata": {"name": "a", "labels": {"z": "z"}}}
    )
    assert made["metadata"]["labels"] == {"by": "admin", "z": "z", "a/b": "c"}


async def test_merges_keep_what_they_do_not_name(client: Client) -> None:
    side = "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'side', image: 's'}]}}"
    constraints = match("pods", operations=("CREATE",))
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": side}}
    await client.mutating(mutation, matchConstraints=constraints)
    await client.make("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = await client.make("/api/v1/namespaces/default/pods", pod)
    assert sorted(each["name"] for each in made["spec"]["containers"]) == ["c", "side"]
    assert all(each["terminationMessagePolicy"] == "File" for each in made["spec"]["containers"])


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("Object{spec: Object.spec{nodeSelector: {'a': 'b'}}}", "may not mutate atomic arrays, maps or structs"),
        ("Object{spec: Object.metadata{name: 'x'}}", 'type mismatch: unexpected type name "Object.metadata"'),
        ("Object{nonsense: 'x'}", ".nonsense: field not declared in schema"),
        ("Object{metadata: Object.metadata{name: object.nothing}}", "no such key: nothing"),
    ],
)
async def test_configurations_that_cannot_be_applied(client: Client, expression: str, said: str) -> None:
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    await client.mutating(mutation, matchConstraints=match("pods", operations=("CREATE",)))
    await client.make("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    refused = await client.ask("POST", "/api/v1/namespaces/default/pods", pod)
    body = refused.decoded()
    assert (refused.status, body["reason"]) == (403, "Invalid")
    assert body["message"].startswith("policy 'm' with binding 'm' denied request: ")
    assert said in body["message"]


async def test_a_patch_whose_test_fails_is_not_applied(client: Client) -> None:
    text = "[JSONPatch{op: 'test', path: '/data/x', value: '2'}, JSONPatch{op: 'add', path: '/data/y', value: '3'}]"
    await client.mutating({"patchType": "JSONPatch", "jsonPatch": {"expression": text}})
    assert (await client.make(MAPS, config_map("a", x="1")))["data"] == {"x": "1"}
    assert (await client.make(MAPS, config_map("b", x="2")))["data"] == {"x": "2", "y": "3"}


async def test_policies_are_asked_again_when_a_later_one_changed_the_object(client: Client) -> None:
    patch = "[JSONPatch{op: 'add', path: '/data/count', value: string(size(object.data))}]"
    add = "[JSONPatch{op: 'add', path: '/data/more', value: 'm'}]"
    first = {"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}
    await client.mutating(first, name="m1", reinvocationPolicy="IfNeeded")
    await client.mutating({"patchType": "JSONPatch", "jsonPatch": {"expression": add}}, name="m2")
    assert (await client.make(MAPS, config_map(x="1")))["data"] == {"x": "1", "more": "m", "count": "3"}


async def status_of(client: Client, name: str = "p") -> Object:
    for _ in range(100):
        found: Object = (await client.ask("GET", f"{GROUP}/validatingadmissionpolicies/{name}")).decoded()
        if found["status"].get("observedGeneration") == found["metadata"]["generation"]:
            return found
        await asyncio.sleep(0)
    raise AssertionError("the policy was not checked")


async def test_expressions_are_checked_against_the_kinds_they_name(client: Client) -> None:
    constraints = match("deployments", group="apps")
    await client.policy(
        {"expression": "object.spec.replicas > '1'", "messageExpression": "string(object.spec.nothing)"},
        {"expression": "object.spec.replicas > variables.least"},
        matchConstraints=constraints,
        variables=[{"name": "least", "expression": "1"}],
    )
    found = (await status_of(client))["status"]["typeChecking"]["expressionWarnings"]
    assert [each["fieldRef"] for each in found] == [
        "spec.validations[0].expression",
        "spec.validations[0].messageExpression",
    ]
    assert found[0]["warning"] == (
        "apps/v1, Kind=Deployment: ERROR: <input>:1:22: "
        "found no matching overload for '_>_' applied to '(int, string)'\n"
        " | object.spec.replicas > '1'\n | .....................^\n"
    )
    assert "undefined field 'nothing'" in found[1]["warning"]


async def test_a_policy_without_mistakes_is_checked_too(client: Client) -> None:
    await client.policy(
        {"expression": "object.spec.template.spec.containers.all(c, c.image != '')"},
        matchConstraints=match("deployments", group="apps"),
    )
    checked = await status_of(client)
    assert checked["status"] == {"observedGeneration": 1, "typeChecking": {}}
    owners = [entry["manager"] for entry in checked["metadata"]["managedFields"]]
    assert "validatingadmissionpolicy-status" in owners


async def test_who_lets_a_policy_read_must_be_able_to_read(client: Client) -> None:
    rules = [{"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]}]
    await client.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": "r"}, "rules": rules})
    binding = {
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}],
    }
    await client.make("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    ann = User(name="ann")
    kind = {"apiVersion": "v1", "kind": "Secret"}
    spec = {"matchConstraints": match(), "validations": [{"expression": "true"}], "paramKind": kind}
    path = f"{GROUP}/validatingadmissionpolicies"
    refused = (await client.ask("POST", path, {"metadata": {"name": "p"}, "spec": spec}, ann)).decoded()
    assert refused["details"]["causes"][0]["field"] == "spec.paramKind"
    assert 'must have "get" permission on all objects of the referenced paramKind' in refused["message"]
    await client.make(path, {"metadata": {"name": "p"}, "spec": spec})
    reference = {"name": "s", "namespace": "default", "parameterNotFoundAction": "Allow"}
    bound = {"policyName": "p", "validationActions": ["Deny"], "paramRef": reference}
    body = {"metadata": {"name": "b"}, "spec": bound}
    refused = (await client.ask("POST", f"{GROUP}/validatingadmissionpolicybindings", body, ann)).decoded()
    assert 'does not have "get" permission on the object referenced by paramRef' in refused["message"]
    await client.make(f"{GROUP}/validatingadmissionpolicybindings", body)


WIDGETS = "/apis/stable.example.com/{}/namespaces/default/widgets"


async def widgets(client: Client) -> None:
    """A custom resource in two versions with a schema."""
    properties = {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer", "default": 1},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            },
        }
    }
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    versions = [{"name": name, "served": True, "storage": name == "v1", "schema": schema} for name in ("v1", "v1beta1")]
    names = {"plural": "widgets", "kind": "Widget"}
    spec = {"group": "stable.example.com", "scope": "Namespaced", "names": names, "versions": versions}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await client.make(path, {"metadata": {"name": "widgets.stable.example.com"}, "spec": spec})
    for _ in range(200):
        if (await client.ask("GET", WIDGETS.format("v1"))).status == 200:
            return
        await asyncio.sleep(0)
    raise AssertionError("the definition is not served")


def widget(version: str = "v1", **spec: Any) -> Object:
    return {"apiVersion": f"stable.example.com/{version}", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}


async def test_policies_see_custom_resources_in_the_version_they_name(client: Client) -> None:
    await widgets(client)
    expression = "object.apiVersion == 'stable.example.com/v1' && request.requestKind.version != request.kind.version"
    constraints = match("widgets", group="stable.example.com")
    await client.policy({"expression": f"!({expression})", "message": "seen as v1"}, matchConstraints=constraints)
    await client.bind()
    refused = (await client.ask("POST", WIDGETS.format("v1beta1"), widget("v1beta1"))).decoded()
    assert refused["message"].endswith("denied request: seen as v1")
    await client.make(WIDGETS.format("v1"), widget())


async def test_custom_resources_are_merged_defaulted_and_typed(client: Client) -> None:
    await widgets(client)
    constraints = match("widgets", group="stable.example.com")
    text = "Object{spec: Object.spec{tags: ['b']}}"
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}
    await client.mutating(mutation, matchConstraints=constraints)
    made = await client.make(WIDGETS.format("v1"), widget(tags=["a"]))
    assert made["spec"] == {"size": 1, "tags": ["a", "b"]}
    await client.policy({"expression": "object.spec.size > 'x'"}, matchConstraints=constraints)
    (warning,) = (await status_of(client))["status"]["typeChecking"]["expressionWarnings"]
    assert warning["warning"].startswith("stable.example.com/v1, Kind=Widget: ERROR:")


async def test_custom_resources_are_parameters(client: Client) -> None:
    await widgets(client)
    await client.make(WIDGETS.format("v1"), widget(size=2))
    kind = {"apiVersion": "stable.example.com/v1", "kind": "Widget"}
    await client.policy({"expression": "size(object.data) < params.spec.size"}, paramKind=kind)
    await client.bind(paramRef={"selector": {}, "parameterNotFoundAction": "Deny"})
    await client.make(MAPS, config_map(x="1"))
    assert (await client.ask("POST", MAPS, config_map("b", x="1", y="2"))).status == 422
