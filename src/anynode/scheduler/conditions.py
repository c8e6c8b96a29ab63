"""Writes into pods why they are not scheduled, and which node was promised to them.

In: a pod, a reason and a message. Out: the PodScheduled condition (False) and ``status.nominatedNodeName``, written
only where they differ from what the pod says. Only the newest word about a pod is written; failed writes are tried
again.
"""

from __future__ import annotations

from anynode.aio.clock import Clock
from anynode.api.errors import NotFound
from anynode.api.formats import format_time
from anynode.api.objects import Object, ObjectKey, Uid, condition_of, get_path, key_of, meta, uid_of
from anynode.api.resources import known
from anynode.client.api_client import ApiClient, PatchKind
from anynode.informers.controller import Controller, Done, Outcome
from anynode.informers.store import Store

PODS = known("pods")


class ConditionWriter:
    """The status patches on their way."""

    def __init__(self, client: ApiClient, pods: Store, *, clock: Clock) -> None:
        self._client = client
        self._pods = pods
        self._clock = clock
        self._waiting: dict[ObjectKey, tuple[Uid, Object]] = {}
        self._controller = Controller("scheduler-conditions", self._write, clock=clock, workers=4)

    async def run(self) -> None:
        await self._controller.run()

    def forget(self, key: ObjectKey) -> None:
        """The pod is scheduled: what was to be said about it no longer holds."""
        self._waiting.pop(key, None)

    def set(self, pod: Object, reason: str, message: str, *, nominated: str = "") -> None:
        """Have the pod say this."""
        current = condition_of(pod, "PodScheduled") or {}
        said = get_path(pod, "status", "nominatedNodeName", default="")
        if (current.get("status"), current.get("reason"), current.get("message"), said) == (
            "False",
            reason,
            message,
            nominated,
        ):
            return
        now = format_time(self._clock.now())
        since = current.get("lastTransitionTime") if current.get("status") == "False" else now
        condition: Object = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": since or now,
        }
        generation = meta(pod).get("generation")
        if generation:
            condition["observedGeneration"] = generation
        status: Object = {"conditions": [condition]}
        if nominated != said:
            status["nominatedNodeName"] = nominated or None
        self._waiting[key_of(pod)] = (uid_of(pod), status)
        self._controller.queue.add(key_of(pod))

    async def _write(self, key: ObjectKey) -> Outcome:
        waiting = self._waiting.pop(key, None)
        pod = self._pods.get(key)
        if waiting is None or pod is None or uid_of(pod) != waiting[0] or get_path(pod, "spec", "nodeName"):
            return Done()
        patch = {"metadata": {"uid": waiting[0]}, "status": waiting[1]}
        try:
            await self._client.patch(PODS, key, patch, kind=PatchKind.STRATEGIC, subresource="status")
        except NotFound:
            return Done()
        except BaseException:
            self._waiting.setdefault(key, waiting)
            raise
        return Done()
