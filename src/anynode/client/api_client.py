"""The API's verbs as methods: an ``ApiClient`` turns them into ``ApiRequest``s and reads the answers.

In: resources, keys and objects. Out: objects as the dicts the server answered (never changed, never copied, except that
``apiVersion`` and ``kind``, which servers leave out of list items, are put back). One method is one request: nothing is
tried again here; reconcilers, reflectors and the HTTP transport do that. Raises ``ApiError`` for what the server
refuses and ``ConnectionError`` when it cannot be reached.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ and apimachinery ``pkg/apis/meta/v1/types.go``
(ListOptions, DeleteOptions, PatchOptions), 1.36.
"""

from __future__ import annotations

import dataclasses
import enum
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anynode.api.objects import Object, ObjectKey, ResourceVersion, key_of, meta
from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest
from anynode.client.transport import Transport, WatchStream

PATH_SAFE = "!$&'()*+,;=:@~"
"""Characters that may stand unescaped in one segment of a URL path (RFC 3986, 3.3) beside letters and digits."""


class PatchKind(enum.Enum):
    """A patch's media type."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ObjectList:
    """One page of a list. ``continue_token`` is empty on the last; ``remaining`` counts what follows, where known."""

    items: Sequence[Object]
    resource_version: ResourceVersion
    continue_token: str = ""
    remaining: int | None = None


class ApiClient:
    """The verbs of the Kubernetes API over any transport."""

    def __init__(self, transport: Transport, *, user_agent: str = "anynode") -> None:
        self._transport = transport
        self._read_headers = {"accept": "application/json", "user-agent": user_agent}
        self._write_headers = {**self._read_headers, "content-type": "application/json"}

    @property
    def transport(self) -> Transport:
        return self._transport

    async def get(self, resource: Resource, key: ObjectKey, *, subresource: str = "") -> Object:
        """The object as it is now; raises ``NotFound``."""
        return await self._object("GET", object_path(resource, key, subresource))

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str | None = None,
        resource_version_match: str = "",
    ) -> ObjectList:
        """One page (all, when ``limit`` is 0); raises ``Expired`` when ``continue_token`` is too old."""
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=limit or None,
            resourceVersionMatch=resource_version_match,
            **{"continue": continue_token},
        )
        if resource_version is not None:
            query["resourceVersion"] = [resource_version]
        request = ApiRequest(
            method="GET", path=resource.path(quote(namespace)), query=query, headers=self._read_headers
        )
        answer = (await self._transport.send(request)).decoded()
        metadata = meta(answer)
        return ObjectList(
            items=with_types(answer.get("items") or (), resource),
            resource_version=ResourceVersion(metadata.get("resourceVersion") or ""),
            continue_token=metadata.get("continue") or "",
            remaining=metadata.get("remainingItemCount"),
        )

    async def create(
        self,
        resource: Resource,
        obj: Object,
        *,
        namespace: str | None = None,
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
        field_manager: str = "",
    ) -> Object:
        """The object as the server stored it. ``name`` and ``subresource`` name what to post to (a pod's binding)."""
        where = meta(obj).get("namespace") or "" if namespace is None else namespace
        path = resource.path(quote(where), quote(name), subresource)
        query = _query(dryRun="All" if dry_run else "", fieldManager=field_manager)
        return await self._object("POST", path, obj, query)

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        """Replace; raises ``Conflict`` unless ``obj`` carries the current resourceVersion or none."""
        return await self._object("PUT", object_path(resource, key_of(obj), subresource), obj)

    async def patch(
        self,
        resource: Resource,
        key: ObjectKey,
        patch: Object | Sequence[Object],
        *,
        kind: PatchKind = PatchKind.MERGE,
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        """The object after the patch. JSON patches are sequences of operations, the other kinds are objects."""
        query = _query(fieldManager=field_manager, force="true" if force else "")
        headers = {**self._read_headers, "content-type": kind.value}
        path = object_path(resource, key, subresource)
        request = ApiRequest(method="PATCH", path=path, query=query, headers=headers)
        if isinstance(patch, dict):
            request.obj = patch
        else:
            request.body = orjson.dumps(list(patch))
        return _as_object(await self._transport.send(request))

    async def delete(
        self,
        resource: Resource,
        key: ObjectKey,
        *,
        grace_seconds: int | None = None,
        propagation: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Object:
        """The Status, or the object when it lingers (finalizers, grace). ``uid``, ``resource_version``: only that one.

        Raises ``NotFound``, or ``Conflict`` when it is another one.
        """
        options = _delete_options(grace_seconds, propagation, uid, resource_version)
        return await self._object("DELETE", object_path(resource, key), options)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        propagation: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """Delete everything that matches."""
        options = _delete_options(grace_seconds, propagation, None, None)
        query = _query(labelSelector=label_selector, fieldSelector=field_selector)
        await self._object("DELETE", resource.path(quote(namespace)), options, query)

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        send_initial_events: bool = False,
        allow_bookmarks: bool = True,
        timeout_seconds: int | None = None,
    ) -> WatchStream:
        """Events after ``resource_version``, or first everything there is (``send_initial_events``)."""
        query = _query(
            watch="true",
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            allowWatchBookmarks="true" if allow_bookmarks else "",
            timeoutSeconds=timeout_seconds,
        )
        if send_initial_events:
            query["sendInitialEvents"] = ["true"]
            query["resourceVersionMatch"] = ["NotOlderThan"]
        path = resource.path(quote(namespace))
        return await self._transport.watch(ApiRequest(method="GET", path=path, query=query, headers=self._read_headers))

    async def _object(
        self, method: str, path: str, obj: Object | None = None, query: Mapping[str, Sequence[str]] | None = None
    ) -> Object:
        headers = self._read_headers if obj is None else self._write_headers
        request = ApiRequest(method=method, path=path, query=query or {}, headers=headers, obj=obj)
        return _as_object(await self._transport.send(request))


def object_path(resource: Resource, key: ObjectKey, subresource: str = "") -> str:
    """The percent-encoded path of one object or of a subresource of it."""
    return resource.path(quote(key.namespace), quote(key.name), subresource)


def quote(segment: str) -> str:
    """One path segment, percent-encoded."""
    return segment if segment.isalnum() and segment.isascii() else urllib.parse.quote(segment, safe=PATH_SAFE)


def with_types(items: Sequence[Object], resource: Resource) -> list[Object]:
    """The items, each saying its ``apiVersion`` and ``kind``; copied only where it did not."""
    api_version, kind = resource.api_version, resource.kind
    return [item if "kind" in item else {"apiVersion": api_version, "kind": kind, **item} for item in items]


def _query(**arguments: Any) -> dict[str, Sequence[str]]:
    return {name: [str(value)] for name, value in arguments.items() if value is not None and value != ""}


def _delete_options(
    grace_seconds: int | None, propagation: str | None, uid: str | None, resource_version: str | None
) -> Object | None:
    options: Object = {}
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = grace_seconds
    if propagation is not None:
        options["propagationPolicy"] = propagation
    preconditions = {"uid": uid, "resourceVersion": resource_version}
    if uid is not None or resource_version is not None:
        options["preconditions"] = {name: value for name, value in preconditions.items() if value is not None}
    return {"kind": "DeleteOptions", "apiVersion": "v1", **options} if options else None


def _as_object(answer: Any) -> Object:
    found = answer.decoded()
    return found if isinstance(found, dict) else {}
