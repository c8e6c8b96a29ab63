"""The only writer: what a create, an update or a delete of one kind means, from object to acknowledged revision.

In: a decoded, converted object and who writes it (``Write``). Out: the ``Item`` as every reader sees it. Each write is
a compare-and-swap against the state it was decided on; when another writer was faster, the whole decision is made again
on the newer state. Raises ``ApiError``; storage's words become the API's here and nowhere else.
Source: apiserver ``pkg/registry/generic/registry/store.go`` and ``pkg/registry/rest``, 1.36.
"""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol

from anynode.aio.clock import Clock
from anynode.api import errors
from anynode.api.objects import Object, meta
from anynode.api.resources import Resource
from anynode.api.wire import User
from anynode.registry import deletion
from anynode.registry.encoding import canonical, encode
from anynode.registry.items import Item
from anynode.registry.kinds import Kind
from anynode.registry.watch_cache import ResourceCache
from anynode.schema import fields, metadata_order
from anynode.schema.rules import Findings
from anynode.storage.types import KeyMismatch, Record, Revision, Storage, StorageUnavailable

GENERATED_SUFFIX = 5
GENERATED_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
GENERATED_MOST_BASE = 58
NAMESPACE_MISMATCH = "the namespace of the provided object does not match the namespace sent on the request"
GENERATE_TRIES = 8
Operation = Literal["CREATE", "UPDATE", "DELETE"]
Admit = Callable[[Operation, Object | None, Object | None], Awaitable[Object | None]]
Check = Callable[[Operation, Object | None, Object | None], Awaitable[None]]
Judge = Callable[[Object, Object | None], Sequence[fields.FieldError]]
"""(operation, new, old) -> the object as admitted; raises ``ApiError``."""


async def admit_all(_operation: Operation, obj: Object | None, _old: Object | None) -> Object | None:
    return obj


async def check_nothing(_operation: Operation, _obj: Object | None, _old: Object | None) -> None:
    return


class Ownership(Protocol):
    """Who owns which field: keeps ``metadata.managedFields``."""

    def owned(self, live: Object | None, new: Object, *, manager: str, subresource: str, time: str) -> Object:
        """``new`` with the entries after ``manager`` changed ``live`` into it."""
        ...

    def settled(self, stored: Object, old: Object) -> Object:
        """``stored`` with the old entries' times where nothing else differs."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The shape a resource is served in that is stored in another: fields are owned by what clients call them."""

    to_served: Callable[[Object], Object]
    ownership: Ownership


@dataclasses.dataclass(slots=True, kw_only=True)
class Write:
    """The circumstances of one write. ``warnings`` collects texts for the client."""

    user: User
    manager: str = ""
    subresource: str = ""
    dry_run: bool = False
    durable: bool = True
    applied: bool = False
    """Field ownership is already settled in the object (server-side apply)."""
    shape: Shape | None = None
    trusted: bool = False
    """The server's own object: written as it is, not validated."""
    admit: Admit = admit_all
    """Before the object is prepared and validated: may change it."""
    check: Check = check_nothing
    """After that, the last word before it is stored."""
    judge: Judge | None = None
    """(new, old or None): what is wrong, where the kind's own rules do not decide."""
    warnings: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRules:
    """How one endpoint of a kind updates objects."""

    prepare: Callable[[Object, Object], Object]
    validate: Callable[[Object, Object], Sequence[fields.FieldError]]
    create_allowed: bool = False
    unconditional_allowed: bool = True
    order: str = metadata_order.DEFAULT


@dataclasses.dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion left: the object's last or marked state, and whether it is gone."""

    item: Item
    gone: bool


Change = Callable[[Object | None], Object]
"""The object there is (None: none) -> the object asked for, whole and in stored shape."""


