"""``FakeApi``: a Transport that is itself a small API server, for tests of whatever speaks to the API.

In memory, built-in kinds, no schema, no admission, no access control. What it does it does as a kube-apiserver: uids
and resourceVersions, generation, optimistic locking, status apart from spec, finalizers and graceful deletion of
pods, bindings, selectors, pages, watches with resume, bookmarks, streaming lists and 410. It passes
``testing.transport_suite``. Tests may look at ``requests``, refuse requests (``refuse``), break watches
(``break_watches``) and forget history (``compact``).
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from anynode.aio.channel import Channel
from anynode.api.errors import (
    BadRequest,
    Expired,
    Invalid,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
    already_exists,
    conflict,
    not_found,
)
from anynode.api.formats import format_time
from anynode.api.objects import (
    Object,
    ObjectKey,
    get_path,
    is_deleting,
    key_of,
    labels_of,
    meta,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
    with_meta,
    with_path,
)
from anynode.api.patches import json_patch, merge_patch
from anynode.api.resources import Resource, builtin
from anynode.api.selectors import FieldSelector, LabelSelector, parse_fields, parse_labels
from anynode.api.wire import ApiRequest, ApiResponse, ByteReader, ByteStream, WatchEvent

Fault = Callable[[ApiRequest], BaseException | None]
WATCH_QUEUE = 100_000


@dataclasses.dataclass(slots=True)
class _Target:
    resource: Resource
    namespace: str
    name: str
    subresource: str


@dataclasses.dataclass(slots=True)
class _Change:
    revision: int
    resource: Resource
    obj: Object
    old: Object | None
    deleted: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Filter:
    namespace: str
    labels: LabelSelector
    fields: FieldSelector

    def matches(self, obj: Object | None) -> bool:
        if obj is None or (self.namespace and namespace_of(obj) != self.namespace):
            return False
        if not self.labels.matches(labels_of(obj)):
            return False
        if self.fields.empty:
            return True
        return self.fields.matches({term.field: _field(obj, term.field) for term in self.fields.terms})


class FakeWatch:
    """A running watch of a ``FakeApi``."""

    def __init__(self, resource: Resource, wanted: _Filter, ended: Callable[[FakeWatch], None]) -> None:
        self.resource = resource
        self._wanted = wanted
        self._ended = ended
        self._channel: Channel[Sequence[WatchEvent]] = Channel(WATCH_QUEUE)
        self._error: ConnectionError | None = None

    def send(self, kind: str, obj: Object) -> None:
        self._channel.offer([WatchEvent(kind, obj=obj)])

    def offer(self, change: _Change) -> None:
        """Pass the change on as this watch sees it: leaving the selection is a deletion."""
        if change.resource is not self.resource:
            return
        before, after = self._wanted.matches(change.old), not change.deleted and self._wanted.matches(change.obj)
        if after:
            self.send("MODIFIED" if before else "ADDED", change.obj)
        elif before:
            self.send("DELETED", change.obj)

    def end(self, error: ConnectionError | None = None) -> None:
        """Nothing more comes; with ``error`` the reader meets it after what was sent."""
        self._error = error
        self._channel.close()

    async def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent]]:
        async for events in self._channel:
            yield events
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        self._channel.close()
        self._ended(self)


class FakeApi:
    """An API server in a test's memory; use as ``ApiClient(FakeApi())``."""

    def __init__(self, *, streaming_lists: bool = True, now: Callable[[], datetime.datetime] | None = None) -> None:
        self.requests: list[ApiRequest] = []
        self.watches: list[FakeWatch] = []
        self.faults: list[Fault] = []
        self._now = now or (lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
        self._streaming_lists = streaming_lists
        self._objects: dict[tuple[str, str, str], dict[ObjectKey, Object]] = {}
        self._history: list[_Change] = []
        self._revision = 1
        self._compacted = 0
        self._closed = False

    # what tests do

    def objects(self, resource: Resource) -> list[Object]:
        """Everything held of one resource."""
        return [*self._kind(resource).values()]

    def add(self, resource: Resource, *objects: Object) -> list[Object]:
        """Create objects, status included."""
        return [self._create(resource, namespace_of(obj), obj, keep_status=True) for obj in objects]

    def put(self, resource: Resource, obj: Object) -> Object:
        """Replace an object in whole, status included, whatever its resourceVersion; creates it when absent."""
        old = self._kind(resource).get(key_of(obj))
        if old is None:
            return self.add(resource, obj)[0]
        kept = {"uid": uid_of(old), "creationTimestamp": meta(old).get("creationTimestamp")}
        return self._store(resource, with_meta(obj, **kept), old)

    def remove(self, resource: Resource, key: ObjectKey) -> None:
        """Make an object vanish, finalizers or not."""
        self._remove(resource, self._find(resource, key))

    def refuse(self, error: BaseException, *, method: str = "", path: str = "", times: int = 1) -> None:
        """Answer the next ``times`` requests with this method and a path that contains ``path`` by ``error``."""
        left = [times]

        def fault(request: ApiRequest) -> BaseException | None:
            if left[0] <= 0 or (method and request.method != method) or path not in request.path:
                return None
            left[0] -= 1
            return error

        self.faults.append(fault)

    def break_watches(self, error: ConnectionError | None = None) -> None:
        """End all watches (as if cut off, with ``error``); their clients may resume."""
        for watch in tuple(self.watches):
            watch.end(error)
        self.watches.clear()

    def compact(self) -> None:
        """Forget history: resuming a watch from before now is answered by 410."""
        self._compacted = self._revision
        self._history.clear()

    def bookmark(self) -> None:
        """Tell every watch the current resourceVersion."""
        for watch in self.watches:
            watch.send("BOOKMARK", self._bookmark(watch.resource))

    # Transport

    async def send(self, request: ApiRequest) -> ApiResponse:
        target = self._accept(request)
        obj = self._answer(request, target)
        return ApiResponse(status=201 if request.method == "POST" else 200, obj=obj)

    async def watch(self, request: ApiRequest) -> FakeWatch:
        target = self._accept(request)
        initial = request.argument("sendInitialEvents") == "true"
        if initial and not self._streaming_lists:
            raise Invalid('ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: not supported')
        watch = FakeWatch(target.resource, self._filter(request, target), self._drop)
        since = request.argument("resourceVersion")
        if initial or since in ("", "0"):
            for obj in self._selected(request, target):
                watch.send("ADDED", obj)
            if initial:
                watch.send("BOOKMARK", self._bookmark(target.resource, initial_end=True))
        else:
            if int(since) < self._compacted:
                watch.send("ERROR", Expired(f"too old resource version: {since} ({self._compacted})").status())
                watch.end()
                return watch
            for change in self._history:
                if change.revision > int(since):
                    watch.offer(change)
        self.watches.append(watch)
        return watch

    async def open(self, request: ApiRequest) -> ByteReader:
        body = (await self.send(request)).encoded()
        return _Bytes(body)

    async def upgrade(self, request: ApiRequest) -> tuple[ApiResponse, ByteStream]:
        self._accept(request)
        raise BadRequest("Upgrade request required")

    async def close(self) -> None:
        self._closed = True
        self.break_watches()

    # requests

    def _accept(self, request: ApiRequest) -> _Target:
        if self._closed:
            raise ConnectionError("the transport is closed")
        self.requests.append(request)
        for fault in self.faults:
            error = fault(request)
            if error is not None:
                raise error
        return _parse(request.path)

    def _answer(self, request: ApiRequest, target: _Target) -> Object:
        resource, key = target.resource, ObjectKey(target.namespace, target.name)
        match request.method:
            case "GET" if target.name:
                return self._find(resource, key)
            case "GET":
                return self._list(request, target)
            case "POST" if target.subresource:
                return self._post_subresource(target, _body(request))
            case "POST":
                return self._create(resource, target.namespace, _body(request))
            case "PUT":
                return self._update(target, _body(request))
            case "PATCH":
                return self._update(target, self._patched(request, self._find(resource, key)))
            case "DELETE" if target.name:
                return self._delete(resource, self._find(resource, key), _body(request) or {})
            case "DELETE":
                deleted = self._selected(request, target)
                for obj in deleted:
                    self._delete(resource, obj, _body(request) or {})
                return _list_object(resource, deleted, self._revision)
            case _:
                raise MethodNotAllowed("the server does not allow this method on the requested resource")

    def _list(self, request: ApiRequest, target: _Target) -> Object:
        found = sorted(self._selected(request, target), key=key_of)
        limit = int(request.argument("limit") or 0)
        token = request.argument("continue")
        start = int(token) if token else 0
        if not limit or len(found) <= start + limit:
            return _list_object(target.resource, found[start:], self._revision)
        answer = _list_object(target.resource, found[start : start + limit], self._revision)
        rest = {"continue": str(start + limit), "remainingItemCount": len(found) - start - limit}
        return with_meta(answer, **rest)

    def _post_subresource(self, target: _Target, body: Object) -> Object:
        key = ObjectKey(target.namespace, target.name)
        pod = self._find(target.resource, key)
        match target.subresource:
            case "binding":
                if get_path(pod, "spec", "nodeName"):
                    why = f'pod {target.name} is already assigned to node "{pod["spec"]["nodeName"]}"'
                    raise conflict(target.resource, f"{target.name}/binding", why)
                bound = with_path(pod, ("spec", "nodeName"), get_path(body, "target", "name"))
                scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": format_time(self._now())}
                bound = with_path(bound, ("status", "conditions"), [scheduled])
                self._store(target.resource, bound, pod)
            case "eviction":
                self._delete(target.resource, pod, body.get("deleteOptions") or {})
            case _:
                raise not_found(target.resource, target.name)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _create(self, resource: Resource, namespace: str, obj: Object, *, keep_status: bool = False) -> Object:
        if namespace and namespace_of(obj) not in ("", namespace):
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        name = name_of(obj) or (meta(obj).get("generateName") or "") + uuid.uuid4().hex[:5]
        key = ObjectKey(namespace if resource.namespaced else "", name)
        if key in self._kind(resource):
            raise already_exists(resource, name)
        created = with_meta(
            {"apiVersion": resource.api_version, "kind": resource.kind, **obj},
            name=name,
            namespace=key.namespace or None,
            uid=str(uuid.uuid4()) if not keep_status else uid_of(obj) or str(uuid.uuid4()),
            creationTimestamp=meta(obj).get("creationTimestamp") or format_time(self._now()),
            generation=1,
        )
        if resource.subresource("status") and not keep_status:
            created = {field: value for field, value in created.items() if field != "status"}
        return self._store(resource, created, None)

    def _update(self, target: _Target, obj: Object) -> Object:
        resource = target.resource
        old = self._find(resource, ObjectKey(target.namespace, target.name))
        if resource_version_of(obj) not in ("", resource_version_of(old)):
            raise conflict(resource, target.name)
        if target.subresource == "status":
            new = with_meta({**old, "status": obj.get("status") or {}}, annotations=meta(obj).get("annotations"))
        elif resource.subresource("status"):
            new = {field: value for field, value in obj.items() if field != "status"}
            new = {**new, "status": old["status"]} if "status" in old else new
        else:
            new = obj
        fixed = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "name", "namespace")
        new = with_meta(new, **{field: meta(old).get(field) for field in fixed})
        if new.get("spec") != old.get("spec"):
            new = with_meta(new, generation=(meta(old).get("generation") or 0) + 1)
        graceful = meta(new).get("deletionGracePeriodSeconds")
        if is_deleting(new) and not graceful and not meta(new).get("finalizers") and meta(old).get("finalizers"):
            return self._remove(resource, new)
        if with_meta(new, resourceVersion=None) == with_meta(old, resourceVersion=None):
            return old
        return self._store(resource, new, old)

    def _patched(self, request: ApiRequest, current: Object) -> Object:
        match request.headers.get("content-type"):
            case "application/json-patch+json":
                patched: Object = json_patch(current, orjson.loads(request.body))
            case "application/merge-patch+json":
                patched = merge_patch(current, _body(request))
            case "application/strategic-merge-patch+json" | "application/apply-patch+yaml":
                patched = _strategic(current, _body(request))  # of apply, what one owner's force would do
            case _:
                raise UnsupportedMediaType("the body of the request was in an unknown format")
        return patched

    def _delete(self, resource: Resource, obj: Object, options: Mapping[str, Any]) -> Object:
        wanted = options.get("preconditions") or {}
        if wanted.get("uid", uid_of(obj)) != uid_of(obj):
            why = f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {uid_of(obj)}"
            raise conflict(resource, name_of(obj), why)
        if wanted.get("resourceVersion", resource_version_of(obj)) != resource_version_of(obj):
            raise conflict(resource, name_of(obj))
        grace = 0
        if resource.kind == "Pod" and get_path(obj, "spec", "nodeName"):
            grace = options.get(
                "gracePeriodSeconds", get_path(obj, "spec", "terminationGracePeriodSeconds", default=30)
            )
        if grace > 0 or meta(obj).get("finalizers"):
            if is_deleting(obj) and meta(obj).get("deletionGracePeriodSeconds", 0) <= grace:
                return obj
            stamp = format_time(self._now() + datetime.timedelta(seconds=grace))
            marked = with_meta(obj, deletionTimestamp=stamp, deletionGracePeriodSeconds=grace)
            return self._store(resource, marked, obj)
        self._remove(resource, obj)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    # state

    def _kind(self, resource: Resource) -> dict[ObjectKey, Object]:
        return self._objects.setdefault((resource.group, resource.version, resource.plural), {})

    def _find(self, resource: Resource, key: ObjectKey) -> Object:
        found = self._kind(resource).get(key)
        if found is None:
            raise not_found(resource, key.name)
        return found

    def _store(self, resource: Resource, obj: Object, old: Object | None) -> Object:
        self._revision += 1
        stored = with_meta(obj, resourceVersion=str(self._revision))
        self._kind(resource)[key_of(stored)] = stored
        self._publish(_Change(self._revision, resource, stored, old, False))
        return stored

    def _remove(self, resource: Resource, obj: Object) -> Object:
        self._revision += 1
        last = with_meta(obj, resourceVersion=str(self._revision))
        old = self._kind(resource).pop(key_of(obj))
        self._publish(_Change(self._revision, resource, last, old, True))
        return last

    def _publish(self, change: _Change) -> None:
        self._history.append(change)
        for watch in tuple(self.watches):
            watch.offer(change)

    def _filter(self, request: ApiRequest, target: _Target) -> _Filter:
        labels = parse_labels(request.argument("labelSelector"))
        return _Filter(target.namespace, labels, parse_fields(request.argument("fieldSelector")))

    def _selected(self, request: ApiRequest, target: _Target) -> list[Object]:
        wanted = self._filter(request, target)
        return [obj for obj in self._kind(target.resource).values() if wanted.matches(obj)]

    def _bookmark(self, resource: Resource, *, initial_end: bool = False) -> Object:
        metadata: Object = {"resourceVersion": str(self._revision)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}

    def _drop(self, watch: FakeWatch) -> None:
        if watch in self.watches:
            self.watches.remove(watch)


