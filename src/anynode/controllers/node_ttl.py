"""Nodes carry how long kubelets may keep Secrets and ConfigMaps in memory, longer in larger clusters.

Source: kubernetes ``pkg/controller/ttl``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.errors import NotFound
from anynode.api.objects import ObjectKey, annotations_of, key_of
from anynode.api.resources import known
from anynode.client.api_client import PatchKind
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

NODES = known("nodes")
TTL = "node.alpha.kubernetes.io/ttl"
STEPS: Sequence[tuple[int, int, int]] = (
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, 1 << 31, 300),
)
"""(fewest nodes, most nodes, seconds); they overlap, so that a node more or less changes nothing everywhere."""


MANY = 50
PAUSE_SECONDS = 0.005
"""Between two of many nodes: they may well wait, and upstream's client would let them wait longer."""


class NodeTtlController:
    """Annotates nodes, many of them without haste."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._clock = context.clock
        self._nodes = context.informers.informer(NODES)
        self._step = 0
        self._controller = context.controller("ttl", self.reconcile, workers=1)
        self._nodes.subscribe(self._node_changed)

    @property
    def seconds(self) -> int:
        return STEPS[self._step][2]

    def _node_changed(self, delta: Delta) -> None:
        count = len(self._nodes.store)
        while count > STEPS[self._step][1]:
            self._step += 1
        while count < STEPS[self._step][0]:
            self._step -= 1
        if delta.kind != "deleted" and annotations_of(delta.obj).get(TTL) != str(self.seconds):
            self._controller.queue.add(key_of(delta.obj))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._nodes,))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        node = self._nodes.store.get(key)
        wanted = str(self.seconds)
        if node is None or annotations_of(node).get(TTL) == wanted:
            return Done()
        if len(self._controller.queue) > MANY:
            await self._clock.sleep(PAUSE_SECONDS)
        patch = {"metadata": {"annotations": {TTL: wanted}}}
        try:
            await self._client.patch(NODES, key, patch, kind=PatchKind.STRATEGIC)
        except NotFound:
            return Done()
        return Done()
