"""Custom resources through a whole API server: from the definition's commit to its end, version by version."""

from __future__ import annotations

import asyncio
import base64
import collections
import gc
import pathlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.aio.tls import server_context
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, ApiResponse, User, WatchEvent, parse_query
from anynode.apiserver.assembly import Assembly
from anynode.apiserver.served import Served
from anynode.registry.custom_store import CustomStore
from anynode.registry.custom_versions import VersionCache
from anynode.registry.watch_cache import ResourceCache
from anynode.registry.watchers import Watcher
from anynode.schema.custom.custom_type import CustomType
from anynode.security.pki import CertificateAuthority
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",))
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NAME = "widgets.example.com"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
SCHEMA: Object = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "string", "default": "s"},
                "color": {"type": "string"},
                "replicas": {"type": "integer"},
            },
        },
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
    },
}


def version(name: str = "v1", *, storage: bool = True, **said: Any) -> Object:
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": SCHEMA}, **said}


def definition(*versions: Object, **spec: Any) -> Object:
    names = {"plural": "widgets", "kind": "Widget", "shortNames": ["wi"], "categories": ["all"]}
    return {
        "metadata": {"name": NAME},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": names,
            "versions": versions or [version()],
            **spec,
        },
    }


def widget(name: str = "a", api_version: str = "example.com/v1", **spec: Any) -> Object:
    return {"apiVersion": api_version, "kind": "Widget", "metadata": {"name": name}, "spec": spec}


class Client:
    """Asks as an administrator and decodes what comes back."""

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> ApiResponse:
        path, _, query = target.partition("?")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        return await self.assembly.server.handle(
            ApiRequest(method=method, path=path, query=parse_query(query), headers=sent, body=raw, user=ADMIN)
        )

    async def get(self, target: str, **headers: str) -> Any:
        return (await self.ask("GET", target, **headers)).decoded()

    async def post(self, target: str, body: Any) -> Any:
        return (await self.ask("POST", target, body)).decoded()

    async def merge(self, target: str, body: Any) -> Any:
        return (await self.ask("PATCH", target, body, content_type="application/merge-patch+json")).decoded()

    async def define(self, crd: Object) -> Object:
        """Post the definition; what it is once it is established."""
        made = await self.post(CRDS, crd)
        assert made["kind"] == "CustomResourceDefinition", made
        return await self.until(f"{CRDS}/{made['metadata']['name']}", lambda crd: condition(crd, "Established"))

    async def until(self, target: str, wanted: Callable[[Object], bool]) -> Object:
        async with asyncio.timeout(5):
            while True:
                found: Object = await self.get(target)
                if wanted(found):
                    return found
                await asyncio.sleep(0)


def condition(crd: Object, kind: str, status: str = "True") -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(each["type"] == kind and each["status"] == status for each in conditions)


