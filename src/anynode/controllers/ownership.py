"""Who owns what: controller references, adoption and release, and what a controller still waits to see.

Objects come in, ``Claim``s and patches go out. An object has at most one controller. A controller's cache lags behind
its own writes: ``Expectations`` keeps it from creating or deleting twice, ``Latest`` from reading what it already
overwrote. Source: kubernetes ``pkg/controller/controller_ref_manager.go`` and ``controller_utils.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from anynode.aio.clock import Clock
from anynode.api.errors import Conflict, Invalid, NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    controller_of,
    is_deleting,
    key_of,
    labels_of,
    meta,
    name_of,
    uid_of,
)
from anynode.api.resources import Resource
from anynode.api.selectors import LabelSelector
from anynode.client.api_client import ApiClient
from anynode.informers.informer import Delta
from anynode.informers.store import Store

EXPECTATION_SECONDS = 300.0


def controller_reference(owner: Mapping[str, Any], resource: Resource) -> Object:
    """The owner reference by which ``owner`` (of ``resource``) controls an object and blocks on its deletion."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_controlled_by(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid_of(owner)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an owner holds, what it should take and what it should let go."""

    owned: Sequence[Object]
    adopt: Sequence[Object]
    release: Sequence[Object]


def plan_claim(
    owner: Object,
    selector: LabelSelector,
    candidates: Iterable[Object],
    *,
    adoptable: Callable[[Object], bool] = lambda obj: True,
) -> Claim:
    """Sort ``candidates``; an owner being deleted neither adopts nor releases, what is being deleted is left alone."""
    owned: list[Object] = []
    adopt: list[Object] = []
    release: list[Object] = []
    dying = is_deleting(owner)
    for obj in candidates:
        reference = controller_of(obj)
        selected = selector.matches(labels_of(obj))
        if reference is not None:
            if reference.get("uid") != uid_of(owner):
                continue
            if selected:
                owned.append(obj)
            elif not dying:
                release.append(obj)
        elif selected and not dying and not is_deleting(obj) and adoptable(obj):
            adopt.append(obj)
    return Claim(owned=owned, adopt=adopt, release=release)


class OwnerGone(Conflict):
    """The owner was deleted, or is another object of the same name by now: nothing may be adopted for it."""


class Claimer:
    """Carries out claims for owners of one kind on objects of another."""

    def __init__(self, client: ApiClient, *, owner: Resource, owned: Resource, finalizers: Sequence[str] = ()) -> None:
        self._client = client
        self._owner = owner
        self._owned = owned
        self._finalizers = tuple(finalizers)

    async def claim(
        self,
        owner: Object,
        selector: LabelSelector,
        candidates: Iterable[Object],
        *,
        adoptable: Callable[[Object], bool] = lambda obj: True,
    ) -> list[Object]:
        """What ``owner`` owns once the claim is carried out; raises ``OwnerGone`` or ``ApiError``."""
        claim = plan_claim(owner, selector, candidates, adoptable=adoptable)
        owned = list(claim.owned)
        if claim.adopt:
            await self._check_owner(owner)
            for obj in claim.adopt:
                adopted = await self._adopt(owner, obj)
                if adopted is not None:
                    owned.append(adopted)
        for obj in claim.release:
            await self._release(owner, obj)
        return owned

    async def _check_owner(self, owner: Object) -> None:
        """The cache may be old: adopting for a dead owner would let the garbage collector kill what was adopted."""
        try:
            fresh = await self._client.get(self._owner, key_of(owner))
        except NotFound as error:
            raise OwnerGone(f"{self._owner.kind} {key_of(owner)} is gone") from error
        if uid_of(fresh) != uid_of(owner) or is_deleting(fresh):
            raise OwnerGone(f"{self._owner.kind} {key_of(owner)} is gone")

    async def _adopt(self, owner: Object, obj: Object) -> Object | None:
        references = [*(meta(obj).get("ownerReferences") or ()), controller_reference(owner, self._owner)]
        patch: Object = {"metadata": {"uid": uid_of(obj), "ownerReferences": references}}
        if self._finalizers:
            present = list(meta(obj).get("finalizers") or ())
            patch["metadata"]["finalizers"] = [*present, *(each for each in self._finalizers if each not in present)]
        patch["metadata"]["resourceVersion"] = meta(obj).get("resourceVersion")
        try:
            return await self._client.patch(self._owned, key_of(obj), patch)
        except NotFound:
            return None

    async def _release(self, owner: Object, obj: Object) -> None:
        uid = uid_of(owner)
        references = [each for each in meta(obj).get("ownerReferences") or () if each.get("uid") != uid]
        metadata: Object = {
            "uid": uid_of(obj),
            "resourceVersion": meta(obj).get("resourceVersion"),
            "ownerReferences": references or None,
        }
        if self._finalizers:
            kept = [each for each in meta(obj).get("finalizers") or () if each not in self._finalizers]
            metadata["finalizers"] = kept or None
        try:
            await self._client.patch(self._owned, key_of(obj), {"metadata": metadata})
        except (NotFound, Invalid):
            return  # gone, or another object of this name


