"""How one version of a custom resource is read from storage and written to it, with and without a webhook.

Reading: pruned and defaulted as the version it was written in says, converted, pruned as this version says. Writing:
converted to the storage version, pruned as that one says. Conversion strategy None changes ``apiVersion`` alone.
Source: apiextensions-apiserver ``pkg/apiserver/{customresource_handler,conversion/nop_converter}.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from anynode.api import errors
from anynode.api.objects import Object, meta
from anynode.api.resources import GroupVersion, Resource
from anynode.registry.encoding import canonical, head_of


class VersionSchema(Protocol):
    """What a codec asks of one version's schema."""

    @property
    def resource(self) -> Resource: ...

    def checked(self, obj: Object) -> tuple[Object, Sequence[str]]: ...

    def restored(self, obj: Object) -> Object: ...


Schemas = Mapping[str, VersionSchema]
"""Version -> its schema, served or not."""
Convert = Callable[[Sequence[Object], str, str], Awaitable[Sequence[Object]]]
"""(objects that need it, the apiVersion wanted, what is converted in the words of a failure) -> the converted objects.
Raises ``ApiError``."""


class PlainCodec:
    """Conversion strategy None: versions differ in what they call themselves and in their schemas."""

    def __init__(self, version: str, storage_version: str, schemas: Schemas) -> None:
        self._schemas = schemas
        self.resource = schemas[version].resource
        self._schema = schemas[version]
        self._storage = schemas[storage_version]
        self.storage_head = head_of(self._storage.resource)

    def _own(self, stored: Object) -> Object:
        """A stored object pruned and defaulted as the version it was written in."""
        schema = self._schemas.get(GroupVersion.parse(str(stored.get("apiVersion") or "")).version)
        return stored if schema is None else schema.restored(stored)

    def read(self, stored: Object) -> Object:
        own = self._own(stored)
        if own.get("apiVersion") == self.resource.api_version:
            return own
        return self._schema.checked({**own, "apiVersion": self.resource.api_version})[0]

    async def converted(self, stored: Sequence[Object]) -> Sequence[Object]:
        return [self.read(each) for each in stored]

    async def to_storage(self, obj: Object) -> Object:
        api_version = self._storage.resource.api_version
        if obj["apiVersion"] == api_version:
            return canonical(self._storage.checked(obj)[0], self._storage.resource)
        # Defaulted too: what is stored in a version is read without another look at its schema.
        return canonical(self._storage.restored({**obj, "apiVersion": api_version}), self._storage.resource)


class WebhookCodec(PlainCodec):
    """Conversion strategy Webhook."""

    def __init__(self, version: str, storage_version: str, schemas: Schemas, convert: Convert) -> None:
        super().__init__(version, storage_version, schemas)
        self._convert = convert

    async def converted(self, stored: Sequence[Object]) -> Sequence[Object]:
        api_version = self.resource.api_version
        objects = [self._own(each) for each in stored]
        foreign = [index for index, each in enumerate(objects) if each["apiVersion"] != api_version]
        if foreign:
            for index in foreign:
                self._check_version(objects[index])
            said = self._name(objects[foreign[0]])
            found = await self._convert([objects[index] for index in foreign], api_version, said)
            for index, obj in zip(foreign, found, strict=True):
                objects[index] = self._schema.checked(obj)[0]
        return objects

    def _check_version(self, obj: Object) -> None:
        """Refuse an object stored in a version the definition no longer knows."""
        said = GroupVersion.parse(obj["apiVersion"])
        if said.version not in self._schemas:
            raise failed(f"request to convert CR from an invalid group/version: {said}")

    async def to_storage(self, obj: Object) -> Object:
        storage = self._storage.resource
        if obj["apiVersion"] == storage.api_version:
            return await super().to_storage(obj)
        metadata = {field: value for field, value in meta(obj).items() if field != "resourceVersion"}
        found = await self._convert([{**obj, "metadata": metadata}], storage.api_version, self._name(obj))
        return canonical(self._storage.restored(found[0]), storage)

    def _name(self, obj: Object) -> str:
        return f"{obj['apiVersion']}, Kind={obj['kind']}"


def failed(message: str) -> errors.ApiError:
    """A conversion's failure, as a request is answered with it."""
    return errors.ApiError(message, reason="")
