"""One served resource with everything a request to it needs: resource, kind, store and forms."""

from __future__ import annotations

import dataclasses

from anynode.api.resources import Resource
from anynode.apiserver.forms import Forms
from anynode.registry.kinds import Kind, View
from anynode.registry.store import ResourceStore, Shape


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    view: View
    store: ResourceStore
    forms: Forms
    shape: Shape | None = None
    """Set where the resource is stored in another shape."""

    @property
    def resource(self) -> Resource:
        return self.view.resource

    @property
    def kind(self) -> Kind:
        return self.view.kind
