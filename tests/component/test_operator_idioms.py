"""What operators written with controller-runtime, kube-rs and kopf do all day, against a whole API server.

The answers were compared with those of a kube-apiserver 1.36.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.tasks import Supervisor
from anynode.api.objects import Object, ObjectKey, meta, resource_version_of
from anynode.api.resources import Resource, known
from anynode.api.wire import ApiRequest, ApiResponse, User, parse_query
from anynode.apiserver.assembly import Assembly
from anynode.apiserver.loopback import LoopbackTransport
from anynode.client.api_client import ApiClient
from anynode.controllers.manager import ControllerManager, ControllerSettings
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",))
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GEARS = "/apis/example.com/v1/namespaces/default/gears"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
FREE: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION: Object = {
    "metadata": {"name": "gears.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "gears", "kind": "Gear"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": FREE, "status": FREE}}},
            }
        ],
    },
}
MODIFIED = (
    'Operation cannot be fulfilled on gears.example.com "a": the object has been modified; '
    "please apply your changes to the latest version and try again"
)


class Operator:
    """Asks as an administrator."""

    def __init__(self, assembly: Assembly) -> None:
        self.server = assembly.server
        self.transport = LoopbackTransport(assembly.server, ADMIN)

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> ApiResponse:
        path, _, query = target.partition("?")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        request = ApiRequest(method=method, path=path, query=parse_query(query), headers=sent, body=raw, user=ADMIN)
        return await self.server.handle(request)

    async def get(self, target: str, **headers: str) -> Any:
        return (await self.ask("GET", target, **headers)).decoded()

    async def post(self, target: str, body: Any) -> Any:
        return (await self.ask("POST", target, body)).decoded()

    async def patch(self, target: str, body: Any, kind: str = MERGE, **headers: str) -> Any:
        return (await self.ask("PATCH", target, body, content_type=kind, **headers)).decoded()

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while True:
                if await condition():
                    return
                await asyncio.sleep(0.01)


def gear(name: str = "a", **metadata: Any) -> Object:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Gear",
        "metadata": {"name": name, **metadata},
        "spec": {"teeth": 1},
    }


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    async with MemoryStorage() as storage, Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly:
        made = Operator(assembly)
        await made.post(CRDS, DEFINITION)

        async def served() -> bool:
            return bool((await made.ask("GET", GEARS)).status == 200)

        await made.until(served)
        yield made


async def test_a_status_patch_says_which_state_it_was_made_from(operator: Operator) -> None:
    first = await operator.post(GEARS, gear())
    changed = await operator.patch(f"{GEARS}/a", {"spec": {"teeth": 2}, "status": {"phase": "Ignored"}})
    assert (changed["metadata"]["generation"], "status" in changed) == (2, False)
    late = {"metadata": {"resourceVersion": resource_version_of(first)}, "status": {"phase": "Late"}}
    refused = await operator.patch(f"{GEARS}/a/status", late)
    assert (refused["code"], refused["reason"], refused["message"]) == (409, "Conflict", MODIFIED)
    fresh = {"metadata": {"resourceVersion": resource_version_of(changed)}, "status": {"phase": "Ready"}}
    told = await operator.patch(f"{GEARS}/a/status", {**fresh, "spec": {"teeth": 9}})
    assert (told["status"], told["spec"], meta(told)["generation"]) == ({"phase": "Ready"}, {"teeth": 2}, 2)
    again = await operator.patch(f"{GEARS}/a/status", {"status": {"phase": "Ready"}})
    assert resource_version_of(again) == resource_version_of(told)  # nothing changed, so nobody is woken


async def test_a_put_of_the_status_needs_the_version_it_was_made_from(operator: Operator) -> None:
    first = await operator.post(GEARS, gear())
    body = {**first, "status": {"phase": "Ready"}}
    done = await operator.ask("PUT", f"{GEARS}/a/status", body)
    assert (done.status, done.decoded()["status"]) == (200, {"phase": "Ready"})
    late = (await operator.ask("PUT", f"{GEARS}/a/status", body)).decoded()
    assert (late["code"], late["message"]) == (409, MODIFIED)
    blind = gear()
    refused = (await operator.ask("PUT", f"{GEARS}/a", blind)).decoded()
    assert refused["message"] == (
        'gears.example.com "a" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update'
    )


async def test_finalizers_hold_an_object_until_the_last_is_taken_off(operator: Operator) -> None:
    await operator.post(GEARS, gear(finalizers=["example.com/one", "example.com/two"]))
    dying = (await operator.ask("DELETE", f"{GEARS}/a")).decoded()
    assert dying["metadata"]["deletionGracePeriodSeconds"] == 0
    assert dying["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/one", "example.com/two", "example.com/three"]}}
    refused = await operator.patch(f"{GEARS}/a", more)
    assert refused["code"] == 422
    assert refused["message"] == (
        'Gear.example.com "a" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object '
        'is being deleted, found new finalizers []string{"example.com/three"}'
    )
    # The status may be told of until the end, and its subresource takes no finalizer off.
    told = await operator.patch(f"{GEARS}/a/status", {"metadata": {"finalizers": None}, "status": {"phase": "Leaving"}})
    assert (told["status"], len(told["metadata"]["finalizers"])) == ({"phase": "Leaving"}, 2)
    left = await operator.patch(f"{GEARS}/a", {"metadata": {"finalizers": ["example.com/two"]}})
    assert left["metadata"]["finalizers"] == ["example.com/two"]
    last = [{"op": "remove", "path": "/metadata/finalizers/0"}]
    gone = await operator.patch(f"{GEARS}/a", last, "application/json-patch+json")
    assert "finalizers" not in gone["metadata"]
    assert (await operator.ask("GET", f"{GEARS}/a")).status == 404


async def test_only_one_owner_controls(operator: Operator) -> None:
    def owner(name: str, **more: Any) -> Object:
        return {"apiVersion": "example.com/v1", "kind": "Gear", "name": name, "uid": f"uid-{name}", **more}

    two = [owner("x", controller=True), owner("y", controller=True)]
    refused = await operator.post(GEARS, gear(ownerReferences=two))
    assert refused["code"] == 422
    assert (
        'Only one reference can have Controller set to true. Found "true" in references for Gear/x and Gear/y'
        in (refused["message"])
    )
    made = await operator.post(GEARS, gear(ownerReferences=[two[0], owner("y", blockOwnerDeletion=True)]))
    assert [each.get("blockOwnerDeletion") for each in made["metadata"]["ownerReferences"]] == [None, True]


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        (
            "",
            APPLY,
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
        ),
        (
            f"?fieldManager={'x' * 129}",
            MERGE,
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes',
        ),
        (
            "?force=true&fieldManager=me",
            MERGE,
            'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch',
        ),
    ],
)
async def test_field_managers_are_checked(operator: Operator, target: str, kind: str, message: str) -> None:
    await operator.post(GEARS, gear())
    refused = await operator.patch(f"{GEARS}/a{target}", gear(), kind)
    assert (refused["code"], refused["message"]) == (422, message)


async def test_every_write_is_signed(operator: Operator) -> None:
    await operator.post(f"{GEARS}?fieldManager=maker", gear())
    await operator.patch(f"{GEARS}/a?fieldManager=mender", {"metadata": {"labels": {"a": "b"}}})
    await operator.patch(f"{GEARS}/a/status?fieldManager=watcher", {"status": {"phase": "Ready"}})
    applied = b"apiVersion: example.com/v1\nkind: Gear\nmetadata:\n  name: a\nstatus:\n  ready: true\n"
    told = await operator.patch(f"{GEARS}/a/status?fieldManager=applier&force=true", applied, APPLY)
    assert told["status"] == {"phase": "Ready", "ready": True}
    signed = {(each["manager"], each["operation"], each.get("subresource")) for each in meta(told)["managedFields"]}
    assert signed == {
        ("maker", "Update", None),
        ("mender", "Update", None),
        ("watcher", "Update", "status"),
        ("applier", "Apply", "status"),
    }
    other = applied.replace(b"true", b"false")
    conflict = await operator.patch(f"{GEARS}/a/status?fieldManager=other", other, APPLY)
    assert conflict["code"] == 409
    assert 'conflict with "applier" with subresource "status": .status.ready' in conflict["message"]
    withdrawn = b"apiVersion: example.com/v1\nkind: Gear\nmetadata:\n  name: a\n"
    told = await operator.patch(f"{GEARS}/a/status?fieldManager=applier", withdrawn, APPLY)
    assert told["status"] == {"phase": "Ready"}


async def test_apply_makes_what_is_not_there_but_no_status(operator: Operator) -> None:
    body = gear("new")
    missing = await operator.patch(f"{GEARS}/new/status?fieldManager=me", body, APPLY)
    assert (missing["code"], missing["message"]) == (404, 'gears.example.com "new" not found')
    made = await operator.ask("PATCH", f"{GEARS}/new?fieldManager=me", body, content_type=APPLY)
    assert made.status == 201
    version = resource_version_of(made.decoded())
    same = await operator.ask("PATCH", f"{GEARS}/new?fieldManager=me", body, content_type=APPLY)
    assert (same.status, resource_version_of(same.decoded())) == (200, version)


async def test_metadata_is_read_and_patched_alone(operator: Operator) -> None:
    made = await operator.post(GEARS, gear(labels={"a": "b"}))
    expected = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"]}
    assert await operator.get(f"{GEARS}/a", accept=PARTIAL) == expected
    listed = await operator.get(GEARS, accept=f"{PARTIAL_LIST},application/json")
    assert (listed["kind"], listed["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert [each["metadata"] for each in listed["items"]] == [made["metadata"]]
    assert not any("spec" in each for each in listed["items"])
    patched = await operator.patch(f"{GEARS}/a", {"metadata": {"labels": {"c": "d"}}}, accept=PARTIAL)
    assert (patched["kind"], patched["metadata"]["labels"]) == ("PartialObjectMetadata", {"a": "b", "c": "d"})
    refused = await operator.ask("GET", f"{GEARS}/a", accept=PARTIAL.replace("v=v1", "v=v9"))
    assert refused.status == 406


async def test_a_watch_of_metadata_shows_nothing_else(operator: Operator) -> None:
    await operator.post(GEARS, gear())
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    request = ApiRequest(method="GET", path=GEARS, query=parse_query(query), headers={"accept": PARTIAL}, user=ADMIN)
    stream = await operator.transport.watch(request)
    seen: list[tuple[str, Object]] = []
    changed = False
    try:
        async with asyncio.timeout(5):
            async for events in stream:
                seen += [(each.type, each.object) for each in events]
                if not changed:
                    changed = True
                    await operator.patch(f"{GEARS}/a", {"spec": {"teeth": 3}})
                    await operator.ask("DELETE", f"{GEARS}/a")
                if seen[-1][0] == "DELETED":
                    break
    finally:
        await stream.close()
    assert [kind for kind, _ in seen] == ["ADDED", "BOOKMARK", "MODIFIED", "DELETED"]
    assert {each["kind"] for _, each in seen} == {"PartialObjectMetadata"}
    assert not any("spec" in each for _, each in seen)
    assert seen[1][1]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert [meta(each)["generation"] for kind, each in seen if kind != "BOOKMARK"] == [1, 2, 2]


@pytest.mark.parametrize("metadata_only", [False, True])
async def test_children_of_a_new_kind_go_with_their_owner_at_once(operator: Operator, metadata_only: bool) -> None:
    client = ApiClient(operator.transport)
    cogs = Resource(group="late.example.com", version="v1", plural="cogs", kind="Cog")
    maps = known("configmaps")
    settings = ControllerSettings(controllers=("garbage-collector",), metadata_only=metadata_only)
    manager = ControllerManager(client, clock=SystemClock(), settings=settings, chance=random.Random(2))
    async with Supervisor("test") as tasks:
        running = tasks.start("controllers", manager.run)
        names = {"plural": "cogs", "kind": "Cog"}
        spec = {**DEFINITION["spec"], "group": cogs.group, "names": names}
        await operator.post(CRDS, {"metadata": {"name": "cogs.late.example.com"}, "spec": spec})

        async def made() -> bool:
            body = {"apiVersion": cogs.api_version, "kind": "Cog", "metadata": {"name": "owner"}}
            return bool((await operator.ask("POST", cogs.path("default"), body)).status == 201)

        await operator.until(made)
        owner = await client.get(cogs, ObjectKey("default", "owner"))
        reference = {"apiVersion": cogs.api_version, "kind": "Cog", "name": "owner", "uid": meta(owner)["uid"]}
        for name, block in (("child", False), ("blocks", True)):
            metadata = {
                "name": name,
                "namespace": "default",
                "ownerReferences": [{**reference, "blockOwnerDeletion": block}],
            }
            await client.create(maps, {"metadata": metadata})
        await client.delete(cogs, ObjectKey("default", "owner"), propagation="Foreground")

        async def is_gone(path: str) -> bool:
            return bool((await operator.ask("GET", path)).status == 404)

        for path in (
            maps.path("default", "child"),
            maps.path("default", "blocks"),
            cogs.path("default", "owner"),
        ):
            await operator.until(lambda path=path: is_gone(path))  # type: ignore[misc]
        running.cancel()


async def test_a_namespace_waits_for_an_aggregated_server_that_is_away(operator: Operator) -> None:
    client = ApiClient(operator.transport)
    settings = ControllerSettings(controllers=("namespace",))
    manager = ControllerManager(client, clock=SystemClock(), settings=settings, chance=random.Random(2))
    services = "/apis/apiregistration.k8s.io/v1/apiservices"
    service: Object = {
        "metadata": {"name": "v1.away.example.com"},
        "spec": {
            "group": "away.example.com",
            "version": "v1",
            "groupPriorityMinimum": 1000,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": "leaving", "name": "none"},
        },
    }
    async with Supervisor("test") as tasks:
        running = tasks.start("controllers", manager.run)
        await operator.post(services, service)
        await operator.post("/api/v1/namespaces", {"metadata": {"name": "leaving"}})
        path = "/api/v1/namespaces/leaving"
        await operator.post(f"{path}/configmaps", {"metadata": {"name": "c"}})
        await operator.ask("DELETE", path)

        async def conditions() -> dict[str, Object]:
            told = (await operator.get(path)).get("status") or {}
            return {each["type"]: each for each in told.get("conditions") or ()}

        async def is_told() -> bool:
            return bool(await conditions())

        await operator.until(is_told)
        failure = (await conditions())["NamespaceDeletionDiscoveryFailure"]
        assert (failure["status"], failure["reason"]) == ("True", "DiscoveryFailed")
        assert failure["message"] == (
            "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
            "away.example.com/v1: stale GroupVersion discovery: away.example.com/v1"
        )
        assert (await operator.get(f"{path}/configmaps"))["items"] == []
        await operator.ask("DELETE", f"{services}/v1.away.example.com")

        async def is_gone() -> bool:
            return (await operator.ask("GET", path)).status == 404

        await operator.until(is_gone)
        running.cancel()
