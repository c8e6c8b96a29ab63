"""Lists, then watches, for ever: keeps a target equal to what the server holds.

In: a client and what to look at. Out: calls to the target: ``replace`` with one consistent snapshot, then ``apply``
with each batch of changes in order. Begins with a streaming list (WatchList) and falls back to a paged list where the
server refuses that. A watch that ends is resumed from the last resourceVersion seen (bookmarks count); an expired one
(410) leads to a new list. Nothing else ends ``run`` but its cancellation or an error of the target.

Source: client-go ``tools/cache/reflector.go``, 1.36; KEP-3157 (streaming lists).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Sequence
from typing import Protocol

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.api.errors import ApiError, Expired, NotFound, TooManyRequests, from_status
from anynode.api.objects import Object, ObjectKey, annotations_of, key_of, resource_version_of
from anynode.api.resources import Resource
from anynode.api.wire import WatchEvent
from anynode.client.api_client import ApiClient
from anynode.client.transport import WatchStream

logger = logging.getLogger(__name__)

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
PAGE_SIZE = 500
SHORT_WATCH_SECONDS = 1.0
TURN_EVENTS = 256
"""How many events may be applied before others get a turn."""
NOT_SERVED_TRIES = 3
"""How often a kind may be not found before it is worth a line in the log: it is about to come, or to go."""
BACKOFF = Backoff(first_seconds=0.8, most_seconds=30.0, factor=2.0, jitter=1.0, reset_after_seconds=120.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What to look at: one resource, in one namespace or all, with selectors."""

    resource: Resource
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""


class Target(Protocol):
    """Told what the server holds; called on the loop, must not wait."""

    def replace(self, objects: Sequence[Object]) -> None:
        """This is everything there is now."""
        ...

    def apply(self, kind: str, obj: Object) -> None:
        """One change: ADDED, MODIFIED or DELETED."""
        ...


class _Relist(Exception):
    """What is known is too old or uncertain: list again."""


