"""The chosen controllers over one set of informers: what ``anynode controllers`` and the whole cluster run.

In: a client, a clock, names in the manner of ``--controllers`` (``*`` all that are on by default, ``foo`` on, ``-foo``
off). Out: all of them running until cancelled, under a leader election where one is asked for.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.objects import ObjectKey
from anynode.client.api_client import ApiClient
from anynode.controllers.certificates import (
    SIGNING_SECONDS,
    CertificateApprover,
    CertificateCleaner,
    CertificateSigner,
    Sign,
)
from anynode.controllers.cluster_roles import ClusterRoleAggregation
from anynode.controllers.clusterrole_aggregation import ClusterRoleAggregationController
from anynode.controllers.context import ControllerContext, Recorder
from anynode.controllers.cronjob import CronJobController
from anynode.controllers.daemonset import DaemonSetController
from anynode.controllers.deployment import DeploymentController
from anynode.controllers.disruption import DisruptionController
from anynode.controllers.endpoints import EndpointsController
from anynode.controllers.endpointslice import EndpointSliceController
from anynode.controllers.endpointslicemirroring import EndpointSliceMirroringController
from anynode.controllers.ephemeral_volumes import EphemeralVolumeController
from anynode.controllers.garbage import GarbageCollector
from anynode.controllers.job import JobController
from anynode.controllers.job_ttl import JobTtlController
from anynode.controllers.metadata_only import MetadataTransport
from anynode.controllers.namespace import NamespaceController
from anynode.controllers.node_lifecycle import NodeLifecycleController
from anynode.controllers.node_ttl import NodeTtlController
from anynode.controllers.persistent_volume_binder import PersistentVolumeBinder
from anynode.controllers.pod_gc import PodGarbageCollector
from anynode.controllers.replicaset import REPLICATION_CONTROLLERS, ReplicaSetController
from anynode.controllers.resourcequota import ResourceQuotaController
from anynode.controllers.root_ca import RootCaController
from anynode.controllers.service_cidrs import ServiceCidrController
from anynode.controllers.serviceaccount import ServiceAccountController
from anynode.controllers.statefulset import StatefulSetController
from anynode.controllers.storage_protection import (
    AttributesClassProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
)
from anynode.controllers.taint_eviction import TaintEvictionController
from anynode.controllers.token_secrets import SignToken, TokenSecrets
from anynode.informers.election import Elector
from anynode.informers.informer import InformerFactory
from anynode.informers.recorder import EventRecorder

logger = logging.getLogger(__name__)

AGAIN = Backoff(first_seconds=1.0, most_seconds=30.0)

Work = Callable[[], Coroutine[Any, Any, None]]
LEASE = ObjectKey("kube-system", "kube-controller-manager")


class Runnable(Protocol):
    """A controller."""

    async def run(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """What controllers need beside the API.

    ``root_ca`` (PEM) is published when there is one; with an ``identity`` they run only while it leads.
    ``metadata_only``: the garbage collector fetches no more of each object than it needs, which pays over a network;
    in one process whole objects are shared and cost nothing.
    """

    controllers: Sequence[str] = ("*",)
    root_ca: str = ""
    identity: str = ""
    metadata_only: bool = False
    sign_certificate: Sign | None = None
    """The cluster's authority; without it nothing is signed."""
    signing_seconds: float = SIGNING_SECONDS
    sign_token: SignToken | None = None
    """Signs tokens kept in Secrets; without it none are made."""


Maker = Callable[[ControllerContext, ControllerSettings], Mapping[str, Work]]


def _one(make: Callable[[ControllerContext], Runnable]) -> Maker:
    return lambda context, _: {"": make(context).run}


def _job(context: ControllerContext, _: ControllerSettings) -> Mapping[str, Work]:
    made = JobController(context)
    return {"": made.run, "orphan-pods": made.run_orphans}


def _root_ca(context: ControllerContext, settings: ControllerSettings) -> Mapping[str, Work]:
    if not settings.root_ca:
        return {}
    return {"": RootCaController(context, certificate=settings.root_ca).run}


def _tokens(context: ControllerContext, settings: ControllerSettings) -> Mapping[str, Work]:
    if settings.sign_token is None:
        return {}
    return {"": TokenSecrets(context, sign=settings.sign_token, root_ca=settings.root_ca).run}


def _signing(context: ControllerContext, settings: ControllerSettings) -> Mapping[str, Work]:
    if settings.sign_certificate is None:
        return {}
    signer = CertificateSigner(context, sign=settings.sign_certificate, most_seconds=settings.signing_seconds)
    return {"": signer.run}


