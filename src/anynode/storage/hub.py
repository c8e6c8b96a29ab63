"""Who hears of which committed change, and the recent past for those who come late.

In go committed batches in revision order (``publish``, on the event loop); out go one call per listener and batch.
Which listeners a change concerns is looked up by the key's path segments, never by trying all of them. The recent past
is a window of changes bounded by count and bytes: a watch or an old read that begins inside it needs no engine.

Invariant: a subscription made with ``after`` hears every change newer than ``after`` exactly once, in order.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from anynode.storage.types import Change, ChangeListener, Revision, StorageError

ROUTES_KEPT = 10_000
"""Directories whose listeners are remembered; more than a cluster's resources times its namespaces."""


class Subscription:
    """One listener on one prefix; the ``Watch`` that engines hand out."""

    __slots__ = ("_hub", "active", "ended", "listener", "prefix", "progress")

    def __init__(
        self,
        hub: Hub,
        prefix: str,
        listener: ChangeListener,
        ended: Callable[[StorageError], None],
        progress: Callable[[Revision], None] | None = None,
    ) -> None:
        self._hub = hub
        self.progress = progress
        self.prefix = prefix
        self.listener = listener
        self.ended = ended
        self.active = True

    def deliver(self, changes: Sequence[Change]) -> None:
        if self.active:
            self.listener(changes)

    def stop(self) -> None:
        """Nothing is delivered from now on; safe to call again."""
        if self.active:
            self.active = False
            self._hub.remove(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """Who hears of changes in one directory: always, or only if the key begins with their odd prefix."""

    always: tuple[Subscription, ...]
    perhaps: tuple[Subscription, ...]


class Hub:
    """Subscriptions by prefix and a bounded window of history."""

    def __init__(self, *, history_changes: int, history_bytes: int) -> None:
        self._history: collections.deque[Change] = collections.deque()
        self._history_bytes = 0
        self._most_changes = history_changes
        self._most_bytes = history_bytes
        self._start = Revision(0)
        self._whole: dict[str, list[Subscription]] = {}
        self._odd: dict[str, list[Subscription]] = {}
        self._routes: dict[str, Route] = {}

    @property
    def history_start(self) -> Revision:
        """The window holds every change newer than this revision."""
        return self._start

    def begin(self, revision: Revision) -> None:
        """Start with an empty window at ``revision``."""
        self._history.clear()
        self._history_bytes = 0
        self._start = revision

    def changes_after(self, revision: Revision) -> Iterator[Change]:
        """The changes newer than ``revision``, which is not below ``history_start``, oldest first."""
        newer = 0
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            newer += 1
        return itertools.islice(self._history, len(self._history) - newer, None)

    def forget_before(self, revision: Revision) -> None:
        """Shrink the window to changes newer than ``revision``."""
        while self._history and self._history[0].revision <= revision:
            self._drop_oldest()
        self._start = max(self._start, revision)

    def subscribe(
        self,
        prefix: str,
        listener: ChangeListener,
        *,
        after: Revision,
        ended: Callable[[StorageError], None],
        progress: Callable[[Revision], None] | None = None,
    ) -> Subscription:
        """Listen to ``prefix`` from now on; what the window holds after ``after`` is delivered before this returns."""
        subscription = Subscription(self, prefix, listener, ended, progress)
        missed = [change for change in self.changes_after(after) if change.record.key.startswith(prefix)]
        self._shelf(prefix).append(subscription)
        self._routes.clear()
        if missed:
            listener(missed)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Forget one subscription."""
        index, place = self._place(subscription.prefix)
        shelf = index.get(place, [])
        if subscription in shelf:
            shelf.remove(subscription)
            if not shelf:
                del index[place]
            self._routes.clear()

    def remember(self, change: Change) -> None:
        """Append to the window; the oldest go when it is over its bounds."""
        self._history.append(change)
        self._history_bytes += len(change.record.value)
        while len(self._history) > self._most_changes or self._history_bytes > self._most_bytes:
            self._drop_oldest()

    def publish(self, changes: Sequence[Change]) -> None:
        """Tell each listener of its share of ``changes`` in one call.

        Should one raise, which is a bug, the others are told all the same before the error goes on.
        """
        concerned: dict[Subscription, list[Change]] = {}
        for change in changes:
            key = change.record.key
            route = self._route(key)
            for subscription in route.always:
                concerned.setdefault(subscription, []).append(change)
            for subscription in route.perhaps:
                if key.startswith(subscription.prefix):
                    concerned.setdefault(subscription, []).append(change)
        with contextlib.ExitStack() as calls:
            for subscription, share in reversed(concerned.items()):
                calls.callback(subscription.deliver, share)

    def progress(self, revision: Revision) -> None:
        """Tell who wants to know that the store came to ``revision`` without a change anybody heard of."""
        for subscription in self._everyone():
            if subscription.active and subscription.progress is not None:
                subscription.progress(revision)

    def _everyone(self) -> list[Subscription]:
        shelves: Iterable[list[Subscription]] = (*self._whole.values(), *self._odd.values())
        return [subscription for shelf in shelves for subscription in shelf]

    def end(self, error: StorageError) -> None:
        """End every subscription, telling each why."""
        for subscription in self._everyone():
            if subscription.active:
                subscription.stop()
                subscription.ended(error)

    def _drop_oldest(self) -> None:
        change = self._history.popleft()
        self._history_bytes -= len(change.record.value)
        self._start = change.revision

    def _place(self, prefix: str) -> tuple[dict[str, list[Subscription]], str]:
        """Prefixes that end a path segment are found by themselves, the others by the directory they begin in."""
        if not prefix or prefix.endswith("/"):
            return self._whole, prefix
        return self._odd, prefix[: prefix.rfind("/") + 1]

    def _shelf(self, prefix: str) -> list[Subscription]:
        index, place = self._place(prefix)
        return index.setdefault(place, [])

    def _route(self, key: str) -> Route:
        directory = key[: key.rfind("/") + 1]
        route = self._routes.get(directory)
        if route is None:
            if len(self._routes) >= ROUTES_KEPT:
                self._routes.clear()
            route = self._routes[directory] = self._make_route(directory)
        return route

    def _make_route(self, directory: str) -> Route:
        always: list[Subscription] = []
        perhaps: list[Subscription] = []
        end = 0
        while True:
            segment = directory[:end]
            always.extend(self._whole.get(segment, ()))
            perhaps.extend(self._odd.get(segment, ()))
            found = directory.find("/", end)
            if found < 0:
                return Route(tuple(always), tuple(perhaps))
            end = found + 1
