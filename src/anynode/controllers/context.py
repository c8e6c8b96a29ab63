"""What every controller is handed, and the parts all of them are made of.

A controller is an object with ``async run()``; it subscribes to informers when it is made, so that it may be made
before anything runs, and starts its workers once the caches it reads are filled.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from anynode.aio.clock import Clock
from anynode.api.objects import Object, ObjectKey
from anynode.client.api_client import ApiClient
from anynode.controllers.times import timestamp
from anynode.informers.controller import Controller, Outcome
from anynode.informers.informer import Informer, InformerFactory

WORKERS = 5
"""Objects of one kind reconciled side by side (upstream's ``--concurrent-*-syncs``)."""


class Recorder(Protocol):
    """The part of ``informers.recorder.EventRecorder`` that controllers use."""

    def event(
        self,
        regarding: Object,
        type: str,
        reason: str,
        message: str,
        *,
        action: str = "",
        related: Object | None = None,
    ) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ControllerContext:
    """``recorder(component)`` gives the event recorder that signs as this component.

    ``graph_informers`` are for who watches every kind and needs metadata only; without them ``informers`` serve.
    """

    client: ApiClient
    informers: InformerFactory
    graph_informers: InformerFactory | None = None
    clock: Clock
    recorder: Callable[[str], Recorder]
    chance: random.Random

    def now(self) -> float:
        """Wall time in seconds since 1970."""
        return self.clock.now().timestamp()

    def timestamp(self) -> str:
        """The wall time as objects carry it, whole seconds."""
        return timestamp(self.now())

    def controller(
        self, name: str, reconcile: Callable[[ObjectKey], Awaitable[Outcome]], *, workers: int = WORKERS
    ) -> Controller[ObjectKey]:
        return Controller(name, reconcile, clock=self.clock, workers=workers)


async def run_when_synced(controller: Controller[ObjectKey], informers: Iterable[Informer]) -> None:
    """Run the workers from the moment every cache they read is filled."""
    for informer in informers:
        await informer.wait_synced()
    await controller.run()
