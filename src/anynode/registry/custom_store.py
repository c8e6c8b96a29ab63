"""Writes custom resources in one served version: judged in that version, stored in the definition's storage version.

In: objects of the version. Out: items of the version, read back from what was stored. Source: apiextensions-apiserver
``pkg/registry/customresource/etcd.go``, apiserver ``pkg/storage/etcd3/store.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from anynode.aio.clock import Clock
from anynode.api import errors
from anynode.api.objects import Object, meta
from anynode.registry.custom_versions import Codec, VersionedCache
from anynode.registry.encoding import encode
from anynode.registry.items import Item
from anynode.registry.kinds import Kind
from anynode.registry.store import Ownership, ResourceStore, Write
from anynode.registry.watch_cache import ResourceCache
from anynode.schema import metadata_order
from anynode.storage.types import Record, Revision, Storage, StorageUnavailable

TERMINATING = "create not allowed while custom resource definition is terminating"


class CustomStore(ResourceStore):
    """The store of one version of a custom resource."""

    def __init__(
        self,
        kind: Kind,
        cache: VersionedCache,
        storage: Storage,
        *,
        clock: Clock,
        random: random.Random,
        ownership: Ownership | None,
        base: ResourceCache,
        codec: Codec,
        terminating: Callable[[], bool],
    ) -> None:
        """``base``: the cache of what is stored; ``terminating``: whether the definition is being deleted."""
        super().__init__(kind, cache, storage, clock=clock, random=random, ownership=ownership)
        self.main_rules = dataclasses.replace(self.main_rules, order=metadata_order.CUSTOM)
        self.status_rules = dataclasses.replace(self.status_rules, order=metadata_order.CUSTOM)
        self._base = base
        self._versions = cache
        self._codec = codec
        self._terminating = terminating

    @property
    def codec(self) -> Codec:
        """The way between this version and what is stored."""
        return self._codec

    async def _create_named(self, obj: Object, write: Write) -> Item:
        if self._terminating():
            raise errors.forbidden(self.kind.resource, str(meta(obj).get("name") or ""), TERMINATING)
        return await super()._create_named(obj, write)

    def told_prefix(self) -> str:
        return self.kind.prefix

    def said_kind(self, obj: Object) -> str:
        return str(obj.get("kind") or "")

    async def current(self, key: str) -> Item | None:
        stored = self._base.items.get(key)
        return None if stored is None else await self._versions.shown(stored)

    async def read_back(self, key: str, record: Record) -> Item:
        return await self._versions.shown(Item.of_record(key, record))

    def is_stale(self, key: str) -> bool:
        stored = self._base.items.get(key)
        return stored is not None and not stored.value.startswith(self._codec.storage_head)

    async def _put(self, key: str, stored: Object, expected: Revision, write: Write) -> Item:
        outgoing = await self._codec.to_storage(stored)
        try:
            record = await self._storage.put(
                self.kind.prefix + key, encode(outgoing), expected=expected, decoded=outgoing, durable=write.durable
            )
        except StorageUnavailable as error:
            raise errors.ServerTimeout(str(error), retry_after_seconds=1) from error
        item = self.cache.items.get(key)
        if item is not None and item.revision == record.mod_revision:
            return item
        return await self.read_back(key, record)