class Sink:
    """A watch's events, and whether it ended."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Object]] = []
        self.ended = False

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        self.events.extend((event.type, event.object) for event in events)
        return True

    def end(self) -> None:
        self.ended = True

    async def reach(self, count: int) -> None:
        """Wait until so many events have come."""
        async with asyncio.timeout(5):
            while len(self.events) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)


async def watch(client: Client, target: str) -> Sink:
    response = await client.ask("GET", target)
    assert response.watch is not None, response.decoded()
    sink = Sink()
    response.watch.start(sink)
    return sink


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly,
    ):
        yield Client(assembly)


# --- the definition's life


async def test_a_definition_is_named_and_established_in_upstreams_order(client: Client) -> None:
    sink = await watch(client, f"{CRDS}?watch=true")
    crd = await client.define(definition())
    told = [[(each["type"], each["status"], each["reason"]) for each in obj["status"]["conditions"] or ()]
            for _, obj in sink.events]  # fmt: skip
    assert told[0] == []
    assert told[1] == [("NamesAccepted", "True", "NoConflicts"), ("Established", "False", "Installing")]
    assert told[2] == [("NamesAccepted", "True", "NoConflicts"), ("Established", "True", "InitialNamesAccepted")]
    assert crd["status"]["acceptedNames"]["listKind"] == "WidgetList"
    assert crd["status"]["storedVersions"] == ["v1"]


async def test_names_of_another_definition_cannot_be_had_until_it_goes(client: Client) -> None:
    await client.define(definition())
    rival = definition()
    rival["metadata"]["name"] = "gadgets.example.com"
    rival["spec"]["names"] = {"plural": "gadgets", "kind": "Widget", "shortNames": ["wi", "ga"]}
    await client.post(CRDS, rival)
    refused = await client.until(f"{CRDS}/gadgets.example.com", lambda crd: condition(crd, "NamesAccepted", "False"))
    said = {each["type"]: (each["reason"], each["message"]) for each in refused["status"]["conditions"]}
    assert said["NamesAccepted"] == ("ListKindConflict", '"WidgetList" is already in use')
    assert said["Established"] == ("NotAccepted", "not all names are accepted")
    answer = await client.ask("GET", "/apis/example.com/v1/gadgets")
    assert (answer.status, answer.body) == (404, b"404 page not found\n")
    await client.ask("DELETE", f"{CRDS}/{NAME}")
    await client.until(f"{CRDS}/gadgets.example.com", lambda crd: condition(crd, "Established"))


async def test_a_deleted_definition_takes_its_objects_with_it_and_can_come_back(client: Client) -> None:
    await client.define(definition())
    await client.post(WIDGETS, widget())
    sink = await watch(client, f"{WIDGETS}?watch=true")
    deleted = (await client.ask("DELETE", f"{CRDS}/{NAME}")).decoded()
    assert deleted["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert condition(deleted, "Terminating")
    await client.until(f"{CRDS}/{NAME}", lambda crd: crd.get("code") == 404)
    assert (await client.ask("GET", WIDGETS)).body == b"404 page not found\n"
    assert [kind for kind, _ in sink.events] == ["ADDED", "DELETED"]
    assert sink.ended
    await client.define(definition())
    assert (await client.get(WIDGETS))["items"] == []


async def test_nothing_is_created_while_a_definition_waits_for_its_objects(client: Client) -> None:
    await client.define(definition())
    held = widget()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.post(WIDGETS, held)
    await client.ask("DELETE", f"{CRDS}/{NAME}")
    await client.until(f"{WIDGETS}/a", lambda obj: "deletionTimestamp" in obj["metadata"])
    refused = await client.post(WIDGETS, widget("b"))
    said = "create not allowed while custom resource definition is terminating"
    assert refused["message"] == f'widgets.example.com "b" is forbidden: {said}'
    listed = (await client.get("/apis/example.com/v1"))["resources"][0]
    assert listed["verbs"] == ["delete", "deletecollection", "get", "list", "watch"]
    await client.merge(f"{WIDGETS}/a", {"metadata": {"finalizers": None}})
    await client.until(f"{CRDS}/{NAME}", lambda crd: crd.get("code") == 404)


async def test_a_protected_group_needs_approval(client: Client) -> None:
    crd = definition()
    crd["metadata"] = {"name": "widgets.a.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}}
    crd["spec"]["group"] = "a.k8s.io"
    await client.post(CRDS, crd)
    found = await client.until(
        f"{CRDS}/widgets.a.k8s.io",
        lambda crd: condition(crd, "KubernetesAPIApprovalPolicyConformant", "False"),
    )
    said = next(each for each in found["status"]["conditions"] if each["type"].startswith("KubernetesAPI"))
    assert (said["reason"], said["message"]) == ("UnapprovedAnnotation", 'not approved: "unapproved, a test"')


async def test_definitions_and_objects_outlive_a_restart() -> None:
    async with MemoryStorage() as storage:
        async with Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly:
            client = Client(assembly)
            await client.define(definition())
            await client.post(WIDGETS, widget(color="red"))
        async with Assembly(storage, clock=SystemClock(), random=random.Random(2)) as assembly:
            found = await Client(assembly).get(f"{WIDGETS}/a")
    assert found["spec"] == {"size": "s", "color": "red"}


async def test_definitions_that_came_and_went_leave_nothing(client: Client) -> None:
    def held() -> dict[str, int]:
        gc.collect()
        found = collections.Counter(type(each).__name__ for each in gc.get_objects())
        kinds = (ResourceCache, VersionCache, Served, CustomType, CustomStore, Watcher)
        return {kind.__name__: found[kind.__name__] for kind in kinds}

    async def round_of(number: int) -> None:
        crd = definition(names={"plural": f"w{number}s", "singular": f"w{number}", "kind": f"W{number}"})
        crd["metadata"]["name"] = f"w{number}s.{crd['spec']['group']}"
        await client.define(crd)
        objects = WIDGETS.rpartition("/")[0] + f"/w{number}s"
        await client.post(objects, {**widget(color="red"), "kind": f"W{number}"})
        sink = await watch(client, f"{objects}?watch=true")
        await client.ask("DELETE", f"{CRDS}/{crd['metadata']['name']}")
        await client.until(f"{CRDS}/{crd['metadata']['name']}", lambda found: found.get("code") == 404)
        assert sink.ended

    await round_of(0)
    before = held()
    for number in range(1, 6):
        await round_of(number)
    assert held() == before


# --- objects


async def test_a_changed_schema_holds_at_once_for_what_is_stored_and_watches_end(client: Client) -> None:
    await client.define(definition())
    await client.post(WIDGETS, widget(color="red"))
    sink = await watch(client, f"{WIDGETS}?watch=true")
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "string"}, "weight": {"type": "integer", "default": 7}}}}}  # fmt: skip
    await client.merge(f"{CRDS}/{NAME}", {"spec": {"versions": [version(schema={"openAPIV3Schema": schema})]}})
    assert sink.ended
    assert (await client.get(f"{WIDGETS}/a"))["spec"] == {"size": "s", "weight": 7}
    again = await watch(client, f"{WIDGETS}?watch=true")
    assert again.events[0][1]["spec"] == {"size": "s", "weight": 7}
    changed = await client.merge(f"{WIDGETS}/a", {"spec": {"size": "m"}})
    assert again.events[1] == ("MODIFIED", changed)


async def test_lists_say_each_items_kind_and_page_through(client: Client) -> None:
    await client.define(definition())
    for name in ("a", "b", "c"):
        await client.post(WIDGETS, widget(name))
    page = await client.get(f"{WIDGETS}?limit=2")
    assert [item["metadata"]["name"] for item in page["items"]] == ["a", "b"]
    assert (page["kind"], page["items"][0]["kind"], page["metadata"]["remainingItemCount"]) == (
        "WidgetList", "Widget", 1,
    )  # fmt: skip
    rest = await client.get(f"{WIDGETS}?limit=2&continue={page['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
    assert rest["metadata"]["continue"] == ""


async def test_selectable_fields_select_lists_and_watches(client: Client) -> None:
    await client.define(definition(version(selectableFields=[{"jsonPath": ".spec.color"}])))
    sink = await watch(client, f"{WIDGETS}?watch=true&fieldSelector=spec.color%3Dred")
    await client.post(WIDGETS, widget("a", color="red"))
    await client.post(WIDGETS, widget("b", color="blue"))
    listed = await client.get(f"{WIDGETS}?fieldSelector=spec.color%3Dred")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
    await client.merge(f"{WIDGETS}/a", {"spec": {"color": "blue"}})
    assert [(kind, obj["spec"]["color"]) for kind, obj in sink.events] == [("ADDED", "red"), ("DELETED", "red")]
    refused = await client.get(f"{WIDGETS}?fieldSelector=spec.size%3Ds")
    assert refused["message"] == "field label not supported: spec.size"


async def test_scale_is_read_and_written_through_the_paths_of_the_definition(client: Client) -> None:
    paths = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    await client.define(definition(version(subresources={"status": {}, "scale": paths})))
    await client.post(WIDGETS, widget())
    missing = await client.get(f"{WIDGETS}/a/scale")
    assert 'the spec replicas field ".spec.replicas" does not exist' in missing["message"]
    refused = await client.merge(f"{WIDGETS}/a/scale", {"metadata": {"labels": {}}})
    assert refused["message"] == 'the spec replicas field ".spec.replicas" cannot be empty'
    scaled = await client.merge(f"{WIDGETS}/a/scale", {"spec": {"replicas": 3}})
    assert scaled["spec"] == {"replicas": 3}
    assert (await client.get(f"{WIDGETS}/a"))["metadata"]["generation"] == 2
    refused = await client.merge(f"{WIDGETS}/a/scale", {"spec": {"replicas": -1}})
    assert refused["code"] == 422


async def test_what_a_custom_resource_does_not_have(client: Client) -> None:
    await client.define(definition())
    await client.post(WIDGETS, widget())
    assert (await client.get(f"{WIDGETS}/a/status"))["message"] == 'widgets.example.com "a" not found'
    answer = await client.ask("PATCH", f"{WIDGETS}/a", {}, content_type="application/strategic-merge-patch+json")
    assert answer.status == 415
    assert (await client.ask("PUT", WIDGETS, widget())).decoded()["message"] == "name must be provided"
    assert (await client.ask("POST", "/apis/example.com/v1/widgets", widget())).body == b"404 page not found\n"
    assert (await client.ask("GET", "/apis/example.com/v2/widgets")).body == b"404 page not found\n"


async def test_a_deprecated_version_is_warned_of(client: Client) -> None:
    await client.define(definition(version(deprecated=True), version("v2", storage=False)))
    answer = await client.ask("GET", WIDGETS)
    assert answer.headers["warning"] == '299 - "example.com/v1 Widget is deprecated; use example.com/v2 Widget"'


# --- several versions


async def test_versions_without_conversion_are_one_object(client: Client) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"color": {"type": "string"}}}}}
    await client.define(definition(version(), version("v2", storage=False, schema={"openAPIV3Schema": schema})))
    second = WIDGETS.replace("/v1/", "/v2/")
    sink = await watch(client, f"{second}?watch=true")
    await client.post(WIDGETS, widget(color="red"))
    seen = await client.get(f"{second}/a")
    assert (seen["apiVersion"], seen["spec"]) == ("example.com/v2", {"color": "red"})
    assert sink.events == [("ADDED", seen)]
    await client.post(second, widget("b", "example.com/v2", color="blue"))
    assert (await client.get(f"{WIDGETS}/b"))["spec"] == {"color": "blue", "size": "s"}
    refused = await client.post(second, widget("c"))
    assert refused["message"].startswith("the API version in the data (example.com/v1) does not match")


async def test_a_write_moves_an_object_to_the_storage_version_though_nothing_changes(client: Client) -> None:
    await client.define(definition(version(), version("v2", storage=False)))
    made = await client.post(WIDGETS, widget())
    versions = [version(storage=False), version("v2")]
    await client.merge(f"{CRDS}/{NAME}", {"spec": {"versions": versions}})
    base = client.assembly.cache.at("/registry/example.com/widgets/")
    assert base.items["default/a"].value.startswith(b'{"kind":"Widget","apiVersion":"example.com/v1"')
    again = await client.merge(f"{WIDGETS}/a", {})
    assert base.items["default/a"].value.startswith(b'{"kind":"Widget","apiVersion":"example.com/v2"')
    assert again["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    assert again["apiVersion"] == "example.com/v1"


class Converter:
    """A conversion webhook: v1's ``spec.color`` is v2's ``spec.colour``."""

    def __init__(self, ca: CertificateAuthority) -> None:
        pair = ca.server_certificate(["127.0.0.1"])
        self.tls = server_context(pair.certificate, pair.key)
        self.bundle = base64.b64encode(ca.certificate).decode()
        self.asked: list[Object] = []
        self.change: Callable[[Object], Object] = lambda response: response
        self.port = 0

    async def handle(self, request: HttpRequest) -> HttpResponse:
        review = orjson.loads(request.body)
        asked = review["request"]
        self.asked.append(asked)
        wanted = asked["desiredAPIVersion"]
        objects = [self._converted(each, wanted) for each in asked["objects"]]
        response = {"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": objects}
        answer = {"kind": review["kind"], "apiVersion": review["apiVersion"], "response": self.change(response)}
        return HttpResponse(headers={"content-type": "application/json"}, body=orjson.dumps(answer))

    def _converted(self, obj: Object, wanted: str) -> Object:
        names = ("color", "colour") if wanted.endswith("v2") else ("colour", "color")
        spec = {names[1] if key == names[0] else key: value for key, value in obj["spec"].items()}
        return {**obj, "apiVersion": wanted, "spec": spec}

    def conversion(self) -> Object:
        config = {"url": f"https://127.0.0.1:{self.port}/", "caBundle": self.bundle}
        return {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}}


@pytest.fixture
async def converter(tmp_path: pathlib.Path) -> AsyncIterator[Converter]:
    clock = SystemClock()
    found = Converter(CertificateAuthority.load_or_create(tmp_path, clock))
    async with HttpServer(found.handle, host="127.0.0.1", port=0, ssl=found.tls, clock=clock) as server:
        found.port = server.port
        yield found


def converted_definition(converter: Converter) -> Object:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"colour": {"type": "string"}}}},
    }
    second = version("v2", storage=False, schema={"openAPIV3Schema": schema})
    first = version(schema={"openAPIV3Schema": {"type": "object", "properties": {"spec": {
        "type": "object", "properties": {"color": {"type": "string"}}}}}})  # fmt: skip
    return definition(first, second, conversion=converter.conversion())


async def test_a_webhook_converts_objects_lists_and_watches(client: Client, converter: Converter) -> None:
    await client.define(converted_definition(converter))
    second = WIDGETS.replace("/v1/", "/v2/")
    sink = await watch(client, f"{second}?watch=true")
    await client.post(WIDGETS, widget(color="red"))
    assert converter.asked == []
    seen = await client.get(f"{second}/a")
    assert (seen["apiVersion"], seen["spec"]) == ("example.com/v2", {"colour": "red"})
    made = await client.post(second, widget("b", "example.com/v2", colour="blue"))
    assert made["spec"] == {"colour": "blue"}
    assert (await client.get(f"{WIDGETS}/b"))["spec"] == {"color": "blue"}
    listed = await client.get(second)
    assert [item["spec"] for item in listed["items"]] == [{"colour": "red"}, {"colour": "blue"}]
    assert listed["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    changed = await client.merge(f"{second}/a", {"spec": {"colour": "green"}})
    await sink.reach(3)
    assert sink.events == [("ADDED", seen), ("ADDED", made), ("MODIFIED", changed)]
    deleted = (await client.ask("DELETE", f"{second}/a")).decoded()
    assert deleted["status"] == "Success"
    assert [item["metadata"]["name"] for item in (await client.get(second))["items"]] == ["b"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: {**r, "result": {"status": "Failure", "message": "no"}}, "failed: no"),
        (lambda r: {**r, "convertedObjects": []}, "returned 0 objects, expected 1"),
        (lambda r: {**r, "uid": "x"}, 'failed: expected response.uid="'),
        (
            lambda r: {**r, "convertedObjects": [{**o, "metadata": {**o["metadata"], "name": "z"}} for o in
                                                 r["convertedObjects"]]},
            "returned invalid object: must have the same name: a != z",
        ),
        (
            lambda r: {**r, "convertedObjects": [{**o, "apiVersion": "example.com/v3"} for o in r["convertedObjects"]]},
            "object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v3)",
        ),
        (
            lambda r: {**r, "convertedObjects": [{**o, "metadata": {**o["metadata"], "labels": {"a": "-"}}} for o in
                                                 r["convertedObjects"]]},
            "returned invalid metadata: metadata.labels",
        ),
    ],
)  # fmt: skip
async def test_a_webhook_that_fails_is_told_of_and_changes_nothing(
    client: Client, converter: Converter, change: Callable[[Object], Object], said: str
) -> None:
    await client.define(converted_definition(converter))
    await client.post(WIDGETS, widget(color="red"))
    second = WIDGETS.replace("/v1/", "/v2/")
    converter.change = change
    for target in (f"{second}/a", second, f"{second}?watch=true"):
        refused = await client.get(target)
        assert refused["code"] == 500
        assert refused["message"].startswith("conversion webhook for example.com/v1, Kind=Widget ")
        assert said in refused["message"]
    assert (await client.get(f"{WIDGETS}/a"))["spec"] == {"color": "red"}
    converter.change = lambda response: response
    assert (await client.get(second))["items"][0]["spec"] == {"colour": "red"}


async def test_metadata_stays_but_for_labels_and_annotations(client: Client, converter: Converter) -> None:
    await client.define(converted_definition(converter))
    await client.post(WIDGETS, widget(color="red"))
    marked = {"labels": {"a": "b"}, "annotations": {"c": "d"}, "generation": 99, "finalizers": ["x/y"]}
    converter.change = lambda r: {
        **r, "convertedObjects": [{**o, "metadata": {**o["metadata"], **marked}} for o in r["convertedObjects"]],
    }  # fmt: skip
    found = (await client.get(f"{WIDGETS.replace('/v1/', '/v2/')}/a"))["metadata"]
    assert (found["labels"], found["annotations"], found["generation"]) == ({"a": "b"}, {"c": "d"}, 1)
    assert "finalizers" not in found


# --- what is told of them


async def test_discovery_and_openapi_follow(client: Client) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    before = await client.ask("GET", "/apis", accept=aggregated)
    documents = await client.get("/openapi/v3")
    assert (await client.ask("GET", "/apis/example.com")).body == b"404 page not found\n"
    await client.define(definition(version(), version("v2beta1", storage=False), version("v2", storage=False)))
    group = await client.get("/apis/example.com")
    assert [each["version"] for each in group["versions"]] == ["v2", "v1", "v2beta1"]
    (row,) = (await client.get("/apis/example.com/v1"))["resources"]
    assert (row["name"], row["shortNames"], row["categories"], row["kind"]) == ("widgets", ["wi"], ["all"], "Widget")
    after = await client.ask("GET", "/apis", accept=aggregated)
    assert after.headers["etag"] != before.headers["etag"]
    (told,) = [each for each in after.decoded()["items"] if each["metadata"]["name"] == "example.com"]
    assert told["versions"][0]["resources"][0]["responseKind"] == {
        "group": "example.com", "version": "v2", "kind": "Widget",
    }  # fmt: skip
    assert "apis/example.com/v1" not in documents["paths"]
    address = (await client.get("/openapi/v3"))["paths"]["apis/example.com/v1"]["serverRelativeURL"]
    document = await client.get(address)
    assert "com.example.v1.Widget" in document["components"]["schemas"]
    services = "/apis/apiregistration.k8s.io/v1/apiservices"
    service = await client.until(f"{services}/v1.example.com", lambda found: "spec" in found)
    assert service["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "true"}
    assert (service["spec"]["groupPriorityMinimum"], service["spec"]["versionPriority"]) == (1000, 100)
    await client.ask("DELETE", f"{CRDS}/{NAME}")
    await client.until(f"{services}/v1.example.com", lambda found: found.get("code") == 404)
    assert "apis/example.com/v1" not in (await client.get("/openapi/v3"))["paths"]
    assert (await client.ask("GET", "/apis", accept=aggregated)).headers["etag"] == before.headers["etag"]


async def test_a_body_has_to_say_what_it_is(client: Client) -> None:
    await client.define(definition())
    refused = await client.post(WIDGETS, {"metadata": {"name": "a"}})
    body = '{"metadata":{"name":"a"}}'
    head = "the object provided is unrecognized (must be of type Widget): "
    assert refused["message"] == f"{head}Object 'Kind' is missing in '{body}' ({body})"
    refused = await client.post(WIDGETS, {"kind": "Widget", "metadata": {"name": "a"}})
    said = "the API version in the data () does not match the expected API version (example.com/v1)"
    assert refused["message"] == said
    refused = await client.post(WIDGETS, {**widget(), "kind": "Gadget"})
    assert refused["message"] == 'Gadget.example.com "a" is invalid: kind: Invalid value: "Gadget": must be Widget'


async def test_a_long_list_comes_whole_in_pieces(client: Client) -> None:
    await client.define(definition())
    async with asyncio.TaskGroup() as group:
        for number in range(1_200):
            group.create_task(client.post(WIDGETS, widget(f"w{number:04}")))
    answer = await client.ask("GET", WIDGETS)
    assert answer.stream is not None
    body = b""
    while data := await answer.stream.read():
        body += data
    listed = orjson.loads(body)
    assert [item["metadata"]["name"] for item in listed["items"]] == [f"w{number:04}" for number in range(1_200)]
    assert {item["kind"] for item in listed["items"]} == {"Widget"}
    assert listed["metadata"]["continue"] == ""


async def test_what_is_wrong_with_a_body_is_told_as_it_was_asked_for(client: Client) -> None:
    await client.define(definition())
    said = (await client.ask("POST", f"{WIDGETS}?fieldValidation=Ignore", {"spec": {}})).decoded()["message"]
    assert said == """Widget in version "v1" cannot be handled as a Widget: Object 'Kind' is missing in '{"spec":{}}'"""
    said = (await client.post(WIDGETS, {"spec": {"color": "a long colour"}}))["message"]
    assert said.endswith("""({"spec":{"color":"a long colou ...)""")


async def test_an_applied_null_is_refused_where_none_may_be(client: Client) -> None:
    await client.define(definition())
    target = f"{WIDGETS}/a?fieldManager=m"
    response = await client.ask("PATCH", target, widget(color=None), content_type="application/apply-patch+yaml")
    assert response.decoded()["details"]["causes"] == [
        {
            "reason": "FieldValueTypeInvalid",
            "message": 'Invalid value: "null": spec.color in body must be of type string: "null"',
            "field": "spec.color",
        }
    ]


async def test_doubled_keys_of_an_applied_config_are_told_after_its_conflicts(client: Client) -> None:
    await client.define(definition())
    doubled = b"{apiVersion: example.com/v1, kind: Widget, metadata: {name: a}, spec: {color: a, color: b"
    target, media = f"{WIDGETS}/a?fieldManager=m&fieldValidation=Strict", "application/apply-patch+yaml"
    response = await client.ask("PATCH", target, doubled + b", zz: 1}}", content_type=media)
    assert (response.status, response.decoded()["message"].partition(": ")[2][-41:]) == (
        500, ".spec.zz: field not declared in schema"[-41:],
    )  # fmt: skip
    response = await client.ask("PATCH", target, doubled + b"}}", content_type=media)
    assert response.status == 400
    assert response.decoded()["message"].startswith("error strict decoding YAML: error converting YAML to JSON: yaml: ")


async def test_force_is_for_applying_only(client: Client) -> None:
    await client.define(definition())
    await client.post(WIDGETS, widget())
    said = (await client.merge(f"{WIDGETS}/a?force=true", {}))["message"]
    assert said == 'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch'


async def test_a_dry_run_takes_a_version_no_creation_takes(client: Client) -> None:
    await client.define(definition())
    made = widget()
    made["metadata"]["resourceVersion"] = "5"
    assert (await client.post(f"{WIDGETS}?dryRun=All", made))["metadata"]["resourceVersion"] == "5"
    assert (await client.post(WIDGETS, made))["message"] == "resourceVersion should not be set on objects to be created"


async def test_there_is_no_page_for_documents_that_are_not_there(client: Client) -> None:
    for target in ("/openapi/v3/apis/nope.example/v1", "/openapi/v3/x"):
        response = await client.ask("GET", target)
        assert (response.status, response.body) == (404, b"")
    assert (await client.ask("GET", "/openapi/v2/x")).status == 404


async def test_flow_schemas_are_shown_in_the_order_in_which_they_are_asked(client: Client) -> None:
    target = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"
    for name, precedence in (("a-late", 900), ("b-early", 100), ("c-late", 900)):
        spec = {"priorityLevelConfiguration": {"name": "x"}, "matchingPrecedence": precedence}
        await client.post(target, {"metadata": {"name": name}, "spec": spec})
    table = await client.get(target, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    shown = [row["cells"][0] for row in table["rows"]]
    assert [each for each in shown if each in ("a-late", "b-early", "c-late")] == ["b-early", "a-late", "c-late"]
