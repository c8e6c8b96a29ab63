"""Carries one pod through its life: asks ``pod_machine`` what to do, does it with the provider, tells the API.

One pass (``sync``) runs at a time per pod, as a kubelet's pod worker: the status is worked out at its beginning,
starts and hooks are awaited in it, and what happens meanwhile leads to the next pass. Ending a pod: everything is
stopped, the last status is written, then the API object may go. Source: kubelet ``pkg/kubelet/kubelet.go`` (SyncPod,
SyncTerminatingPod, SyncTerminatedPod), ``pkg/kubelet/kuberuntime``, 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.formats import format_duration, parse_time
from anynode.api.objects import (
    Object,
    ResourceVersion,
    Uid,
    annotations_of,
    get_path,
    is_deleting,
    key_of,
    labels_of,
    meta,
    resource_version_of,
)
from anynode.informers.recorder import EventRecorder
from anynode.node import pod_machine, pod_plan, pod_recovery, pod_status
from anynode.node.handlers import HandlerError, HandlerFailed, Handlers
from anynode.node.pod_lookups import NodeSide, PodLookups
from anynode.node.pod_machine import ContainerRecord, Kill, Kind, PodState, Start
from anynode.node.probes import ProbeKind, Prober, ProbeRun
from anynode.provider import (
    ContainerReport,
    ContainerState,
    ImageError,
    Images,
    PodPlan,
    PodRecord,
    Provider,
    ProviderError,
    VolumeUpdates,
)

logger = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
MOUNT_FIRST_SECONDS = 0.5
MOUNT_MOST_SECONDS = 122.0
PULL_RETRY_SECONDS = 1.0
REFRESH_SECONDS = 60.0
REPORT_SECONDS = 5.0
EARLY_SECONDS = 1.0
SOON_SECONDS = 0.1
KILL_AGAIN = Backoff(first_seconds=1.0, most_seconds=30.0)
ROUTINE = ("Pulled", "Created", "Started", "Killing")
DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


class Engine(Protocol):
    """What wakes workers and writes their statuses; see ``pod_engine``."""

    prober: Prober
    tasks: Supervisor

    def wake(self, worker: PodWorker, seconds: float = 0.0) -> None: ...

    def changed(self, worker: PodWorker, seconds: float = 0.0) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodContext:
    """What all pods of a node share."""

    node_name: str
    cluster_id: str
    side: NodeSide
    provider: Provider
    lookups: PodLookups
    recorder: EventRecorder
    handlers: Handlers
    clock: Clock
    engine: Engine
    container_events: bool
    admit: Callable[[Object], tuple[str, str] | None]
    ended: Callable[[Uid], None]
    """A pod needs nothing of the node's resources any more."""
    removed: Callable[[PodWorker], None]
    """Nothing of a pod is left."""


