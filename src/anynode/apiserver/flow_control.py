"""Priority and fairness: every request gets a seat of its priority level, waits for one, or is told to come again.

In: who asks for what. Out: a ``Place`` (level, hand of queues, headers), remembered per user and kind of request until
a FlowSchema or PriorityLevelConfiguration changes. Also keeps these objects: mandatory and suggested ones as they ship,
and every schema's ``Dangling`` condition. Source: apiserver ``pkg/util/flowcontrol``, ``pkg/server/filters``;
kubernetes ``pkg/registry/flowcontrol/{ensurer,rest}``, 1.36.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from anynode.aio.clock import Clock
from anynode.api.errors import ApiError
from anynode.api.objects import Object, annotations_of, condition_of, meta, name_of, with_meta
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver.fair_queues import Level, Pool, Rejected
from anynode.apiserver.flow_rules import CATCH_ALL, EXEMPT, FlowConfig, dangling, distinguisher_of, hand_of
from anynode.apiserver.requestinfo import RequestInfo
from anynode.apiserver.served import Served
from anynode.registry.deletion import timestamp
from anynode.registry.store import ResourceStore, Write
from anynode.security import bootstrap

logger = logging.getLogger(__name__)

SEATS = 600
"""Requests under way at once, of all levels together: upstream's 400 reading and 200 writing."""
MOST_WATCHES = 50_000
MOST_REMEMBERED = 10_000
MOST_PATH = 512
"""Where requests with longer paths belong is found each time: anybody may make them up."""
BYTES_PER_SEAT = 100_000
MOST_LIST_BYTES = 1_000_000
ENSURE_SECONDS = 60.0
GROUP = "flowcontrol.apiserver.k8s.io"
AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"
CONSUMER, PRODUCER = "api-priority-and-fairness-config-consumer-v1", "api-priority-and-fairness-config-producer-v1"
_SELF = User(name="system:apiserver", groups=("system:masters",))

Find = Callable[[str, str, str], Served | None]


class Place:
    """Where requests of one flow are served. ``headers`` go with every answer."""

    __slots__ = ("hand", "headers", "level")

    def __init__(self, level: Level, hand: Sequence[int], headers: Mapping[str, str]) -> None:
        self.level = level
        self.hand = hand
        self.headers = headers


def too_many(retry_seconds: int, headers: Mapping[str, str]) -> ApiResponse:
    """The answer to a request there is no room for."""
    return ApiResponse(
        status=429,
        headers={**headers, "retry-after": str(retry_seconds), "x-content-type-options": "nosniff"},
        content_type="text/plain; charset=utf-8",
        body=b"Too many requests, please try again later.\n",
    )


