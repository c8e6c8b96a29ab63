"""Webhooks asked by a whole API server: a real TLS server on loopback answers, reached by URL or through a Service."""

from __future__ import annotations

import base64
import pathlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.aio.tls import server_context
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, ApiResponse, User, parse_query
from anynode.apiserver.assembly import Assembly
from anynode.security.pki import CertificateAuthority
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",), uid="u1", extra={"scopes": ("a", "b")})
GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
Reply = Callable[[Object], Object]


class Backend:
    """A webhook server: what it was asked, and what it answers, by path."""

    def __init__(self, ca: CertificateAuthority) -> None:
        pair = ca.server_certificate(["127.0.0.1", "hook.default.svc"])
        self.tls = server_context(pair.certificate, pair.key)
        self.bundle = base64.b64encode(ca.certificate).decode()
        self.asked: list[Object] = []
        self.replies: dict[str, Reply] = {}
        self.raw: dict[str, HttpResponse] = {}
        self.port = 0

    async def handle(self, request: HttpRequest) -> HttpResponse:
        if request.path in self.raw:
            return self.raw[request.path]
        body = orjson.loads(request.body)
        self.asked.append({**body["request"], "path": request.path, "query": request.query_string})
        answer = {"uid": body["request"]["uid"], "allowed": True, **self.replies[request.path](body["request"])}
        review = {"kind": "AdmissionReview", "apiVersion": body["apiVersion"], "response": answer}
        return HttpResponse(headers={"content-type": "application/json"}, body=orjson.dumps(review))

    def hook(self, path: str, name: str = "a.hook.example", **said: Any) -> Object:
        return {
            "name": name,
            "clientConfig": {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.bundle},
            "rules": [rule()],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **said,
        }


def rule(resource: str = "configmaps", *, operations: tuple[str, ...] = ("*",), group: str = "") -> Object:
    return {"operations": list(operations), "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]}


def patch(*operations: Object) -> Object:
    return {"patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(operations)).decode()}


@pytest.fixture
async def backend(tmp_path: pathlib.Path) -> AsyncIterator[Backend]:
    clock = SystemClock()
    found = Backend(CertificateAuthority.load_or_create(tmp_path / "ca", clock))
    async with HttpServer(found.handle, ssl=found.tls, clock=clock) as server:
        found.port = server.port
        yield found


@pytest.fixture
async def assembly() -> AsyncIterator[Assembly]:
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly,
    ):
        yield assembly


class Client:
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    async def ask(self, method: str, target: str, body: Any = None, user: User = ADMIN, media: str = "") -> ApiResponse:
        path, _, query = target.partition("?")
        raw = b"" if body is None else orjson.dumps(body)
        headers = {"content-type": media} if media else {}
        return await self._assembly.server.handle(
            ApiRequest(method=method, path=path, query=parse_query(query), headers=headers, body=raw, user=user)
        )

    async def hooks(self, kind: str, *hooks: Object, name: str = "h") -> None:
        body = {"metadata": {"name": name}, "webhooks": list(hooks)}
        answer = await self.ask("POST", f"{GROUP}/{kind}webhookconfigurations", body)
        assert answer.status == 201, answer.decoded()


@pytest.fixture
def client(assembly: Assembly) -> Client:
    return Client(assembly)


def config_map(name: str = "a", **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


async def test_a_refusal_is_told_in_the_webhooks_words_with_its_code_and_reason(
    client: Client, backend: Backend
) -> None:
    backend.replies["/no"] = lambda _: {
        "allowed": False,
        "status": {"code": 403, "reason": "Forbidden", "message": "not today", "details": {"name": "x"}},
        "warnings": ["think again"],
    }
    await client.hooks("validating", backend.hook("/no"))
    answer = await client.ask("POST", MAPS, config_map())
    said = answer.decoded()
    assert (answer.status, said["reason"], said["details"]) == (403, "Forbidden", {"name": "x"})
    assert said["message"] == 'admission webhook "a.hook.example" denied the request: not today'
    assert answer.headers["warning"] == '299 - "think again"'


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        ({}, "without explanation", 400),
        ({"reason": "Why"}, ": Why", 400),
        ({"code": 200, "message": "m"}, ": m", 400),
        ({"code": 418, "message": "m"}, ": m", 418),
    ],
)
async def test_a_refusal_without_explanation(
    client: Client, backend: Backend, status: Object, message: str, code: int
) -> None:
    backend.replies["/no"] = lambda _: {"allowed": False, "status": status}
    await client.hooks("validating", backend.hook("/no"))
    answer = await client.ask("POST", MAPS, config_map())
    assert answer.status == code
    assert answer.decoded()["message"].endswith(f"denied the request{message if message[0] == ':' else ' ' + message}")


