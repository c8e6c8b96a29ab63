"""Custom resources: served from the moment their definition is committed, until it is.

In: the cache of CustomResourceDefinitions. Out: entries of the served set, made when a resource is first asked for and
taken out when its definition's spec or accepted names change; a request that holds one goes on with it, its watches
end. What takes longer, conditions and deletion, is ``custom_definitions``'s.
Source: apiextensions-apiserver ``pkg/apiserver/customresource_handler.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import InternalError
from anynode.api.objects import Object, get_path, meta
from anynode.api.resources import GroupVersion
from anynode.apiserver import custom_discovery, custom_forms
from anynode.apiserver.bodies import Bodies
from anynode.apiserver.conversion_webhook import WebhookConverter
from anynode.apiserver.custom_routes import CustomRouting
from anynode.apiserver.discovery import ServedVersion
from anynode.apiserver.forms import Forms
from anynode.apiserver.outbound import Outbound
from anynode.apiserver.served import Served, ServedSet, Slot
from anynode.registry import definitions
from anynode.registry.custom_codecs import PlainCodec, WebhookCodec
from anynode.registry.custom_scale import ScalePaths
from anynode.registry.custom_store import CustomStore
from anynode.registry.custom_versions import VersionCache, VersionedCache, field_reader
from anynode.registry.encoding import head_of
from anynode.registry.items import CacheEvent
from anynode.registry.kinds import Kind, View, prefix_of
from anynode.registry.lagging_cache import LaggingCache
from anynode.registry.ownership import CustomFields
from anynode.registry.store import ResourceStore
from anynode.registry.watch_cache import ResourceCache, WatchCache
from anynode.schema.custom.custom_type import CustomType
from anynode.schema.custom.openapi import Published
from anynode.schema.custom.structural import StructuralError
from anynode.storage.types import Storage

_AGAIN = Backoff(first_seconds=1, most_seconds=30)


class Schemas(Mapping[str, CustomType]):
    """The versions of one definition, each built when first looked at."""

    def __init__(self, crd: Object) -> None:
        self._crd = crd
        self._names = tuple(str(each["name"]) for each in definitions.versions_of(crd))
        self._built: dict[str, CustomType] = {}

    def __getitem__(self, version: str) -> CustomType:
        found = self._built.get(version)
        if found is None:
            if version not in self._names:
                raise KeyError(version)
            found = self._built[version] = CustomType.build(self._crd, version)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclasses.dataclass(slots=True)
class Entry:
    """One definition as it is served."""

    crd: Object
    schemas: Schemas
    versions: dict[str, Served] = dataclasses.field(default_factory=dict)
    caches: list[VersionedCache] = dataclasses.field(default_factory=list)

    @property
    def terminating(self) -> bool:
        return definitions.is_true(self.crd, definitions.TERMINATING)

    def serves_as(self, crd: Object) -> bool:
        """Whether ``crd`` is served just as this."""
        mine, other = self.crd, crd
        return (
            meta(mine).get("uid") == meta(other).get("uid")
            and mine["spec"] == other["spec"]
            and get_path(mine, "status", "acceptedNames") == get_path(other, "status", "acceptedNames")
        )


class CustomResources:
    """Serves what the definitions define."""

    def __init__(
        self,
        store: ResourceStore,
        *,
        cache: WatchCache,
        storage: Storage,
        clock: Clock,
        random: random.Random,
        served: ServedSet,
        bodies: Bodies,
        outbound: Outbound,
        routing: CustomRouting,
        tasks: Supervisor,
    ) -> None:
        """``store``: of the definitions. ``listeners`` are told whenever what is served may have changed."""
        self._definitions = store
        self._cache = cache
        self._storage = storage
        self._clock = clock
        self._random = random
        self._served = served
        self._bodies = bodies
        self._outbound = outbound
        self._routing = routing
        self._tasks = tasks
        self._entries: dict[str, Entry] = {}
        self.listeners: list[Callable[[], None]] = []
        store.cache.listeners.append(self._changed)

    # --- following the definitions

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            entry = self._entries.get(event.item.key)
            crd = event.item.object
            if event.deleted:
                self._cache.drop(self._prefix(crd))
            if entry is None:
                continue
            if not event.deleted and entry.serves_as(crd) and definitions.is_requestable(crd):
                entry.crd = crd
            else:
                self._forget(event.item.key, entry)
        for listener in self.listeners:
            listener()

    def _forget(self, name: str, entry: Entry) -> None:
        """Serve the definition no longer as it was: who asks next gets it as it is."""
        del self._entries[name]
        for version, served in entry.versions.items():
            resource = served.resource
            self._served.pop((resource.group, version, resource.plural), None)
            self._bodies.custom.pop((resource.api_version, resource.kind), None)
        for cache in entry.caches:
            cache.detach()
            self._cache.leave(cache)

    def definitions(self) -> Iterable[Object]:
        return (item.object for item in self._definitions.cache.scan())

    def versions(self) -> Iterable[ServedVersion]:
        """What discovery tells."""
        return custom_discovery.versions(self.definitions())

    def published(self) -> Mapping[GroupVersion, Sequence[Published]]:
        """What the OpenAPI documents tell."""
        return custom_discovery.published(self.definitions())

    def group_versions(self) -> Iterable[GroupVersion]:
        """Every group version a definition wants served."""
        return {
            GroupVersion(crd["spec"]["group"], version)
            for crd in self.definitions()
            for version in definitions.served_versions(crd)
        }

    # --- serving

    def find(self, group: str, version: str, plural: str) -> Served | None:
        """A version that is to be served, entering the served set; None: there is none."""
        item = self._definitions.find(f"{plural}.{group}")
        if item is None:
            return None
        crd = item.object
        if version not in definitions.served_versions(crd) or not definitions.is_requestable(crd):
            return None
        served = self._of(crd, version)
        slot: Slot = (group, version, plural)
        self._served[slot] = served
        self._bodies.custom[served.resource.api_version, served.resource.kind] = self._entries[item.key].schemas[
            version
        ]
        return served

    def stored(self, crd: Object) -> Served:
        """The definition's objects in the version they are stored in, served or not."""
        return self._of(crd, definitions.storage_version(crd))

    def base(self, crd: Object) -> ResourceCache:
        """What is stored of the definition's objects, as it is stored."""
        return self._cache.at(self._prefix(crd))

    def _prefix(self, crd: Object) -> str:
        return prefix_of(custom_discovery.resource_of(crd, definitions.storage_version(crd)))

    def _of(self, crd: Object, version: str) -> Served:
        name = str(meta(crd)["name"])
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = Entry(crd, Schemas(crd))
        found = entry.versions.get(version)
        if found is None:
            try:
                found = entry.versions[version] = self._built(entry, version)
            except StructuralError as error:  # stored before such schemas were refused
                said = "Internal error occurred: error resolving resource"
                raise InternalError(said, details={"causes": [{"message": "error resolving resource"}]}) from error
        return found

    def _built(self, entry: Entry, version: str) -> Served:
        crd, schema = entry.crd, entry.schemas[version]
        resource = custom_discovery.resource_of({**crd, "status": {**crd["status"], "conditions": ()}}, version)
        paths = {path: path.split(".") for path in schema.selectable_fields}
        kind = Kind(
            resource=resource,
            rules=schema.rules,
            prefix=prefix_of(resource),
            head=head_of(resource),
            read_fields=field_reader(paths),
        )
        base = self._cache.at(kind.prefix)
        codec = self._codec(entry, version)
        cache = self._versioned(codec, kind)
        entry.caches.append(cache)
        self._cache.join(cache)
        store = CustomStore(
            kind,
            cache,
            self._storage,
            clock=self._clock,
            random=self._random,
            ownership=CustomFields(resource.api_version, schema.owned_type),
            base=base,
            codec=codec,
            terminating=lambda: entry.terminating,
        )
        view = View(resource=resource, kind=kind, field_labels={label: label for label in paths})
        printer = custom_forms.CustomPrinter(schema.columns)
        return Served(
            view=view,
            store=store,
            forms=Forms(view, self._clock.now, printer=printer, whole=custom_forms.CustomForm(resource)),
            outdated=_outdated(crd, version),
            custom=self._routing.routes(
                store, status=resource.subresource("status") is not None, scale=_scale_paths(crd, version)
            ),
        )

    def _codec(self, entry: Entry, version: str) -> PlainCodec:
        stored = definitions.storage_version(entry.crd)
        conversion = entry.crd["spec"].get("conversion") or {}
        if conversion.get("strategy") != "Webhook":
            return PlainCodec(version, stored, entry.schemas)
        converter = WebhookConverter(conversion, self._outbound, self._random)
        return WebhookCodec(version, stored, entry.schemas, converter.convert)

    def _versioned(self, codec: PlainCodec, kind: Kind) -> VersionedCache:
        base = self._cache.at(kind.prefix)
        revision = self._cache.revision
        if not isinstance(codec, WebhookCodec):
            return VersionCache(base, self._clock, codec, read_fields=kind.read_fields, revision=revision)
        lagging = LaggingCache(base, self._clock, codec, read_fields=kind.read_fields, now=lambda: self._cache.revision)
        self._tasks.start(f"conversion of {kind.resource.qualified}", lagging.run, restart=_AGAIN)
        return lagging


def _said(crd: Object, version: str) -> Object:
    """What the definition says of a version."""
    return next(each for each in definitions.versions_of(crd) if each["name"] == version)


def _scale_paths(crd: Object, version: str) -> ScalePaths | None:
    scale = (_said(crd, version).get("subresources") or {}).get("scale")
    if scale is None:
        return None
    return ScalePaths(
        str(scale.get("specReplicasPath") or ""),
        str(scale.get("statusReplicasPath") or ""),
        str(scale.get("labelSelectorPath") or ""),
    )


def _outdated(crd: Object, version: str) -> str:
    """What clients of a deprecated version are warned of."""
    said = _said(crd, version)
    if not said.get("deprecated"):
        return ""
    if said.get("deprecationWarning") is not None:
        return str(said["deprecationWarning"])
    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
    rank = definitions.version_rank(version)
    newer = [
        each["name"]
        for each in definitions.versions_of(crd)
        if each.get("served") and not each.get("deprecated") and definitions.version_rank(each["name"]) < rank
    ]
    text = f"{group}/{version} {kind} is deprecated"
    return f"{text}; use {group}/{min(newer, key=definitions.version_rank)} {kind}" if newer else text
