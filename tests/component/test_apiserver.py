"""Requests to a whole API server over storage in memory: what clients rely on, kind by kind of answer."""

from __future__ import annotations

import asyncio
import pathlib
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, ApiResponse, User, WatchEvent, parse_query
from anynode.apiserver.assembly import ApiServerSettings, Assembly
from anynode.security.pki import load_or_create_key
from anynode.security.tokens import TokenIssuer
from anynode.storage.memory import MemoryStorage
from anynode.testing.clock import FakeClock

ADMIN = User(name="admin", groups=("system:masters",))
ANN = User(name="ann")
MERGE = "application/merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PATH = "/api/v1/namespaces/default/configmaps"


class Client:
    """Asks as one user and decodes what comes back."""

    def __init__(self, assembly: Assembly, user: User | None = ADMIN) -> None:
        self.assembly = assembly
        self.user = user

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> ApiResponse:
        path, _, query = target.partition("?")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        return await self.assembly.server.handle(
            ApiRequest(method=method, path=path, query=parse_query(query), headers=sent, body=raw, user=self.user)
        )

    async def get(self, target: str, **headers: str) -> Any:
        return (await self.ask("GET", target, **headers)).decoded()

    async def post(self, target: str, body: Any, **headers: str) -> Any:
        return (await self.ask("POST", target, body, **headers)).decoded()


@pytest.fixture
async def assembly() -> AsyncIterator[Assembly]:
    settings = ApiServerSettings(static_tokens={"secret": User(name="root", groups=("system:masters",))})
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=SystemClock(), random=random.Random(1), settings=settings) as assembly,
    ):
        yield assembly


@pytest.fixture
def client(assembly: Assembly) -> Client:
    return Client(assembly)