async def test_the_review_tells_everything_of_the_request(client: Client, backend: Backend) -> None:
    backend.replies["/see"] = lambda _: {}
    await client.hooks("validating", backend.hook("/see", timeoutSeconds=7))
    await client.ask("POST", f"{MAPS}?fieldManager=me&dryRun=All", config_map(x="1"))
    (asked,) = backend.asked
    names = {"group": "", "version": "v1"}
    assert asked["kind"] == asked["requestKind"] == {**names, "kind": "ConfigMap"}
    assert asked["resource"] == asked["requestResource"] == {**names, "resource": "configmaps"}
    assert (asked["name"], asked["namespace"], asked["operation"], asked["dryRun"]) == ("a", "default", "CREATE", True)
    assert asked["userInfo"] == {
        "username": "admin",
        "uid": "u1",
        "groups": ["system:masters", "system:authenticated"],
        "extra": {"scopes": ["a", "b"]},
    }
    assert asked["options"] == {
        "kind": "CreateOptions",
        "apiVersion": "meta.k8s.io/v1",
        "dryRun": ["All"],
        "fieldManager": "me",
    }
    assert asked["object"]["data"] == {"x": "1"}
    assert asked["object"]["kind"] == "ConfigMap"
    assert asked["oldObject"] is None
    assert asked["query"] == "timeout=7s"
    assert "subResource" not in asked


async def test_updates_and_deletions_show_the_old_object(client: Client, backend: Backend) -> None:
    await client.ask("POST", MAPS, config_map(x="1"))
    backend.replies["/see"] = lambda _: {}
    await client.hooks("validating", backend.hook("/see"))
    await client.ask("PATCH", f"{MAPS}/a", {"data": {"x": "2"}}, media="application/merge-patch+json")
    await client.ask("DELETE", f"{MAPS}/a?gracePeriodSeconds=0")
    update, delete = backend.asked
    assert (update["operation"], update["oldObject"]["data"], update["object"]["data"]) == (
        "UPDATE",
        {"x": "1"},
        {"x": "2"},
    )
    assert update["options"]["kind"] == "UpdateOptions"
    assert (delete["operation"], delete["object"], delete["oldObject"]["data"]) == ("DELETE", None, {"x": "2"})
    assert delete["options"]["kind"] == "DeleteOptions"
    assert delete["options"]["gracePeriodSeconds"] == 0