@dataclasses.dataclass(slots=True)
class _Expected:
    since: float
    creations: int = 0
    deletions: set[str] = dataclasses.field(default_factory=set)


class Expectations:
    """Writes of a controller its cache has not shown yet, per owner key; forgotten after five minutes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expected: dict[ObjectKey, _Expected] = {}

    def satisfied(self, key: ObjectKey) -> bool:
        """Whether the cache has caught up with what was done for ``key``."""
        expected = self._expected.get(key)
        if expected is None:
            return True
        if expected.creations <= 0 and not expected.deletions:
            return True
        return self._clock.monotonic() - expected.since > EXPECTATION_SECONDS

    def expect(self, key: ObjectKey, *, creations: int = 0, deletions: Iterable[str] = ()) -> None:
        """Set what ``key`` waits for, before the writes go out; ``deletions`` are UIDs."""
        self._expected[key] = _Expected(self._clock.monotonic(), creations, set(deletions))

    def created(self, key: ObjectKey, count: int = 1) -> None:
        """That many creations were seen, or will not happen."""
        expected = self._expected.get(key)
        if expected is not None:
            expected.creations -= count

    def deleted(self, key: ObjectKey, uid: str) -> None:
        """A deletion (or its beginning) was seen, or will not happen."""
        expected = self._expected.get(key)
        if expected is not None:
            expected.deletions.discard(uid)

    def forget(self, key: ObjectKey) -> None:
        self._expected.pop(key, None)


class Latest:
    """A store as its writer knows it: its own last write where the cache has not reached that yet.

    Resource versions are compared as numbers, which Kubernetes promises since 1.35.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[ObjectKey, Object] = {}

    def note(self, obj: Object) -> Object:
        """Remember ``obj`` as a write answered it; returns it."""
        self._written[key_of(obj)] = obj
        return obj

    def forget(self, key: ObjectKey) -> None:
        self._written.pop(key, None)

    def get(self, key: ObjectKey) -> Object | None:
        cached = self._store.get(key)
        if cached is None:
            self.forget(key)
            return None
        return self.newer(cached)

    def is_echo(self, delta: Delta) -> bool:
        """Whether ``delta`` shows what was written through here and nothing else; forgets what was deleted."""
        if delta.kind == "deleted":
            self.forget(key_of(delta.obj))
            return False
        written = self._written.get(key_of(delta.obj))
        return written is not None and uid_of(written) == uid_of(delta.obj) and _version(written) == _version(delta.obj)

    def newer(self, cached: Object) -> Object:
        """The later of ``cached`` and what was written to the same object."""
        key = key_of(cached)
        written = self._written.get(key)
        if written is None:
            return cached
        if uid_of(written) == uid_of(cached) and _version(written) >= _version(cached):
            return written
        del self._written[key]
        return cached


def _version(obj: Object) -> int:
    text = meta(obj).get("resourceVersion") or "0"
    return int(text) if text.isdecimal() else 0
