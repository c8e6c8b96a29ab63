"""A client of a whole API server in this process, as component tests ask it: JSON in, JSON out, watches as lists."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, ApiResponse, User, WatchEvent, parse_query
from anynode.apiserver.assembly import ApiServerSettings, Assembly
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",))
MERGE = "application/merge-patch+json"
PATIENCE_SECONDS = 10


class Sink:
    """A watch's events as ``(type, object)``, oldest first."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Object]] = []

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        self.events.extend((event.type, event.object) for event in events)
        return True

    def end(self) -> None:
        pass

    async def reach(self, count: int) -> list[tuple[str, Object]]:
        """So many events, waited for."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.events) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return self.events

    @property
    def types(self) -> list[str]:
        return [kind for kind, _ in self.events]


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

    async def done(self, method: str, target: str, body: Any = None, **headers: str) -> Any:
        """The answer to a request that has to succeed."""
        response = await self.ask(method, target, body, **headers)
        assert response.status in (200, 201, 202), response.decoded()
        return response.decoded()

    async def get(self, target: str, **headers: str) -> Any:
        return await self.done("GET", target, **headers)

    async def post(self, target: str, body: Any) -> Any:
        return await self.done("POST", target, body)

    async def put(self, target: str, body: Any) -> Any:
        return await self.done("PUT", target, body)

    async def merge(self, target: str, body: Any) -> Any:
        return await self.done("PATCH", target, body, content_type=MERGE)

    async def delete(self, target: str) -> Any:
        return await self.done("DELETE", target)

    async def refused(self, code: int, method: str, target: str, body: Any = None, **headers: str) -> str:
        """The message of a refusal with ``code``."""
        response = await self.ask(method, target, body, **headers)
        assert response.status == code, response.decoded()
        return str(response.decoded()["message"])

    @contextlib.asynccontextmanager
    async def watching(self, target: str) -> AsyncIterator[Sink]:
        joined = "&" if "?" in target else "?"
        response = await self.ask("GET", f"{target}{joined}watch=1")
        assert response.watch is not None, response.decoded()
        sink = Sink()
        response.watch.start(sink)
        try:
            yield sink
        finally:
            response.watch.stop()

    async def until(self, target: str, wanted: Callable[[Object], bool]) -> Object:
        """What is there once it is as wanted."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                found: Object = (await self.ask("GET", target)).decoded()
                if wanted(found):
                    return found
                await asyncio.sleep(0)

    async def define(self, crd: Object) -> Object:
        """Create a definition; what it is once it is served."""
        made = await self.post(CRDS, crd)
        return await self.until(f"{CRDS}/{made['metadata']['name']}", established)


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def established(crd: Object) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


@contextlib.asynccontextmanager
async def served(settings: ApiServerSettings | None = None) -> AsyncIterator[Client]:
    """An administrator's client of a new server."""
    async with (
        MemoryStorage() as storage,
        Assembly(
            storage, clock=SystemClock(), random=random.Random(1), settings=settings or ApiServerSettings()
        ) as assembly,
    ):
        yield Client(assembly)


def definition(*versions: Object, plural: str = "foos", kind: str = "Foo", group: str = "example.com") -> Object:
    """A namespaced definition; ``versions`` as in its spec, the first one stored."""
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": list(versions),
        },
    }


def version(schema: Object, name: str = "v1", *, storage: bool = True, **said: Any) -> Object:
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}, **said}
