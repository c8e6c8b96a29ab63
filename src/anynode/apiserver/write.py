"""Create, update, patch, delete and delete-collection: from a request's bytes to a store's write and its answer.

Source: apiserver ``pkg/endpoints/handlers/{create,update,patch,delete}.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import orjson

from anynode.admission.chain import Operation, Options
from anynode.aio.clock import Clock
from anynode.api import errors
from anynode.api.objects import Object, meta
from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest, User
from anynode.apiserver import negotiation
from anynode.apiserver.bodies import Bodies, field_validation
from anynode.apiserver.patching import Patcher
from anynode.apiserver.read import Reader, list_options
from anynode.apiserver.requestinfo import RequestInfo
from anynode.apiserver.served import Served
from anynode.registry import deletion
from anynode.registry.items import Item
from anynode.registry.store import NAMESPACE_MISMATCH, Admit, Check, Deletion, UpdateRules, Write
from anynode.schema import decode, fields

MANAGER_BYTES = 128
COLLECTION_WORKERS = 16

_SCHEME = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"

Permit = Callable[[RequestInfo, User], None]
"""Raises ``Forbidden`` unless the user may do what the target says."""


class Passage(Protocol):
    """A write's way through admission, see ``registry.store.Write``."""

    @property
    def admit(self) -> Admit: ...

    @property
    def check(self) -> Check: ...


AdmitFor = Callable[[RequestInfo, Resource, User, bool, list[str], Options, bool], Passage]
"""(target, resource, user, dry run, where texts for the client go, the request's options, whether it is one of a
collection) -> the admission of that write."""


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """A write's outcome: the object, the status code and texts for ``Warning`` headers."""

    item: Item
    status: int
    warnings: list[str]


def manager_of(request: ApiRequest) -> str:
    """Who a write's fields belong to: ``fieldManager``, or the first word of the user agent."""
    named = request.argument("fieldManager")
    if named:
        return named
    agent = request.headers.get("user-agent", "").partition("/")[0]
    kept = "".join(char for char in agent if char.isprintable())
    return kept.encode()[:MANAGER_BYTES].decode(errors="ignore") or "unknown"


def is_dry_run(request: ApiRequest, options: str) -> bool:
    """Whether nothing shall be stored; raises ``Invalid`` for another word than All."""
    values = list(request.query.get("dryRun", ()))
    found = deletion.dry_run_errors(values)
    if found:
        raise errors.invalid(options, "meta.k8s.io", "", fields.causes(found))
    return bool(values)


_OPTIONS_KINDS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


def operation_options(
    request: ApiRequest, deleting: deletion.DeleteOptions | None, operation: Operation
) -> Object | None:
    """A request's options as admission is told them; a patch's are those of what it came to."""
    if operation == "CONNECT":
        return None
    found: Object = {"kind": _OPTIONS_KINDS[operation], "apiVersion": "meta.k8s.io/v1"}
    if deleting is not None:
        conditions = {"uid": deleting.uid, "resourceVersion": deleting.resource_version}
        conditions = {key: value for key, value in conditions.items() if value is not None}
        said: Object = {
            "gracePeriodSeconds": deleting.grace_seconds,
            "preconditions": conditions or None,
            "orphanDependents": deleting.orphan_dependents,
            "propagationPolicy": deleting.propagation,
            "dryRun": ["All"] if deleting.dry_run else None,
        }
        return {**found, **{key: value for key, value in said.items() if value is not None}}
    dry_run = list(request.query.get("dryRun", ()))
    if dry_run:
        found["dryRun"] = dry_run
    for name in ("fieldManager", "fieldValidation"):
        if request.argument(name):
            found[name] = request.argument(name)
    return found


