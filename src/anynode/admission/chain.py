"""The chain a write passes after authorization and before it is validated and stored.

An object comes in, perhaps changed it goes out, or an ``ApiError`` says why not. Plugins stand in upstream's order:
all mutate, then all validate; each names the operations and resources it looks at, so that a write meets only those.
Source: apiserver ``pkg/admission`` and kubernetes ``pkg/kubeapiserver/options/plugins.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
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

    @property
    def said_name(self) -> str:
        """The name in messages; that of an object to be named by the server is how it will begin."""
        if self.name:
            return self.name
        metadata = objects.meta(self.obj or {})
        return metadata.get("name") or metadata.get("generateName") or "Unknown"

    def forbidden(self, why: str, causes: Iterable[Cause] = ()) -> Forbidden:
        """The refusal of this write."""
        return errors.forbidden(self.resource, self.said_name, why, causes)


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


class Chain:
    """Plugins in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._concerned: dict[tuple[Operation, str, str, str], tuple[Plugin, ...]] = {}

    async def admit(self, attributes: Attributes) -> Object | None:
        """The object to store, also left in ``attributes.obj``; None where there was none. Raises ``ApiError``."""
        plugins = self._plugins_for(attributes)
        for plugin in plugins:
            attributes.obj = await plugin.admit(attributes)
        for plugin in plugins:
            await plugin.validate(attributes)
        return attributes.obj

    def _plugins_for(self, attributes: Attributes) -> tuple[Plugin, ...]:
        resource = attributes.resource
        slot = (attributes.operation, resource.group, resource.plural, attributes.subresource)
        found = self._concerned.get(slot)
        if found is None:
            name = resource.qualified + (f"/{attributes.subresource}" if attributes.subresource else "")
            found = self._concerned[slot] = tuple(
                plugin
                for plugin in self.plugins
                if attributes.operation in plugin.operations and (plugin.resources is None or name in plugin.resources)
            )
        return found
