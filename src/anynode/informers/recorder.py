"""Writes Kubernetes Events about objects, merged and limited, without making the caller wait.

In: what happened to which object. Out: core/v1 Events created, or counted up by a patch. Events about one object are
written in order; with the server away the newest wait (bounded) and later ones are dropped and logged. Nothing is
written before ``run``.

Source: client-go ``tools/record/event.go``, 1.36.
"""

from __future__ import annotations

import functools
import logging
import random

from anynode.aio.channel import Channel
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import AlreadyExists, ApiError, NotFound, is_passing
from anynode.api.formats import format_time
from anynode.api.names import dns1123_subdomain
from anynode.api.objects import Object, key_of, meta
from anynode.api.resources import known
from anynode.client.api_client import ApiClient, PatchKind
from anynode.informers.correlation import Correlated, EventCorrelator

logger = logging.getLogger(__name__)

EVENTS = known("events")
LANES = 4
WAITING_PER_LANE = 1000
TRIES = 12
RETRY_SECONDS = 10.0


class EventRecorder:
    """The events of one component."""

    def __init__(
        self, client: ApiClient, *, component: str, clock: Clock, host: str = "", chance: random.Random | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._chance = chance or random.Random()
        self._source = {"component": component, "host": host} if host else {"component": component}
        self._component = component
        self._host = host
        self._correlator = EventCorrelator()
        self._lanes: list[Channel[Correlated]] = [Channel(WAITING_PER_LANE) for _ in range(LANES)]

    def event(
        self,
        regarding: Object,
        type: str,
        reason: str,
        message: str,
        *,
        action: str = "",
        related: Object | None = None,
        field_path: str = "",
        host: str = "",
    ) -> None:
        """Have one event written; ``type`` is Normal or Warning, ``field_path`` such as ``spec.containers{web}``.

        ``host``: which of the component's hosts speaks, where one recorder serves many.
        """
        involved = reference_to(regarding, field_path)
        timestamp = format_time(self._clock.now())
        event: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": involved.get("namespace") or "default"},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": {"component": self._component, "host": host} if host else self._source,
            "firstTimestamp": timestamp,
            "lastTimestamp": timestamp,
            "type": type,
            "reportingComponent": self._component,
            "reportingInstance": host or self._host,
        }
        if action:
            event["action"] = action
        if related is not None:
            event["related"] = reference_to(related)
        correlated = self._correlator.correlate(event, self._new_name(involved["name"]), self._clock.monotonic())
        if correlated is None:
            return
        lane = self._lanes[hash((involved.get("namespace"), involved["name"])) % LANES]
        if not lane.offer(correlated):
            logger.error("event dropped because too many wait", extra={"reason": reason, "about": involved["name"]})

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        async with Supervisor("events", clock=self._clock) as tasks:
            for number, lane in enumerate(self._lanes[1:], start=1):
                tasks.start(f"lane-{number}", functools.partial(self._write_all, lane))
            await self._write_all(self._lanes[0])

    async def _write_all(self, lane: Channel[Correlated]) -> None:
        async for correlated in lane:
            for attempt in range(TRIES):
                try:
                    await self._write(correlated)
                except AlreadyExists:
                    break
                except ApiError as error:
                    level = logging.DEBUG if is_passing(error) else logging.WARNING
                    logger.log(level, "event refused", extra={"reason": error.status_reason, "detail": error.message})
                    break
                except (ConnectionError, TimeoutError):
                    # the first wait is shortened by chance, so that components do not return all at once
                    await self._clock.sleep(RETRY_SECONDS * (self._chance.random() if attempt == 0 else 1.0))
                else:
                    break

    async def _write(self, correlated: Correlated) -> None:
        event = correlated.event
        if correlated.update:
            changed = {name: event[name] for name in ("count", "lastTimestamp", "message")}
            try:
                await self._client.patch(EVENTS, key_of(event), changed, kind=PatchKind.STRATEGIC)
            except NotFound:
                pass  # expired meanwhile: written again below
            else:
                return
        await self._client.create(EVENTS, event)

    def _new_name(self, about: str) -> str:
        moment = int(self._clock.now().timestamp() * 1_000_000) * 1000 + self._chance.randrange(1000)
        name = f"{about}.{moment:x}"
        return name if not dns1123_subdomain(name) else f"event.{moment:x}"


def reference_to(obj: Object, field_path: str = "") -> Object:
    """The ObjectReference an event carries; empty fields left out."""
    metadata = meta(obj)
    fields = {
        "kind": obj.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name", ""),
        "uid": metadata.get("uid"),
        "apiVersion": obj.get("apiVersion"),
        "resourceVersion": metadata.get("resourceVersion"),
        "fieldPath": field_path,
    }
    return {name: value for name, value in fields.items() if value or name == "name"}
