"""Startup, liveness and readiness probes: when each is due, and when its results count.

``ProbeRun`` decides (pure, ``now`` in monotonic seconds); ``Prober`` keeps all of a node's probes in one heap and one
loop, so that a waiting probe costs no task. Results go to a callback. Source: kubelet ``pkg/kubelet/prober/worker.go``
and ``prober_manager.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import heapq
from typing import Protocol

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.objects import Object, Uid, meta
from anynode.node.handlers import HandlerError, HandlerFailed, Handlers

CONCURRENT = 64
AGAIN = Backoff(first_seconds=1.0, most_seconds=60.0)
"""A try that fails in a way nobody foresaw is logged and made again; it must not take other pods with it."""


class ProbeKind(enum.Enum):
    """The value is upstream's name in events."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"

    @property
    def field(self) -> str:
        return f"{self.value.lower()}Probe"


class ProbeOwner(Protocol):
    """Whose probes they are: tries them, and is told what comes of it."""

    @property
    def handlers(self) -> Handlers: ...

    def probed(self, run: ProbeRun, success: bool) -> None:
        """A result that counts."""
        ...

    def unhealthy(self, run: ProbeRun, message: str) -> None:
        """One failed try."""
        ...


@dataclasses.dataclass(slots=True, kw_only=True)
class ProbeRun:
    """One probe of one attempt of a container."""

    owner: ProbeOwner
    uid: Uid
    pod: Object
    container: Object
    kind: ProbeKind
    attempt: int
    pod_ip: str
    started: bool
    last: bool | None = None
    repeated: int = 0
    stopped: bool = False

    @property
    def spec(self) -> Object:
        found: Object = self.container[self.kind.field]
        return found

    @property
    def period_seconds(self) -> float:
        return float(self.spec.get("periodSeconds") or 10)

    def first_delay(self, running_for: float) -> float:
        """Seconds until the first try. A liveness probe without a delay waits one period, the others not at all."""
        delay = float(self.spec.get("initialDelaySeconds") or 0)
        if not delay and self.kind is ProbeKind.LIVENESS:
            delay = self.period_seconds
        return max(0.0, delay - running_for)

    def judge(self, success: bool) -> bool | None:
        """The result that counts now, or None below the threshold. Startup and failed liveness probes then rest."""
        self.repeated = self.repeated + 1 if self.last is success else 1
        self.last = success
        key, default = ("successThreshold", 1) if success else ("failureThreshold", 3)
        if self.repeated < int(self.spec.get(key) or default):
            return None
        if self.kind is ProbeKind.STARTUP or (self.kind is ProbeKind.LIVENESS and not success):
            self.stopped = True
        return success


class Prober:
    """All probes of a process."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, ProbeRun]] = []
        self._runs: dict[Uid, list[ProbeRun]] = {}
        self._serial = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(CONCURRENT)

    def add(
        self,
        owner: ProbeOwner,
        pod: Object,
        container: Object,
        attempt: int,
        *,
        pod_ip: str,
        started: bool,
        age: float,
    ) -> None:
        """Begin probing an attempt; ``age``: how many seconds it has been running."""
        uid = Uid(meta(pod).get("uid", ""))
        for kind in ProbeKind:
            if container.get(kind.field) is None or (kind is ProbeKind.STARTUP and started):
                continue
            run = ProbeRun(
                owner=owner,
                uid=uid,
                pod=pod,
                container=container,
                kind=kind,
                attempt=attempt,
                pod_ip=pod_ip,
                started=started,
            )
            self._runs.setdefault(uid, []).append(run)
            if started or kind is ProbeKind.STARTUP:
                self._schedule(run, run.first_delay(age))

    def container_started(self, uid: Uid, container: str, age: float) -> None:
        """Its startup probe succeeded: the others begin."""
        for run in self._runs.get(uid, ()):
            if run.container["name"] == container and not run.started and not run.stopped:
                run.started = True
                if run.kind is not ProbeKind.STARTUP:
                    self._schedule(run, run.first_delay(age))

    def remove(self, uid: Uid, container: str | None = None, kinds: tuple[ProbeKind, ...] = tuple(ProbeKind)) -> None:
        """End the probes of a pod, or of one container of it."""
        runs = self._runs.get(uid)
        if runs is None:
            return
        left = []
        for run in runs:
            if run.kind in kinds and container in (None, run.container["name"]):
                run.stopped = True
            else:
                left.append(run)
        if left:
            self._runs[uid] = left
        else:
            del self._runs[uid]

    def _schedule(self, run: ProbeRun, seconds: float) -> None:
        self._serial += 1
        heapq.heappush(self._due, (self._clock.monotonic() + seconds, self._serial, run))
        self._changed.set()

    async def run(self) -> None:
        """Probe until cancelled."""
        async with Supervisor("probes", clock=self._clock) as tasks:
            while True:
                now = self._clock.monotonic()
                while self._due and self._due[0][0] <= now:
                    _, _, run = heapq.heappop(self._due)
                    if not run.stopped:
                        tasks.start(
                            f"{run.kind.value} {run.uid} {run.container['name']}", functools.partial(self._try, run)
                        )
                await self._sleep(tasks)

    async def _sleep(self, tasks: Supervisor) -> None:
        """Until the next is due or the heap changed."""
        self._changed.clear()
        if not self._due:
            await self._changed.wait()
            return
        alarm = tasks.start("alarm", functools.partial(self._alarm, self._due[0][0]))
        await self._changed.wait()
        alarm.cancel()

    async def _alarm(self, moment: float) -> None:
        await self._clock.sleep(moment - self._clock.monotonic())
        self._changed.set()

    async def _try(self, run: ProbeRun) -> None:
        began = self._clock.monotonic()
        success: bool | None = True
        async with self._room:
            try:
                await run.owner.handlers.probe(run.pod, run.container, run.spec, run.pod_ip)
            except HandlerFailed as error:
                success = False
                if not run.stopped:
                    run.owner.unhealthy(run, f"{run.kind.value} probe failed: {error}")
            except HandlerError as error:
                success = None
                if not run.stopped:
                    run.owner.unhealthy(run, f"{run.kind.value} probe errored and resulted in unknown state: {error}")
        if run.stopped:
            return
        counted = None if success is None else run.judge(success)
        if counted is not None:
            run.owner.probed(run, counted)
        if not run.stopped:
            self._schedule(run, max(0.0, run.period_seconds - (self._clock.monotonic() - began)))