class ResourceStore:
    """Writes objects of one kind. Hooks let a kind take part: see ``on_create`` and its like."""

    def __init__(
        self,
        kind: Kind,
        cache: ResourceCache,
        storage: Storage,
        *,
        clock: Clock,
        random: random.Random,
        ownership: Ownership | None = None,
    ) -> None:
        self.kind = kind
        self.cache = cache
        self._storage = storage
        self._clock = clock
        self._random = random
        self._ownership = ownership
        rules = kind.rules
        self.main_rules = UpdateRules(
            prepare=rules.prepare_update,
            validate=rules.validate_update,
            create_allowed=rules.allow_create_on_update,
            unconditional_allowed=rules.allow_unconditional_update,
            order=metadata_order.MAIN.get(kind.resource.kind, metadata_order.DEFAULT),
        )
        self.status_rules = UpdateRules(
            prepare=rules.prepare_status,
            validate=rules.validate_status,
            unconditional_allowed=rules.allow_unconditional_update,
            order=metadata_order.STATUS.get(kind.resource.kind, metadata_order.DEFAULT),
        )

    # --- reading

    def find(self, key: str) -> Item | None:
        return self.cache.items.get(key)

    def get(self, key: str) -> Item:
        """The newest state; raises ``NotFound``."""
        item = self.cache.items.get(key)
        if item is None:
            raise self._not_found(key)
        return item

    def _not_found(self, key: str) -> errors.ApiError:
        damage = self.cache.damaged.get(key)
        if damage is not None:
            return errors.InternalError(f"Internal error occurred: {damage}")
        return errors.not_found(self.kind.resource, key.rpartition("/")[2])

    # --- create

    async def create(self, obj: Object, write: Write) -> Item:
        """Make ``obj`` anew; its namespace is already the request's. Raises ``AlreadyExists``, ``Invalid``, ..."""
        admitted = await write.admit("CREATE", self._owned(None, _without_marks(obj), write), None)
        assert admitted is not None
        admitted = _still_in(str(meta(obj).get("namespace") or ""), admitted)
        generated = not meta(admitted).get("name") and bool(meta(admitted).get("generateName"))
        for attempt in range(GENERATE_TRIES if generated else 1):
            named = self._with_system_fields(admitted, generate=generated)
            try:
                return await self._create_named(named, write)
            except errors.AlreadyExists:
                if not generated or attempt == GENERATE_TRIES - 1:
                    raise
        raise AssertionError("the last try returns or raises")

    def _with_system_fields(self, obj: Object, *, generate: bool) -> Object:
        given = meta(obj)
        kept = dict(given)
        if generate:
            base = str(given["generateName"])[:GENERATED_MOST_BASE]
            kept["name"] = base + "".join(self._random.choices(GENERATED_ALPHABET, k=GENERATED_SUFFIX))
        kept["uid"] = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        kept["creationTimestamp"] = deletion.timestamp(self._clock.now())
        return {**obj, "metadata": kept}

    async def _create_named(self, obj: Object, write: Write) -> Item:
        obj = self._prepared_create(obj, write)
        await self._check("CREATE", obj, None, write)
        try:
            said = str(meta(obj).get("resourceVersion") or "") if write.dry_run else ""
            obj = obj if said else self._without_version(obj)
        except errors.ApiError:
            self.on_abandoned(obj, None, write)
            raise
        name = str(meta(obj).get("name") or "")
        namespace = str(meta(obj).get("namespace") or "")
        key = f"{namespace}/{name}" if namespace else name
        there = self.cache.items.get(key)
        if there is not None:
            self.on_abandoned(obj, None, write)
            raise self._already_exists(there)
        stored = canonical(obj, self.kind.resource)
        if write.dry_run:
            self.on_abandoned(obj, None, write)
            return _unwritten(key, stored, Revision(int(said)) if said.isdecimal() and int(said) else None)
        try:
            item = await self._put(key, stored, Revision(0), write)
        except KeyMismatch as error:
            self.on_abandoned(obj, None, write)
            raise errors.already_exists(self.kind.resource, name) from error
        self.on_written(item.object, None)
        return item

    def _already_exists(self, there: Item) -> errors.AlreadyExists:
        error = errors.already_exists(self.kind.resource, there.name)
        if "deletionTimestamp" in there.peek()["metadata"]:
            error.message = f"object is being deleted: {error.message}"
        return error

    def _without_version(self, obj: Object) -> Object:
        given = meta(obj)
        version = given.get("resourceVersion")
        if version is None:
            return obj
        if version.isdecimal() and int(version):
            raise errors.ApiError("resourceVersion should not be set on objects to be created", reason="")
        return {**obj, "metadata": {field: value for field, value in given.items() if field != "resourceVersion"}}

    def _prepared_create(self, obj: Object, write: Write) -> Object:
        rules, resource = self.kind.rules, self.kind.resource
        obj = self.on_create(rules.prepare_create(obj), write)
        own = list(rules.validate(obj) if write.judge is None else write.judge(obj, None))
        apart = write.judge is None and bool(own) and resource.kind in metadata_order.JUDGED_APART
        found = (
            own
            if apart
            else [
                *metadata_order.of_create(
                    obj,
                    resource.kind if write.judge is None else "",
                    namespaced=resource.namespaced,
                    rule=rules.valid_name if write.judge is None else None,
                    order=self.main_rules.order,
                ),
                *own,
            ]
        )
        if found and not write.trusted:
            self.on_abandoned(obj, None, write)
            name = str(meta(obj).get("name") or "")
            raise errors.invalid(self.said_kind(obj), resource.group, name, fields.causes(found))
        write.warnings.extend(rules.warnings(obj))
        return obj

    def _owned(self, live: Object | None, new: Object, write: Write) -> Object:
        if self._ownership is None or write.applied:
            return new
        now = deletion.timestamp(self._clock.now())
        shape = write.shape
        if shape is None:
            return self._ownership.owned(live, new, manager=write.manager, subresource=write.subresource, time=now)
        served = shape.ownership.owned(
            None if live is None else shape.to_served(live),
            shape.to_served(new),
            manager=write.manager,
            subresource=write.subresource,
            time=now,
        )
        return {**new, "metadata": {**meta(new), "managedFields": meta(served).get("managedFields")}}

    # --- update

    async def update(
        self,
        key: str,
        change: Change,
        write: Write,
        *,
        rules: UpdateRules | None = None,
        force_create: bool = False,
        uid_meant: bool = False,
    ) -> tuple[Item, bool]:
        """Change the object at ``key``; returns its new state and whether it was created.

        ``uid_meant``: a uid the changed object says names the object meant (PUT), instead of being a change (PATCH).

        Raises ``NotFound``, ``Conflict``, ``Invalid``, ... A change that changes nothing is not written.
        """
        rules = rules or self.main_rules
        item = await self.current(key)
        while True:
            if item is None:
                if not (rules.create_allowed or force_create):
                    raise self._not_found(key)
                return await self._create_on_update(key, change(None), write), True
            old = item.peek()
            new = change(old)
            self._check_identity(old, new, item, rules, uid_meant)
            new = await self._changed(old, new, rules, write)
            stored = self._settled(canonical(new, self.kind.resource), old)
            if stored is None:
                if write.dry_run or not self.is_stale(key):
                    self.on_abandoned(new, old, write)
                    return item, False
                stored = canonical(new, self.kind.resource)
            if write.dry_run:
                self.on_abandoned(new, old, write)
                return _unwritten(key, stored, item.revision), False
            try:
                if deletion.is_finished(new, old) and self.may_finish(new):
                    return await self._remove_updated(key, stored, item), False
                item = await self._put(key, stored, item.revision, write)
            except KeyMismatch as error:
                self.on_abandoned(new, old, write)
                item = None if error.current is None else await self.read_back(key, error.current)
                continue
            self.on_written(item.object, old)
            return item, False

    def _settled(self, stored: Object, old: Object) -> Object | None:
        """``stored``; None when writing it would change nothing but times of field ownership."""
        before = {**old, "metadata": {**old["metadata"], "resourceVersion": ""}}
        if stored == before:
            return None
        if self._ownership is not None:
            settled = self._ownership.settled(stored, before)
            return None if settled is not stored and settled == before else settled
        return stored

    async def _create_on_update(self, key: str, obj: Object, write: Write) -> Item:
        given = meta(obj)
        if given.get("uid"):
            raise self._wrong_uid(key, str(given["uid"]), "")
        kept = {field: value for field, value in given.items() if field != "resourceVersion"}
        write.durable = True  # whatever an update of this kind may be
        return await self.create({**obj, "metadata": kept}, write)

    async def _changed(self, old: Object, new: Object, rules: UpdateRules, write: Write) -> Object:
        """``new`` as it would be stored in place of ``old``: defaulted, admitted, prepared and found valid."""
        admitted = await write.admit("UPDATE", self._owned(old, new, write), old)
        assert admitted is not None
        admitted = _still_in(str(meta(old).get("namespace") or ""), admitted)
        new = self._prepared_update(admitted, old, rules, write)
        warned = self.kind.rules.update_warnings if rules is not self.status_rules else self.kind.rules.status_warnings
        write.warnings.extend(warned(new, old))
        await self._check("UPDATE", new, old, write)
        return new

    async def _check(self, operation: Operation, new: Object, old: Object | None, write: Write) -> None:
        """The last word before storing; refused or cancelled, what was reserved for ``new`` is let go."""
        try:
            await write.check(operation, new, old)
        except BaseException:
            self.on_abandoned(new, old, write)
            raise

    def _check_identity(self, old: Object, new: Object, item: Item, rules: UpdateRules, uid_meant: bool) -> None:
        resource, given = self.kind.resource, meta(new)
        uid = given.get("uid")
        if uid_meant and uid and uid != meta(old).get("uid"):
            raise self._wrong_uid(item.key, uid, meta(old).get("uid") or "")
        version = given.get("resourceVersion")
        if not version or not version.strip("0"):
            if not rules.unconditional_allowed:
                found = fields.invalid(
                    fields.FieldPath("metadata.resourceVersion"), 0, "must be specified for an update"
                )
                raise errors.invalid(resource.plural, resource.group, item.name, [found.cause()])
        elif version != str(item.revision):
            if not version.isascii() or not version.isdigit():
                raise errors.ApiError(f'strconv.ParseUint: parsing "{version}": invalid syntax', reason="")
            raise errors.conflict(resource, item.name)

    def _wrong_uid(self, key: str, wanted: str, found: str) -> errors.Conflict:
        why = (
            f"StorageError: invalid object, Code: 4, Key: {self.told_prefix()}{key}, "
            f"ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, "
            f"UID in object meta: {found}"
        )
        return errors.conflict(self.kind.resource, key.rpartition("/")[2], why)

    def _prepared_update(self, new: Object, old: Object, rules: UpdateRules, write: Write) -> Object:
        before = meta(old)
        given = {**meta(new), "resourceVersion": before["resourceVersion"]}
        given.pop("generation", None)
        if before.get("generation"):
            given["generation"] = before["generation"]
        new = rules.prepare({**new, "metadata": given}, old)
        kept = dict(meta(new))
        if not kept.get("uid"):
            kept["uid"] = before.get("uid")
        kept["creationTimestamp"] = before.get("creationTimestamp")
        if before.get("deletionTimestamp") is not None:
            kept["deletionTimestamp"] = before["deletionTimestamp"]
        if before.get("deletionGracePeriodSeconds") is not None and kept.get("deletionGracePeriodSeconds") is None:
            kept["deletionGracePeriodSeconds"] = before["deletionGracePeriodSeconds"]
        new = self.on_update({**new, "metadata": kept}, old, write)
        own, order = (rules.validate, rules.order) if write.judge is None else (write.judge, metadata_order.JUDGED)
        namespaced = self.kind.resource.namespaced
        found = metadata_order.of_update(new, old, self.kind.rules, own, order, namespaced=namespaced)
        if isinstance(found, Findings):
            write.warnings.extend(found.warnings)
        if found:
            self.on_abandoned(new, old, write)
            resource = self.kind.resource
            name = str(kept.get("name") or "")
            raise errors.invalid(self.said_kind(new), resource.group, name, fields.causes(found))
        return new

    async def _remove_updated(self, key: str, stored: Object, item: Item) -> Item:
        """The update emptied the finalizers of an object being deleted: it goes now."""
        record = await self._storage_delete(key, item.revision)
        if record is not None:
            self.on_removed(item.object)
        return Item(key, encode(stored), item.revision, stored=stored)

    # --- delete

    async def delete(self, key: str, options: deletion.DeleteOptions, write: Write) -> Deletion:
        """Remove the object, or mark it where grace or finalizers hold it. Raises ``NotFound``, ``Conflict``, ..."""
        item = await self.current(key)
        while True:
            if item is None:
                raise self._not_found(key)
            old = item.peek()
            deletion.check_preconditions(old, item.revision, options, self.kind.resource)
            await write.admit("DELETE", None, old)
            await write.check("DELETE", None, old)
            verdict = self.verdict(old, options)
            if isinstance(verdict, deletion.Pending):
                return Deletion(item, gone=False)
            if options.dry_run:
                return self._dry_deletion(key, item, verdict)
            try:
                if isinstance(verdict, deletion.Marked):
                    stored = self._settled(canonical(verdict.obj, self.kind.resource), old)
                    if stored is not None:
                        item = await self._put(key, stored, item.revision, write)
                    if not verdict.then_remove:
                        return Deletion(item, gone=False)
                return await self._removed(key, item)
            except KeyMismatch as error:
                item = None if error.current is None else await self.read_back(key, error.current)

    def verdict(self, old: Object, options: deletion.DeleteOptions) -> deletion.Verdict:
        """What a deletion does to ``old``."""
        return deletion.decide(
            old, options, self._clock.now(), grace_of=self.kind.grace_of, collection=self.kind.collection
        )

    def _dry_deletion(self, key: str, item: Item, verdict: deletion.Verdict) -> Deletion:
        if isinstance(verdict, deletion.Marked):
            stored = canonical(verdict.obj, self.kind.resource)
            return Deletion(_unwritten(key, stored, item.revision), gone=verdict.then_remove)
        return Deletion(item, gone=True)

    async def _removed(self, key: str, item: Item) -> Deletion:
        record = await self._storage_delete(key, item.revision)
        if record is None:
            raise self._not_found(key)
        self.on_removed(item.object)
        return Deletion(item.at(record.mod_revision), gone=True)

    # --- storage

    async def current(self, key: str) -> Item | None:
        """The newest state, for who will change it."""
        return self.cache.items.get(key)

    async def read_back(self, key: str, record: Record) -> Item:
        """A record another writer made."""
        return Item.of_record(key, record)

    def is_stale(self, key: str) -> bool:
        """Whether the object is to be written anew though nothing changes: it is stored in an older form."""
        return self._storage.is_stale(self.kind.prefix + key)

    async def _put(self, key: str, stored: Object, expected: Revision, write: Write) -> Item:
        try:
            record = await self._storage.put(
                self.kind.prefix + key, encode(stored), expected=expected, decoded=stored, durable=write.durable
            )
        except StorageUnavailable as error:
            raise errors.ServerTimeout(str(error), retry_after_seconds=1) from error
        return self._published(key, record)

    def _published(self, key: str, record: Record) -> Item:
        """The item the cache made of this record, or the like when a newer one took its place."""
        item = self.cache.items.get(key)
        return item if item is not None and item.revision == record.mod_revision else Item.of_record(key, record)

    async def _storage_delete(self, key: str, expected: Revision) -> Record | None:
        try:
            return await self._storage.delete(self.kind.prefix + key, expected=expected)
        except StorageUnavailable as error:
            raise errors.ServerTimeout(str(error), retry_after_seconds=1) from error

    # --- hooks, overridden by kinds that take part

    def told_prefix(self) -> str:
        """Where a refusal says the objects lie."""
        return f"/registry/{self.kind.resource.plural}/"

    def said_kind(self, obj: Object) -> str:
        """The kind a refusal of ``obj`` names."""
        return self.kind.resource.kind

    def on_create(self, obj: Object, write: Write) -> Object:
        """The last change of a new object, before it is judged."""
        return obj

    def on_update(self, new: Object, old: Object, write: Write) -> Object:
        """The last change of a changed object, before it is judged."""
        return new

    def on_abandoned(self, new: Object, old: Object | None, write: Write) -> None:
        """What ``on_create`` or ``on_update`` reserved for ``new`` is not needed."""

    def on_written(self, new: Object, old: Object | None) -> None:
        """``new`` is stored."""

    def on_removed(self, obj: Object) -> None:
        """``obj`` is gone."""

    def may_finish(self, obj: Object) -> bool:
        """Whether an object marked for deletion, without finalizers, may be removed by an update."""
        return True