class PodWorker:
    """One pod of the node, from its first sight to the removal of its last trace."""

    def __init__(self, context: PodContext, pod: Object, record: PodRecord | None) -> None:
        self._context = context
        self.uid = Uid(meta(pod).get("uid", ""))
        self.pod = pod
        self.state = PodState(pod=pod)
        self.api_status: Object = pod.get("status") or {}
        """The status the API server has, as far as we know."""
        self.status: Object = self.api_status
        """The status it should have."""
        self.gone = False
        """The API object is gone (or another one has its name)."""
        self.ended = False
        """Everything was stopped for good; the status is the last."""
        self.running_here = True
        """The node is there; without it nothing more is done for the pod."""
        self.removed = False
        """The provider holds nothing of it any more."""
        self.published = False
        self.written_version = ResourceVersion("")
        """The object's version after our last write."""
        self.admitted = bool(self.api_status.get("startTime")) or record is not None
        self._mount_failures = 0
        self._refresh_at = float("inf")
        self._grace_changed = asyncio.Event()
        self._reported = asyncio.Event()
        self._grace: int | None = None
        self._news = self._stale = False
        self.syncing = False
        self._ending = 0
        """How many containers are being ended now."""
        self._early_until = 0.0
        self._early: dict[str, ContainerReport] = {}
        """Ends of containers that wait until somebody was told that these ran."""
        self._recover(record)

    # -- what happens from outside

    def update(self, pod: Object) -> None:
        """The API object changed; volumes that show its labels or annotations follow at once."""
        if self._refresh_at < float("inf") and _shown(self.pod) != _shown(pod):
            self._refresh_at = self._context.clock.monotonic()
        self.pod = pod
        self.state.pod = pod
        old_grace = self._grace
        self._grace = meta(pod).get("deletionGracePeriodSeconds")
        if self._grace is not None and old_grace is not None and self._grace < old_grace:
            self._grace_changed.set()

    def vanish(self, last: Object) -> None:
        """The API object is gone."""
        if not self.gone:
            self.gone = True
            self.update(last)
            self._grace_changed.set()

    def observe(self, report: ContainerReport) -> bool:
        """A report of the provider; whether it says something new."""
        if self._is_early(report):
            self._early[report.container] = report
            self._early_until = self._context.clock.monotonic() + EARLY_SECONDS
            self._context.engine.wake(self, EARLY_SECONDS)
            return False
        self._early.pop(report.container, None)
        now = self._context.clock.monotonic()
        if not self.state.observe(report, now, self._ended_at(report, now)):
            return False
        self._reported.set()
        self._news = True
        found = pod_machine.find_container(self.pod, report.container)
        if found is None:
            return True
        if report.state is ContainerState.RUNNING:
            self._began(*found, report)
        elif report.state is ContainerState.TERMINATED:
            self._context.engine.prober.remove(self.uid, report.container)
        return True

    def _is_early(self, report: ContainerReport) -> bool:
        """Whether a container ended before anybody was told that it ran: that is told first, within reason."""
        record = self.state.records.get(report.container)
        if (
            report.state is not ContainerState.TERMINATED
            or record is None
            or not record.running
            or self._ending
            or report.container in self._early
        ):
            return False
        status = self._api_container(report.container)
        return status is None or "running" not in status["state"] or status.get("containerID") != report.container_id

    def wrote(self, answer: Object) -> None:
        """The API server answered our write: what waited for it is taken in."""
        self.written_version = resource_version_of(answer)
        self.api_status = answer.get("status") or {}
        self._take_early()

    def _take_early(self) -> None:
        for report in tuple(self._early.values()):
            if self.observe(report):
                self._context.engine.wake(self, 0)

    @property
    def handlers(self) -> Handlers:
        """What tries this pod's probes."""
        return self._context.handlers

    def probed(self, run: ProbeRun, success: bool) -> None:
        """A probe's result that counts."""
        container, kind = run.container["name"], run.kind
        record = self.state.records.get(container)
        if record is None or not record.running or record.report is None or record.report.attempt != run.attempt:
            return
        if kind is ProbeKind.READINESS:
            record.ready = success
        elif kind is ProbeKind.LIVENESS:
            record.liveness_failed = not success
        elif success:
            found = pod_machine.find_container(self.pod, container)
            record.started = True
            record.ready = found is not None and "readinessProbe" not in found[0]
            self._context.engine.prober.container_started(self.uid, container, self._age(record.report))
        else:
            record.startup_failed = True
        self._context.engine.wake(self)

    def unhealthy(self, run: ProbeRun, message: str) -> None:
        """One failed try of a probe."""
        self._event(run.container, "Warning", "Unhealthy", message)

    def _began(self, container: Object, kind: Kind, report: ContainerReport) -> None:
        """A new attempt runs: probes begin."""
        record = self.state.record(container["name"])
        record.image = record.image or container.get("image") or ""
        if kind in (Kind.INIT, Kind.EPHEMERAL):
            record.started = True
            return
        record.started = container.get("startupProbe") is None
        record.ready = container.get("readinessProbe") is None
        before = self._api_container(container["name"])
        if before is not None and before.get("containerID") == report.container_id and before.get("started"):
            record.started, record.ready = True, bool(before.get("ready"))
        if any(container.get(each.field) is not None for each in ProbeKind) and not self.ended:
            self._context.engine.prober.add(
                self,
                self.pod,
                container,
                report.attempt,
                pod_ip=self._pod_ip,
                started=record.started,
                age=self._age(report),
            )

    def _age(self, report: ContainerReport) -> float:
        if report.started_at is None:
            return 0.0
        return max(0.0, (self._context.clock.now() - report.started_at).total_seconds())

    def _ended_at(self, report: ContainerReport, now: float) -> float:
        if report.finished_at is None:
            return now
        return now - max(0.0, (self._context.clock.now() - report.finished_at).total_seconds())

    @property
    def _pod_ip(self) -> str:
        return self.state.sandbox.pod_ip if self.state.sandbox is not None else ""

    # -- recovery

    def _recover(self, record: PodRecord | None) -> None:
        """Take over what the provider holds; what the API says ran and the provider lost has ended."""
        start = self.api_status.get("startTime")
        self.state.started_at = parse_time(start) if start else None
        pod_recovery.recover(self.state, self.uid, held=record is not None, now=self._context.clock.monotonic())
        if record is not None:
            self.state.sandbox = record.sandbox
            if pod_plan.shows_live_objects(self.pod):
                self._refresh_at = self._context.clock.monotonic()
            for report in record.containers:
                before = self._api_container(report.container)
                self.state.record(report.container).image = before.get("image", "") if before is not None else ""
                self.observe(report)
        if self.api_status.get("phase") in pod_status.TERMINAL:
            self.ended = not self.state.any_running

    def _api_container(self, name: str) -> Object | None:
        for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            for each in self.api_status.get(key) or ():
                if each.get("name") == name:
                    found: Object = each
                    return found
        return None

    # -- one pass

    async def sync(self) -> None:
        """Do what the pod needs now. Called again whenever something changed; never twice at the same time.

        What is reported meanwhile is taken in at once: only the last of these states is then written.
        """
        self.syncing = True
        try:
            while True:
                self._news = False
                await self._pass()
                if not self._news:
                    return
        finally:
            self.syncing = False

    async def _pass(self) -> None:
        if self._early and self._context.clock.monotonic() >= self._early_until:
            self._take_early()
        if self.ended:
            await self._leave()
            return
        if self.gone or is_deleting(self.pod):
            await self._terminate()
            return
        if not self.admitted and not self._admit():
            return
        if self._deadline_passed():
            await self._terminate()
            return
        if self.state.sandbox is None and not self.published and not self.state.records and not self._has_hooks():
            self._publish_soon()
        elif self._publish()["phase"] in pod_status.TERMINAL:
            await self._terminate()
            return
        if self.state.sandbox is None and not await self._create():
            return
        await self._refresh()
        await self._carry_out()

    def _admit(self) -> bool:
        refusal = self._context.admit(self.pod)
        if refusal is None:
            self.admitted = True
            self.state.started_at = self._context.clock.now()
            return True
        reason, message = refusal
        self._say("Warning", reason, message)
        self.state.failure = (reason, f"Pod was rejected: {message}")
        self._publish()
        self.ended = True
        self._context.ended(self.uid)
        return False

    def _deadline_passed(self) -> bool:
        left = pod_machine.deadline_left(self.state, self._context.clock.now())
        if left is None or self.state.failure is not None:
            return self.state.failure is not None
        if left > 0:
            self._context.engine.wake(self, left)
            return False
        reason, message = DEADLINE
        self._say("Normal", reason, message)
        self.state.failure = DEADLINE
        return True

    def _has_hooks(self) -> bool:
        """Whether starts wait for hooks: until those are done the status from before the start is shown."""
        return any(get_path(each, "lifecycle", "postStart") for each, _ in pod_machine.containers_of(self.pod))

    def _publish_soon(self) -> None:
        """Have the status worked out and written unless a later one comes within a moment: most starts and ends are
        that quick."""
        self._stale = True
        self._context.engine.changed(self, SOON_SECONDS)

    def freshen(self) -> None:
        """Work out the status if that was put off."""
        if self._stale:
            self._publish()

    def _publish(self, *, stopped: bool = False) -> Object:
        """Work out the status and have it written when it changed."""
        context = self._context
        self._stale = False
        status = pod_status.generate(
            self.state, self.status, context.clock.now(), host_ip=context.side.host_ip, stopped=stopped
        )
        if stopped:
            status = pod_status.finished(status, self.pod, self.api_status)
        if self.published and {**status, "resources": None} == {**self.status, "resources": None}:
            return self.status  # the pod's resources alone are no news: a kubelet would not have looked
        if status != self.status or not self.published:
            self.status = status
            self.published = True
            context.engine.changed(self)
        return status

    async def _create(self) -> bool:
        """Make the pod's place in the provider; whether it is there."""
        context = self._context
        try:
            lookups = await context.lookups.for_volumes(self.pod, context.side)
            volumes = pod_plan.volumes(self.pod, lookups)
            identity = pod_plan.identity_of(self.pod, context.cluster_id, context.node_name)
            plan = PodPlan(identity=identity, pod=self.pod, volumes=volumes, hostname=pod_plan.host_name(self.pod))
            self.state.sandbox = await context.provider.create(plan)
        except pod_plan.MountError as error:
            message = f'MountVolume.SetUp failed for volume "{error.volume}" : {error.message}'
            self._mount_failed("FailedMount", message)
            return False
        except ProviderError as error:
            if error.reason == "FailedMount":
                self._mount_failed("FailedMount", error.message)
            else:
                self._mount_failed("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error.message}")
            return False
        self._mount_failures = 0
        if pod_plan.shows_live_objects(self.pod) and isinstance(context.provider, VolumeUpdates):
            self._refresh_at = context.clock.monotonic() + REFRESH_SECONDS
            context.engine.wake(self, REFRESH_SECONDS)
        return True

    def _mount_failed(self, reason: str, message: str) -> None:
        self._say("Warning", reason, message)
        self._publish()
        delay = min(MOUNT_FIRST_SECONDS * 2**self._mount_failures, MOUNT_MOST_SECONDS)
        self._mount_failures = min(self._mount_failures + 1, 20)
        self._context.engine.wake(self, delay)

    async def _refresh(self) -> None:
        """Show running containers what ConfigMaps, Secrets, tokens and the pod's own fields say now."""
        context = self._context
        wait_seconds = self._refresh_at - context.clock.monotonic()
        if wait_seconds > 0 or not isinstance(context.provider, VolumeUpdates):
            if 0 < wait_seconds < float("inf"):
                context.engine.wake(self, wait_seconds)
            return
        self._refresh_at = context.clock.monotonic() + REFRESH_SECONDS
        context.engine.wake(self, REFRESH_SECONDS)
        lookups = await context.lookups.for_volumes(self.pod, context.side)
        try:
            await context.provider.update_volumes(self.uid, pod_plan.volumes(self.pod, lookups))
        except (pod_plan.MountError, ProviderError) as error:
            self._say("Warning", "FailedMount", error.message)

    async def _carry_out(self) -> None:
        plan = pod_machine.plan(self.state)
        if plan.restart_all:
            await self._restart_all()
            return
        if plan.kill_pod:
            await self._kill_all(None, first=True)
            self._context.engine.wake(self, 0)
            return
        for kill in plan.kills:
            await self._kill(kill)
        for start in plan.starts:
            if self.gone or is_deleting(self.pod):
                return
            if not await self._start(start) and start.kind is Kind.INIT:
                return

    # -- starting

    async def _start(self, start: Start) -> bool:
        """Start the next attempt; False when it must wait or could not be."""
        container, context = start.container, self._context
        record = self.state.record(container["name"])
        until = pod_machine.held_back(record, context.clock.monotonic(), after_kill=start.after_kill)
        if until is not None:
            self._back_off(container, record, until)
            return False
        if not await self._ensure_image(container, record):
            return False
        try:
            lookups = await context.lookups.for_environment(self.pod, container, self._pod_ip, context.side)
            plan = pod_plan.container_plan(self.pod, container, start.kind, record.next_attempt, lookups)
        except pod_plan.ConfigError as error:
            self._start_failed(container, record, "CreateContainerConfigError", str(error))
            return False
        image, record.image = record.image, container.get("image") or ""
        try:
            await context.provider.start(self.uid, plan)
        except ImageError as error:
            record.image = image
            self._image_failed(container, record, error)
            return False
        except ProviderError as error:
            if error.reason == "RunContainerError":
                self._event(container, "Normal", "Created", "Container created")
            self._start_failed(container, record, error.reason, error.message)
            return False
        record.trouble = None
        self._event(container, "Normal", "Created", "Container created")
        self._event(container, "Normal", "Started", "Container started")
        return await self._post_start(container, record)

    def _back_off(self, container: Object, record: ContainerRecord, until: float) -> None:
        name = container["name"]
        length = format_duration(int(record.crashes.seconds * 1e9))
        message = f"back-off {length} restarting failed container={name} pod={pod_machine.display(self.pod)}"
        if record.trouble != (pod_machine.CRASH_LOOP, message):
            record.trouble = (pod_machine.CRASH_LOOP, message)
            where = pod_machine.display(self.pod)
            self._event(container, "Warning", "BackOff", f"Back-off restarting failed container {name} in pod {where}")
            self._publish()
        self._context.engine.wake(self, max(0.0, until - self._context.clock.monotonic()))

    async def _ensure_image(self, container: Object, record: ContainerRecord) -> bool:
        context = self._context
        image = container.get("image") or ""
        now = context.clock.monotonic()
        if record.pulls.waits(record.pulls.updated_at, now):
            self._pull_back_off(container, record)
            return False
        if not isinstance(context.provider, Images):
            self._event(container, "Normal", "Pulled", f'Container image "{image}" already present on machine')
            return True

        pulled = []

        def pull() -> None:
            pulled.append(image)
            self._event(container, "Normal", "Pulling", f'Pulling image "{image}"')

        try:
            await context.provider.ensure_image(container, pull=pull)
        except ImageError as error:
            self._image_failed(container, record, error)
            return False
        message = f'Container image "{image}" already present on machine and can be accessed by the pod'
        self._event(container, "Normal", "Pulled", f'Successfully pulled image "{image}"' if pulled else message)
        return True

    def _pull_back_off(self, container: Object, record: ContainerRecord) -> None:
        message = f'Back-off pulling image "{container.get("image")}"'
        trouble = ("ImagePullBackOff", f"{message}: {record.pull_error}")
        if record.trouble != trouble:
            record.trouble = trouble
            self._event(container, "Normal", "BackOff", message)
            self._event(container, "Warning", "Failed", "Error: ImagePullBackOff")
            self._publish()
        left = record.pulls.updated_at + record.pulls.seconds - self._context.clock.monotonic()
        self._context.engine.wake(self, max(0.0, left))

    def _image_failed(self, container: Object, record: ContainerRecord, error: ImageError) -> None:
        image = container.get("image")
        if error.reason == "ErrImagePull":
            self._event(container, "Warning", "Failed", f'Failed to pull image "{image}": {error.message}')
            now = self._context.clock.monotonic()
            record.pulls.next(record.pulls.updated_at, now)
            record.pull_error = f"{error.reason}: {error.message}"
        elif error.reason == "ErrImageNeverPull":
            self._event(container, "Warning", "ErrImageNeverPull", error.message)
        self._event(container, "Warning", "Failed", f"Error: {error.reason}")
        record.trouble = (error.reason, error.message)
        self._publish()
        delay = PULL_RETRY_SECONDS if error.reason == "ErrImagePull" else RETRY_SECONDS
        self._context.engine.wake(self, delay)

    def _start_failed(self, container: Object, record: ContainerRecord, reason: str, message: str) -> None:
        self._event(container, "Warning", "Failed", f"Error: {message}")
        record.trouble = (reason, message)
        self._publish()
        self._context.engine.wake(self, RETRY_SECONDS if not record.terminated else 0)

    async def _post_start(self, container: Object, record: ContainerRecord) -> bool:
        hook = get_path(container, "lifecycle", "postStart")
        if hook is None:
            return True
        try:
            await self._context.handlers.run(self.pod, container, hook, self._pod_ip)
        except (HandlerFailed, HandlerError) as error:
            self._event(container, "Warning", "FailedPostStartHook", "PostStartHook failed")
            await self._kill(Kill(container=container, message="FailedPostStartHook"))
            record.trouble = ("PostStartHookError", str(error))
            return False
        return True

    def _event(self, container: Object, kind: str, reason: str, message: str) -> None:
        if not self._context.container_events and reason in ROUTINE:
            return
        name = container["name"]
        field = "containers"
        if any(each["name"] == name for each in pod_machine.init_containers(self.pod)):
            field = "initContainers"
        elif any(each["name"] == name for each in pod_machine.ephemeral_containers(self.pod)):
            field = "ephemeralContainers"
        self._say(kind, reason, message, field_path=f"spec.{field}{{{name}}}")

    def _say(self, kind: str, reason: str, message: str, *, field_path: str = "") -> None:
        """An event about the pod, from this node."""
        context = self._context
        context.recorder.event(self.pod, kind, reason, message, field_path=field_path, host=context.node_name)

    # -- ending

    async def _kill(
        self,
        kill: Kill,
        *,
        grace: int | None = None,
        quiet: bool = False,
        turn: Callable[[float], asyncio.Future[None] | None] | None = None,
    ) -> None:
        """End one container: event, preStop hook, its turn, then the provider. Returns when its end was reported."""
        container, context = kill.container, self._context
        name = container["name"]
        record = self.state.record(name)
        if not record.running:
            return
        seconds = pod_machine.grace_seconds(self.pod, container, kill.reason) if grace is None else grace
        deadline = context.clock.monotonic() + seconds
        if not quiet:
            self._event(container, "Normal", "Killing", kill.message or f"Stopping container {name}")
            hook = get_path(container, "lifecycle", "preStop")
            if hook is not None and seconds > 0:
                await self._pre_stop(container, hook, seconds)
        if turn is not None:
            waiting = turn(deadline)
            if waiting is not None:
                await asyncio.wait([waiting], timeout=max(0.0, deadline - context.clock.monotonic()))
        left = max(float(pod_machine.MINIMUM_GRACE_SECONDS), deadline - context.clock.monotonic())
        context.engine.prober.remove(self.uid, name, (ProbeKind.LIVENESS, ProbeKind.STARTUP))
        self._ending += 1
        self._take_early()
        try:
            await context.provider.stop(self.uid, name, left)
        finally:
            self._ending -= 1
        await self._await_end(record)

    async def _await_end(self, record: ContainerRecord) -> None:
        """The provider says it has ended; its report follows, or is made up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_SECONDS):
                while record.running:
                    self._reported.clear()
                    await self._reported.wait()
        if record.running and record.report is not None:
            logger.error("container ended without a report", extra={"pod": str(key_of(self.pod))})
            lost = dataclasses.replace(
                record.report,
                state=ContainerState.TERMINATED,
                exit_code=137,
                reason=pod_status.UNKNOWN_REASON,
                message=pod_status.LOCATED,
                finished_at=self._context.clock.now(),
            )
            self.observe(lost)

    async def _pre_stop(self, container: Object, hook: Object, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._context.handlers.run(self.pod, container, hook, self._pod_ip)
        except (HandlerFailed, HandlerError, TimeoutError):
            self._event(container, "Warning", "FailedPreStopHook", "PreStopHook failed")

    async def _kill_all(self, grace: int | None, *, first: bool) -> None:
        """End every container: main ones at once, then sidecars one after the other from the last."""
        ended: dict[str, asyncio.Event] = {}
        order = pod_machine.termination_order(self.pod)
        running = {name for group in order for name in group if self.state.record(name).running}
        for name in running:
            ended[name] = asyncio.Event()

        async def end(container: Object, before: Sequence[str]) -> None:
            name = container["name"]
            try:
                await self._kill_in_turn(container, grace, first, [ended[each] for each in before if each in ended])
            finally:
                ended[name].set()

        async with asyncio.TaskGroup() as group:
            before: list[str] = []
            for names in order:
                for name in names:
                    found = pod_machine.find_container(self.pod, name)
                    if found is not None and name in running:
                        group.create_task(end(found[0], tuple(before)), name=f"stop {name}")
                before.extend(names)

    async def _kill_in_turn(
        self, container: Object, grace: int | None, first: bool, before: Sequence[asyncio.Event]
    ) -> None:
        """Hooks run at once; the signal waits for those that end earlier, as long as grace lasts."""

        async def all_ended() -> None:
            for each in before:
                await each.wait()

        def turn(deadline: float) -> asyncio.Future[None] | None:
            if not before:
                return None
            return self._context.engine.tasks.start(f"turn {container['name']}", all_ended)

        await self._kill(Kill(container=container, message=""), grace=grace, quiet=not first, turn=turn)

    async def _restart_all(self) -> None:
        """End everything at once and begin anew."""
        self.state.restarting_all = True
        self._publish()
        order = pod_machine.termination_order(self.pod)
        for name in [name for group in order for name in group]:
            found = pod_machine.find_container(self.pod, name)
            if found is not None and found[1] is not Kind.EPHEMERAL:
                await self._kill(Kill(container=found[0], message="killing"), grace=0)
        pod_machine.forget_all(self.state)
        self._context.engine.wake(self, 0)

    async def _try_kill_all(self, grace: int | None, first: bool) -> None:
        """A provider that cannot stop something now is asked again."""
        try:
            await self._kill_all(grace, first=first)
        except* (ProviderError, OSError) as errors:
            message = "; ".join(str(each) for each in errors.exceptions)
            self._say("Warning", "FailedKillPod", f"error killing pod: {message}")
            await self._context.clock.sleep(PULL_RETRY_SECONDS)

    async def _terminate(self) -> None:
        """Stop the pod for good and write its last status."""
        context = self._context
        if self.state.records or self.state.sandbox is not None:
            self._publish_soon()
        context.engine.prober.remove(self.uid, None, (ProbeKind.LIVENESS, ProbeKind.STARTUP))
        first = True
        while self.state.any_running:
            self._grace_changed.clear()
            killer = context.engine.tasks.start(
                f"stop {self.uid}", functools.partial(self._try_kill_all, self._grace, first), restart=KILL_AGAIN
            )
            shorter = context.engine.tasks.start(f"grace {self.uid}", self._grace_changed.wait)
            try:
                await asyncio.wait({killer, shorter}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (killer, shorter):
                    task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await killer
            first = False
        context.engine.prober.remove(self.uid)
        self._publish(stopped=True)
        self.ended = True
        await self._leave()

    async def _leave(self) -> None:
        """With the API object gone nothing is left to keep for."""
        self._context.ended(self.uid)
        if self.gone and not self.removed:
            await self._context.provider.delete(self.uid)
            self.removed = True
            self._context.removed(self)
        elif is_deleting(self.pod):
            self._context.engine.changed(self)


def _shown(pod: Object) -> tuple[Object, Object]:
    """What of a pod may change and the downward API shows in volumes."""
    return labels_of(pod), annotations_of(pod)
