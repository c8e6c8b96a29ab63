"""Pods that run by script: no process, no file, only reports. For tests, demos and scale.

A container's environment (``SIM_RUN_FOR=2s``), its pod's annotations (``<container>.`` in front of a key means one
container only) or the provider's options, for all pods, say how it behaves; the nearest wins:

``sim.anynode.dev/start-delay``  how long a start takes, such as ``2s`` (default: no time)
``sim.anynode.dev/run-for``      it ends after this time (default: it runs until stopped)
``sim.anynode.dev/exit-code``    with this code (default 0)
``sim.anynode.dev/stop-delay``   how long it takes to end when asked (default: no time)
``sim.anynode.dev/stop-code``    the exit code then (default 143: ended by SIGTERM)
``sim.anynode.dev/fail``         it cannot be started; the value is ``reason: message``
``sim.anynode.dev/logs``         what it prints

In: plans; out: reports, at once where no time was asked for. Timers of all pods share one heap.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import heapq
import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from anynode.aio.clock import Clock, SystemClock
from anynode.aio.tasks import Supervisor
from anynode.api.formats import parse_duration
from anynode.api.objects import Uid, annotations_of, get_path
from anynode.provider import (
    ContainerPlan,
    ContainerReport,
    ContainerState,
    ContainerUsage,
    ExecIO,
    ImageError,
    LogOptions,
    PodIdentity,
    PodNotFound,
    PodPlan,
    PodRecord,
    PodSandbox,
    ProviderError,
    ProviderSettings,
    ReportSink,
)
from anynode.providers import addresses

PREFIX = "sim.anynode.dev/"
VARIABLE = "SIM_"
TERMINATED_CODE = 143
KILLED_CODE = 137
IMAGE_REASONS = ("ErrImagePull", "InvalidImageName", "ErrImageNeverPull")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How one container behaves; times in seconds."""

    start_delay: float = 0.0
    run_for: float | None = None
    exit_code: int = 0
    stop_delay: float = 0.0
    stop_code: int = TERMINATED_CODE
    fail: str = ""
    logs: str = ""


PLAIN = Script()


@dataclasses.dataclass(slots=True)
class _Container:
    report: ContainerReport
    script: Script
    ended: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


@dataclasses.dataclass(slots=True)
class _Pod:
    identity: PodIdentity
    sandbox: PodSandbox
    annotations: Mapping[str, str]
    containers: dict[str, _Container] = dataclasses.field(default_factory=dict)
    previous: dict[str, _Container] = dataclasses.field(default_factory=dict)