class FlowControl:
    """Classifies and seats. ``schemas`` and ``levels``: the stored objects; ``watching``: how many watches are on."""

    def __init__(
        self,
        schemas: ResourceStore,
        levels: ResourceStore,
        *,
        clock: Clock,
        seats: int = SEATS,
        watching: Callable[[], int] = lambda: 0,
    ) -> None:
        self._schema_store = schemas
        self._level_store = levels
        self._clock = clock
        self._watching = watching
        self._seats = seats
        self._pool = Pool(seats)
        self._levels: dict[str, Level] = {}
        self._config = FlowConfig((), (), seats)
        self._places: dict[tuple[object, ...], Place] = {}
        self._stale = True
        self._changed = True
        self._woken = asyncio.Event()
        for store in (schemas, levels):
            store.cache.listeners.append(self._forget)

    def _forget(self, _: object) -> None:
        self._stale = self._changed = True
        self._woken.set()

    # --- requests

    def place(self, user: User, info: RequestInfo) -> Place:
        """Where the request is served."""
        if self._stale:
            self._configure()
        what = (info.group, info.plural, info.subresource, info.namespace) if info.is_resource else (info.path,)
        slot = (user.name, user.groups, info.verb, *what)
        found = self._places.get(slot)
        if found is None:
            if len(info.path) > MOST_PATH:
                return self._placed(user, info)
            if len(self._places) >= MOST_REMEMBERED:
                self._places.clear()
            found = self._places[slot] = self._placed(user, info)
        return found

    def _placed(self, user: User, info: RequestInfo) -> Place:
        schema = self._config.schema_of(user, info)
        level = self._levels[schema.level]
        headers = {
            "x-kubernetes-pf-flowschema-uid": schema.uid,
            "x-kubernetes-pf-prioritylevel-uid": level.config.uid,
        }
        queuing = level.config.queuing
        hand = hand_of(schema.name, distinguisher_of(schema, user, info), queuing) if queuing else ()
        return Place(level, hand, headers)

    def width(self, place: Place, info: RequestInfo, request: ApiRequest, find: Find) -> int:
        """How many seats a request takes: a long list of what ``find`` knows more than one."""
        most = place.level.config.most_per_request
        if most <= 1 or info.verb not in ("list", "watch") or info.name:
            return 1
        if info.verb == "watch":
            version = request.argument("resourceVersion")
            if version not in ("", "0") and request.argument("sendInitialEvents") != "true":
                return 1
        served = find(info.group, info.version, info.plural)
        items = served.store.cache.items if served is not None else {}
        if len(items) < 10:
            return 1
        count, limit = len(items), request.argument("limit")
        if limit.isdecimal() and int(limit) > 0:
            count = min(count, int(limit))
        ends = next(iter(items.values())), next(reversed(items.values()))  # the first is often the server's own
        size = max(len(each.value) for each in ends)
        return max(1, min(most, math.ceil(min(count * size, MOST_LIST_BYTES) / BYTES_PER_SEAT)))

    def is_watched_out(self) -> bool:
        """Whether there are as many watches as a server keeps."""
        return self._watching() >= MOST_WATCHES

    async def wait(self, place: Place, width: int) -> int:
        """Return with the seats taken, 0, or in how many seconds to come again."""
        try:
            await place.level.wait(place.hand, width, self._clock.monotonic())
        except Rejected as rejected:
            return rejected.retry_seconds
        return 0

    # --- configuration

    def _configure(self) -> None:
        self._stale = False
        config = FlowConfig(_objects(self._schema_store), _objects(self._level_store), self._seats)
        for name, each in config.levels.items():
            level = self._levels.get(name)
            if level is None:
                self._levels[name] = Level(each, self._pool)
            else:
                level.configure(each)
        for name in [name for name in self._levels if name not in config.levels]:
            level = self._levels[name]
            if not level.used and not level.waiting:
                del self._levels[name]
        self._config = config
        self._places.clear()

    def gauges(self) -> Mapping[str, Callable[[], Mapping[str, float]]]:
        """Metrics by name: label text -> value."""

        def read(field: str) -> Callable[[], Mapping[str, float]]:
            return lambda: {f'priority_level="{name}"': getattr(each, field) for name, each in self._levels.items()}

        def limits() -> Mapping[str, float]:
            return {f'priority_level="{name}"': each.config.nominal for name, each in self._levels.items()}

        return {
            "apiserver_flowcontrol_nominal_limit_seats": limits,
            "apiserver_flowcontrol_current_executing_seats": read("used"),
            "apiserver_flowcontrol_current_inqueue_requests": read("waiting"),
            "apiserver_flowcontrol_rejected_requests_total": read("rejected"),
        }

    async def run(self) -> None:
        """Send away who waited too long, for ever."""
        while True:
            await self._clock.sleep(1.0)
            now = self._clock.monotonic()
            for level in tuple(self._levels.values()):
                level.sweep(now)

    async def tell(self) -> None:
        """Say of changed schemas at once whether they lead anywhere, for ever; ``keep`` makes up for what failed."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self._tell_dangling()
            except ApiError:
                continue
            self._changed = False

    async def keep(self) -> None:
        """Keep the objects as they should be, for ever."""
        ensured = self._clock.monotonic() - ENSURE_SECONDS
        while True:
            now = self._clock.monotonic()
            try:
                if now - ensured >= ENSURE_SECONDS:
                    await self._ensure()
                    ensured = now
                if self._changed:
                    self._changed = False
                    await self._tell_dangling()
            except ApiError as error:
                logger.warning("flow control objects were not kept up to date and will be", exc_info=error)
                ensured, self._changed = now, True
            await self._clock.sleep(1.0)

    async def _ensure(self) -> None:
        """Make the mandatory and suggested objects be there, and say what they should where nobody took them over."""
        for resource, obj in bootstrap.objects():
            if resource.group != GROUP:
                continue
            store = self._schema_store if resource.plural == "flowschemas" else self._level_store
            item = store.find(name_of(obj))
            whole = store.kind.rules.default(obj)
            write = Write(user=_SELF, manager=PRODUCER, trusted=True)
            if item is None:
                await store.create({**whole, "apiVersion": resource.api_version, "kind": resource.kind}, write)
            elif item.object.get("spec") != whole["spec"] and _is_ours(item.object):
                spec = whole["spec"]

                def restored(old: Object | None, spec: Object = spec) -> Object:
                    return {**(old or {}), "spec": spec}

                await store.update(name_of(obj), restored, write)

    async def _tell_dangling(self) -> None:
        levels = [name_of(each) for each in _objects(self._level_store)]
        for schema in list(_objects(self._schema_store)):
            wanted = dangling(schema, levels)
            found = condition_of(schema, "Dangling") or {}
            if {field: found.get(field) for field in wanted} == wanted:
                continue
            condition = {**wanted, "lastTransitionTime": timestamp(self._clock.now())}
            write = Write(user=_SELF, manager=CONSUMER, subresource="status", trusted=True, applied=True)

            def told(old: Object | None, condition: Object = condition) -> Object:
                return with_meta(
                    {**(old or {}), "status": {"conditions": [condition]}},
                    managedFields=_owned(meta(old or {}).get("managedFields") or (), condition["lastTransitionTime"]),
                )

            store = self._schema_store
            await store.update(name_of(schema), told, write, rules=store.status_rules)


def _objects(store: ResourceStore) -> Iterable[Object]:
    return (item.object for item in store.cache.items.values())


def _owned(entries: Sequence[Object], moment: str) -> list[Object]:
    """Field ownership with the condition as this server's, applied."""
    fields = ("lastTransitionTime", "message", "reason", "status", "type")
    owned: Object = {".": {}, **{f"f:{field}": {} for field in fields}}
    entry = {
        "manager": CONSUMER,
        "operation": "Apply",
        "apiVersion": f"{GROUP}/v1",
        "time": moment,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:status": {"f:conditions": {'k:{"type":"Dangling"}': owned}}},
        "subresource": "status",
    }
    return [entry, *(each for each in entries if each.get("manager") != CONSUMER)]


def _is_ours(obj: Object) -> bool:
    """Whether the server keeps the object's spec: always for mandatory ones, else unless somebody said no."""
    if name_of(obj) in (EXEMPT, CATCH_ALL):
        return True
    return annotations_of(obj).get(AUTO_UPDATE) == "true"