class _Bytes:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def close(self) -> None:
        self._body = b""


def _parse(path: str) -> _Target:
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and builtin().at(group, version, rest[2]) is not None:
        namespace, rest = rest[1], rest[2:]
    resource = builtin().at(group, version, rest[0])
    if resource is None:
        raise NotFound("the server could not find the requested resource")
    return _Target(resource, namespace, "/".join(rest[1:2]), "/".join(rest[2:]))


def _body(request: ApiRequest) -> Object:
    if request.obj is not None:
        return request.obj
    return orjson.loads(request.body) if request.body else {}


def _list_object(resource: Resource, items: Iterable[Object], revision: int) -> Object:
    return {
        "kind": resource.list_kind,
        "apiVersion": resource.api_version,
        "metadata": {"resourceVersion": str(revision)},
        "items": [
            {field: value for field, value in each.items() if field not in ("kind", "apiVersion")} for each in items
        ],
    }


def _field(obj: Object, field: str) -> str:
    value = get_path(obj, *field.split("."), default="")
    return str(value).lower() if isinstance(value, bool) else str(value)


_ATOMIC = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
"""Lists of named things that are replaced as a whole all the same."""


def _strategic(current: Any, patch: Object) -> Object:
    """A strategic merge as far as lists of named things go."""
    merged: Object = dict(current) if isinstance(current, dict) else {}
    for field, value in patch.items():
        if field.startswith("$deleteFromPrimitiveList/"):
            name = field.partition("/")[2]
            merged[name] = [each for each in merged.get(name) or () if each not in value]
            continue
        if value is None:
            merged.pop(field, None)
        elif isinstance(value, dict):
            merged[field] = _strategic(merged.get(field), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict) and field not in _ATOMIC:
            merged[field] = _strategic_list(merged.get(field) or [], value)
        elif not field.startswith("$"):
            merged[field] = value
    return merged


def _strategic_list(current: list[Object], patch: list[Object]) -> list[Object]:
    by = next((name for name in ("type", "uid", "name", "ip") if name in patch[0]), None)
    if by is None:
        return patch
    merged = {each.get(by): each for each in current}
    for each in patch:
        if each.get("$patch") == "delete":
            merged.pop(each.get(by), None)
        else:
            merged[each.get(by)] = _strategic(merged.get(each.get(by)), each)
    return [*merged.values()]
