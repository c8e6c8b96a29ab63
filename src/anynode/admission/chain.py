"""The chain a write passes after authorization and before it is stored.

An object comes in, perhaps changed it goes out, or an ``ApiError`` says why not. Plugins stand in upstream's order:
all mutate, the registry then prepares and validates the object, and all validate it as it will be stored. Each plugin
names the operations and resources it looks at, so that a write meets only those that concern it.
Source: apiserver ``pkg/admission`` and kubernetes ``pkg/kubeapiserver/options/plugins.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from anynode.api import errors, objects
from anynode.api.errors import Cause, Forbidden
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User

Operation: TypeAlias = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
Lookup: TypeAlias = Callable[[Resource, ObjectKey], Object | None]
"""The stored object now, or None."""
ListObjects: TypeAlias = Callable[[Resource], Iterable[Object]]
"""All stored objects of a small, cluster-scoped kind."""
ListIn: TypeAlias = Callable[[Resource, str], Iterable[Object]]
"""The stored objects of a kind in one namespace, by name; costs nothing where there are none."""
ReplaceStatus: TypeAlias = Callable[[Resource, Object], Awaitable[Object]]
"""Write the status of an object as it was read; raises ``Conflict`` when it is no longer the newest."""
Options: TypeAlias = Callable[[Operation], Object | None]
"""The request's CreateOptions, UpdateOptions, ... as an object, by what it turned out to do."""
STATIONS_KEPT = 2_000


@dataclasses.dataclass(slots=True, kw_only=True)
class Attributes:
    """One write. ``obj`` is the object to be, ``old`` what is stored; None where there is none.

    Plugins read it; the chain alone puts the next ``obj`` in.
    """

    operation: Operation
    resource: Resource
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    obj: Object | None = None
    old: Object | None = None
    user: User
    dry_run: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list)
    """Texts for the client, in ``Warning`` headers; plugins append."""
    audit: dict[str, str] = dataclasses.field(default_factory=dict)
    """Annotations for the audit event of the request, ``plugin/key``; plugins add."""
    options: Options | None = None
    """What the request said beside the object; only who asks for it has it made."""
    collection: bool = False
    """One of the deletions of a whole collection: the request named no object."""
    wants_reinvocation: bool = False
    """Set by a plugin whose change may concern plugins before it: all that mutate are called once more."""
    reinvoked: bool = False
    """Whether this is that second call."""
    memory: dict[str, object] = dataclasses.field(default_factory=dict)
    """What plugins keep from the first call for the second, by plugin name."""

    @property
    def said_name(self) -> str:
        """The name in messages; that of an object to be named by the server is how it will begin."""
        if self.name and not self.collection:
            return self.name
        metadata = objects.meta(self.obj or {})
        return metadata.get("name") or metadata.get("generateName") or "Unknown"

    @property
    def kind(self) -> tuple[str, str, str]:
        """(group, version, kind) of ``obj``: of a subresource's body where it has its own."""
        return kind_of(self.resource, self.subresource)

    @property
    def request_name(self) -> str:
        """The name as reviews and expressions are told it: of a new object its own, if it has one yet."""
        if self.collection:
            return ""
        return self.name or str(objects.meta(self.obj or {}).get("name") or "")

    @property
    def request_namespace(self) -> str:
        """The namespace as reviews and expressions are told it: a namespace is in itself."""
        if self.resource.plural == "namespaces" and not self.resource.group:
            return self.request_name
        return self.namespace

    def forbidden(self, why: str, causes: Iterable[Cause] = ()) -> Forbidden:
        """The refusal of this write."""
        return errors.forbidden(self.resource, self.said_name, why, causes)


def kind_of(resource: Resource, subresource: str) -> tuple[str, str, str]:
    """(group, version, kind) of what a resource's, or its subresource's, requests carry."""
    found = resource.subresource(subresource) if subresource else None
    if found is None:
        return resource.group, resource.version, resource.kind
    if not found.version:
        return resource.group, resource.version, found.kind
    return found.group, found.version, found.kind


