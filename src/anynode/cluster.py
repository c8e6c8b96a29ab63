"""The composition root: a whole Kubernetes in this process, both towers joined by ``Transport``.

``async with Cluster(ClusterSettings(...)) as cluster`` returns when the API answers and every virtual node is
registered; leaving the block stops everything in reverse order. Holds wiring only, no rule of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import ipaddress
import json
import logging
import os
import pathlib
import random
import socket
import ssl
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from anynode.aio import tls
from anynode.aio.clock import Clock, SystemClock
from anynode.aio.tasks import Supervisor
from anynode.api.objects import ObjectKey, key_of
from anynode.api.resources import known
from anynode.api.wire import User
from anynode.apiserver.access import AccessError, AccessSettings
from anynode.apiserver.assembly import ApiServerSettings
from anynode.apiserver.loopback import LoopbackTransport
from anynode.apiserver.process import ApiServerProcess
from anynode.client.api_client import ApiClient
from anynode.controllers.manager import CONTROLLERS, ControllerManager, ControllerSettings, chosen
from anynode.informers.election import Elector
from anynode.informers.informer import InformerFactory
from anynode.informers.recorder import EventRecorder
from anynode.network.controller import ServiceProxy
from anynode.provider import ContainerState, PodRecord, Provider, ProviderError
from anynode.registry.adoption import adopted
from anynode.registry.rewind import LEASES, records_at, restore
from anynode.scheduler.scheduler import Scheduler
from anynode.security import private_files
from anynode.security.signing import RequestSigner
from anynode.storage import etcd, log, snapshot
from anynode.storage.encrypted import EncryptedStorage
from anynode.storage.encryption import EncryptionConfigError, read_config
from anynode.storage.memory import MemoryStorage
from anynode.storage.sqlite import SqliteStorage
from anynode.storage.types import Record, Revision, Storage, StorageError
from anynode.virtual_node import NodeGroup, VirtualNode, VirtualNodeConfig

logger = logging.getLogger(__name__)

MASTERS = "system:masters"
SERVICE_ACCOUNTS = known("serviceaccounts")
INITIAL_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
ACCOUNTS_SECONDS = 5.0
RESET_ROUNDS = 10
NOT_TO_BE_HAD = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
STOP_SECONDS = 2.0
"""How long pods may take to end when the cluster stops."""


class ClusterError(Exception):
    """The cluster cannot start; one clear sentence for the user."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where state is kept if not in the data directory, and which of it is encrypted. Files are PEM."""

    etcd_servers: Sequence[str] = ()
    etcd_prefix: str = etcd.ROOT
    etcd_ca_file: str = ""
    etcd_cert_file: str = ""
    etcd_key_file: str = ""
    encryption_config: str = ""

    def etcd(self) -> etcd.EtcdSettings:
        """What the engine is told; raises ``OSError`` or ``ClusterError`` for files that cannot be used."""
        context = None
        if any(server.startswith("https:") for server in self.etcd_servers):
            names = (self.etcd_ca_file, self.etcd_cert_file, self.etcd_key_file)
            ca, certificate, key = (pathlib.Path(name).read_bytes() if name else None for name in names)
            try:
                context = tls.client_context(ca=ca, certificate=certificate, key=key)
            except (ssl.SSLError, UnicodeDecodeError) as error:
                files = ", ".join(filter(None, names))
                raise ClusterError(f"etcd's certificates cannot be read, one of: {files}") from error
            context.set_alpn_protocols(["h2"])
        for server in self.etcd_servers:
            etcd.address_of(server)
        return etcd.EtcdSettings(servers=self.etcd_servers, prefix="/" + self.etcd_prefix.strip("/"), tls=context)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """What a user may choose. Without ``data_dir`` an ephemeral cluster keeps its few files in a temporary one."""

    name: str = "anynode"
    data_dir: pathlib.Path | None = None
    ephemeral: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    nodes: int = 1
    provider: str = "process"
    provider_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    controllers: Sequence[str] = ("*",)
    service_network: str = ""
    """Where cluster IPs come from; empty: a block of its own, kept in the data directory (etcd: chosen by prefix)."""
    store: StoreSettings = dataclasses.field(default_factory=StoreSettings)
    access: AccessSettings = dataclasses.field(default_factory=AccessSettings)
    """Who may come in beside the cluster's own, and what is told of it."""
    cert_dir: pathlib.Path | None = None
    """The authority and the keys, where several API servers share them; None: ``pki`` in the data directory."""
    snapshot: pathlib.Path | None = None
    """Begin with the state of this file (``storage.snapshot``); only where there is no state yet."""

    def __post_init__(self) -> None:
        if self.data_dir is None and not self.ephemeral:
            raise ValueError("a cluster that is not ephemeral needs a data_dir")
        try:
            ipaddress.IPv4Network(self.service_network or "127.0.0.0/8")
        except ValueError as error:
            raise ValueError(f"services cannot have addresses of {self.service_network}: {error}") from error
        if self.snapshot is not None and self.store.etcd_servers:
            raise ValueError("a snapshot can begin a cluster in memory or in a file, not one in etcd")


