"""The kinds a server serves, followed as they come and go: for controllers that work on every kind.

In: events of CustomResourceDefinitions and APIServices, and the time: every 30 s the server is asked anyway, for an
aggregated server adds kinds without telling. Out: ``take`` called with all kinds each time the server was asked. A
change is looked at after a moment, and again a second later: definitions are served a little after they were written.
A kind is given up only when two looks in a row miss it, so that the last events of its objects are heard, and never
while the server of its group is away. Source: kubernetes ``garbagecollector.go`` (``Sync``), 1.36.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from anynode.aio.backoff import Backoff
from anynode.api.resources import Resource, known
from anynode.client.discovery import Served, look
from anynode.controllers.context import ControllerContext
from anynode.informers.controller import Controller, Outcome, RequeueAfter
from anynode.informers.informer import Delta
from anynode.informers.workqueue import Workqueue

DEFINITIONS = known("customresourcedefinitions", "apiextensions.k8s.io")
API_SERVICES = known("apiservices", "apiregistration.k8s.io")
SETTLE_SECONDS = 0.05
"""Definitions often come in crowds, and each is written several times at once."""
SECOND_LOOK_SECONDS = 1.0
LOOK_SECONDS = 30.0
RETRY = Backoff(first_seconds=1.0, most_seconds=LOOK_SECONDS)

Kinds: TypeAlias = Mapping[tuple[str, str], Resource]
"""By group and plural."""
Look: TypeAlias = Callable[[], Awaitable[Served]]
_ALL = "served"


def remembered(
    before: Kinds, missed: frozenset[tuple[str, str]], served: Served
) -> tuple[Kinds, frozenset[tuple[str, str]]]:
    """What to take as served now, and what of it this look missed though its group's server is there."""
    found: dict[tuple[str, str], Resource] = {(each.group, each.plural): each for each in served.resources}
    away = {version.group for version in served.failures}
    kept = {at: each for at, each in before.items() if at not in found and (each.group in away or at not in missed)}
    return {**found, **kept}, frozenset(at for at, each in kept.items() if each.group not in away)


class ServedKinds:
    """Asks what is served whenever that may have changed."""

    def __init__(
        self, context: ControllerContext, name: str, take: Callable[[Kinds], None], *, ask: Look | None = None
    ) -> None:
        """``ask`` replaces asking the server."""
        self._client = context.client
        self._ask = ask or self._ask_server
        self._take = take
        self._kinds: Kinds = {}
        self._missed: frozenset[tuple[str, str]] = frozenset()
        self._look_again = False
        queue: Workqueue[str] = Workqueue(clock=context.clock, retry=RETRY)
        self._controller: Controller[str] = Controller(
            f"{name}-discovery", self._look, clock=context.clock, queue=queue
        )
        self._controller.queue.add(_ALL)
        factory = context.graph_informers or context.informers
        for resource in (DEFINITIONS, API_SERVICES):
            factory.informer(resource).subscribe(self._changed)

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._controller.run()

    async def _ask_server(self) -> Served:
        return await look(self._client)

    def _changed(self, _delta: Delta) -> None:
        self._look_again = True
        self._controller.queue.add_after(_ALL, SETTLE_SECONDS)

    async def _look(self, _key: str) -> Outcome:
        again, self._look_again = self._look_again, False
        self._kinds, self._missed = remembered(self._kinds, self._missed, await self._ask())
        self._take(self._kinds)
        return RequeueAfter(SECOND_LOOK_SECONDS if again or self._missed else LOOK_SECONDS)