class Plugin:
    """One station of the chain; subclasses override ``admit``, ``validate`` or both."""

    name: str
    operations: frozenset[Operation]
    resources: frozenset[str] | None = None
    """Resources as ``pods``, ``pods/binding``, ``deployments.apps``; None: all, with their subresources."""

    async def admit(self, attributes: Attributes) -> Object | None:
        """The object as it shall be: ``attributes.obj`` itself when nothing is to change. Raises ``ApiError``."""
        return attributes.obj

    async def validate(self, attributes: Attributes) -> None:
        """Raises ``ApiError`` when the object must not be as it now is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stations:
    """The plugins that one sort of write meets."""

    mutating: tuple[Plugin, ...]
    validating: tuple[Plugin, ...]


class Chain:
    """Plugins in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._stations: dict[tuple[Operation, str, str, str], Stations] = {}

    async def admit(self, attributes: Attributes) -> Object | None:
        """Both phases at once, for what the registry neither prepares nor validates (CONNECT); as ``mutate``."""
        await self.mutate(attributes)
        await self.validate(attributes)
        return attributes.obj

    async def mutate(self, attributes: Attributes) -> Object | None:
        """The object as it shall be, also left in ``attributes.obj``; None: there was none. Raises ``ApiError``."""
        plugins = self._concerned(attributes).mutating
        for plugin in plugins:
            attributes.obj = await plugin.admit(attributes)
        if attributes.wants_reinvocation:
            attributes.reinvoked = True
            for plugin in plugins:
                attributes.obj = await plugin.admit(attributes)
        return attributes.obj

    async def validate(self, attributes: Attributes) -> None:
        """Raises ``ApiError`` when the object, now whole and valid, must not be stored."""
        for plugin in self._concerned(attributes).validating:
            await plugin.validate(attributes)

    def _concerned(self, attributes: Attributes) -> Stations:
        resource = attributes.resource
        slot = (attributes.operation, resource.group, resource.plural, attributes.subresource)
        found = self._stations.get(slot)
        if found is None:
            if len(self._stations) >= STATIONS_KEPT:
                self._stations.clear()  # resources come and go
            name = resource.qualified + (f"/{attributes.subresource}" if attributes.subresource else "")
            concerned = [
                plugin
                for plugin in self.plugins
                if attributes.operation in plugin.operations and (plugin.resources is None or name in plugin.resources)
            ]
            found = self._stations[slot] = Stations(
                mutating=tuple(each for each in concerned if type(each).admit is not Plugin.admit),
                validating=tuple(each for each in concerned if type(each).validate is not Plugin.validate),
            )
        return found


class Passage:
    """One request's way through the chain: what the registry calls, once or, when it tries again, several times."""

    __slots__ = ("_audit", "_chain", "_fields")

    def __init__(
        self,
        chain: Chain,
        resource: Resource,
        user: User,
        *,
        subresource: str,
        namespace: str,
        name: str,
        dry_run: bool,
        warnings: list[str],
        options: Options | None = None,
        collection: bool = False,
        audit: dict[str, str] | None = None,
    ) -> None:
        """``audit``: where annotations for the request's audit event go, if it has one."""
        self._chain = chain
        self._fields = (resource, user, subresource, namespace, name, dry_run, warnings, options, collection)
        self._audit = audit

    async def admit(self, operation: Operation, obj: Object | None, old: Object | None) -> Object | None:
        """The object after all plugins had their say; raises ``ApiError``."""
        return await self._chain.mutate(self._attributes(operation, obj, old))

    async def check(self, operation: Operation, obj: Object | None, old: Object | None) -> None:
        """Raises ``ApiError`` when what is about to be stored must not be."""
        await self._chain.validate(self._attributes(operation, obj, old))

    def _attributes(self, operation: Operation, obj: Object | None, old: Object | None) -> Attributes:
        resource, user, subresource, namespace, name, dry_run, warnings, options, collection = self._fields
        return Attributes(
            operation=operation,
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
            obj=obj,
            old=old,
            user=user,
            dry_run=dry_run,
            warnings=warnings,
            options=options,
            collection=collection,
            audit={} if self._audit is None else self._audit,
        )
