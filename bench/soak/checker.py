"""Watches everything from the beginning and believes nothing: a model per resource, built from events alone.

In: the events of one watch per resource, over as many connections as it takes. Out: ``faults``, sentences. Within one
resource versions rise; ADDED comes for what is not there, MODIFIED and DELETED for what is; nothing acknowledged to the
churn is missing (``acknowledged``); in the end the model equals a list.
"""

from __future__ import annotations

import asyncio
import collections
import urllib.parse
from typing import Any

import orjson

from anynode.aio.clock import SystemClock
from anynode.api.errors import ApiError
from anynode.api.wire import ApiRequest
from anynode.client.config import ClientConfig
from anynode.client.http import HttpTransport

RESOURCES = (
    "/api/v1/pods", "/api/v1/configmaps", "/api/v1/secrets", "/api/v1/namespaces", "/api/v1/services",
    "/api/v1/endpoints", "/api/v1/events", "/api/v1/serviceaccounts", "/api/v1/nodes",
    "/api/v1/persistentvolumeclaims", "/api/v1/resourcequotas", "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets", "/apis/apps/v1/statefulsets", "/apis/batch/v1/jobs",
    "/apis/coordination.k8s.io/v1/leases", "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "/apis/rbac.authorization.k8s.io/v1/roles",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "/apis/certificates.k8s.io/v1/certificatesigningrequests",
)  # fmt: skip


class Watched:
    """The model of one resource."""

    def __init__(self, path: str, transport: HttpTransport, seconds: int, faults: list[str]) -> None:
        self.path = path
        self._transport = transport
        self._seconds = seconds
        self._faults = faults
        self.model: dict[str, tuple[str, int]] = {}
        self.version = 0
        self.events = self.bookmarks = self.connections = self.relists = 0
        self.acknowledged: dict[tuple[str, int], float] = {}
        """What the churn was told and no event has shown yet: key and version -> when."""
        self._listed_at = 0
        self._seen: collections.OrderedDict[tuple[str, int], None] = collections.OrderedDict()

    def promise(self, obj: dict[str, Any]) -> None:
        """The server acknowledged this version of an object."""
        said = (key_of(obj), version_of(obj))
        if said not in self._seen and said[1] > self._listed_at:
            self.acknowledged[said] = asyncio.get_running_loop().time()

    def fault(self, sentence: str) -> None:
        self._faults.append(f"{self.path}: {sentence}")

    async def listed(self) -> tuple[dict[str, tuple[str, int]], int]:
        answer = (await self._transport.send(ApiRequest(method="GET", path=self.path))).decoded()
        objects = answer.get("items") or []
        found = {key_of(each): (each["metadata"]["uid"], version_of(each)) for each in objects}
        return found, int(answer["metadata"]["resourceVersion"])

    async def run(self) -> None:
        self.model, self.version = await self.listed()
        self._forgive()
        while True:
            try:
                await self._watch()
            except ApiError as error:
                if error.status_code != 410:
                    await asyncio.sleep(0.5)
                    continue
                await self._relist()
            except (ConnectionError, OSError):
                await asyncio.sleep(0.3)

    async def _relist(self) -> None:
        try:
            model, version = await self.listed()
        except (ConnectionError, OSError, ApiError):
            return
        if version < self.version:
            self.fault(f"a list at {version} after events at {self.version}")
        self.model, self.version = model, version
        self.relists += 1
        self._forgive()

    def _forgive(self) -> None:
        """What a list showed needs no event."""
        self._listed_at = self.version
        for said in [each for each in self.acknowledged if each[1] <= self.version]:
            del self.acknowledged[said]
            found = self.model.get(said[0])
            if found is not None and found[1] < said[1]:
                self.fault(f"{said[0]} was acknowledged at {said[1]} and is listed at {found[1]}")

    async def _watch(self) -> None:
        query = {
            "watch": ["true"], "resourceVersion": [str(self.version)], "allowWatchBookmarks": ["true"],
            "timeoutSeconds": [str(self._seconds)],
        }  # fmt: skip
        stream = await self._transport.watch(ApiRequest(method="GET", path=self.path, query=query))
        self.connections += 1
        try:
            async for batch in stream:
                for event in batch:
                    if event.type == "ERROR":
                        if event.object.get("code") == 410:
                            await self._relist()
                        else:
                            self.fault(f"error {orjson.dumps(event.object).decode()[:200]}")
                        return
                    self._take(event.type, event.object)
        finally:
            await stream.close()

    def _take(self, kind: str, obj: dict[str, Any]) -> None:
        version = version_of(obj)
        if kind == "BOOKMARK":
            self.bookmarks += 1
            if version < self.version:
                self.fault(f"bookmark {version} after {self.version}")
            self.version = max(version, self.version)
            return
        self.events += 1
        key, uid = key_of(obj), obj["metadata"]["uid"]
        before = self.model.get(key)
        if version <= self.version:
            self.fault(f"{kind} {key} at {version} after {self.version}")
        if kind == "ADDED" and before is not None:
            self.fault(f"ADDED {key} at {version}, which is there since {before}")
        if kind != "ADDED" and (before is None or before[0] != uid):
            self.fault(f"{kind} {key} {uid} at {version}, known is {before}")
        if kind == "DELETED":
            self.model.pop(key, None)
        else:
            self.model[key] = (uid, version)
        self.version = version
        self._seen[key, version] = None
        self.acknowledged.pop((key, version), None)
        while len(self._seen) > 20_000:
            self._seen.popitem(last=False)

    async def settle(self) -> None:
        """Compare with a list, waiting for what is under way."""
        for _ in range(100):
            found, _version = await self.listed()
            if found == self.model:
                break
            await asyncio.sleep(0.1)
        else:
            differing = {key for key in found.keys() | self.model.keys() if found.get(key) != self.model.get(key)}
            self.fault(f"{len(differing)} differ from a list: {sorted(differing)[:3]}")
        if self.acknowledged:
            self.fault(f"{len(self.acknowledged)} writes were never told: {list(self.acknowledged)[:3]}")


class Checker:
    """All the models; a connection of its own for each."""

    def __init__(self, kubeconfig: str, *, killed: bool = False) -> None:
        """``killed``: the server will be, at times."""
        self._killed = killed
        self.faults: list[str] = []
        self._transport = HttpTransport(ClientConfig.load(kubeconfig), clock=SystemClock())
        self.watched = {
            path: Watched(path, self._transport, 7 + 5 * (index % 7), self.faults)
            for index, path in enumerate(RESOURCES)
        }

    def promise(self, path: str, obj: dict[str, Any]) -> None:
        """``path`` is where the object lies in the API."""
        words = path.partition("?")[0].split("/")
        root = 3 if words[1] == "api" else 4
        if words[root] == "namespaces" and len(words) > root + 2:
            del words[root : root + 2]
        found = self.watched.get("/".join(words[: root + 1]))
        if self._killed and words[root] == "leases":
            return  # renewals need not outlive a crash
        if found is not None and "metadata" in obj and obj["metadata"].get("resourceVersion"):
            found.promise(obj)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for each in self.watched.values():
                tasks.create_task(each.run())

    def report(self) -> dict[str, int]:
        kinds = ("events", "bookmarks", "connections", "relists")
        return {kind: sum(getattr(each, kind) for each in self.watched.values()) for kind in kinds}


def key_of(obj: dict[str, Any]) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def version_of(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


def quoted(**arguments: str) -> str:
    return urllib.parse.urlencode(arguments)
