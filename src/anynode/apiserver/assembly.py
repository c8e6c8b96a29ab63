"""A ready ``ApiServer`` from storage, clock, chance and settings: the one place where the server's parts meet.

``async with Assembly(...) as assembly`` returns when the caches are filled and the bootstrap objects exist; leaving the
block ends every watch. Storage, certificates and tokens are handed in: they belong to the caller.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from anynode.admission import builtin
from anynode.admission.chain import Chain, Options, Passage
from anynode.admission.pod_security import PodSecuritySettings
from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api import resources
from anynode.api.resources import Catalogue, Resource
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver.aggregation import FrontProxy
from anynode.apiserver.audit import Auditor
from anynode.apiserver.audit_log import AuditLog
from anynode.apiserver.audit_policy import AuditPolicy
from anynode.apiserver.authorization import Authorizer
from anynode.apiserver.bodies import Bodies
from anynode.apiserver.bootstrap import Bootstrap
from anynode.apiserver.componentstatuses import ComponentStatuses
from anynode.apiserver.connect import Connector
from anynode.apiserver.connect_routes import ConnectRoutes
from anynode.apiserver.deadlines import Deadlines
from anynode.apiserver.discovery import Discovery
from anynode.apiserver.documents import Documents
from anynode.apiserver.dynamic_admission import DynamicAdmission, custom_resource
from anynode.apiserver.extensions import Extensions, Ground
from anynode.apiserver.flow_control import GROUP as FLOW_GROUP
from anynode.apiserver.flow_control import FlowControl
from anynode.apiserver.forms import Forms
from anynode.apiserver.health import Health
from anynode.apiserver.identity import Authenticator
from anynode.apiserver.metrics import Metrics
from anynode.apiserver.nodes import node_authorizer
from anynode.apiserver.oidc_provider import OidcProvider
from anynode.apiserver.outbound import Outbound, SlicesByService
from anynode.apiserver.read import Reader
from anynode.apiserver.replicas import Replicas
from anynode.apiserver.requestinfo import RequestInfo
from anynode.apiserver.reviews import Reviews
from anynode.apiserver.served import Served, ServedSet
from anynode.apiserver.server import ApiServer, Handler
from anynode.apiserver.state_routes import StateRoutes
from anynode.apiserver.stored_objects import StoredObjects
from anynode.apiserver.subresources import Routes, Subresources
from anynode.apiserver.token_review import TokenReviewer
from anynode.apiserver.token_tracking import TokenTracking
from anynode.apiserver.write import Writer
from anynode.registry.addresses import AddressPool, PortPool
from anynode.registry.definition_store import DefinitionStore
from anynode.registry.expiry import EventExpiry
from anynode.registry.items import CacheEvent
from anynode.registry.kinds import Kind, View, views_of
from anynode.registry.namespaces import NamespaceStore
from anynode.registry.ownership import ManagedFields
from anynode.registry.priority_classes import PriorityClassStore
from anynode.registry.service_addresses import ServiceAddresses
from anynode.registry.services import ServiceStore
from anynode.registry.shared_services import SharedServiceStore
from anynode.registry.signing_requests import SigningRequestStore
from anynode.registry.store import Ownership, ResourceStore, Shape
from anynode.registry.volumes import VolumeStore
from anynode.registry.watch_cache import ResourceCache, WatchCache
from anynode.schema import types as type_table
from anynode.schema.kinds.catalogue import rules_of
from anynode.security.rbac import Policy
from anynode.security.tokens import TokenIssuer
from anynode.storage.types import Storage, StorageError

logger = logging.getLogger(__name__)

UNSTORED = frozenset({("", "bindings"), ("", "componentstatuses")})
REVIEWS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
RBAC_KINDS = ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
STORES: Mapping[str, type[ResourceStore]] = {
    "persistentvolumes": VolumeStore,
    "namespaces": NamespaceStore,
    "certificatesigningrequests.certificates.k8s.io": SigningRequestStore,
    "customresourcedefinitions.apiextensions.k8s.io": DefinitionStore,
    "priorityclasses.scheduling.k8s.io": PriorityClassStore,
}
COMPACT_SECONDS = 300.0
REPAIR_SECONDS = 180.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiServerSettings:
    """What an operator may choose."""

    service_network: str = "127.96.0.0/12"
    """Cluster IPs; inside 127/8 they can be dialled without any privilege."""
    first_node_port: int = 30000
    last_node_port: int = 32767
    host: str = "127.0.0.1"
    """Where clients reach the server, told in discovery and in the ``kubernetes`` endpoints."""
    port: int = 6443
    event_seconds: float = 3600.0
    check_policy_types: bool = False
    """Whether to write the status of ValidatingAdmissionPolicies, as upstream's controller manager does."""
    pod_security: PodSecuritySettings | None = None
    """What pods may be where a namespace's labels are silent, and who is exempt; without it everything, and nobody."""
    static_tokens: Mapping[str, User] = dataclasses.field(default_factory=dict)
    bootstrap: bool = True
    audit_policy: AuditPolicy | None = None
    """What is told of requests to the audit log handed in."""
    client_ca: str = ""
    """The authority of client certificates (PEM), published in the cluster."""

    @property
    def kubernetes_address(self) -> str:
        """The cluster IP of the ``kubernetes`` service: the first of the network."""
        return str(ipaddress.IPv4Network(self.service_network)[1])


