"""One served resource with everything a request to it needs: resource, kind, store and forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, MutableMapping

from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver.forms import Forms
from anynode.apiserver.requestinfo import RequestInfo
from anynode.registry.kinds import Kind, View
from anynode.registry.store import ResourceStore, Shape

Slot = tuple[str, str, str]
"""Group, version, plural."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    view: View
    store: ResourceStore
    forms: Forms
    shape: Shape | None = None
    """Set where the resource is stored in another shape."""
    outdated: str = ""
    """What clients of this version are warned of."""
    custom: CustomRoutes | None = None
    """Set for a custom resource, whose requests are routed otherwise."""

    @property
    def resource(self) -> Resource:
        return self.view.resource

    @property
    def kind(self) -> Kind:
        return self.view.kind


Route = Callable[[Served, ApiRequest, RequestInfo, User], Awaitable[ApiResponse]]
CustomRoutes = Mapping[str, Mapping[str, Route]]
"""Subresource -> verb -> route."""
ServedSet = MutableMapping[Slot, Served]
"""What is served now. Custom resources enter it when they are first asked for, and leave it when their definition
changes: a request holds on to what it found."""