async def test_mutations_are_typed_defaulted_and_owned_by_the_writer(client: Client, backend: Backend) -> None:
    backend.replies["/pod"] = lambda _: patch(
        {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "s", "nonsense": 1}},
        {"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}},
    )
    await client.hooks("mutating", backend.hook("/pod", rules=[rule("pods", operations=("CREATE",))]))
    account = {"metadata": {"name": "default"}}
    await client.ask("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = (await client.ask("POST", "/api/v1/namespaces/default/pods", pod)).decoded()
    side = made["spec"]["containers"][1]
    assert (side["name"], side["terminationMessagePath"]) == ("side", "/dev/termination-log")
    assert "nonsense" not in side
    assert made["metadata"]["labels"] == {"seen": "yes"}
    assert "uid" not in backend.asked[0]["object"]["metadata"]


async def test_each_mutating_webhook_sees_the_one_before_and_may_be_asked_again(
    client: Client, backend: Backend
) -> None:
    seen: list[Any] = []

    def first(request: Object) -> Object:
        seen.append(request["object"]["data"])
        return {} if "first" in request["object"]["data"] else patch({"op": "add", "path": "/data/first", "value": "1"})

    def second(request: Object) -> Object:
        seen.append(request["object"]["data"])
        return patch({"op": "add", "path": "/data/second", "value": "2"})

    backend.replies |= {"/first": first, "/second": second}
    await client.hooks("mutating", backend.hook("/second", "b.hook.example"), name="z")
    await client.hooks("mutating", backend.hook("/first", reinvocationPolicy="IfNeeded"), name="a")
    made = (await client.ask("POST", MAPS, config_map(x="0"))).decoded()
    assert made["data"] == {"x": "0", "first": "1", "second": "2"}
    assert seen == [{"x": "0"}, {"x": "0", "first": "1"}, {"x": "0", "first": "1", "second": "2"}]


async def test_a_webhook_behind_a_service_is_reached_at_a_ready_endpoint(client: Client, backend: Backend) -> None:
    service = {"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "https", "port": 443}]}}
    await client.ask("POST", "/api/v1/namespaces/default/services", service)
    backend.replies["/svc"] = lambda _: {"allowed": False}
    where = {"service": {"name": "hook", "namespace": "default", "path": "/svc"}, "caBundle": backend.bundle}
    await client.hooks("validating", backend.hook("/svc", clientConfig=where))
    failed = (await client.ask("POST", MAPS, config_map())).decoded()
    said = 'Post "https://hook.default.svc:443/svc?timeout=10s": no endpoints available for service "hook"'
    assert failed["message"] == (
        f'Internal error occurred: failed calling webhook "a.hook.example": failed to call webhook: {said}'
    )
    assert (failed["code"], failed["reason"]) == (500, "InternalError")
    endpoints = {
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": backend.port}],
        "endpoints": [
            {"addresses": ["127.9.9.9"], "conditions": {"ready": False}},
            {"addresses": ["127.1.2.3"], "conditions": {"ready": True}},
        ],
    }
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    assert (await client.ask("POST", path, endpoints)).status == 201
    failed = (await client.ask("POST", MAPS, config_map())).decoded()
    assert f"dial tcp 127.1.2.3:{backend.port}: connect: connection refused" in failed["message"]


async def test_a_webhook_that_fails_is_ignored_or_not(client: Client, backend: Backend) -> None:
    backend.raw["/bad"] = HttpResponse(status=200, body=b"pardon?")
    await client.hooks("validating", backend.hook("/bad", failurePolicy="Ignore"))
    assert (await client.ask("POST", MAPS, config_map("one"))).status == 201
    await client.hooks("validating", backend.hook("/bad", failurePolicy="Fail"), name="strict")
    refused = await client.ask("POST", MAPS, config_map("two"))
    assert refused.status == 500
    assert "failed to call webhook: couldn't get version/kind; json parse error" in refused.decoded()["message"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"uid": "other"}, 'received invalid webhook response: expected response.uid="'),
        ({"patch": "W10=", "patchType": "JSONPatch"}, "validating webhook may not return response.patch"),
        ({"patchType": "JSONPatch"}, "validating webhook may not return response.patchType"),
        ({"allowed": "yes"}, "json: cannot unmarshal string into Go struct field"),
        ({"patch": "***"}, "illegal base64 data"),
    ],
)
async def test_answers_that_are_none(client: Client, backend: Backend, answer: Object, said: str) -> None:
    backend.replies["/odd"] = lambda _: answer
    await client.hooks("validating", backend.hook("/odd"))
    assert said in (await client.ask("POST", MAPS, config_map())).decoded()["message"]


async def test_a_server_error_and_an_unknown_authority_are_told(client: Client, backend: Backend) -> None:
    backend.raw["/down"] = HttpResponse(status=500, headers={"content-type": "text/plain"}, body=b"oops")
    await client.hooks("validating", backend.hook("/down"))
    said = (await client.ask("POST", MAPS, config_map())).decoded()["message"]
    assert said.endswith('an error on the server ("oops") has prevented the request from succeeding')
    await client.ask("DELETE", f"{GROUP}/validatingwebhookconfigurations/h")
    stranger = {"url": f"https://127.0.0.1:{backend.port}/down"}
    await client.hooks("validating", backend.hook("/down", clientConfig=stranger))
    said = (await client.ask("POST", MAPS, config_map())).decoded()["message"]
    assert said.endswith("tls: failed to verify certificate: x509: certificate signed by unknown authority")


