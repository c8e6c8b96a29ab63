"""Writes what preemption decided: marks the victims, deletes them, tells about it.

In: a preemption and the pod it is for. Out: per victim a DisruptionTarget condition, a deletion and a Preempted event.
Failed writes are tried again; a victim that is gone is none. Source: kube-scheduler
``framework/preemption/executor.go``, 1.36.
"""

from __future__ import annotations

import contextlib
import dataclasses

from anynode.aio.clock import Clock
from anynode.api.errors import Conflict, NotFound
from anynode.api.formats import format_time
from anynode.api.objects import Object, ObjectKey, Uid, is_deleting, key_of, meta, uid_of
from anynode.api.resources import known
from anynode.client.api_client import ApiClient, PatchKind
from anynode.informers.controller import Controller, Done, Outcome
from anynode.informers.recorder import EventRecorder
from anynode.informers.store import Store

PODS = known("pods")


@dataclasses.dataclass(frozen=True, slots=True)
class _Eviction:
    victim: Object
    preemptor: Object
    node: str


class Evictions:
    """The victims on their way out."""

    def __init__(self, client: ApiClient, pods: Store, recorder: EventRecorder, *, clock: Clock, name: str) -> None:
        self._client = client
        self._pods = pods
        self._recorder = recorder
        self._clock = clock
        self._name = name
        self._waiting: dict[ObjectKey, _Eviction] = {}
        self._leaving: dict[ObjectKey, Uid] = {}
        self._controller = Controller("scheduler-evictions", self._evict, clock=clock, workers=4)

    async def run(self) -> None:
        await self._controller.run()

    def add(self, victim: ObjectKey, preemptor: Object, node: str) -> None:
        """Have the pod removed for the sake of ``preemptor``."""
        pod = self._pods.get(victim)
        for gone in [key for key in self._leaving if self._pods.get(key) is None]:
            del self._leaving[gone]
        if pod is not None and not is_deleting(pod):
            self._waiting[victim] = _Eviction(pod, preemptor, node)
            self._controller.queue.add(victim)

    def pending(self, victim: ObjectKey) -> bool:
        """Whether the pod is about to be removed, or was told to leave and is still there."""
        if victim in self._waiting:
            return True
        uid = self._leaving.get(victim)
        if uid is None:
            return False
        pod = self._pods.get(victim)
        if pod is None or uid_of(pod) != uid:
            del self._leaving[victim]
            return False
        return True

    async def _evict(self, key: ObjectKey) -> Outcome:
        eviction = self._waiting.get(key)
        if eviction is None:
            return Done()
        with contextlib.suppress(NotFound, Conflict):  # gone, or another pod of that name: nothing to remove
            await self._carry_out(eviction)
        self._waiting.pop(key, None)
        return Done()

    async def _carry_out(self, eviction: _Eviction) -> None:
        victim = eviction.victim
        uid = uid_of(victim)
        condition: Object = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{self._name}: preempting to accommodate a higher priority pod",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(self._clock.now()),
        }
        generation = meta(victim).get("generation")
        if generation:
            condition["observedGeneration"] = generation
        patch = {"metadata": {"uid": uid}, "status": {"conditions": [condition]}}
        await self._client.patch(PODS, key_of(victim), patch, kind=PatchKind.STRATEGIC, subresource="status")
        await self._client.delete(PODS, key_of(victim), uid=uid)
        self._leaving[key_of(victim)] = uid
        message = f"Preempted by pod {uid_of(eviction.preemptor)} on node {eviction.node}"
        self._recorder.event(victim, "Normal", "Preempted", message, action="Preempting", related=eviction.preemptor)