def config_map(name: str = "a", **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


class Sink:
    def __init__(self) -> None:
        self.events: list[WatchEvent] = []

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        self.events.extend(events)
        return True

    def end(self) -> None:
        pass


# --- bootstrap and documents


async def test_a_new_cluster_has_its_namespaces_roles_and_its_own_service(client: Client) -> None:
    names = [item["metadata"]["name"] for item in (await client.get("/api/v1/namespaces"))["items"]]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
    service = await client.get("/api/v1/namespaces/default/services/kubernetes")
    assert service["spec"]["clusterIP"] == "127.96.0.1"
    assert (await client.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin"))["rules"]
    slices = await client.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
    assert slices["endpoints"][0]["addresses"] == ["127.0.0.1"]


async def test_methods_count_where_upstreams_router_looks_at_them(client: Client) -> None:
    for target in ("/api/v1", "/apis/apps/v1", "/version", "/api/v1/namespaces", "/api/v1/namespaces/default"):
        assert (await client.ask("HEAD", target)).status == 405, target
    for target in ("/apis", "/apis/apps", "/healthz", "/openapi/v3", "/"):
        assert (await client.ask("HEAD", target)).status == 200, target
        assert (await client.ask("PUT", target)).status == 200, target


async def test_an_empty_dry_run_is_refused(client: Client) -> None:
    refused = await client.ask("POST", "/api/v1/namespaces/default/configmaps?dryRun=", {"metadata": {"name": "a"}})
    assert refused.status == 422
    assert refused.decoded()["message"] == (
        'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: [""]: supported values: "All"'
    )


async def test_a_list_is_no_single_objects_metadata(client: Client) -> None:
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    refused = await client.ask("GET", "/api/v1/namespaces", accept=accept)
    assert refused.status == 406
    assert refused.decoded()["message"] == (
        "you requested PartialObjectMetadata, but the requested object is a list (*core.NamespaceList)"
    )


async def test_discovery_is_told_in_both_forms(client: Client) -> None:
    groups = await client.get("/apis")
    assert groups["kind"] == "APIGroupList"
    assert "apiextensions.k8s.io" in [group["name"] for group in groups["groups"]]
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    response = await client.ask("GET", "/apis", accept=accept)
    assert response.content_type.endswith("as=APIGroupDiscoveryList")
    assert response.decoded()["items"][0]["metadata"]["name"] == "apiregistration.k8s.io"
    again = await client.ask("GET", "/apis", accept=accept, if_none_match=response.headers["etag"])
    assert (again.status, again.content_type) == (304, response.content_type)
    assert (await client.get("/version"))["minor"] == "36"
    assert (await client.ask("GET", "/readyz")).body == b"ok"
    assert b"[+]etcd ok" in ((await client.ask("GET", "/livez?verbose")).body or b"")
    assert (await client.ask("GET", "/nothing")).status == 404
    document = await client.get("/openapi/v3/api/v1")
    assert "/api/v1/namespaces/{namespace}/pods" in document["paths"]
    assert (await client.ask("GET", "/openapi/v3/apis/nope/v1")).status == 404
    assert b"apiserver_request_total" in ((await client.ask("GET", "/metrics")).body or b"")


async def test_the_v2_document_in_both_forms(client: Client) -> None:
    old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    plain, binary = await asyncio.gather(
        client.ask("GET", "/openapi/v2"), client.ask("GET", "/openapi/v2", accept=f"{old}, application/json;q=0.5")
    )
    assert "io.k8s.api.core.v1.Pod" in plain.decoded()["definitions"]
    assert binary.content_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert (binary.body or b"").startswith(b"\n\x032.0\x12")
    assert plain.headers["vary"] == "Accept"
    again = await client.ask("GET", "/openapi/v2", accept=old, if_none_match=binary.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert (await client.ask("GET", "/openapi/v2", accept="text/html")).status == 406


# --- writes and reads


async def test_an_object_through_its_life(client: Client) -> None:
    created = await client.ask("POST", PATH, config_map(k="1"))
    assert created.status == 201
    made = created.decoded()
    assert (made["kind"], made["apiVersion"]) == ("ConfigMap", "v1")
    assert await client.get(f"{PATH}/a") == made
    patched = await client.ask("PATCH", f"{PATH}/a", {"data": {"l": "2"}}, content_type=MERGE)
    assert patched.decoded()["data"] == {"k": "1", "l": "2"}
    stale = await client.ask("PUT", f"{PATH}/a", made)
    assert (stale.status, stale.decoded()["reason"]) == (409, "Conflict")
    deleted = await client.ask("DELETE", f"{PATH}/a")
    assert deleted.decoded()["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    missing = await client.ask("GET", f"{PATH}/a")
    assert missing.decoded()["message"] == 'configmaps "a" not found'


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "said"),
    [
        ("POST", PATH, b"", 400, "unexpected end of JSON input (<empty>)"),
        ("POST", PATH, b"{nope", 400, "json parse error"),
        ("POST", PATH, {"kind": "Secret", "apiVersion": "v1"}, 400, "cannot be handled as a ConfigMap"),
        ("POST", PATH, {"metadata": {"name": "Bad_Name"}}, 422, "RFC 1123 subdomain"),
        ("POST", PATH, {"metadata": {"name": "a", "namespace": "other"}}, 400, "does not match the namespace"),
        ("POST", "/api/v1/namespaces/none/configmaps", config_map(), 404, 'namespaces "none" not found'),
        ("PUT", f"{PATH}/a", config_map("b"), 400, "does not match the name on the URL (a)"),
        ("POST", f"{PATH}?fieldValidation=Strict", {"bad": 1}, 400, 'strict decoding error: unknown field "bad"'),
        ("POST", f"{PATH}?dryRun=Some", config_map(), 422, 'supported values: "All"'),
        ("GET", f"{PATH}?resourceVersion=abc", None, 400, "invalid resource version"),
        ("GET", f"{PATH}?labelSelector=a in", None, 400, "unable to parse requirement"),
        ("GET", f"{PATH}?fieldSelector=data=x", None, 400, "is not a known field selector"),
        ("GET", "/apis/events.k8s.io/v1/events?fieldSelector=source=x", None, 400, "field label not supported: source"),
        ("GET", "/version?timeout=soon", None, 400, "invalid timeout specified in the request URL - time: invalid"),
        ("DELETE", f"{PATH}/a?timeout=5", None, 400, 'time: missing unit in duration "5"'),
        ("GET", f"{PATH}?limit=x", None, 400, "strconv.ParseInt"),
        ("GET", "/api/v1/nothings", None, 404, "could not find the requested resource"),
        ("GET", "/api/v1/namespaces/default//configmaps", None, 404, "could not find the requested resource"),
        ("POST", "/api/v1/configmaps", config_map(), 405, "does not allow this method"),
        ("DELETE", "/api/v1/namespaces/default", None, 403, "this namespace may not be deleted"),
    ],
)
async def test_bad_input_is_refused_in_upstreams_words(
    client: Client, method: str, target: str, body: Any, status: int, said: str
) -> None:
    response = await client.ask(method, target, body, content_type="application/json")
    assert response.status == status
    assert said in response.decoded()["message"]


async def test_complaints_stand_in_the_order_of_the_body(client: Client) -> None:
    body = b'{"metadata":{"name":"a"},"bad":1,"data":{"k":"1","k":"2"}}'
    response = await client.ask("POST", f"{PATH}?fieldValidation=Strict", body, content_type="application/json")
    assert 'unknown field "bad", duplicate field "data.k"' in response.decoded()["message"]


async def test_events_are_found_by_the_field_names_of_their_group(client: Client) -> None:
    event = {
        "metadata": {"name": "e"},
        "regarding": {"namespace": "default"},
        "eventTime": "2017-09-19T13:49:16.000000Z",
    }
    event |= {"action": "Do", "reason": "Test", "type": "Normal"}
    event |= {"reportingController": "c", "reportingInstance": "i"}
    await client.post("/apis/events.k8s.io/v1/namespaces/default/events", event)
    for path, field in (("/apis/events.k8s.io/v1", "reportingController"), ("/api/v1", "source")):
        found = await client.get(f"{path}/namespaces/default/events?fieldSelector={field}=c")
        assert [each["metadata"]["name"] for each in found["items"]] == ["e"]


async def test_media_types_are_negotiated(client: Client) -> None:
    assert (await client.ask("POST", PATH, config_map(), content_type="text/plain")).status == 415
    assert (await client.ask("GET", PATH, accept="text/plain")).status == 406
    text = b"metadata: {name: yy}\ndata: {k: v}\n"
    assert (await client.ask("POST", PATH, text, content_type="application/yaml")).status == 201
    shown = await client.ask("GET", f"{PATH}/yy", accept="application/yaml")
    assert shown.content_type == "application/yaml"
    assert b"k: v" in (shown.body or b"")
    warned = await client.ask("POST", PATH, {"metadata": {"name": "w"}, "bad": 1})
    assert warned.headers["warning"] == '299 - "unknown field \\"bad\\""'


async def test_a_warning_goes_with_every_answer_about_endpoints(client: Client) -> None:
    path = "/api/v1/namespaces/default/endpoints"
    good = await client.ask("POST", path, {"metadata": {"name": "e"}, "bad": 1})
    bad = await client.ask("POST", path, {"metadata": {"name": "Bad"}})
    assert (good.status, bad.status) == (201, 422)
    first, _, second = good.headers["warning"].partition(", ")
    assert (first, second) == (bad.headers["warning"], '299 - "unknown field \\"bad\\""')
    assert "v1 Endpoints is deprecated" in first


async def test_an_owner_is_kept_once(client: Client) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
    doubled = {"metadata": {"name": "a", "ownerReferences": [owner, owner, {**owner, "name": "q"}]}}
    made = await client.ask("POST", PATH, doubled)
    assert [each["name"] for each in made.decoded()["metadata"]["ownerReferences"]] == ["p", "q"]
    assert "duplicate UID(s) observed: u" in made.headers["warning"]
    patched = await client.ask("PATCH", f"{PATH}/a", {"metadata": doubled["metadata"]}, content_type=MERGE)
    assert "after mutating admission happens" in patched.headers["warning"]


async def test_a_refusal_for_the_name_carries_warnings(client: Client) -> None:
    refused = await client.ask("PUT", f"{PATH}/a", {"metadata": {}, "bad": 1})
    assert refused.status == 400
    assert refused.headers["warning"] == '299 - "unknown field \\"bad\\""'


async def test_a_refused_patch_shows_what_it_made_in_upstreams_order(client: Client) -> None:
    await client.post(PATH, config_map(k="1"))
    bad = {"bad": 1, "data": {"a": "2"}}
    response = await client.ask("PATCH", f"{PATH}/a?fieldValidation=Strict", bad, content_type=MERGE)
    assert response.status == 422
    said = response.decoded()["message"]
    assert '"{\\"apiVersion\\":\\"v1\\",\\"bad\\":1,\\"data\\":{\\"a\\":\\"2\\",\\"k\\":\\"1\\"},' in said


async def test_tables_and_partial_metadata(client: Client) -> None:
    await client.post(PATH, config_map(k="1"))
    table = await client.get(f"{PATH}?labelSelector=", accept=TABLE)
    assert table["columnDefinitions"][0]["name"] == "Name"
    assert table["rows"][0]["cells"][:2] == ["a", 1]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    partial = await client.get(PATH, accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
    assert set(partial["items"][0]) == {"kind", "apiVersion", "metadata"}
    assert (await client.ask("GET", f"{PATH}?includeObject=Bad", accept=TABLE)).status == 400


async def test_a_list_in_pages_is_of_one_version(client: Client) -> None:
    for name in "abcde":
        await client.post(PATH, config_map(name))
    first = await client.get(f"{PATH}?limit=2")
    assert [item["metadata"]["name"] for item in first["items"]] == ["a", "b"]
    assert "kind" not in first["items"][0]
    assert first["metadata"]["remainingItemCount"] == 3
    await client.post(PATH, config_map("bb"))
    await client.ask("DELETE", f"{PATH}/c")
    seen, token = [], first["metadata"]["continue"]
    while token:
        page = await client.get(f"{PATH}?limit=2&continue={token}")
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        seen += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
    assert seen == ["c", "d", "e"]
    exact = await client.get(
        f"{PATH}?resourceVersion={first['metadata']['resourceVersion']}&resourceVersionMatch=Exact"
    )
    assert len(exact["items"]) == 5


async def test_a_version_to_come_is_waited_for(client: Client) -> None:
    revision = client.assembly.cache.revision

    async def write_soon() -> None:
        await asyncio.sleep(0.05)
        await client.post(PATH, config_map())

    async with asyncio.TaskGroup() as group:
        group.create_task(write_soon())
        listed = await client.get(f"{PATH}?resourceVersion={revision + 1}")
    assert len(listed["items"]) == 1


async def test_a_watch_is_served_from_its_version(client: Client) -> None:
    made = await client.post(PATH, config_map())
    version = made["metadata"]["resourceVersion"]
    response = await client.ask("GET", f"{PATH}?watch=true&resourceVersion={version}&fieldSelector=metadata.name=a")
    assert response.watch is not None
    sink = Sink()
    response.watch.start(sink)
    await client.ask("PATCH", f"{PATH}/a", {"data": {"k": "v"}}, content_type=MERGE)
    await client.post(PATH, config_map("other"))
    await client.ask("DELETE", f"{PATH}/a")
    assert [event.type for event in sink.events] == ["MODIFIED", "DELETED"]
    line = orjson.loads(sink.events[0].line)
    assert line["object"]["data"] == {"k": "v"}
    response.watch.stop()
    old = await client.ask("GET", f"{PATH}?watch=true&sendInitialEvents=true")
    assert old.status == 422


# --- subresources


async def pod(client: Client, name: str = "p", **spec: Any) -> Object:
    await client.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    body = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}
    made: Object = await client.post("/api/v1/namespaces/default/pods", body)
    return made


async def test_a_pod_is_bound_once_and_deleted_with_grace(client: Client) -> None:
    await pod(client)
    path = "/api/v1/namespaces/default/pods/p"
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    assert (await client.ask("POST", f"{path}/binding", binding)).status == 201
    bound = await client.get(path)
    assert bound["spec"]["nodeName"] == "n"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    again = await client.ask("POST", f"{path}/binding", binding)
    assert 'already assigned to node "n"' in again.decoded()["message"]
    marked = (await client.ask("DELETE", path)).decoded()
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await client.ask("DELETE", path, {"gracePeriodSeconds": 0})).decoded()["kind"] == "Pod"
    assert (await client.ask("GET", path)).status == 404


async def test_a_disruption_budget_is_kept(client: Client) -> None:
    await pod(client, nodeName="n")
    path = "/api/v1/namespaces/default/pods/p"
    await client.ask("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)
    running = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    await client.ask("PATCH", f"{path}/status", running, content_type=MERGE)
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}
    await client.post(budgets, {"metadata": {"name": "b"}, "spec": spec})
    held = {"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1}}
    await client.ask("PATCH", f"{budgets}/b/status", held, content_type=MERGE)
    eviction = {"metadata": {"name": "p"}}
    refused = await client.ask("POST", f"{path}/eviction", eviction)
    assert (refused.status, refused.decoded()["details"]["causes"][0]["reason"]) == (429, "DisruptionBudget")
    await client.ask("PATCH", f"{budgets}/b/status", {"status": {"disruptionsAllowed": 1}}, content_type=MERGE)
    assert (await client.ask("POST", f"{path}/eviction", eviction)).status == 201
    assert (await client.get(f"{budgets}/b"))["status"]["disruptionsAllowed"] == 0
    assert (await client.get(path))["metadata"]["deletionTimestamp"]


async def test_scale_reads_and_writes_replicas(client: Client) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await client.post(path, {"metadata": {"name": "d"}, "spec": spec})
    scale = await client.get(f"{path}/d/scale")
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 1}, "a=b")
    scaled = await client.ask("PATCH", f"{path}/d/scale", {"spec": {"replicas": 4}}, content_type=MERGE)
    assert scaled.decoded()["spec"] == {"replicas": 4}
    deployment = await client.get(f"{path}/d")
    assert (deployment["spec"]["replicas"], deployment["metadata"]["generation"]) == (4, 2)
    assert (await client.ask("PUT", f"{path}/d/scale", {**scale, "spec": {"replicas": 9}})).status == 409