_MARKS = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


def _still_in(namespace: str, obj: Object) -> Object:
    """``obj`` in the namespace rights were asked for; raises ``BadRequest`` where admission moved it to another."""
    found = meta(obj).get("namespace") or ""
    if found == namespace:
        return obj
    if found and namespace:
        raise errors.BadRequest(NAMESPACE_MISMATCH)
    kept = {field: value for field, value in meta(obj).items() if field != "namespace"}
    return {**obj, "metadata": {**kept, "namespace": namespace} if namespace else kept}


def _without_marks(obj: Object) -> Object:
    """``obj`` without what only the server says of an object."""
    given = meta(obj)
    if not any(field in given for field in _MARKS):
        return obj
    return {**obj, "metadata": {field: value for field, value in given.items() if field not in _MARKS}}


_PREFIXES = {
    "replicationcontrollers": "controllers",
    "endpoints": "services/endpoints",
    "services": "services/specs",
    "nodes": "minions",
    "ingresses": "ingress",
}


def _said_prefix(resource: Resource) -> str:
    """Where upstream keeps objects of this kind, as its messages say it."""
    return f"/registry/{_PREFIXES.get(resource.plural, resource.plural)}/"


def _unwritten(key: str, stored: Object, revision: Revision | None = None) -> Item:
    """What a dry run answers: the object as it would be, with the version it had."""
    if revision is None:
        value = {**stored, "metadata": {k: v for k, v in stored["metadata"].items() if k != "resourceVersion"}}
        return Item(key, encode(value), Revision(0))
    return Item(key, encode(stored), revision)
