"""``metadata.managedFields`` of one kind, kept by ``schema.managed_fields``."""

from __future__ import annotations

from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.schema import managed_fields, stored
from anynode.schema.managed_fields import OwnedType
from anynode.schema.types import Types


class ManagedFields:
    """The ``Ownership`` of a kind whose type is known."""

    def __init__(self, resource: Resource, type_name: str, types: Types) -> None:
        self._api_version = resource.api_version
        self._type_name = type_name
        self._types = types

    def owned(self, live: Object | None, new: Object, *, manager: str, subresource: str, time: str) -> Object:
        entries = managed_fields.updated(
            live,
            new,
            manager=manager,
            subresource=subresource,
            api_version=self._api_version,
            time=time,
            type_name=self._type_name,
            types=self._types,
        )
        return managed_fields.with_entries(stored.as_stored(new, self._type_name, self._types), entries)

    def settled(self, stored: Object, old: Object) -> Object:
        return managed_fields.with_old_times(stored, old)


class CustomFields:
    """The ``Ownership`` of one version of a custom resource."""

    def __init__(self, api_version: str, owned: OwnedType) -> None:
        self._api_version = api_version
        self._owned = owned

    def owned(self, live: Object | None, new: Object, *, manager: str, subresource: str, time: str) -> Object:
        entries = managed_fields.updated(
            live,
            new,
            manager=manager,
            subresource=subresource,
            api_version=self._api_version,
            time=time,
            type_name="",
            types=self._owned,
        )
        return managed_fields.with_entries(new, entries)

    def settled(self, stored: Object, old: Object) -> Object:
        return managed_fields.with_old_times(stored, old)