class Writer:
    """Carries out writes of every resource."""

    def __init__(self, bodies: Bodies, reader: Reader, admit_for: AdmitFor, permit: Permit, clock: Clock) -> None:
        self._bodies = bodies
        self._reader = reader
        self._admit_for = admit_for
        self._permit = permit
        self._patcher = Patcher(bodies, clock)

    def write_of(
        self,
        served: Served,
        info: RequestInfo,
        request: ApiRequest,
        user: User,
        options: str,
        *,
        deletion_options: deletion.DeleteOptions | None = None,
        collection: bool = False,
    ) -> Write:
        """The circumstances of a write; raises ``Invalid`` for options that make no sense."""
        dry_run = False
        if request.query:
            dry_run = is_dry_run(request, options)
            if len(request.argument("fieldManager")) > MANAGER_BYTES:
                found = fields.too_long(fields.FieldPath("fieldManager"), MANAGER_BYTES)
                raise errors.invalid(options, "meta.k8s.io", "", [found.cause()])
        warnings: list[str] = []
        if deletion_options is not None:
            dry_run = deletion_options.dry_run
        said = functools.partial(operation_options, request, deletion_options)
        passage = self._admit_for(info, served.resource, user, dry_run, warnings, said, collection)
        return Write(
            user=user,
            manager=manager_of(request),
            subresource=info.subresource,
            shape=served.shape,
            dry_run=dry_run,
            # Renewals come every few seconds and may be lost in a crash; making a lease may not.
            durable=served.resource.plural != "leases" or info.verb not in ("update", "patch"),
            admit=passage.admit,
            check=passage.check,
            warnings=warnings,
            judge=None if served.view.rules is None else served.view.judged,
        )

    # --- create

    async def create(self, served: Served, info: RequestInfo, request: ApiRequest, user: User) -> Written:
        resource = served.resource
        write = self.write_of(served, info, request, user, "CreateOptions")
        validation = field_validation(request, "CreateOptions")
        obj = self._bodies.typed(
            request, resource.api_version, resource.kind, validation=validation, warnings=write.warnings
        )
        with _warning(write):
            obj = without_doubled_owners(in_namespace(obj, info.namespace, resource), write.warnings)
            item = await served.store.create(self._stored(served, obj), write)
        return Written(item, 201, write.warnings)

    def _stored(self, served: Served, obj: Object) -> Object:
        """A decoded object in its stored shape, defaulted."""
        if served.view.conversion is not None:
            obj = served.view.conversion.to_stored(obj)
        return served.kind.rules.default(obj)

    # --- update

    async def update(
        self,
        served: Served,
        info: RequestInfo,
        request: ApiRequest,
        user: User,
        *,
        rules: UpdateRules | None = None,
    ) -> Written:
        resource = served.resource
        write = self.write_of(served, info, request, user, "UpdateOptions")
        validation = field_validation(request, "UpdateOptions")
        obj = self._bodies.typed(
            request, resource.api_version, resource.kind, validation=validation, warnings=write.warnings
        )
        with _warning(write):
            obj = without_doubled_owners(in_namespace(obj, info.namespace, resource), write.warnings)
            check_name(obj, info.name)
            stored = self._stored(served, obj)
            self._permit_creation(served, info, user, created=served.kind.rules.allow_create_on_update)
            item, created = await served.store.update(
                key_of(info), lambda _: stored, write, rules=rules, uid_meant=True
            )
        return Written(item, 201 if created else 200, write.warnings)

    def _permit_creation(self, served: Served, info: RequestInfo, user: User, *, created: bool) -> None:
        """A change that makes the object needs the right to create it."""
        if created and not info.subresource and served.store.find(key_of(info)) is None:
            self._permit(dataclasses.replace(info, verb="create"), user)

    # --- patch

    async def patch(
        self,
        served: Served,
        info: RequestInfo,
        request: ApiRequest,
        user: User,
        *,
        rules: UpdateRules | None = None,
    ) -> Written:
        resource = served.resource
        allowed = self._patcher.media_types(resource)
        media = negotiation.content_type(request.headers.get("content-type", ""), allowed)
        write = self.write_of(served, info, request, user, "PatchOptions")
        validation = field_validation(request, "PatchOptions")
        apply = media == "application/apply-patch+yaml" and not info.subresource
        self._permit_creation(served, info, user, created=apply)
        change = self._patcher.prepared(resource.api_version, resource.kind, info, request, media, write, validation)

        def changed(old: Object | None) -> Object:
            if old is None and not apply:
                raise errors.not_found(resource, info.name)
            live = None if old is None else self._served_shape(served, old)
            obj = in_namespace(change(live), info.namespace, resource)
            return self._stored(served, without_doubled_owners(obj, write.warnings, patched=True))

        with _warning(write):
            item, created = await served.store.update(key_of(info), changed, write, rules=rules, force_create=apply)
        return Written(item, 201 if created else 200, write.warnings)

    def scale_change(
        self, served: Served, info: RequestInfo, request: ApiRequest, write: Write
    ) -> Callable[[Object], Object]:
        """What a patch of the Scale does to it."""
        media = negotiation.content_type(request.headers.get("content-type", ""), negotiation.PATCHES)
        validation = field_validation(request, "PatchOptions")
        change = self._patcher.prepared("autoscaling/v1", "Scale", info, request, media, write, validation)
        return lambda scale: in_namespace(change(scale), info.namespace, served.resource)

    def _served_shape(self, served: Served, obj: Object) -> Object:
        return obj if served.view.conversion is None else served.view.conversion.to_served(obj)

    # --- delete

    async def delete(
        self, served: Served, info: RequestInfo, request: ApiRequest, user: User
    ) -> tuple[Deletion, Write, deletion.DeleteOptions]:
        options = self.delete_options(request)
        write = self.write_of(served, info, request, user, "DeleteOptions", deletion_options=options)
        if (
            served.resource.qualified == "jobs.batch"
            and options.propagation is None
            and (options.orphan_dependents is None)
        ):
            write.warnings.append(
                "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove "
                "them or set propagationPolicy=Orphan to suppress this warning"
            )
        return await served.store.delete(key_of(info), options, write), write, options

    def delete_options(self, request: ApiRequest) -> deletion.DeleteOptions:
        """``DeleteOptions`` from the body or, without one, from the query; raises ``BadRequest`` or ``Invalid``."""
        raw: Mapping[str, Any]
        if request.obj is not None:
            raw = request.obj
        elif request.body:
            raw = self._options_body(request)
        else:
            raw = _options_query(request)
        return deletion.validate_options(raw)

    def _options_body(self, request: ApiRequest) -> Object:
        media = negotiation.content_type(request.headers.get("content-type", ""))
        try:
            if media == negotiation.PROTOBUF:
                obj = decode.decode_protobuf(request.body, self._bodies.types)
            elif media == negotiation.YAML:
                obj, _ = decode.decode_yaml(request.body)
            else:
                obj, _ = decode.decode_json(request.body)
        except decode.DecodeError as error:
            raise errors.BadRequest(str(error)) from error
        kind = obj.get("kind") or "DeleteOptions"
        if kind != "DeleteOptions":
            version = obj.get("apiVersion") or "v1"
            raise errors.BadRequest(f'no kind "{kind}" is registered for version "{version}" in scheme "{_SCHEME}"')
        checked, _ = self._bodies.checked({**obj, "kind": kind, "apiVersion": "v1"}, "v1", "DeleteOptions", "")
        return checked

    async def delete_collection(
        self, served: Served, info: RequestInfo, request: ApiRequest, user: User
    ) -> tuple[list[Item], Mapping[str, Any]]:
        """Delete what the list request selects; the objects as they were, and the list's metadata."""
        options = self.delete_options(request)
        listing = await self._reader.list(served, info, list_options(request))
        pending = iter(listing.items)
        deleted: dict[str, Item] = {}

        async def work() -> None:
            for item in pending:
                target = dataclasses.replace(info, name=item.name, namespace=item.namespace, verb="delete")
                write = self.write_of(
                    served, target, request, user, "DeleteOptions", deletion_options=options, collection=True
                )
                try:
                    await served.store.delete(item.key, options, write)
                except errors.NotFound:
                    continue
                deleted[item.key] = item

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(COLLECTION_WORKERS, len(listing.items))):
                    group.create_task(work())
        except BaseExceptionGroup as failed:
            first = failed.exceptions[0]
            raise first from first.__cause__
        return [item for item in listing.items if item.key in deleted], listing.metadata


