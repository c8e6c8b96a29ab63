"""What makes the server's API grow while it runs, put together: custom resources and aggregated API servers.

Built before the server, which asks it for what is not in the served set; started after the caches are filled.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.resources import Catalogue
from anynode.apiserver.aggregation import Aggregation, FrontProxy
from anynode.apiserver.api_service_controllers import Registration, RemoteServices
from anynode.apiserver.bodies import Bodies
from anynode.apiserver.custom_definitions import Definitions
from anynode.apiserver.custom_resources import CustomResources
from anynode.apiserver.custom_routes import CustomRouting
from anynode.apiserver.discovery import Versions
from anynode.apiserver.outbound import Outbound, SlicesByService
from anynode.apiserver.read import Reader
from anynode.apiserver.served import ServedSet
from anynode.apiserver.subresources import Subresources
from anynode.apiserver.write import Writer
from anynode.registry import api_services
from anynode.registry.watch_cache import WatchCache
from anynode.storage.types import Storage

_AGAIN = Backoff(first_seconds=1, most_seconds=30)
SERVICES = ("", "v1", "services")
SLICES = ("discovery.k8s.io", "v1", "endpointslices")
API_SERVICES = ("apiregistration.k8s.io", "v1", "apiservices")
DEFINITIONS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What both stand on."""

    catalogue: Catalogue
    served: ServedSet
    cache: WatchCache
    storage: Storage
    clock: Clock
    random: random.Random
    tasks: Supervisor
    outbound: Outbound
    slices: SlicesByService
    front_proxy: FrontProxy | None


class Extensions:
    """Custom resources, aggregated API servers and what keeps them."""

    def __init__(
        self, ground: Ground, *, bodies: Bodies, reader: Reader, writer: Writer, subresources: Subresources
    ) -> None:
        store = ground.served[DEFINITIONS].store
        routing = CustomRouting(
            subresources=subresources, reader=reader, writer=writer, bodies=bodies, clock=ground.clock
        )
        self._tasks = ground.tasks
        self.custom = CustomResources(
            store,
            cache=ground.cache,
            storage=ground.storage,
            clock=ground.clock,
            random=ground.random,
            served=ground.served,
            bodies=bodies,
            outbound=ground.outbound,
            routing=routing,
            tasks=ground.tasks,
        )
        self.definitions = Definitions(store, self.custom, ground.clock, ground.tasks)
        services = ground.served[API_SERVICES].store
        self.aggregation = Aggregation(
            services.cache, clock=ground.clock, outbound=ground.outbound, credentials=ground.front_proxy
        )
        builtin = {each.group_version for each in ground.catalogue if each.group != api_services.GROUP}
        self.registration = Registration(services, builtin, self.custom.group_versions)
        self.custom.listeners.append(self.registration.changed)
        self.remote = RemoteServices(
            services,
            self.aggregation,
            services=ground.served[SERVICES].store,
            slices=ground.slices,
            clock=ground.clock,
            tasks=ground.tasks,
        )
        self.remote.follow(ground.served[SLICES].store)

    @property
    def versions(self) -> Sequence[Versions]:
        """Who tells discovery what is served beside the built-in groups."""
        return (self.custom.versions, self.remote.versions)

    def tell(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever what is served may have changed."""
        for listeners in (self.custom.listeners, self.aggregation.listeners, self.remote.listeners):
            listeners.append(changed)

    async def register(self) -> None:
        """Make the APIServices of built-in groups exist."""
        await self.registration.register_builtin()

    def start(self) -> None:
        """The caches are filled: look at what is there, and follow."""
        self.definitions.begin()
        self.aggregation.begin()
        self.remote.begin()
        self._tasks.start("definitions", self.definitions.run)
        self._tasks.start("apiservices", self.registration.run, restart=_AGAIN)

    async def close(self) -> None:
        await self.aggregation.close()