CONTROLLERS: Mapping[str, Maker] = {
    "namespace": _one(NamespaceController),
    "serviceaccount": _one(ServiceAccountController),
    "root-ca-certificate-publisher": _root_ca,
    "garbage-collector": _one(GarbageCollector),
    "deployment": _one(DeploymentController),
    "replicaset": _one(ReplicaSetController),
    "replicationcontroller": _one(lambda context: ReplicaSetController(context, REPLICATION_CONTROLLERS)),
    "daemonset": _one(DaemonSetController),
    "statefulset": _one(StatefulSetController),
    "job": _job,
    "cronjob": _one(CronJobController),
    "ttl-after-finished": _one(JobTtlController),
    "endpointslice": _one(EndpointSliceController),
    "endpointslicemirroring": _one(EndpointSliceMirroringController),
    "endpoints": _one(EndpointsController),
    "node-lifecycle": _one(NodeLifecycleController),
    "taint-eviction": _one(TaintEvictionController),
    "pod-garbage-collector": _one(PodGarbageCollector),
    "clusterrole-aggregation-controller": _one(ClusterRoleAggregation),
    "serviceaccount-token-controller": _tokens,
    "certificatesigningrequest-approving-controller": _one(CertificateApprover),
    "certificatesigningrequest-signing-controller": _signing,
    "certificatesigningrequest-cleaner-controller": _one(CertificateCleaner),
    "clusterrole-aggregation": _one(ClusterRoleAggregationController),
    "ttl": _one(NodeTtlController),
    "service-cidr": _one(ServiceCidrController),
    "disruption": _one(DisruptionController),
    "resourcequota": _one(ResourceQuotaController),
    "ephemeral-volume": _one(EphemeralVolumeController),
    "persistentvolume-binder": _one(PersistentVolumeBinder),
    "persistentvolumeclaim-protection": _one(ClaimProtectionController),
    "persistentvolume-protection": _one(VolumeProtectionController),
    "volumeattributesclass-protection": _one(AttributesClassProtectionController),
}
"""By name: what it takes to make one, and the loops it runs."""


def chosen(selection: Sequence[str], available: Sequence[str]) -> list[str]:
    """The names that ``selection`` switches on; raises ``ValueError`` for a name that is none."""
    wanted = [each.strip() for text in selection for each in text.split(",") if each.strip()]
    unknown = sorted({each.removeprefix("-") for each in wanted} - {"*", *available})
    if unknown:
        raise ValueError(f"no such controller: {', '.join(unknown)} (there are {', '.join(sorted(available))})")
    return [name for name in available if f"-{name}" not in wanted and (name in wanted or "*" in wanted)]


class ControllerManager:
    """All chosen controllers; ``run`` them as one task."""

    def __init__(
        self,
        client: ApiClient,
        *,
        clock: Clock,
        settings: ControllerSettings | None = None,
        chance: random.Random | None = None,
        informers: InformerFactory | None = None,
    ) -> None:
        """``informers``: mirrors shared with others in this process, run by their owner; own ones without."""
        self._shared_informers = informers
        self._client = client
        self._clock = clock
        self._settings = settings or ControllerSettings()
        self._chance = chance or random.Random()
        self.names = chosen(self._settings.controllers, [*CONTROLLERS])

    async def run(self) -> None:
        """Control until cancelled; with an identity only while leading (``LeadershipLost`` when that ends)."""
        identity = self._settings.identity
        if not identity:
            await self._control()
            return
        elector = Elector(self._client, LEASE, identity, clock=self._clock, chance=self._chance)
        await elector.run(self._control)

    async def _control(self) -> None:
        recorders: dict[str, EventRecorder] = {}

        def recorder(component: str) -> Recorder:
            if component not in recorders:
                recorders[component] = EventRecorder(self._client, component=component, clock=self._clock)
            return recorders[component]

        shared = self._shared_informers
        informers = shared or InformerFactory(self._client, clock=self._clock, chance=self._chance)
        graph_informers = self._graph_informers()
        context = ControllerContext(
            client=self._client,
            informers=informers,
            graph_informers=graph_informers,
            clock=self._clock,
            recorder=recorder,
            chance=self._chance,
        )
        work = {
            f"{name}/{part}" if part else name: run
            for name in self.names
            for part, run in CONTROLLERS[name](context, self._settings).items()
        }
        async with Supervisor("controllers", clock=self._clock) as tasks:
            if shared is None:
                tasks.start("informers", informers.run)
            if graph_informers is not None:
                tasks.start("graph-informers", graph_informers.run)
            for component, each in recorders.items():
                tasks.start(f"events/{component}", each.run, restart=AGAIN)
            for name, run in work.items():
                tasks.start(name, run, restart=AGAIN)
            logger.info("controllers started", extra={"controllers": ",".join(self.names)})
            await asyncio.Event().wait()

    def _graph_informers(self) -> InformerFactory | None:
        if not self._settings.metadata_only:
            return None
        client = ApiClient(MetadataTransport(self._client.transport))
        return InformerFactory(client, clock=self._clock, chance=self._chance)