async def test_selectors_scope_and_subresources_decide(client: Client, backend: Backend) -> None:
    backend.replies["/no"] = lambda _: {"allowed": False}
    space = {"metadata": {"name": "quiet", "labels": {"quiet": "yes"}}}
    await client.ask("POST", "/api/v1/namespaces", space)
    selectors: Object = {
        "namespaceSelector": {"matchExpressions": [{"key": "quiet", "operator": "DoesNotExist"}]},
        "objectSelector": {"matchLabels": {"watched": "yes"}},
    }
    await client.hooks("validating", backend.hook("/no", **selectors))
    watched = {"metadata": {"name": "w", "labels": {"watched": "yes"}}}
    assert (await client.ask("POST", MAPS, config_map())).status == 201
    assert (await client.ask("POST", "/api/v1/namespaces/quiet/configmaps", watched)).status == 201
    assert (await client.ask("POST", MAPS, watched)).status == 400
    removed = {"metadata": {"name": "a", "labels": {"watched": "yes"}}}
    assert (await client.ask("PATCH", f"{MAPS}/a", removed, media="application/merge-patch+json")).status == 400


async def test_dry_runs_ask_only_webhooks_without_side_effects(client: Client, backend: Backend) -> None:
    backend.replies["/ok"] = lambda _: {}
    await client.hooks("validating", backend.hook("/ok", sideEffects="NoneOnDryRun"))
    assert (await client.ask("POST", f"{MAPS}?dryRun=All", config_map())).status == 201


async def test_configurations_themselves_are_never_judged(client: Client, backend: Backend) -> None:
    backend.replies["/no"] = lambda _: {"allowed": False}
    everything = rule("*", group="*")
    await client.hooks("validating", backend.hook("/no", rules=[{**everything, "apiVersions": ["*"]}]))
    assert (await client.ask("POST", MAPS, config_map())).status == 400
    assert (await client.ask("DELETE", f"{GROUP}/validatingwebhookconfigurations/h")).status == 200
    assert (await client.ask("POST", MAPS, config_map())).status == 201


async def test_an_equivalent_resource_is_shown_in_the_version_the_rule_names(client: Client, backend: Backend) -> None:
    backend.replies["/hpa"] = lambda _: patch({"op": "replace", "path": "/spec/maxReplicas", "value": 7})
    old = {"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"]}
    await client.hooks("mutating", backend.hook("/hpa", rules=[{**old, "resources": ["horizontalpodautoscalers"]}]))
    spec = {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}
    metrics = [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5}}}
    ]
    path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    body = {"metadata": {"name": "h"}, "spec": {**spec, "metrics": metrics}}
    made = (await client.ask("POST", path, body)).decoded()
    (asked,) = backend.asked
    assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v1", "v2")
    assert asked["object"]["spec"]["targetCPUUtilizationPercentage"] == 5
    assert made["spec"]["maxReplicas"] == 7
    assert made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 5