class Reflector:
    """Mirrors one scope into one target."""

    def __init__(self, client: ApiClient, scope: Scope, target: Target, *, clock: Clock, chance: random.Random) -> None:
        self._client = client
        self._scope = scope
        self._target = target
        self._clock = clock
        self._chance = chance
        self._resource_version = ""
        self._streaming = True
        self._failures = 0

    async def run(self) -> None:
        """Mirror until cancelled."""
        while True:
            began = self._clock.monotonic()
            try:
                stream = await self._begin()
                await self._follow(stream)
            except Expired:
                self._resource_version = ""
            except (ApiError, ConnectionError, TimeoutError, _Relist) as error:
                if self._clock.monotonic() - began >= BACKOFF.reset_after_seconds:
                    self._failures = 0
                fields = {"resource": self._scope.resource.qualified, "why": str(error)}
                level = logging.DEBUG if self._is_expected(error) else logging.WARNING
                logger.log(level, "watch broke and will be begun again", extra=fields)
            await self._pause()

    def _is_expected(self, error: Exception) -> bool:
        """Whether nobody need hear of it: a kind that is served no more is told of by whoever follows what is."""
        return isinstance(error, _Relist) or (isinstance(error, NotFound) and self._failures < NOT_SERVED_TRIES)

    async def _begin(self) -> WatchStream | None:
        """Fill the target; the stream to go on with when the list was a streaming one."""
        if self._streaming:
            try:
                return await self._streaming_list()
            except ApiError as error:
                if isinstance(error, TooManyRequests | Expired | NotFound):
                    raise
                # Any other refusal, a 500 included (an API server on an etcd without progress requests), is how
                # servers say that they cannot stream lists: client-go falls back alike.
                self._streaming = False
                logger.debug("server has no streaming lists", extra={"resource": self._scope.resource.qualified})
        await self._paged_list()
        return None

    async def _streaming_list(self) -> WatchStream:
        stream = await self._watch(send_initial_events=True)
        objects: dict[ObjectKey, Object] = {}
        rest: Sequence[WatchEvent] = ()
        complete = False
        try:
            async for events in stream:
                for position, event in enumerate(events):
                    if self._collect(event, objects):
                        complete, rest = True, events[position + 1 :]
                        break
                if complete:
                    break
            if not complete:
                raise _Relist("the server ended the watch before its initial events were complete")
            self._target.replace([*objects.values()])
            self._apply(rest)
        except BaseException:
            await stream.close()
            raise
        return stream

    def _collect(self, event: WatchEvent, objects: dict[ObjectKey, Object]) -> bool:
        """Whether ``event`` is the bookmark that ends the initial events."""
        obj = event.object
        match event.type:
            case "ERROR":
                raise from_status(obj)
            case "BOOKMARK":
                if annotations_of(obj).get(INITIAL_EVENTS_END) != "true":
                    return False
                self._resource_version = resource_version_of(obj)
                return True
            case "DELETED":
                objects.pop(key_of(obj), None)
            case _:
                objects[key_of(obj)] = obj
        return False

    async def _paged_list(self) -> None:
        scope = self._scope
        items: list[Object] = []
        # A server may answer from its cache (RV=0), which it does in one page; without a version known to be good, ask
        # for the newest.
        version: str | None = "0" if not self._failures else ""
        token, newest = "", ""
        while True:
            page = await self._client.list(
                scope.resource,
                scope.namespace,
                label_selector=scope.label_selector,
                field_selector=scope.field_selector,
                limit=PAGE_SIZE,
                continue_token=token,
                resource_version=None if token else version,
            )
            items.extend(page.items)
            token, newest = page.continue_token, page.resource_version
            if not token:
                break
        self._resource_version = newest
        self._target.replace(items)

    async def _follow(self, stream: WatchStream | None) -> None:
        """Apply changes; resume the watch when it ends in good order. Returns never, raises what broke it."""
        while True:
            began = self._clock.monotonic()
            seen = 0
            if stream is None:
                stream = await self._resume()
            try:
                async for events in stream:
                    seen += len(events)
                    await self._apply_in_turns(events)
                    self._failures = 0
            except ConnectionError as error:  # cut off in the middle: as good as ended
                logger.debug("watch cut off", extra={"resource": self._scope.resource.qualified}, exc_info=error)
            finally:
                await stream.close()
            stream = None
            if not seen and self._clock.monotonic() - began < SHORT_WATCH_SECONDS:
                raise _Relist("the watch ended at once without an event")

    async def _resume(self) -> WatchStream:
        """A watch from where the last one ended; waits while the server is away or too busy."""
        while True:
            try:
                return await self._watch(send_initial_events=False)
            except (ConnectionError, TooManyRequests, TimeoutError):
                await self._pause()

    async def _watch(self, *, send_initial_events: bool) -> WatchStream:
        scope = self._scope
        return await self._client.watch(
            scope.resource,
            scope.namespace,
            label_selector=scope.label_selector,
            field_selector=scope.field_selector,
            resource_version=self._resource_version,
            send_initial_events=send_initial_events,
            timeout_seconds=int(300 * (1 + self._chance.random())),
        )

    async def _apply_in_turns(self, events: Sequence[WatchEvent]) -> None:
        """Apply a batch, letting others run in between when it is a big one."""
        self._apply(events[:TURN_EVENTS])
        for start in range(TURN_EVENTS, len(events), TURN_EVENTS):
            await asyncio.sleep(0)
            self._apply(events[start : start + TURN_EVENTS])

    def _apply(self, events: Sequence[WatchEvent]) -> None:
        for event in events:
            obj = event.object
            if event.type == "ERROR":
                raise from_status(obj)
            if event.type != "BOOKMARK":
                self._target.apply(event.type, obj)
            self._resource_version = resource_version_of(obj)

    async def _pause(self) -> None:
        self._failures += 1
        await self._clock.sleep(BACKOFF.delay_seconds(self._failures, self._chance))
