"""Get, list and watch: one reading of the resourceVersion rules, answered from the watch cache.

Source: apiserver ``pkg/endpoints/handlers/{get,watch}.go``, ``pkg/storage/{interfaces,util}.go``,
``pkg/storage/cacher``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anynode.aio.clock import Clock
from anynode.api import errors, selectors
from anynode.api.wire import ApiRequest, ApiResponse, WatchEvent, WatchSink, WatchSource
from anynode.apiserver.binary_forms import ProtobufForm
from anynode.apiserver.forms import ListForm
from anynode.apiserver.requestinfo import RequestInfo, is_true
from anynode.apiserver.served import Served
from anynode.registry import continuation
from anynode.registry.items import ERROR, Item, event_in
from anynode.registry.watch_cache import WatchCache
from anynode.registry.watchers import Selection, Watcher
from anynode.schema import fields
from anynode.storage.types import Compacted, FutureRevision, Revision, Storage, StorageUnavailable

FUTURE_WAIT_SECONDS = 3.0
MIN_TIMEOUT_SECONDS = 1800
LOOKED_THROUGH_AT_ONCE = 500
_MOST_DIGITS = 30
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FIELD_WORDS = frozenset({
    "pods", "nodes", "namespaces", "secrets", "services", "replicationcontrollers", "events",
    "certificatesigningrequests.certificates.k8s.io", "events.events.k8s.io",
})  # fmt: skip
"""Kinds whose field labels upstream converts itself, and refuses in other words."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """The parameters of a list or watch, as read from the query."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    match: str = ""
    limit: int = 0
    token: str = ""
    timeout_seconds: int = 0
    bookmarks: bool = False
    initial_events: bool | None = None


PLAIN = ListOptions()


def list_options(request: ApiRequest, *, watch: bool = False) -> ListOptions:
    """The request's options; raises ``BadRequest`` or ``Invalid``."""
    query = request.query
    if not query:
        return PLAIN
    initial = query.get("sendInitialEvents")
    options = ListOptions(
        label_selector=request.argument("labelSelector"),
        field_selector=request.argument("fieldSelector"),
        resource_version=request.argument("resourceVersion"),
        match=request.argument("resourceVersionMatch"),
        limit=max(0, _integer(query.get("limit"))),
        token=request.argument("continue"),
        timeout_seconds=_integer(query.get("timeoutSeconds")),
        bookmarks=is_true(request.argument("allowWatchBookmarks")),
        initial_events=is_true(initial[0]) if initial and initial[0] else None,
    )
    if options.match or options.initial_events is not None or (watch and options.token):
        found = list(_watch_errors(options) if watch else _list_errors(options))
        if found:
            raise errors.invalid("ListOptions", "meta.k8s.io", "", fields.causes(found))
    return options


def _integer(values: Sequence[str] | None) -> int:
    if not values:
        return 0
    text = values[0]
    if not _INTEGER.fullmatch(text):
        raise errors.BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(text) > _MOST_DIGITS or not -(2**63) <= int(text) < 2**63:
        raise errors.BadRequest(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)


_MATCH = fields.FieldPath("resourceVersionMatch")
_INITIAL = fields.FieldPath("sendInitialEvents")