def own_service_network(directory: pathlib.Path, *, but: str = "") -> str:
    """A block of 16,384 loopback addresses, another for each data directory so that clusters can run side by side.

    Chosen by the directory's name among 127.64.0.0/18 to 127.127.192.0/18, ``but`` never one, and kept there: services
    outlive a move.
    """
    kept = directory / "service-network"
    if kept.exists():
        return str(ipaddress.IPv4Network(kept.read_text().strip()))
    number = zlib.crc32(str(directory).encode()) % 256
    blocks = (f"127.{64 + each // 4}.{each % 4 * 64}.0/18" for each in (number, number ^ 1))
    chosen = next(each for each in blocks if each != but)
    private_files.write_private(kept, f"{chosen}\n".encode())
    return chosen


def network_of_prefix(prefix: str) -> str:
    """The block every API server on one etcd chooses by itself."""
    number = zlib.crc32(f"etcd:{prefix}".encode()) % 256
    return f"127.{64 + number // 4}.{number % 4 * 64}.0/18"


async def open_storage(
    stack: contextlib.AsyncExitStack,
    settings: ClusterSettings,
    directory: pathlib.Path,
    clock: Clock,
    progress: Callable[[str], None],
) -> Storage:
    """The engine the settings name, open until ``stack`` ends. Raises ``StorageError``."""
    storage: Storage
    if settings.store.etcd_servers:
        chosen = settings.store.etcd()
        storage = await stack.enter_async_context(etcd.EtcdStorage(chosen, clock=clock))
        progress(f"storage etcd {','.join(chosen.servers)} under {chosen.prefix}, revision {storage.revision}")
    elif settings.ephemeral:
        memory = MemoryStorage()
        if settings.snapshot is not None:
            with _snapshot_of(settings, directory, settings.snapshot) as (records, revision):
                memory.fill(records, revision)
        storage = await stack.enter_async_context(memory)
        progress("storage in memory")
    else:
        file = directory / "state.db"
        if settings.snapshot is not None:
            with _snapshot_of(settings, directory, settings.snapshot) as (records, revision):
                await asyncio.to_thread(log.fill, file, records, revision)
        storage = await stack.enter_async_context(SqliteStorage(file, clock=clock))
        progress(f"storage {file}, revision {storage.revision}")
    if settings.store.encryption_config:
        storage = EncryptedStorage(storage, read_config(pathlib.Path(settings.store.encryption_config)))
        progress(f"values encrypted as {settings.store.encryption_config} says")
    return storage


@contextlib.contextmanager
def _snapshot_of(
    settings: ClusterSettings, directory: pathlib.Path, path: pathlib.Path
) -> Iterator[tuple[Iterator[Record], Revision]]:
    """The records of the snapshot at ``path`` as this cluster's own, and their revision."""
    with path.open("rb") as file:
        reader = snapshot.Reader(file)
        source = str(reader.about.get("serviceNetwork") or "")
        network = settings.service_network or own_service_network(directory, but=source)
        yield adopted(reader.records(), source_network=source, network=network), reader.revision


def nothing(_: str) -> None:
    """Progress nobody wants to see."""


async def end_pods(provider: Provider) -> None:
    """End every pod of a node that has stopped, as the shutdown of a machine would: asked first, then killed."""

    async def end(record: PodRecord) -> None:
        async with asyncio.TaskGroup() as stopping:
            for container in record.containers:
                if container.state is ContainerState.RUNNING:
                    stopping.create_task(provider.stop(record.identity.uid, container.container, STOP_SECONDS))
        await provider.delete(record.identity.uid)

    async with provider.run(lambda _: None), asyncio.TaskGroup() as tasks:
        for record in await provider.list():
            tasks.create_task(end(record))