async def test_events_are_one_kind_of_two_groups(client: Client) -> None:
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    event = {"metadata": {"name": "e"}, "involvedObject": about, "reason": "R", "message": "m", "type": "Normal"}
    await client.post("/api/v1/namespaces/default/events", event)
    other = await client.get("/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (other["apiVersion"], other["regarding"]["name"], other["note"]) == ("events.k8s.io/v1", "p", "m")
    listed = await client.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=p,reason=R")
    assert len(listed["items"]) == 1


async def test_a_namespace_waits_for_its_finalizer(client: Client) -> None:
    await client.post("/api/v1/namespaces", {"metadata": {"name": "n"}})
    marked = (await client.ask("DELETE", "/api/v1/namespaces/n")).decoded()
    assert marked["status"]["phase"] == "Terminating"
    refused = await client.post("/api/v1/namespaces/n/configmaps", config_map())
    assert refused["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    marked["spec"] = {}
    assert (await client.ask("PUT", "/api/v1/namespaces/n/finalize", marked)).status == 200
    assert (await client.ask("GET", "/api/v1/namespaces/n")).status == 404


async def test_a_collection_is_deleted_by_selector(client: Client) -> None:
    for name in "abc":
        await client.post(PATH, {"metadata": {"name": name, "labels": {"t": "x" if name != "b" else "y"}}})
    deleted = (await client.ask("DELETE", f"{PATH}?labelSelector=t=x")).decoded()
    assert [item["metadata"]["name"] for item in deleted["items"]] == ["a", "c"]
    assert [item["metadata"]["name"] for item in (await client.get(PATH))["items"]] == ["b"]


# --- who and may they


async def test_rights_come_and_go_with_roles(assembly: Assembly, client: Client) -> None:
    ann = Client(assembly, ANN)
    refused = await ann.ask("GET", PATH)
    assert refused.status == 403
    said = 'configmaps is forbidden: User "ann" cannot list resource "configmaps" in API group "" in the namespace'
    assert refused.decoded()["message"].startswith(said)
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    rule = {"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}
    await client.post(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": [rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}
    await client.post(f"{rbac}/rolebindings", {"metadata": {"name": "b"}, "roleRef": reference, "subjects": [subject]})
    assert (await ann.ask("GET", PATH)).status == 200
    review = {"spec": {"resourceAttributes": {"namespace": "default", "verb": "list", "resource": "configmaps"}}}
    answer = await ann.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert answer["status"]["allowed"] is True
    await client.ask("DELETE", f"{rbac}/rolebindings/b")
    assert (await ann.ask("GET", PATH)).status == 403


async def test_strangers_see_health_and_nothing_else(assembly: Assembly) -> None:
    nobody = Client(assembly, None)
    assert (await nobody.ask("GET", "/readyz")).status == 200
    assert (await nobody.ask("GET", "/version")).status == 200
    assert (await nobody.ask("GET", PATH)).status == 403
    assert (await nobody.ask("GET", PATH, authorization="Bearer wrong")).status == 401
    assert (await nobody.ask("GET", PATH, authorization="Bearer secret")).status == 200


async def test_impersonation_needs_the_right_to_it(assembly: Assembly, client: Client) -> None:
    me = await client.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, impersonate_user="bob")
    assert me["status"]["userInfo"] == {"username": "bob", "groups": ["system:authenticated"]}
    refused = await Client(assembly, ANN).ask("GET", PATH, impersonate_user="bob")
    assert 'cannot impersonate-on:user-info:list resource "configmaps"' in refused.decoded()["message"]
    assert (await client.ask("GET", "/version", impersonate_group="g")).status == 400


async def test_a_token_lives_as_long_as_its_account(tmp_path: pathlib.Path) -> None:
    clock = FakeClock()
    issuer = TokenIssuer(load_or_create_key(tmp_path / "sa.key"), "https://kubernetes.default.svc", clock)
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=clock, random=random.Random(1), tokens=issuer) as assembly,
    ):
        admin = Client(assembly)
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        await admin.post(accounts, {"metadata": {"name": "bot"}})
        answer = await admin.post(f"{accounts}/bot/token", {"spec": {"expirationSeconds": 600}})
        bearer = f"Bearer {answer['status']['token']}"
        nobody = Client(assembly, None)
        me = await nobody.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, authorization=bearer)
        assert me["status"]["userInfo"]["username"] == "system:serviceaccount:default:bot"
        assert "system:authenticated" in me["status"]["userInfo"]["groups"]
        await admin.ask("DELETE", f"{accounts}/bot")
        assert (await nobody.ask("GET", "/version", authorization=bearer)).status == 401


async def test_history_is_compacted_and_old_tokens_go_on_inconsistently(tmp_path: pathlib.Path) -> None:
    clock = FakeClock()
    async with MemoryStorage() as storage, Assembly(storage, clock=clock, random=random.Random(1)) as assembly:
        client = Client(assembly)
        for name in "abc":
            await client.post(PATH, config_map(name))
        first = await client.get(f"{PATH}?limit=1")
        await client.post(PATH, config_map("d"))
        await clock.advance(301)
        await clock.advance(301)
        expired = await client.ask("GET", f"{PATH}?limit=1&continue={first['metadata']['continue']}")
        assert (expired.status, expired.decoded()["reason"]) == (410, "Expired")
        token = expired.decoded()["metadata"]["continue"]
        rest = await client.get(f"{PATH}?continue={token}")
        assert [item["metadata"]["name"] for item in rest["items"]] == ["b", "c", "d"]