class Assembly:
    """The server and what keeps it going; use as ``async with``."""

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Clock,
        random: random.Random,
        settings: ApiServerSettings | None = None,
        tokens: TokenIssuer | None = None,
        connector: Connector | None = None,
        audit_log: AuditLog | None = None,
        provider: OidcProvider | None = None,
        front_proxy: FrontProxy | None = None,
    ) -> None:
        """``connector``: without one there are no logs, exec, attach, port-forward and proxies; ``front_proxy``:
        without one aggregated API servers do not know who asks."""
        self._front_proxy = front_proxy
        self.settings = settings or ApiServerSettings()
        self.clock = clock
        self.tokens = tokens
        self._connector = connector
        self._audit_log = audit_log
        self._storage = storage
        self._random = random
        self.cache = WatchCache(storage, clock)
        self.types = type_table.builtin()
        self.catalogue = Catalogue(resources.builtin())
        self._tasks = Supervisor("apiserver", clock=clock)
        self._replicas: Replicas | None = None
        self.policy = Policy()
        self.served = self._build_served()
        self.stored = StoredObjects(self.served)
        nodes = node_authorizer(
            self.served["", "v1", "pods"], self.served["", "v1", "persistentvolumes"], self.stored.find
        )
        self.authorizer = Authorizer(self.policy, nodes)
        slices = self._slices = SlicesByService(self.served["discovery.k8s.io", "v1", "endpointslices"].store.cache)
        self.outbound = Outbound(clock=clock, random=random, lookup=self.stored.find, slices=slices)
        self.bodies = Bodies(self.types, self.catalogue)
        self.dynamic = DynamicAdmission(
            self.served,
            find=self._find,
            resource_of=self._resource_of,
            bodies=self.bodies,
            lookup=self.stored.find,
            caller=self.outbound,
            decide=self.authorizer.decision,
            chance=random,
        )
        self.admission = Chain(
            builtin.plugins(
                self.stored.find,
                self.stored.all_of,
                list_in=self.stored.all_in,
                replace_status=self.stored.replace_status,
                clock=clock,
                chance=random,
                policy=self.policy,
                dynamic=self.dynamic.plugins,
                pod_security=self.settings.pod_security,
            )
        )
        self.metrics = Metrics(self.clock)
        self.metrics.gauge("apiserver_storage_objects", self.stored.counts)
        self.metrics.gauge("apiserver_registered_watchers", self.stored.watcher_counts)
        self.flows = FlowControl(
            self._store("flowschemas"),
            self._store("prioritylevelconfigurations"),
            clock=clock,
            watching=lambda: self.cache.watching,
        )
        for name, read in self.flows.gauges().items():
            self.metrics.gauge(name, read)
        self._deadlines = Deadlines(clock)
        self._token_tracking = TokenTracking(
            self.served["", "v1", "secrets"].store, self.served["", "v1", "configmaps"].store, clock=clock
        )
        self._reviewer = TokenReviewer(
            static=self.settings.static_tokens, issuer=tokens, lookup=self.stored.find, clock=clock, provider=provider,
            used=self._token_tracking.used,
        )  # fmt: skip
        self.server = self._build_server()

    # --- building

    def _build_served(self) -> ServedSet:
        stored = [
            each for each in self.catalogue if each.group not in REVIEWS and (each.group, each.plural) not in UNSTORED
        ]
        stores: dict[str, ResourceStore] = {}
        served: dict[tuple[str, str, str], Served] = {}
        for slot, view in views_of(stored, rules_of).items():
            store = stores.get(view.kind.prefix)
            if store is None:
                store = stores[view.kind.prefix] = self._store_of(view.kind)
            served[slot] = Served(view=view, store=store, forms=self._forms(view), shape=self._shape_of(view))
        return served

    def _shape_of(self, view: View) -> Shape | None:
        if view.conversion is None:
            return None
        ownership = self._ownership(view.resource)
        return None if ownership is None else Shape(view.conversion.to_served, ownership)

    def _forms(self, view: View) -> Forms:
        binary = self.types.of_kind(view.resource.api_version, view.resource.kind)
        return Forms(view, self.clock.now, types=self.types if binary else None)

    def _store_of(self, kind: Kind) -> ResourceStore:
        cache = self.cache.add(
            ResourceCache(kind.prefix, self.clock, read_fields=kind.read_fields, indexed_field=kind.indexed_field)
        )
        ownership = self._ownership(kind.resource)
        if kind.resource.qualified == "services":
            settings = self.settings
            return (SharedServiceStore if self._storage.shared else ServiceStore)(
                kind, cache, self._storage, clock=self.clock, random=self._random, ownership=ownership,
                addresses=AddressPool(settings.service_network, self._random),
                ports=PortPool(settings.first_node_port, settings.last_node_port, self._random),
            )  # fmt: skip
        build = STORES.get(kind.resource.qualified, ResourceStore)
        return build(kind, cache, self._storage, clock=self.clock, random=self._random, ownership=ownership)

    def _ownership(self, resource: Resource) -> Ownership | None:
        name = self.types.of_kind(resource.api_version, resource.kind)
        return ManagedFields(resource, name, self.types) if name else None

    def _build_server(self) -> ApiServer:
        bodies = self.bodies
        reader = Reader(self.cache, self._storage, self.clock)
        writer = Writer(bodies, reader, self._admit_for, self.authorizer.permit, self.clock)
        budgets = self.served.get(("policy", "v1", "poddisruptionbudgets"))
        subresources = Subresources(reader, writer, bodies, self.clock, self.tokens, budgets.store if budgets else None)
        ground = Ground(
            catalogue=self.catalogue, served=self.served, cache=self.cache, storage=self._storage, clock=self.clock,
            random=self._random, tasks=self._tasks, outbound=self.outbound, slices=self._slices,
            front_proxy=self._front_proxy,
        )  # fmt: skip
        self.extensions = Extensions(ground, bodies=bodies, reader=reader, writer=writer, subresources=subresources)
        discovery = Discovery(
            self._told(), tuple(self.served), f"{self.settings.host}:{self.settings.port}", self.extensions.versions
        )
        documents = Documents(self.catalogue, self.tokens, self.extensions.custom.published, self.extensions.remote)
        for changed in (discovery.changed, documents.changed):
            self.extensions.tell(changed)
        self.extensions.tell(self.dynamic.forget)
        reviews = Reviews(bodies, self.authorizer, self._reviewer.review, self.clock)
        unstored = {**reviews.handlers(self.catalogue), **self._unstored_handlers(subresources)}
        server = ApiServer(
            served=self.served,
            unstored=unstored,
            types=self.types,
            subresources={**subresources.routes(self.served.values()), **self._connecting()},
            paths={**documents.paths(), **self._state_paths()},
            reader=reader,
            writer=writer,
            authenticator=Authenticator(self._reviewer.find),
            authorizer=self.authorizer,
            discovery=discovery,
            health=Health(storage=self._storage_trouble, clock=self.clock, version="1.36"),
            metrics=self.metrics,
            flows=self.flows,
            deadlines=self._deadlines,
            auditor=self._auditor(bodies),
            random=self._random,
            find_custom=self.extensions.custom.find,
            delegate=self.extensions.aggregation.delegate,
        )
        subresources.server = server
        return server

    def _state_paths(self) -> Mapping[str, Callable[[ApiRequest], Awaitable[ApiResponse]]]:
        about = {"serviceNetwork": self.settings.service_network}
        return StateRoutes(self._storage, about, self.repair).paths()

    def repair(self) -> None:
        """Count anew what stored services hold."""
        services = self.served["", "v1", "services"].store
        if isinstance(services, ServiceStore):
            services.repair()

    def _store(self, plural: str) -> ResourceStore:
        """Where one of the kinds of priority and fairness lies."""
        return self.served[FLOW_GROUP, "v1", plural].store

    def _auditor(self, bodies: Bodies) -> Auditor | None:
        policy, log = self.settings.audit_policy, self._audit_log
        return None if policy is None or log is None else Auditor(policy, log, self.clock, bodies.whatever)

    def _connecting(self) -> Routes:
        if self._connector is None:
            return {}
        routes = ConnectRoutes(
            self._connector, lookup=self.stored.find, authorizer=self.authorizer, admission=self.admission,
            random=self._random,
        )  # fmt: skip
        return routes.routes()

    def _told(self) -> Sequence[Resource]:
        """The resources discovery tells of."""
        return tuple(self.catalogue)

    def _unstored_handlers(self, subresources: Subresources) -> Mapping[tuple[str, str, str], tuple[Resource, Handler]]:
        statuses = resources.known("componentstatuses")
        bindings = resources.known("bindings")
        return {
            ("", "v1", "componentstatuses"): (statuses, ComponentStatuses(statuses, self._storage_trouble).handle),
            ("", "v1", "bindings"): (bindings, subresources.bind_named),
        }

    def _storage_trouble(self) -> str:
        return str(self.cache.failure) if self.cache.failure is not None else self._storage.trouble

    def _find(self, group: str, version: str, plural: str) -> Served | None:
        return self.server.find(group, version, plural)

    def _resource_of(self, api_version: str, kind: str) -> Resource | None:
        """The resource of a kind that is served now."""
        found = self.catalogue.of_kind(api_version, kind)
        if found is not None:
            return found
        return custom_resource(self.extensions.custom.definitions(), self._find, api_version, kind)

    # --- who and may they

    def _admit_for(
        self,
        info: RequestInfo,
        resource: Resource,
        user: User,
        dry_run: bool,
        warnings: list[str],
        options: Options,
        collection: bool,
    ) -> Passage:
        return Passage(
            self.admission, resource, user, subresource=info.subresource, namespace=info.namespace, name=info.name,
            dry_run=dry_run, warnings=warnings, options=options, collection=collection,
            audit=info.notes,
        )  # fmt: skip

    def _follow_policy(self) -> None:
        """Keep the RBAC policy as the stored roles and bindings say."""
        for plural in RBAC_KINDS:
            cache = self.served["rbac.authorization.k8s.io", "v1", plural].store.cache
            for item in cache.items.values():
                self.policy.put(item.object)
            cache.listeners.append(self._policy_changed)

    def _policy_changed(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            if event.deleted:
                self.policy.remove(event.item.object)
            else:
                self.policy.put(event.item.object)
        self.authorizer.forget()

    # --- running

    async def __aenter__(self) -> Self:
        await self.cache.open()
        self._follow_policy()
        self.dynamic.follow()
        services = self.served["", "v1", "services"].store
        if isinstance(services, ServiceStore):
            services.repair()
        settings = self.settings
        trust = dict(self._front_proxy.published()) if self._front_proxy is not None else {}
        if settings.client_ca:
            trust["client-ca-file"] = settings.client_ca
        bootstrap = Bootstrap(
            self.served, settings.host, settings.port, settings.kubernetes_address, trust,
            network=settings.service_network,
        )  # fmt: skip
        if settings.bootstrap:
            fresh = not self.cache.revision
            await bootstrap.run(alone=not self._storage.shared)
            await self.extensions.register()
            if fresh:
                self.cache.forget_history()
        await self._tasks.__aenter__()
        if self._storage.shared:
            self._replicas = Replicas(
                self.served, bootstrap, endpoint=f"{settings.host}:{settings.port}", clock=self.clock,
                random=self._random,
            )  # fmt: skip
            self._tasks.start("replicas", self._replicas.run)
            self._tasks.start("reservations", self._repair_reservations)
        self.extensions.start()
        self._tasks.start("watches", self.cache.run)
        expiry = EventExpiry(
            self.served["", "v1", "events"].store,
            clock=self.clock,
            seconds=self.settings.event_seconds,
            is_keeper=self._is_keeper,
        )
        self._tasks.start("events", expiry.run)
        addresses = ServiceAddresses(
            self.served["", "v1", "services"].store,
            self.served["networking.k8s.io", "v1", "ipaddresses"].store,
            is_keeper=self._is_keeper,
        )
        self._tasks.start("service-addresses", addresses.run)
        self._tasks.start("compaction", self._compact)
        if settings.check_policy_types:
            self._tasks.start("policy types", self.dynamic.policy_status(self.server.handle).run)
        self._tasks.start("deadlines", self._deadlines.run)
        self._tasks.start("flows", self.flows.run)
        if self.settings.bootstrap:
            self._tasks.start("token-tracking", self._token_tracking.run)
            self._tasks.start("flow-objects", self.flows.keep, restart=Backoff(first_seconds=1.0, most_seconds=30.0))
            self._tasks.start("flow-schemas", self.flows.tell, restart=Backoff(first_seconds=1.0, most_seconds=30.0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(None, None, None)
        if self._replicas is not None:
            await self._replicas.leave()
        self.cache.close()
        await self.extensions.close()
        await self.outbound.close()

    def _is_keeper(self) -> bool:
        """Whether this server does what one of those on this store does."""
        return self._replicas is None or self._replicas.is_keeper

    async def _repair_reservations(self) -> None:
        """See that addresses and ports are reserved for services, and for nothing else, for ever."""
        services = self.served["", "v1", "services"].store
        assert isinstance(services, SharedServiceStore)
        while True:
            await self.clock.sleep(REPAIR_SECONDS)
            if self._is_keeper():
                try:
                    await services.repair_reservations()
                except StorageError as error:
                    logger.warning("reservations were not repaired and will be", exc_info=error)

    async def _compact(self) -> None:
        """Forget history older than five to ten minutes, for ever."""
        while True:
            revision = self._storage.revision
            await self.clock.sleep(COMPACT_SECONDS)
            if revision > self._storage.oldest_revision and self._is_keeper():
                try:
                    await self._storage.compact(revision)
                except StorageError as error:
                    logger.warning("history was not compacted and will be later", exc_info=error)