class ControlPlane:
    """Storage and the API server on it: what ``anynode apiserver`` runs, and what a whole cluster begins with."""

    def __init__(
        self,
        settings: ClusterSettings,
        *,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        progress: Callable[[str], None] = nothing,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.chance = chance or random.Random()
        self._progress = progress
        self._stack = contextlib.AsyncExitStack()
        self.directory: pathlib.Path
        self.storage: Storage
        self.server: ApiServerProcess

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            with as_cluster_errors(self.settings):
                await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self.settings
        if settings.data_dir is None:
            temporary = tempfile.TemporaryDirectory(prefix="anynode-", ignore_cleanup_errors=True)
            self.directory = pathlib.Path(stack.enter_context(temporary))
        else:
            self.directory = settings.data_dir
        self.storage = await open_storage(stack, settings, self.directory, self.clock, self._progress)
        network = settings.service_network
        if not network and settings.store.etcd_servers:
            network = network_of_prefix(settings.store.etcd_prefix)
        self.server = await stack.enter_async_context(
            ApiServerProcess(
                self.storage,
                clock=self.clock,
                random=self.chance,
                directory=self.directory,
                host=settings.host,
                port=settings.port,
                settings=ApiServerSettings(
                    service_network=network or own_service_network(self.directory), check_policy_types=True
                ),
                pki=settings.cert_dir,
                access=settings.access,
            )
        )
        self._progress(f"API server {self.server.url}")

    def client_as(self, user: str, *, agent: str = "", groups: Sequence[str] = (MASTERS,)) -> ApiClient:
        """A client in this process that acts as ``user``; ``agent`` names it in managedFields."""
        transport = LoopbackTransport(self.server.assembly.server, User(name=user, groups=tuple(groups)))
        return ApiClient(transport, user_agent=agent or user)


@contextlib.contextmanager
def as_cluster_errors(settings: ClusterSettings) -> Iterator[None]:
    """What the user can mend, as one sentence."""
    try:
        yield
    except (StorageError, AccessError) as error:
        raise ClusterError(str(error)) from error
    except (ssl.SSLError, EncryptionConfigError, etcd.BadAddress) as error:
        raise ClusterError(f"cannot use what was given: {error}") from error
    except OSError as error:
        if error.filename is not None:
            raise ClusterError(f"cannot use what was given: {error.filename}: {error.strerror}") from error
        if not isinstance(error, socket.gaierror) and error.errno not in NOT_TO_BE_HAD:
            raise
        raise ClusterError(
            f"cannot listen on {settings.host}:{settings.port}: {(error.strerror or '').lower()}. "
            "Choose another address with --host or port with --port (0 picks one)."
        ) from error


class Cluster:
    """A running cluster; ``client`` is its administrator in this process."""

    def __init__(
        self,
        settings: ClusterSettings | None = None,
        *,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        progress: Callable[[str], None] = nothing,
    ) -> None:
        self.settings = settings or ClusterSettings(ephemeral=True)
        self._plane = ControlPlane(self.settings, clock=clock, chance=chance, progress=progress)
        self._clock = self._plane.clock
        self._chance = self._plane.chance
        self._progress = progress
        self._stack = contextlib.AsyncExitStack()
        self._identity = ""
        """By which others that control the same cluster tell this process apart; empty: there are none."""
        if self.settings.store.etcd_servers:
            self._identity = f"{socket.gethostname()}_{os.getpid()}"
        self.nodes: list[VirtualNode] = []
        self.client: ApiClient
        self._beginning: Mapping[str, Record] = {}

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._plane)
            self.client = self._plane.client_as("kubernetes-admin", agent="anynode")
            tasks = await stack.enter_async_context(Supervisor(f"cluster-{self.settings.name}", clock=self._clock))
            informers = InformerFactory(self.client, clock=self._clock, chance=self._chance)
            tasks.start("informers", informers.run)
            self._start_controllers(tasks, informers)
            self._start_scheduler(tasks, informers)
            await self._start_nodes(stack, informers)
            await self._service_accounts()
            self._beginning = await records_at(self._plane.storage, self._plane.storage.revision, left_alone=LEASES)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def reset(self) -> None:
        """Make everything as it was right after the start, within milliseconds: for the next test on this cluster.

        All goes at once, finalizers and grace periods notwithstanding; controllers, scheduler and nodes follow by
        ordinary watch events, so programs of pods that are gone end soon after. Leases stay, revisions go on.
        Raises ``StorageUnavailable``.
        """
        for _ in range(RESET_ROUNDS):  # what was under way may still write
            done = await restore(self._plane.storage, self._beginning, left_alone=LEASES)
            self.server.assembly.repair()
            if not done.restored + done.changed + done.deleted:
                return
            await self._clock.sleep(0)

    async def _service_accounts(self) -> None:
        """Wait for the accounts pods run as, so that the first pod is not refused."""
        names = chosen(self.settings.controllers, [*CONTROLLERS])
        if "serviceaccount" not in names:
            return
        missing = {f"{namespace}/default" for namespace in INITIAL_NAMESPACES}
        stream = await self.client.watch(SERVICE_ACCOUNTS, send_initial_events=True)
        try:
            async with asyncio.timeout(ACCOUNTS_SECONDS):
                async for events in stream:
                    missing -= {str(key_of(each.object)) for each in events if each.type == "ADDED"}
                    if not missing:
                        return
        except TimeoutError:
            logger.warning("no default service accounts yet", extra={"missing": sorted(missing)})
        finally:
            await stream.close()

    def _start_controllers(self, tasks: Supervisor, informers: InformerFactory) -> None:
        authority = self.server.authority
        signer = RequestSigner(authority.certificate, authority.key, self._clock)
        manager = ControllerManager(
            self._plane.client_as("system:kube-controller-manager", agent="kube-controller-manager"),
            clock=self._clock,
            settings=ControllerSettings(
                controllers=self.settings.controllers,
                identity=self._identity,
                root_ca=self.server.ca_pem.decode(),
                sign_certificate=signer.sign,
                sign_token=self.server.tokens.issue_legacy,
            ),
            chance=self._chance,
            informers=informers,
        )
        tasks.start("controllers", manager.run)
        self._progress(f"{len(manager.names)} controllers")

    def _start_scheduler(self, tasks: Supervisor, informers: InformerFactory) -> None:
        client = self._plane.client_as("system:kube-scheduler", agent="kube-scheduler")
        scheduler = Scheduler(client, informers, clock=self._clock, chance=self._chance)
        network = self._plane.client_as("system:kube-proxy", agent="kube-proxy")
        recorder = EventRecorder(network, component="service-proxy", clock=self._clock)
        proxy = ServiceProxy(informers, recorder, clock=self._clock)
        if self._identity:
            lease = ObjectKey("kube-system", "kube-scheduler")
            elector = Elector(client, lease, self._identity, clock=self._clock, chance=self._chance)
            tasks.start("scheduler", lambda: elector.run(scheduler.run))
        else:
            tasks.start("scheduler", scheduler.run)
        tasks.start("service-proxy-events", recorder.run)
        tasks.start("service-proxy", proxy.run)
        self._progress("scheduler and service proxy")

    async def _start_nodes(self, stack: contextlib.AsyncExitStack, informers: InformerFactory) -> None:
        settings, server = self.settings, self.server
        if not settings.nodes:
            return
        client = self._plane.client_as("system:nodes", agent="kubelet")
        group = NodeGroup(client, clock=self._clock, chance=self._chance, informers=informers)
        await stack.enter_async_context(group)
        pair = server.authority.server_certificate([settings.host, "127.0.0.1", "localhost"])
        kubelet_tls = tls.server_context(pair.certificate, pair.key, client_ca=server.ca_pem)
        for index in range(settings.nodes):
            name = f"node-{index}"
            config = VirtualNodeConfig(
                name=name,
                data_dir=self._plane.directory / "nodes" / name,
                cluster_id=settings.name,
                provider=settings.provider,
                provider_options=settings.provider_options,
            )
            try:
                node = VirtualNode(config, client, group=group, kubelet_tls=kubelet_tls, wait_registered=False)
            except ProviderError as error:
                raise ClusterError(error.message) from error
            stack.push_async_callback(end_pods, node.provider)
            await stack.enter_async_context(node)
            self.nodes.append(node)
        for node in self.nodes:
            await node.wait_registered()
        self._progress(f"{settings.nodes} node(s), provider {settings.provider}")

    @property
    def server(self) -> ApiServerProcess:
        return self._plane.server

    @property
    def url(self) -> str:
        """Where the API server answers over HTTPS."""
        return self.server.url

    @property
    def node_names(self) -> list[str]:
        return [node.name for node in self.nodes]

    def kubeconfig(self, context: str = "anynode") -> dict[str, Any]:
        """A kubeconfig of the administrator, reaching the cluster over HTTPS."""
        found: dict[str, Any] = json.loads(self.server.kubeconfig(context))
        return found

    async def wait(self, stop: asyncio.Event) -> None:
        """Return when ``stop`` is set; a part that fails for good ends the wait with its error."""
        await stop.wait()