class SimProvider:
    """See the module. Options: ``cpu``, ``memory``, ``pods``, and the keys above without their prefix."""

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        network = settings.options.get("pod-cidr")
        ranges = iter([ipaddress.IPv4Network(network)]) if network else None
        self._addresses = addresses.AddressPool(ranges or addresses.ranges_of(settings.cluster_id, settings.node))
        self._pods: dict[Uid, _Pod] = {}
        self._sink: ReportSink | None = None
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._changed = asyncio.Event()

    def run(self, reports: ReportSink) -> AbstractAsyncContextManager[None]:
        return self._run(reports)

    @contextlib.asynccontextmanager
    async def _run(self, reports: ReportSink) -> AsyncIterator[None]:
        self._sink = reports
        async with Supervisor("sim", clock=self._clock) as tasks:
            tasks.start("timers", lambda: self._run_timers(tasks))
            for pod in self._pods.values():
                for container in pod.containers.values():
                    reports(container.report)
            yield
        self._sink = None

    async def _run_timers(self, tasks: Supervisor) -> None:
        while True:
            now = self._clock.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
            self._changed.clear()
            if not self._timers:
                await self._changed.wait()
                continue
            moment = self._timers[0][0]
            alarm = tasks.start("alarm", lambda moment=moment: self._alarm(moment))  # type: ignore[misc]
            await self._changed.wait()
            alarm.cancel()

    async def _alarm(self, moment: float) -> None:
        await self._clock.sleep(moment - self._clock.monotonic())
        self._changed.set()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._timers, (self._clock.monotonic() + seconds, self._serial, action))
        self._changed.set()

    # -- pods

    async def create(self, plan: PodPlan) -> PodSandbox:
        uid = plan.identity.uid
        pod = self._pods.get(uid)
        if pod is None:
            try:
                host_network = get_path(plan.pod, "spec", "hostNetwork")
                address = self._settings.node_ip if host_network else self._addresses.take()
            except LookupError as error:
                raise ProviderError("FailedCreatePodSandBox", str(error)) from error
            sandbox = PodSandbox(pod_ip=address, host_ip=self._settings.node_ip)
            pod = self._pods[uid] = _Pod(plan.identity, sandbox, annotations_of(plan.pod))
        return pod.sandbox

    async def delete(self, uid: Uid) -> None:
        pod = self._pods.pop(uid, None)
        if pod is None:
            return
        for container in pod.containers.values():
            self._end(pod, container, KILLED_CODE)
        self._addresses.free(pod.sandbox.pod_ip)

    async def list(self) -> Sequence[PodRecord]:
        return [
            PodRecord(
                identity=pod.identity,
                sandbox=pod.sandbox,
                containers=[each.report for each in pod.containers.values()],
            )
            for pod in self._pods.values()
        ]

    def capacity(self) -> Mapping[str, str]:
        options = self._settings.options
        return {
            "cpu": options.get("cpu", "32"),
            "memory": options.get("memory", "256Gi"),
            "pods": options.get("pods", "10000"),
            "ephemeral-storage": options.get("ephemeral-storage", "1Ti"),
        }

    # -- containers

    async def start(self, uid: Uid, container: ContainerPlan) -> None:
        pod = self._pod(uid)
        known = pod.containers.get(container.name)
        if known is not None and known.report.attempt >= container.attempt:
            return
        script = self._script(pod, container)
        if script.start_delay:
            await self._clock.sleep(script.start_delay)
        if script.fail:
            reason, _, message = script.fail.partition(":")
            kind = ImageError if reason in IMAGE_REASONS else ProviderError
            raise kind(reason, message.strip() or reason)
        if known is not None:
            pod.previous[container.name] = known
        digest = hashlib.sha256(f"{uid}/{container.name}/{container.attempt}".encode()).hexdigest()
        report = ContainerReport(
            uid=uid,
            container=container.name,
            attempt=container.attempt,
            state=ContainerState.RUNNING,
            container_id=f"sim://{digest}",
            image_id=f"sim@sha256:{hashlib.sha256(container.image.encode()).hexdigest()}",
            started_at=self._clock.now(),
        )
        running = pod.containers[container.name] = _Container(report, script)
        self._say(report)
        if script.run_for is not None:
            self._after(script.run_for, lambda: self._end(pod, running, script.exit_code))

    async def stop(self, uid: Uid, container: str, grace_seconds: float) -> None:
        pod = self._pods.get(uid)
        known = pod.containers.get(container) if pod is not None else None
        if pod is None or known is None or known.ended.is_set():
            return
        script = known.script
        if grace_seconds <= 0 or (script.stop_delay and script.stop_delay > grace_seconds):
            delay, code = max(0.0, grace_seconds), KILLED_CODE
        else:
            delay, code = script.stop_delay, script.stop_code
        if delay:
            self._after(delay, lambda: self._end(pod, known, code))
            await known.ended.wait()
        else:
            self._end(pod, known, code)

    def _end(self, pod: _Pod, container: _Container, code: int) -> None:
        if container.ended.is_set():
            return
        container.report = dataclasses.replace(
            container.report,
            state=ContainerState.TERMINATED,
            exit_code=code,
            signal=code - 128 if code in (TERMINATED_CODE, KILLED_CODE) else 0,
            reason="Completed" if code == 0 else "Error",
            finished_at=self._clock.now(),
        )
        container.ended.set()
        self._say(container.report)

    def _say(self, report: ContainerReport) -> None:
        if self._sink is not None:
            self._sink(report)

    def _script(self, pod: _Pod, container: ContainerPlan) -> Script:
        if not (
            self._settings.options
            or any(each.startswith(VARIABLE) for each in container.env)
            or any(each.startswith(PREFIX) for each in pod.annotations)
        ):
            return PLAIN

        def asked(key: str) -> str | None:
            own = container.env.get(VARIABLE + key.upper().replace("-", "_"))
            if own is not None:
                return own
            for name in (f"{PREFIX}{container.name}.{key}", f"{PREFIX}{key}"):
                if name in pod.annotations:
                    return pod.annotations[name]
            return self._settings.options.get(key)

        def seconds(key: str) -> float | None:
            text = asked(key)
            return None if text is None else parse_duration(text) / 1e9

        try:
            return Script(
                start_delay=seconds("start-delay") or 0.0,
                run_for=seconds("run-for"),
                exit_code=int(asked("exit-code") or 0),
                stop_delay=seconds("stop-delay") or 0.0,
                stop_code=int(asked("stop-code") or TERMINATED_CODE),
                fail=asked("fail") or "",
                logs=asked("logs") or "",
            )
        except ValueError as error:
            raise ProviderError(
                "CreateContainerConfigError", f"cannot read the script of {container.name}: {error}"
            ) from error

    # -- capabilities

    async def logs(self, uid: Uid, container: str, options: LogOptions) -> _Lines:
        pod = self._pod(uid)
        found = (pod.previous if options.previous else pod.containers).get(container)
        if found is None:
            raise PodNotFound(f'container "{container}" has not been started')
        return _Lines(found, options)

    async def exec(self, uid: Uid, container: str, command: Sequence[str], io: ExecIO) -> int:
        """Does nothing and succeeds, but for ``false`` and ``exit N``, so that probes can be scripted."""
        if self._pod(uid).containers.get(container) is None:
            raise PodNotFound(f"container not found ({container})")
        if list(command) == ["false"]:
            return 1
        if len(command) == 2 and command[0] == "exit" and command[1].isdigit():
            return int(command[1])
        if command and command[0] == "echo":
            await io.write_stdout((" ".join(command[1:]) + "\n").encode())
        return 0

    async def stats(self, uid: Uid) -> Sequence[ContainerUsage]:
        pod = self._pod(uid)
        return [
            ContainerUsage(name=name, cpu_core_nanoseconds=0, memory_working_set_bytes=0)
            for name, each in pod.containers.items()
            if not each.ended.is_set()
        ]

    def _pod(self, uid: Uid) -> _Pod:
        pod = self._pods.get(uid)
        if pod is None:
            raise PodNotFound(f"pod {uid} is not on this node")
        return pod


class _Lines:
    """A scripted log as a ``ByteReader``; following it ends with the container."""

    def __init__(self, container: _Container, options: LogOptions) -> None:
        lines = container.script.logs.splitlines(keepends=True)
        if options.tail_lines is not None:
            lines = lines[len(lines) - min(len(lines), options.tail_lines) :]
        text = "".join(lines).encode()
        self._left = text if options.limit_bytes is None else text[: options.limit_bytes]
        self._container = container
        self._follow = options.follow

    async def read(self) -> bytes:
        data, self._left = self._left, b""
        if not data and self._follow:
            await self._container.ended.wait()
        return data

    async def close(self) -> None:
        self._left = b""


def provider(settings: ProviderSettings) -> SimProvider:
    """The factory of the entry point ``sim``."""
    return SimProvider(settings)
