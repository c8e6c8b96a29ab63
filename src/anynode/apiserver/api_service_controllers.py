"""Keeps APIServices: registers what this server serves, says whether others can be reached, asks what they serve.

Source: kube-aggregator ``pkg/controllers/{autoregister,status/remote}``, ``pkg/apiserver/handler_discovery.go``,
kubernetes ``pkg/controlplane/controller/crdregistration``, 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from anynode.admission.webhooks_client import CallFailed
from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import AlreadyExists, ApiError
from anynode.api.objects import Object, get_path, labels_of, name_of
from anynode.api.resources import GroupVersion
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver.aggregation import AGGREGATOR, Aggregation
from anynode.apiserver.bootstrap import SELF
from anynode.apiserver.discovery import AGGREGATED, ServedVersion
from anynode.apiserver.outbound import SlicesByService
from anynode.registry import api_services
from anynode.registry.deletion import DeleteOptions, timestamp
from anynode.registry.items import CacheEvent
from anynode.registry.store import ResourceStore, UpdateRules, Write
from anynode.schema import fields, metadata_order

logger = logging.getLogger(__name__)

RESYNC_SECONDS = 30.0
CHECK_SECONDS = 5.0
READER = User(name="system:aggregator", groups=("system:authenticated",))
"""Who reads documents of other servers for whoever asks: with no right that not everybody has."""
_RETRY = Backoff(first_seconds=0.25, most_seconds=30)


def _kept(new: Object, _old: Object) -> Object:
    return new


def _unjudged(_new: Object, _old: Object) -> Sequence[fields.FieldError]:
    return ()


_RULES = UpdateRules(prepare=_kept, validate=_unjudged, order=metadata_order.CUSTOM)


class Registration:
    """Keeps an APIService for everything this server itself serves."""

    def __init__(
        self,
        store: ResourceStore,
        builtin: Iterable[GroupVersion],
        custom: Callable[[], Iterable[GroupVersion]],
    ) -> None:
        """``builtin``: there from the start, and made again at every start; ``custom``: come and go."""
        self._store = store
        self._builtin = frozenset(builtin)
        self._custom = custom
        self._wake = asyncio.Event()

    def changed(self) -> None:
        self._wake.set()

    async def register_builtin(self) -> None:
        """Make the APIServices of built-in groups exist."""
        async with asyncio.TaskGroup() as group:
            for each in self._builtin:
                group.create_task(self._ensure(api_services.local(each, api_services.ON_START)))

    async def run(self) -> None:
        """Follow what custom resources are served, for ever."""
        while True:
            await self._settle()
            await self._wake.wait()
            self._wake.clear()

    async def _settle(self) -> None:
        wanted = {api_services.name_of(each): each for each in self._custom() if each not in self._builtin}
        for group_version in wanted.values():
            await self._ensure(api_services.local(group_version, api_services.ALWAYS))
        for item in list(self._store.cache.items.values()):
            service = item.object
            managed = labels_of(service).get(api_services.MANAGED)
            if managed == api_services.ALWAYS and item.key not in wanted:
                await self._gone(item.key)

    async def _ensure(self, service: Object) -> None:
        name = name_of(service)
        write = Write(user=SELF, manager="kube-apiserver", trusted=True)
        found = self._store.find(name)
        if found is None:
            with contextlib.suppress(AlreadyExists):  # another server of this store was faster
                await self._store.create(service, write)
            return
        if api_services.MANAGED not in labels_of(found.object):
            return  # somebody's own
        if api_services.restored(found.object, service) is not found.object:
            await self._store.update(name, lambda old: api_services.restored(old or service, service), write)

    async def _gone(self, name: str) -> None:
        try:
            await self._store.delete(name, DeleteOptions(), Write(user=SELF))
        except ApiError as error:
            logger.debug("an APIService was gone already", extra={"apiservice": name}, exc_info=error)


class RemoteServices:
    """Says of each aggregated API server whether it can be reached, and what it serves."""

    def __init__(
        self,
        store: ResourceStore,
        aggregation: Aggregation,
        *,
        services: ResourceStore,
        slices: SlicesByService,
        clock: Clock,
        tasks: Supervisor,
    ) -> None:
        self._store = store
        self._aggregation = aggregation
        self._services = services
        self._slices = slices
        self._clock = clock
        self._tasks = tasks
        self._wakes: dict[str, asyncio.Event] = {}
        self._served: dict[GroupVersion, Sequence[Object]] = {}
        self._documents: dict[GroupVersion, str] = {}
        self.listeners: list[Callable[[], None]] = []
        store.cache.listeners.append(self._changed)
        services.cache.listeners.append(self._moved)

    def follow(self, endpoint_slices: ResourceStore) -> None:
        """Look again when the endpoints of a server change."""
        endpoint_slices.cache.listeners.append(self._moved)

    def begin(self) -> None:
        for item in self._store.cache.scan():
            self._note(item.object)

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            wake = self._wakes.get(event.item.key)
            if wake is not None:
                before = event.previous
                if event.deleted or before is None or before.object.get("spec") != event.item.object.get("spec"):
                    wake.set()
            elif not event.deleted:
                self._note(event.item.object)

    def _moved(self, events: Sequence[CacheEvent]) -> None:
        if not self._wakes:
            return
        namespaces = {event.item.namespace for event in events}
        for name, wake in self._wakes.items():
            item = self._store.find(name)
            if item is not None and get_path(item.object, "spec", "service", "namespace") in namespaces:
                wake.set()

    def _note(self, service: Object) -> None:
        name = name_of(service)
        if api_services.is_local(service) or name in self._wakes:
            return
        self._wakes[name] = asyncio.Event()
        self._tasks.start(f"availability of {name}", lambda: self._watch(name))

    async def _watch(self, name: str) -> None:
        """Check one server until its APIService goes or becomes this server's own."""
        wake = self._wakes[name]
        failures = 0
        try:
            while True:
                wake.clear()
                item = self._store.find(name)
                if item is None or api_services.is_local(item.object):
                    return
                passed = await self._check(item.object)
                failures = 0 if passed else failures + 1
                await self._pause(wake, RESYNC_SECONDS if passed else _RETRY.delay_seconds(failures))
        finally:
            del self._wakes[name]
            version, _, group = name.partition(".")
            self._served.pop(GroupVersion(group, version), None)
            self._documents.pop(GroupVersion(group, version), None)

    async def _pause(self, wake: asyncio.Event, seconds: float) -> None:
        """Until the server may have changed, at most so long."""
        deadline = self._clock.monotonic() + seconds
        while not wake.is_set() and self._clock.monotonic() < deadline:
            await self._clock.sleep(min(0.1, max(0.0, deadline - self._clock.monotonic())))

    async def _check(self, service: Object) -> bool:
        status, reason, message = self._reachable(service) or await self._discovered(service)
        if status == "True":
            await self._learn(service)
        now = timestamp(self._clock.now())

        def said(old: Object | None) -> Object:
            return api_services.with_availability(old or service, status, reason, message, now)

        if said(service) is not service:
            write = Write(user=SELF, manager="kube-apiserver", subresource="status")
            try:
                await self._store.update(name_of(service), said, write, rules=_RULES)
            except ApiError as error:
                logger.debug("availability was not written", extra={"apiservice": name_of(service)}, exc_info=error)
        return status == "True" or reason != "FailedDiscoveryCheck"

    def _reachable(self, service: Object) -> tuple[str, str, str] | None:
        """What is wrong with the Service that leads there, as a condition."""
        backend = service["spec"]["service"]
        name, namespace, port = backend["name"], backend["namespace"], int(backend.get("port") or 443)
        said = f'service/{name} in "{namespace}"'
        found = self._services.find(f"{namespace}/{name}")
        if found is None:
            return "False", "ServiceNotFound", f"{said} is not present"
        spec = found.object.get("spec") or {}
        if spec.get("type", "ClusterIP") != "ClusterIP":
            return None
        listening = next((each for each in spec.get("ports") or () if each.get("port") == port), None)
        if listening is None:
            return "False", "ServicePortError", f"{said} is not listening on port {port}"
        slices = self._slices.of(namespace, name)
        if not slices:
            return "False", "EndpointsNotFound", f"cannot find endpointslices for {said}"
        port_name = listening.get("name") or ""
        if not any(_has_endpoint(each, port_name) for each in slices):
            message = f'endpointslices for {said} have no addresses with port name "{port_name}"'
            return "False", "MissingEndpoints", message
        return None

    async def _discovered(self, service: Object) -> tuple[str, str, str]:
        """Whether the server answers for its group version."""
        path = f"/apis/{api_services.group_version_of(service)}"
        url = path
        try:
            url = f"{self._aggregation.address(service)}{path}"
            async with asyncio.timeout(CHECK_SECONDS):
                status, _, _ = await self._aggregation.asked(service, path, {}, AGGREGATOR)
        except TimeoutError:
            why = f'Get "{url}": context deadline exceeded'
            return "False", "FailedDiscoveryCheck", f"failing or missing response from {url}: {why}"
        except CallFailed as error:
            return "False", "FailedDiscoveryCheck", str(error)
        except (ConnectionError, ValueError) as error:
            why = f'Get "{url}": {error}'
            return "False", "FailedDiscoveryCheck", f"failing or missing response from {url}: {why}"
        if not 200 <= status < 300:
            why = f"bad status from {url}: {status}"
            return "False", "FailedDiscoveryCheck", f"failing or missing response from {url}: {why}"
        return "True", "Passed", "all checks passed"

    # --- what it serves

    async def _learn(self, service: Object) -> None:
        group_version = api_services.group_version_of(service)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                found = await self._resources(service, group_version)
                digest = await self._document(service, group_version)
        except (TimeoutError, ConnectionError, CallFailed, ValueError, LookupError, TypeError, AttributeError):
            return  # the last three: documents of other shapes than they should have
        changed = False
        if found is not None and self._served.get(group_version) != found:
            self._served[group_version], changed = found, True
        if digest and self._documents.get(group_version) != digest:
            self._documents[group_version], changed = digest, True
        if changed:
            for listener in self.listeners:
                listener()

    async def _document(self, service: Object, group_version: GroupVersion) -> str:
        """The hash of the server's OpenAPI document of the group version; empty: it has none."""
        status, _, body = await self._aggregation.asked(service, "/openapi/v3", {}, AGGREGATOR)
        if status != 200:
            return ""
        path = (orjson.loads(body).get("paths") or {}).get(f"apis/{group_version}") or {}
        query = urllib.parse.urlsplit(str(path.get("serverRelativeURL") or "")).query
        return urllib.parse.parse_qs(query).get("hash", [""])[0]

    def documents(self) -> Mapping[GroupVersion, str]:
        """Group versions whose OpenAPI documents other servers have -> the documents' hashes."""
        return self._documents

    async def document(self, request: ApiRequest, group_version: GroupVersion) -> ApiResponse | None:
        """The OpenAPI document of another server; None: no server has it."""
        service = next(
            (each for each in self._aggregation.remote() if api_services.group_version_of(each) == group_version), None
        )
        if service is None or group_version not in self._documents:
            return None
        return await self._aggregation.handed_on(request, service, READER)

    async def _resources(self, service: Object, group_version: GroupVersion) -> Sequence[Object] | None:
        """What the server tells of the group version, in the aggregated form."""
        accept = {"accept": f"{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"}
        status, content_type, body = await self._aggregation.asked(service, "/apis", accept, AGGREGATOR)
        if status == 200 and "APIGroupDiscoveryList" in content_type:
            return _of_aggregated(orjson.loads(body), group_version)
        path = f"/apis/{group_version}"
        accept = {"accept": "application/json"}
        status, _, body = await self._aggregation.asked(service, path, accept, AGGREGATOR)
        return _of_legacy(orjson.loads(body), group_version) if status == 200 else None

    def versions(self) -> Iterator[ServedVersion]:
        """What discovery tells of aggregated API servers."""
        for service in self._aggregation.remote():
            group_version = api_services.group_version_of(service)
            known = self._served.get(group_version)
            yield ServedVersion(
                group_version=group_version,
                priority=api_services.priority_said(service),
                aggregated=known or (),
                fresh=known is not None and api_services.is_available(service),
            )


