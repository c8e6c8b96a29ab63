"""What the server does with definitions by itself: says their conditions, and deletes their objects before them.

Each write is one step, made from what is stored then, as upstream's controllers make it: names, then conditions; the
clean-up of a deleted definition runs beside, as long as its objects' finalizers take.
Source: apiextensions-apiserver ``pkg/controller/{status,establish,apiapproval,finalizer}``, 1.36.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Sequence

from cryptography import x509

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import ApiError, Conflict, NotFound
from anynode.api.objects import Object, get_path
from anynode.apiserver.bootstrap import SELF
from anynode.apiserver.custom_resources import CustomResources
from anynode.registry import definitions
from anynode.registry.definitions import TERMINATING
from anynode.registry.deletion import DeleteOptions, timestamp
from anynode.registry.items import CacheEvent
from anynode.registry.store import ResourceStore, UpdateRules, Write
from anynode.schema import fields, metadata_order

logger = logging.getLogger(__name__)

CONFIRM_SECONDS = 60.0
POLL_SECONDS = 0.1
AGAIN_SECONDS = 1.0
_RETRY = Backoff(first_seconds=0.1, most_seconds=60)
_STEPS = 20
"""Statuses written in a row for one definition; it takes four."""


def _kept(new: Object, _old: Object) -> Object:
    return new


def _unjudged(_new: Object, _old: Object) -> Sequence[fields.FieldError]:
    return ()


_RULES = UpdateRules(prepare=_kept, validate=_unjudged, order=metadata_order.CUSTOM)


class Definitions:
    """Keeps the status of definitions, and ends them."""

    def __init__(self, store: ResourceStore, custom: CustomResources, clock: Clock, tasks: Supervisor) -> None:
        self._store = store
        self._custom = custom
        self._clock = clock
        self._tasks = tasks
        self._pending: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._cleaning: set[str] = set()
        self._groups: dict[str, dict[str, None]] = {}
        store.cache.listeners.append(self._changed)

    def begin(self) -> None:
        """Look at everything that is stored."""
        for item in self._store.cache.scan():
            self._note(item.key, str(get_path(item.object, "spec", "group") or ""))

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            group = str(get_path(event.item.object, "spec", "group") or "")
            self._note(event.item.key, group)
            if event.deleted:
                self._groups.get(group, {}).pop(event.item.key, None)
                self._pending.update(self._groups.get(group, {}))  # it has freed its names

    def _note(self, name: str, group: str) -> None:
        self._groups.setdefault(group, {})[name] = None
        self._pending[name] = None
        self._wake.set()

    async def run(self) -> None:
        """Settle whatever changes, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                name = next(iter(self._pending))
                del self._pending[name]
                await self._settle(name)

    async def _settle(self, name: str) -> None:
        for _ in range(_STEPS):
            item = self._store.find(name)
            if item is None:
                return
            crd = item.object
            if definitions.needs_cleanup(crd) and name not in self._cleaning:
                self._cleaning.add(name)
                self._tasks.start(f"cleanup of {name}", lambda: self._clean(name))
            if self._next(crd) is crd:
                return
            released = definitions.condition(crd, definitions.NAMES_ACCEPTED) is not None
            if not await self._write(name, self._next):
                return
            if released:  # a name may have become free
                group = str(get_path(crd, "spec", "group") or "")
                self._pending.update(each for each in self._groups.get(group, {}).items() if each[0] != name)

    def _next(self, crd: Object) -> Object:
        group = str(get_path(crd, "spec", "group") or "")
        items = (self._store.find(name) for name in self._groups.get(group, ()))
        others = [item.object for item in items if item is not None]
        return definitions.next_status(crd, others, self._now(), bundle_ok=_bundle_ok(crd))

    def _now(self) -> str:
        return timestamp(self._clock.now())

    async def _write(self, name: str, change: Callable[[Object], Object]) -> bool:
        """Whether the status was written."""

        def changed(old: Object | None) -> Object:
            if old is None:
                raise NotFound("the definition is gone")
            return change(old)

        write = Write(user=SELF, manager="kube-apiserver", subresource="status")
        try:
            await self._store.update(name, changed, write, rules=_RULES)
        except (NotFound, Conflict):
            return False  # deleted or changed meanwhile: that is noted too
        except ApiError as error:
            logger.warning("the status of a definition was not written", extra={"crd": name}, exc_info=error)
            self._tasks.start(f"status of {name}", lambda: self._again(name))
            return False
        return True

    async def _again(self, name: str) -> None:
        """Look at the definition once more, later."""
        await self._clock.sleep(AGAIN_SECONDS)
        self._pending[name] = None
        self._wake.set()

    # --- deletion

    async def _clean(self, name: str) -> None:
        """Delete the definition's objects, then let it go."""
        try:
            failures = 0
            while not await self._cleaned(name):
                failures += 1
                await self._clock.sleep(_RETRY.delay_seconds(failures))
        finally:
            self._cleaning.discard(name)

    async def _cleaned(self, name: str) -> bool:
        """Whether nothing is left to do."""
        item = self._store.find(name)
        if item is None or not definitions.needs_cleanup(item.object):
            return True
        await self._say(name, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")
        item = self._store.find(name)
        if item is None:
            return True
        crd = item.object
        spec = crd["spec"]
        if (spec["group"], spec["names"]["plural"]) in definitions.OVERLAPPING:
            outcome = ("False", "OverlappingBuiltInResource", "instances overlap with built-in resources in storage")
        elif definitions.is_true(crd, definitions.ESTABLISHED):
            outcome = await self._emptied(crd)
        else:
            outcome = ("False", "NeverEstablished", "resource was never established")
        status, reason, message = outcome
        if status == "True":
            await self._say(name, status, reason, message)
            return False

        def done(old: Object) -> Object:
            said = definitions.with_condition(old, TERMINATING, status, reason, message, self._now())
            return definitions.without_finalizer(said)

        return await self._write(name, done)

    async def _say(self, name: str, status: str, reason: str, message: str) -> None:
        await self._write(
            name, lambda old: definitions.with_condition(old, TERMINATING, status, reason, message, self._now())
        )

    async def _emptied(self, crd: Object) -> tuple[str, str, str]:
        """The condition after every object was asked to go: (status, reason, message)."""
        store = self._custom.stored(crd).store
        failures = []
        base = self._custom.base(crd)
        for key in [each.key for each in base.scan()]:
            try:
                await store.delete(key, DeleteOptions(), Write(user=SELF))
            except NotFound:
                continue
            except ApiError as error:
                failures.append(error.message)
        if failures:
            told = failures[0] if len(failures) == 1 else f"[{', '.join(dict.fromkeys(failures))}]"
            return "True", "InstanceDeletionFailed", f"could not issue all deletes: {told}"
        deadline = self._clock.monotonic() + CONFIRM_SECONDS
        while base.items:
            if self._clock.monotonic() >= deadline:
                message = "could not confirm zero CustomResources remaining: context deadline exceeded"
                return "True", "InstanceDeletionCheck", message
            await self._clock.sleep(POLL_SECONDS)
        return "False", "InstanceDeletionCompleted", "removed all instances"


def _bundle_ok(crd: Object) -> bool:
    """Whether the conversion webhook's authorities can be read, where there are any."""
    text = get_path(crd, "spec", "conversion", "webhook", "clientConfig", "caBundle")
    if not text:
        return True
    try:
        pem = base64.b64decode(text)
        return not pem.strip() or bool(x509.load_pem_x509_certificates(pem))
    except (ValueError, binascii.Error):
        return False