def _list_errors(options: ListOptions) -> Iterable[fields.FieldError]:
    match = options.match
    if match:
        if not options.resource_version:
            yield fields.forbidden(_MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided")
        if options.token:
            yield fields.forbidden(_MATCH, "resourceVersionMatch is forbidden when continue is provided")
        if match not in ("Exact", "NotOlderThan"):
            yield fields.not_supported(_MATCH, match, ("Exact", "NotOlderThan", ""))
        if match == "Exact" and options.resource_version == "0":
            yield fields.forbidden(_MATCH, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    if options.initial_events is not None:
        yield fields.forbidden(_INITIAL, "sendInitialEvents is forbidden for list")


def _watch_errors(options: ListOptions) -> Iterable[fields.FieldError]:
    match = options.match
    if options.initial_events is not None and match != "NotOlderThan":
        yield fields.forbidden(_MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    if match:
        if options.initial_events is None:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            yield fields.forbidden(_MATCH, why)
        if match != "NotOlderThan":
            yield fields.not_supported(_MATCH, match, ("NotOlderThan",))
    if options.token:
        yield fields.forbidden(_MATCH, "resourceVersionMatch is forbidden when continue is provided")


def selection_of(served: Served, info: RequestInfo, options: ListOptions) -> Selection:
    """Which objects are asked for; raises ``BadRequest`` for selectors that cannot be read."""
    if not options.label_selector and not options.field_selector:
        return Selection(key=info.namespace, namespace=info.namespace)
    try:
        labels = selectors.parse_labels(options.label_selector)
        wanted = selectors.parse_fields(options.field_selector)
    except selectors.SelectorError as error:
        raise errors.BadRequest(str(error)) from error
    wanted = _as_stored(served, wanted)
    name = wanted.required_value("metadata.name") or ""
    return Selection(
        key=f"{info.namespace}|{labels}|{wanted}",
        namespace=info.namespace,
        name=name if info.namespace or not served.resource.namespaced else "",
        labels=None if labels.empty else labels.matches,
        fields=None if wanted.empty else wanted.matches,
        read_fields=served.kind.read_fields,
        pinned={term.field: term.value for term in wanted.terms if term.equal},
    )


def _as_stored(served: Served, wanted: selectors.FieldSelector) -> selectors.FieldSelector:
    """``wanted`` by the names the stored kind has for its fields; raises ``BadRequest`` for unknown ones."""
    known = {name: name for name in ("metadata.name", "metadata.namespace")} | dict(served.view.field_labels)
    if served.custom is not None and not served.resource.namespaced:
        del known["metadata.namespace"]
    for term in wanted.terms:
        if term.field in known:
            continue
        resource = served.resource
        if resource.qualified in _FIELD_WORDS or served.custom is not None:
            raise errors.BadRequest(f"field label not supported: {term.field}")
        if resource.qualified == "jobs.batch":
            raise errors.BadRequest(f'field label "{term.field}" not supported for Job')
        if resource.qualified == "resourceslices.resource.k8s.io":
            what = f"{resource.api_version}, Kind={resource.kind}"
            raise errors.BadRequest(f"field label not supported for {what}: {term.field}")
        raise errors.BadRequest(
            f'"{term.field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
        )
    terms = (dataclasses.replace(term, field=known[term.field]) for term in wanted.terms)
    return selectors.FieldSelector(terms)


def _revision(text: str) -> Revision:
    """A resourceVersion parameter; raises ``ValueError`` with upstream's words."""
    if not text.isascii() or not text.isdigit():
        raise ValueError(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    if len(text) > _MOST_DIGITS or int(text) >= 2**64:
        raise ValueError(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": value out of range'
        )
    return Revision(int(text))


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """Objects of one list and the list's metadata."""

    items: Sequence[Item]
    metadata: Mapping[str, Any]


async def _selected(items: Iterable[Item], selection: Selection, limit: int) -> Sequence[Item]:
    """The items asked for, one more than ``limit`` at most; looked through in parts, that others have their turns."""
    every = list(items)
    kept: list[Item] = []
    for begin in range(0, len(every), LOOKED_THROUGH_AT_ONCE):
        if begin:
            await asyncio.sleep(0)
        kept.extend(filter(selection.matches, every[begin : begin + LOOKED_THROUGH_AT_ONCE]))
        if limit and len(kept) > limit:
            break
    return kept


class Reader:
    """Answers reads of every resource."""

    def __init__(self, cache: WatchCache, storage: Storage, clock: Clock) -> None:
        self._cache = cache
        self._storage = storage
        self._clock = clock

    async def item(self, served: Served, info: RequestInfo, request: ApiRequest) -> Item:
        """The object a GET names; raises ``NotFound``."""
        version = request.argument("resourceVersion") if request.query else ""
        if request.query and is_true(request.argument("export")):
            raise errors.BadRequest("the export parameter, deprecated since v1.14, is no longer supported")
        if not version and self._cache.shared:
            await self.catch_up()
        if version:
            try:
                await self._until(_revision(version))
            except ValueError as error:
                raise errors.ApiError(str(error), reason="") from error
        key = f"{info.namespace}/{info.name}" if info.namespace else info.name
        cache = served.store.cache
        found = cache.items.get(key) if cache.behind is None else await served.store.current(key)
        if found is None:
            if key in cache.damaged:
                raise errors.InternalError(f"Internal error occurred: {cache.damaged[key]}")
            raise errors.not_found(served.resource, info.name)
        return found

    @property
    def shared(self) -> bool:
        return self._cache.shared

    @property
    def revision(self) -> Revision:
        return self._cache.revision

    async def catch_up(self) -> None:
        """Return when reads show what any server of this store acknowledged; raises ``ServerTimeout``."""
        try:
            await self._cache.catch_up()
        except StorageUnavailable as error:
            raise errors.ServerTimeout(str(error), retry_after_seconds=1) from error

    async def _until(self, revision: Revision) -> None:
        """Wait until the store has come to ``revision``; raises ``Timeout`` after three seconds."""
        if revision <= self._cache.revision:
            return
        reached = asyncio.Event()
        self._cache.when_reached(revision, reached.set)
        deadline = self._clock.monotonic() + FUTURE_WAIT_SECONDS
        while not reached.is_set() and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.1)
        self._cache.forget_waiting(reached.set)
        if revision > self._cache.revision:
            raise self._too_large(revision)

    def _too_large(self, revision: int) -> errors.Timeout:
        return errors.Timeout(
            f"Timeout: Too large resource version: {revision}, current: {self._cache.revision}",
            causes=[errors.Cause(reason="ResourceVersionTooLarge", message="Too large resource version")],
            retry_after_seconds=1,
        )

    # --- lists

    async def list(self, served: Served, info: RequestInfo, options: ListOptions) -> Listing:
        """What a list request is answered with."""
        selection = selection_of(served, info, options)
        scope = f"{info.namespace}/" if info.namespace else ""
        version = await self._list_version(options)
        cache = served.store.cache
        if cache.damaged:
            key, why = next(iter(cache.damaged.items()))
            raise errors.InternalError(f'Internal error occurred: unable to transform key "{cache.prefix}{key}": {why}')
        if cache.behind is not None:
            await cache.reach(self._cache.revision)
        start, revision = "", self._cache.revision_of(cache)
        exact = options.match == "Exact" or (bool(version) and bool(options.limit) and not options.match)
        any_version = options.resource_version == "0" and options.match != "Exact"
        if options.token:
            found = continuation.decode(options.token)
            start = scope + found.start
            if found.revision > 0:
                revision, exact = Revision(found.revision), True
        elif exact and version:
            revision = version
        source = await self._scan(served, scope, start, revision, options) if exact else None
        items = served.store.cache.scan(scope, start) if source is None else source
        limit = 0 if any_version else options.limit
        if not selection.unfiltered:
            items = await _selected(items, selection, limit)
        return self._page(served, selection, scope, items, limit, revision, start)

    async def _list_version(self, options: ListOptions) -> Revision:
        """The version a list names (0: none), reached."""
        text = options.resource_version
        if not text:
            if self._cache.shared and not options.token:
                await self.catch_up()
            return Revision(0)
        try:
            version = _revision(text)
        except ValueError as error:
            raise errors.BadRequest(f"invalid resource version: {error}") from error
        if options.token and version:
            continuation.decode(options.token)
            raise errors.BadRequest("specifying resource version is not allowed when using continue")
        await self._until(version)
        return version

    async def _scan(
        self, served: Served, scope: str, start: str, revision: Revision, options: ListOptions
    ) -> Iterable[Item]:
        """The objects as they were at ``revision``."""
        cache = served.store.cache
        if revision > self._cache.revision:
            refusal = self._too_large(revision)
            refusal.retry_after_seconds = None
            raise refusal
        if revision >= self._storage.oldest_revision and cache.knows(revision):  # what is compacted is gone for all
            return cache.scan_at(revision, scope, start)
        prefix = cache.prefix
        try:
            page = await self._storage.list(prefix + scope, revision=revision, start=prefix + start if start else "")
        except Compacted as error:
            raise self._expired(options, start[len(scope) :]) from error
        except FutureRevision as error:
            raise self._too_large(revision) from error
        return await cache.items_of(page.records)

    def _expired(self, options: ListOptions, start: str) -> errors.Expired:
        if not options.token:
            return errors.Expired("The resourceVersion for the provided list is too old.")
        token = continuation.encode(start.removesuffix("\0"), continuation.INCONSISTENT)
        return errors.Expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results. Continuing with the provided token results in an inconsistent list - objects that were "
            "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
            "list.",
            metadata={"continue": token},
        )

    def _page(
        self,
        served: Served,
        selection: Selection,
        scope: str,
        items: Iterable[Item],
        limit: int,
        revision: Revision,
        start: str,
    ) -> Listing:
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if not limit:
            return Listing(list(items), metadata)
        source = iter(items)
        taken = list(itertools.islice(source, limit))
        if len(taken) < limit:
            return Listing(taken, metadata)
        if selection.unfiltered:
            remaining = (
                sum(1 for _ in source)
                if start or revision != self._cache.revision_of(served.store.cache)
                else (served.store.cache.count(scope, start) - limit)
            )
            if remaining > 0:
                metadata["continue"] = continuation.encode(taken[-1].key[len(scope) :], revision)
                metadata["remainingItemCount"] = remaining
        elif next(source, None) is not None:
            metadata["continue"] = continuation.encode(taken[-1].key[len(scope) :], revision)
        return Listing(taken, metadata)

    # --- watches

    async def watch(
        self, served: Served, info: RequestInfo, options: ListOptions, form: ListForm, default_timeout: float
    ) -> ApiResponse:
        """A watch ready to begin; raises ``ApiError`` for what can be refused beforehand."""
        selection = selection_of(served, info, options)
        if info.name and not selection.name:
            selection = dataclasses.replace(selection, key=f"{selection.key}|{info.name}", name=info.name)
        version: Revision | None = None
        if options.resource_version:
            try:
                version = _revision(options.resource_version)
            except ValueError as error:
                raise errors.ApiError(str(error), reason="") from error
        cache = served.store.cache
        if self._cache.shared and not options.resource_version and options.initial_events is not False:
            await self.catch_up()
        if cache.behind is not None:
            await cache.reach(self._cache.revision)
        source = _Watch(
            self._cache, served, selection, form, options, version, options.timeout_seconds or default_timeout
        )
        return ApiResponse(watch=source)


class _Watch(WatchSource):
    """A watch that was accepted."""

    def __init__(
        self,
        cache: WatchCache,
        served: Served,
        selection: Selection,
        form: ListForm,
        options: ListOptions,
        version: Revision | None,
        timeout_seconds: float,
    ) -> None:
        self._cache = cache
        self._resource_cache = served.store.cache
        self._selection = selection
        self._form = form
        self._options = options
        self._version = version
        self._timeout_seconds = timeout_seconds
        self._watcher: Watcher | None = None

    def start(self, sink: WatchSink) -> None:
        options, version = self._options, self._version
        listing = bool(options.initial_events)
        if options.initial_events is False:
            initial = False
            after = version if version else None
        else:
            initial = listing or not version
            after = version if not initial else None
        if listing and version is not None and version > self._cache.revision:
            self._refuse(sink, version)
            return
        try:
            self._watcher = self._cache.start(
                self._resource_cache,
                self._selection,
                self._form,
                sink,
                after=after,
                initial=initial,
                mark_initial_end=listing and options.bookmarks,
                bookmarks=options.bookmarks,
                timeout_seconds=self._timeout_seconds,
            )
        except errors.ApiError as error:
            self._fail(sink, error)

    def _refuse(self, sink: WatchSink, version: Revision) -> None:
        self._fail(
            sink,
            errors.Timeout(
                f"Timeout: Too large resource version: {version}, current: {self._cache.revision}",
                causes=[errors.Cause(reason="ResourceVersionTooLarge", message="Too large resource version")],
                retry_after_seconds=1,
            ),
        )

    def _fail(self, sink: WatchSink, error: errors.ApiError) -> None:
        form, status = self._form, error.status()
        if isinstance(form, ProtobufForm):
            sink.deliver([event_in(form, ERROR, form.status(status))])
        else:
            sink.deliver([WatchEvent(ERROR, obj=status)])
        sink.end()

    def stop(self) -> None:
        if self._watcher is not None:
            self._resource_cache.watchers.remove(self._watcher)
            self._watcher = None