def _has_endpoint(endpoint_slice: Object, port_name: str) -> bool:
    ready = any(
        get_path(each, "conditions", "ready", default=True) is not False
        for each in endpoint_slice.get("endpoints") or ()
    )
    named = any(
        (port.get("name") or "") == port_name and port.get("port") is not None
        for port in endpoint_slice.get("ports") or ()
    )
    return ready and named


def _of_aggregated(answer: Mapping[str, Any], group_version: GroupVersion) -> Sequence[Object] | None:
    for group in answer.get("items") or ():
        if (group.get("metadata") or {}).get("name") == group_version.group:
            for version in group.get("versions") or ():
                if version.get("version") == group_version.version:
                    return tuple(_checked(each) for each in version.get("resources") or ())
    return None


_TEXT_FIELDS = ("resource", "scope", "singularResource", "subresource")
_LIST_FIELDS = ("verbs", "shortNames", "categories")


def _checked(resource: Any) -> Object:
    """What another server tells of a resource; raises ``TypeError`` for what no client could read.

    It goes into the discovery document of the whole cluster, which one bad entry would make unreadable.
    """
    found: Object = dict(resource)
    for field in _TEXT_FIELDS:
        if not isinstance(found.get(field) or "", str):
            raise TypeError(field)
    for field in _LIST_FIELDS:
        values = found.get(field) or []
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise TypeError(field)
    for kind in (found.get("responseKind") or {}, *(found.get("acceptedTypes") or ())):
        if not all(isinstance(kind.get(field) or "", str) for field in ("group", "version", "kind")):
            raise TypeError("kind")
    if found.get("subresources"):
        found["subresources"] = [_checked(each) for each in found["subresources"]]
    return found


def _of_legacy(answer: Mapping[str, Any], group_version: GroupVersion) -> Sequence[Object]:
    """The resources of an ``APIResourceList`` in the aggregated form."""
    found: dict[str, Object] = {}
    for row in answer.get("resources") or ():
        name, _, subresource = str(row["name"]).partition("/")
        kind = {
            "group": row.get("group") or group_version.group,
            "version": row.get("version") or group_version.version,
            "kind": row.get("kind") or "",
        }
        verbs = list(row.get("verbs") or ())
        if subresource:
            parent = found.setdefault(name, {"resource": name, "verbs": []})
            entry = {"subresource": subresource, "responseKind": kind, "verbs": verbs}
            parent.setdefault("subresources", []).append(entry)
            continue
        said: Object = {
            "resource": name,
            "responseKind": kind,
            "scope": "Namespaced" if row.get("namespaced") else "Cluster",
            "singularResource": row.get("singularName") or "",
            "verbs": verbs,
        }
        for field in ("shortNames", "categories"):
            if row.get(field):
                said[field] = row[field]
        found[name] = {**said, **({} if name not in found else {"subresources": found[name].get("subresources", [])})}
    return tuple(_checked(each) for each in found.values())