async def test_scales_and_bindings_are_seen_as_themselves(client: Client, backend: Backend) -> None:
    backend.replies["/scale"] = lambda _: patch({"op": "replace", "path": "/spec/replicas", "value": 5})
    scale_rule = {"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["*/scale"]}
    await client.hooks("mutating", backend.hook("/scale", rules=[scale_rule]))
    labels = {"app": "d"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    path = "/apis/apps/v1/namespaces/default/deployments"
    assert (await client.ask("POST", path, body)).status == 201
    scale = {"spec": {"replicas": 2}}
    answer = await client.ask("PATCH", f"{path}/d/scale", scale, media="application/merge-patch+json")
    assert answer.decoded()["spec"] == {"replicas": 5}
    (asked,) = backend.asked
    assert (asked["kind"]["kind"], asked["subResource"], asked["object"]["kind"]) == ("Scale", "scale", "Scale")
    assert asked["oldObject"]["spec"] == {"replicas": 1}


async def test_a_patch_that_does_not_apply_is_an_internal_error(client: Client, backend: Backend) -> None:
    backend.replies["/bad"] = lambda _: patch({"op": "remove", "path": "/data/missing"})
    await client.hooks("mutating", backend.hook("/bad", rules=[rule(operations=("CREATE", "DELETE"))]))
    answer = await client.ask("POST", MAPS, config_map(x="1"))
    assert answer.status == 500
    assert answer.decoded()["message"].startswith("Internal error occurred: ")
    await client.ask("DELETE", f"{GROUP}/mutatingwebhookconfigurations/h")
    await client.ask("POST", MAPS, config_map(x="1"))
    await client.hooks("mutating", backend.hook("/bad", rules=[rule(operations=("CREATE", "DELETE"))]))
    answer = await client.ask("DELETE", f"{MAPS}/a")
    said = "attempted to modify the object, which is not supported for this operation"
    assert answer.decoded()["message"] == f'Internal error occurred: admission webhook "a.hook.example" {said}'


async def test_conditions_that_fail_forbid_the_request_of_a_strict_webhook(client: Client, backend: Backend) -> None:
    conditions = [{"name": "a", "expression": "1/0 == 1"}, {"name": "b", "expression": "object.data.q == 'x'"}]
    hook = backend.hook("/never", matchConditions=conditions)
    await client.hooks("mutating", {**hook, "failurePolicy": "Ignore"})
    assert (await client.ask("POST", MAPS, config_map(x="1"))).status == 201
    await client.hooks("mutating", hook, name="strict")
    body = {"metadata": {"generateName": "g-"}, "data": {"x": "1"}}
    refused = (await client.ask("POST", MAPS, body)).decoded()
    assert refused["message"] == (
        "configmaps is forbidden: [expression '1/0 == 1' resulted in error: division by zero, "
        "expression 'object.data.q == 'x'' resulted in error: no such key: q]"
    )
    assert backend.asked == []


async def test_deletions_of_a_collection_name_no_object(client: Client, backend: Backend) -> None:
    await client.ask("POST", MAPS, config_map())
    backend.replies["/see"] = lambda _: {}
    await client.hooks("validating", backend.hook("/see"))
    assert (await client.ask("DELETE", MAPS)).status == 200
    assert "name" not in backend.asked[0]
    assert backend.asked[0]["oldObject"]["metadata"]["name"] == "a"


async def test_owners_nobody_can_read_are_put_back(client: Client, backend: Backend) -> None:
    bad = [{"manager": "m", "operation": "Nonsense", "apiVersion": "v1", "fieldsType": "FieldsV1"}]
    backend.replies["/own"] = lambda _: patch({"op": "replace", "path": "/metadata/managedFields", "value": bad})
    await client.hooks("mutating", backend.hook("/own"))
    answer = await client.ask("POST", f"{MAPS}?fieldManager=me", config_map(x="1"))
    assert [entry["manager"] for entry in answer.decoded()["metadata"]["managedFields"]] == ["me"]
    assert ".metadata.managedFields was in an invalid state after admission" in answer.headers["warning"]


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_webhook_moves_no_object_to_another_namespace(client: Client, backend: Backend, method: str) -> None:
    await client.ask("POST", MAPS, config_map())
    backend.replies["/move"] = lambda _: patch({"op": "add", "path": "/metadata/namespace", "value": "kube-system"})
    await client.hooks("mutating", backend.hook("/move"))
    if method == "PUT":
        answer = await client.ask("PUT", f"{MAPS}/a", config_map(x="1"))
    else:
        answer = await client.ask("POST", MAPS, {"metadata": {"name": "b"}})
    assert answer.status == 400
    assert "the namespace of the provided object does not match" in answer.decoded()["message"]
    elsewhere = await client.ask("GET", "/api/v1/namespaces/kube-system/configmaps")
    assert [
        each["metadata"]["name"]
        for each in elsewhere.decoded()["items"]
        if "kube" not in each["metadata"]["name"] and "extension" not in each["metadata"]["name"]
    ] == []


async def test_owners_no_client_could_read_do_not_come_from_webhooks(client: Client, backend: Backend) -> None:
    bad = [{"manager": [1], "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]
    backend.replies["/own"] = lambda _: patch({"op": "replace", "path": "/metadata/managedFields", "value": bad})
    await client.hooks("mutating", backend.hook("/own"))
    answer = await client.ask("POST", MAPS, config_map(x="1"))
    assert answer.status == 500
    assert "json: cannot unmarshal array into Go struct field" in answer.decoded()["message"]