@contextlib.contextmanager
def _warning(write: Write) -> Iterator[None]:
    """Refusals carry the warnings that came up before them."""
    try:
        yield
    except errors.ApiError as error:
        error.warnings = tuple(write.warnings)
        raise


def _options_query(request: ApiRequest) -> Object:
    raw: Object = {}
    grace = request.argument("gracePeriodSeconds")
    if grace:
        try:
            raw["gracePeriodSeconds"] = int(grace[:30])
        except ValueError as error:
            raise errors.BadRequest(f'strconv.ParseInt: parsing "{grace}": invalid syntax') from error
    for name in ("propagationPolicy",):
        if request.argument(name):
            raw[name] = request.argument(name)
    if request.argument("orphanDependents"):
        raw["orphanDependents"] = request.argument("orphanDependents") not in ("false", "0")
    raw["dryRun"] = list(request.query.get("dryRun", ()))
    return raw


def key_of(info: RequestInfo) -> str:
    return f"{info.namespace}/{info.name}" if info.namespace else info.name


def in_namespace(obj: Object, namespace: str, resource: Resource) -> Object:
    """``obj`` in the request's namespace; raises ``BadRequest`` when it says another."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    if not resource.namespaced:
        if "namespace" not in metadata:
            return obj if metadata else {**obj, "metadata": metadata}
        return {**obj, "metadata": {key: value for key, value in metadata.items() if key != "namespace"}}
    said = metadata.get("namespace")
    if said == namespace:
        return obj
    if said:
        raise errors.BadRequest(NAMESPACE_MISMATCH)
    return {**obj, "metadata": {**metadata, "namespace": namespace}}


def without_doubled_owners(obj: Object, warnings: list[str], *, patched: bool = False) -> Object:
    """``obj`` with every owner reference once; what is left out is warned of."""
    references = (obj.get("metadata") or {}).get("ownerReferences")
    if not references or len(references) < 2:
        return obj
    kept: list[Object] = []
    doubled: list[str] = []
    seen: set[bytes] = set()
    for reference in references:
        whole = orjson.dumps(reference, option=orjson.OPT_SORT_KEYS)
        if whole in seen:
            doubled.append(reference.get("uid") or "")
        else:
            seen.add(whole)
            kept.append(reference)
    if not doubled:
        return obj
    when = " after mutating admission happens" if patched else ""
    warnings.append(
        f".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and "
        f"may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
        f"{', '.join(doubled)}"
    )
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": kept}}


def check_name(obj: Object, name: str) -> None:
    """Raises ``BadRequest`` unless the object is named as the URL says."""
    said = meta(obj).get("name") or ""
    if not said:
        raise errors.BadRequest(
            f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )
    if said != name:
        raise errors.BadRequest(f"the name of the object ({said}) does not match the name on the URL ({name})")
