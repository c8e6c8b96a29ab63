"""One pod's life, decided without waiting: what is known of its containers in, what to do next out.

Level-triggered as the kubelet: a ``PodState`` takes in events (a new pod object, a report, a probe's result, the end of
a hook), and ``plan`` says from all of it what to start and to kill now. Pure: ``now`` is monotonic seconds and handed
in. Source: kubelet ``pkg/kubelet/kuberuntime/kuberuntime_manager.go`` (computePodActions), ``kuberuntime_container.go``
(computeInitContainerActions), ``pkg/kubelet/container/helpers.go``, client-go ``util/flowcontrol/backoff.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Iterator, Mapping, Sequence

from anynode.api.objects import Object, is_deleting, meta, name_of, namespace_of
from anynode.provider import ContainerReport, ContainerState, PodSandbox

CRASH_FIRST_SECONDS = 10.0
CRASH_MOST_SECONDS = 300.0
CRASH_RESET_SECONDS = 600.0
IMAGE_FIRST_SECONDS = 10.0
IMAGE_MOST_SECONDS = 300.0
MINIMUM_GRACE_SECONDS = 1
DEFAULT_GRACE_SECONDS = 30
RESTART_ALL = "RestartAllContainers"
CRASH_LOOP = "CrashLoopBackOff"


class Kind(enum.Enum):
    """What a container is to its pod."""

    INIT = "init"
    SIDECAR = "sidecar"
    MAIN = "main"
    EPHEMERAL = "ephemeral"


class KillReason(enum.Enum):
    """Why a container is killed, as far as its grace period depends on it."""

    OTHER = ""
    STARTUP_PROBE = "StartupProbe"
    LIVENESS_PROBE = "LivenessProbe"


@dataclasses.dataclass(slots=True)
class Backoff:
    """An entry of client-go's back-off: it begins with the first try, doubles, and is forgotten after a long run."""

    first_seconds: float
    most_seconds: float
    seconds: float = 0.0
    updated_at: float = 0.0

    def waits(self, since: float, now: float) -> bool:
        """Whether a try is held back that failed at ``since``."""
        if not self.seconds or since - self.updated_at > CRASH_RESET_SECONDS:
            return False
        return now - since < self.seconds

    def next(self, since: float, now: float) -> None:
        """A try is made now."""
        if not self.seconds or since - self.updated_at > CRASH_RESET_SECONDS:
            self.seconds = self.first_seconds
        else:
            self.seconds = min(self.seconds * 2, self.most_seconds)
        self.updated_at = now


@dataclasses.dataclass(slots=True)
class ContainerRecord:
    """What is known of one container: its newest attempt, the one before, and what its probes say."""

    name: str
    report: ContainerReport | None = None
    previous: ContainerReport | None = None
    ended_at: float = 0.0
    previous_ended_at: float | None = None
    trouble: tuple[str, str] | None = None
    """Why it could not be started: reason and message, until a start succeeds."""
    started: bool = False
    """Its startup probe succeeded, or it has none and runs."""
    startup_failed: bool = False
    liveness_failed: bool = False
    ready: bool = False
    """What its readiness probe says last (with none: the same as ``started``)."""
    image: str = ""
    """The image the newest attempt was started with."""
    fresh: bool = False
    """To be treated as never started: all containers of the pod are being restarted."""
    restarted_with_all: bool = False
    """The newest attempt was started because all containers of the pod were restarted."""
    attempts_before: int = 0
    """Attempts of which nothing is left; the next attempt's number is never below."""
    crashes: Backoff = dataclasses.field(default_factory=lambda: Backoff(CRASH_FIRST_SECONDS, CRASH_MOST_SECONDS))
    pulls: Backoff = dataclasses.field(default_factory=lambda: Backoff(IMAGE_FIRST_SECONDS, IMAGE_MOST_SECONDS))
    pull_error: str = ""

    @property
    def exists(self) -> bool:
        return self.report is not None and not self.fresh

    @property
    def running(self) -> bool:
        return self.report is not None and self.report.state is ContainerState.RUNNING

    @property
    def terminated(self) -> bool:
        return self.report is not None and self.report.state is ContainerState.TERMINATED

    @property
    def exit_code(self) -> int:
        return self.report.exit_code if self.report is not None else 0

    @property
    def next_attempt(self) -> int:
        return self.attempts_before if self.report is None else max(self.report.attempt + 1, self.attempts_before)


@dataclasses.dataclass(slots=True, kw_only=True)
class PodState:
    """Everything known of one pod on this node."""

    pod: Object
    records: dict[str, ContainerRecord] = dataclasses.field(default_factory=dict)
    sandbox: PodSandbox | None = None
    started_at: datetime.datetime | None = None
    restarting_all: bool = False
    failure: tuple[str, str] | None = None
    """The pod as a whole failed (deadline, refusal): reason and message."""

    def record(self, name: str) -> ContainerRecord:
        found = self.records.get(name)
        if found is None:
            found = self.records[name] = ContainerRecord(name)
        return found

    def observe(self, report: ContainerReport, now: float, ended_at: float | None = None) -> bool:
        """Take a report in; False when it says nothing new. ``ended_at`` is monotonic, ``now`` unless given."""
        record = self.record(report.container)
        old = record.report
        if old is not None and (report.attempt < old.attempt or report == old):
            return False
        if old is not None and report.attempt == old.attempt and old.state is ContainerState.TERMINATED:
            return False
        if old is None or report.attempt > old.attempt:
            if old is not None:
                record.previous, record.previous_ended_at = old, record.ended_at
            record.started = record.ready = False
            record.startup_failed = record.liveness_failed = False
            record.restarted_with_all, record.fresh = record.fresh, False
        record.report = report
        if report.state is ContainerState.TERMINATED:
            record.ended_at = now if ended_at is None else ended_at
            record.started = record.ready = False
        return True

    @property
    def any_running(self) -> bool:
        return any(record.running for record in self.records.values())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start the next attempt of a container, unless its back-off holds it."""

    container: Object
    kind: Kind
    after_kill: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    container: Object
    message: str
    reason: KillReason = KillReason.OTHER


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, in this order: kill the pod, or single containers; then start."""

    kill_pod: bool = False
    kills: Sequence[Kill] = ()
    starts: Sequence[Start] = ()
    restart_all: bool = False


def init_containers(pod: Object) -> Sequence[Object]:
    return pod["spec"].get("initContainers") or ()


def main_containers(pod: Object) -> Sequence[Object]:
    return pod["spec"].get("containers") or ()


def ephemeral_containers(pod: Object) -> Sequence[Object]:
    return pod["spec"].get("ephemeralContainers") or ()


def is_sidecar(container: Object) -> bool:
    """Whether an init container is restartable, that is, goes on beside the others."""
    return container.get("restartPolicy") == "Always"


def containers_of(pod: Object) -> Iterator[tuple[Object, Kind]]:
    """Every container of the pod with its kind: init, main, ephemeral."""
    for each in init_containers(pod):
        yield each, Kind.SIDECAR if is_sidecar(each) else Kind.INIT
    for each in main_containers(pod):
        yield each, Kind.MAIN
    for each in ephemeral_containers(pod):
        yield each, Kind.EPHEMERAL


def find_container(pod: Object, name: str) -> tuple[Object, Kind] | None:
    return next((each for each in containers_of(pod) if each[0]["name"] == name), None)


def display(pod: Object) -> str:
    """A pod in the kubelet's messages: ``name_namespace(uid)``."""
    return f"{name_of(pod)}_{namespace_of(pod)}({meta(pod).get('uid', '')})"


def matching_rule(container: Object, exit_code: int) -> str:
    """The action of the first restart rule that fits the exit code; empty when none does."""
    for rule in container.get("restartPolicyRules") or ():
        codes: Mapping[str, object] = rule.get("exitCodes") or {}
        values = codes.get("values")
        listed = isinstance(values, list) and exit_code in values
        if (codes.get("operator") == "In" and listed) or (codes.get("operator") == "NotIn" and not listed):
            return str(rule.get("action") or "")
    return ""


def restarts_after(container: Object, pod: Object, exit_code: int) -> bool:
    """Whether policy and rules have a container that ended with ``exit_code`` run again."""
    policy = container.get("restartPolicy")
    if policy:
        if matching_rule(container, exit_code) in ("Restart", RESTART_ALL):
            return True
    else:
        policy = pod["spec"].get("restartPolicy") or "Always"
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def to_be_started(state: PodState, container: Object) -> bool:
    """Whether a container that does not run is to run. Source: ShouldContainerBeRestarted."""
    if is_deleting(state.pod):
        return False
    record = state.records.get(container["name"])
    if record is None or not record.exists:
        return True
    if record.running:
        return False
    return restarts_after(container, state.pod, record.exit_code)


def _restarts_when_killed(container: Object, pod: Object) -> bool:
    """Whether a container killed by its probe is started again: rules do not count, it has no exit code yet."""
    policy = container.get("restartPolicy") or pod["spec"].get("restartPolicy") or "Always"
    return bool(policy != "Never")


def plan(state: PodState) -> Plan:
    """What the pod needs now, given that its sandbox is there."""
    pod = state.pod
    if state.restarting_all or _wants_restart_all(state):
        return Plan(restart_all=True)
    ephemeral = [
        Start(container=each, kind=Kind.EPHEMERAL)
        for each in ephemeral_containers(pod)
        if not state.record(each["name"]).exists
    ]
    initialized, init = _plan_init(state)
    if init.kill_pod or not initialized:
        return dataclasses.replace(init, starts=[*ephemeral, *init.starts])
    kills, starts, kept = list(init.kills), [*ephemeral, *init.starts], 0
    main_starts = 0
    for container in main_containers(pod):
        record = state.record(container["name"])
        if not record.running:
            if to_be_started(state, container):
                starts.append(Start(container=container, kind=Kind.MAIN))
                main_starts += 1
            continue
        kill, again = _judge_running(container, record, pod)
        if kill is None:
            kept += 1
            continue
        kills.append(kill)
        if again:
            starts.append(Start(container=container, kind=Kind.MAIN, after_kill=True))
            main_starts += 1
    if not kept and not main_starts:
        return Plan(kill_pod=True)
    return Plan(kills=kills, starts=starts)


def _judge_running(container: Object, record: ContainerRecord, pod: Object) -> tuple[Kill | None, bool]:
    """Whether a running main container must be killed, and started again afterwards."""
    name = container["name"]
    again = _restarts_when_killed(container, pod)
    if record.image and record.image != container.get("image"):
        message, reason, again = f"Container {name} definition changed", KillReason.OTHER, True
    elif record.liveness_failed:
        message, reason = f"Container {name} failed liveness probe", KillReason.LIVENESS_PROBE
    elif record.startup_failed:
        message, reason = f"Container {name} failed startup probe", KillReason.STARTUP_PROBE
    else:
        return None, False
    if again:
        message += ", will be restarted"
    return Kill(container=container, message=message, reason=reason), again


def has_initialized(state: PodState) -> bool:
    """Whether a main container runs: then all init containers are done."""
    return any(state.record(each["name"]).running for each in main_containers(state.pod))


def _plan_init(state: PodState) -> tuple[bool, Plan]:
    """Whether main containers may start, and what init containers need. Goes from the last to the first."""
    containers = init_containers(state.pod)
    if not containers:
        return True, Plan()
    initialized = previously = has_initialized(state)
    starts: list[Start] = []
    kills: list[Kill] = []
    last = len(containers) - 1
    for index in range(last, -1, -1):
        container = containers[index]
        sidecar = is_sidecar(container)
        record = state.record(container["name"])
        again = Start(container=container, kind=Kind.SIDECAR if sidecar else Kind.INIT)
        if not record.exists:
            if previously and sidecar:
                starts.append(again)
            continue
        if previously and not sidecar:
            continue
        done = False
        if record.running:
            if sidecar:
                kill = _judge_sidecar(container, record)
                if kill is not None:
                    kills.append(kill)
                    starts.append(dataclasses.replace(again, after_kill=True))
                done = record.started
        elif sidecar:
            starts.append(again)
        elif record.exit_code != 0:
            if not to_be_started(state, container):
                return False, Plan(kill_pod=True)
            starts.append(again)
        else:
            done = True
        if done and index == last:
            initialized = True
        elif done and not previously:
            following = containers[index + 1]
            kind = Kind.SIDECAR if is_sidecar(following) else Kind.INIT
            if not any(each.container is following for each in starts):
                starts.append(Start(container=following, kind=kind))
        previously = True
    if not previously:
        kind = Kind.SIDECAR if is_sidecar(containers[0]) else Kind.INIT
        starts.append(Start(container=containers[0], kind=kind))
    starts.reverse()
    return initialized, Plan(kills=kills, starts=starts)


def _judge_sidecar(container: Object, record: ContainerRecord) -> Kill | None:
    name = container["name"]
    if record.startup_failed:
        return Kill(
            container=container,
            message=f"Init container {name} failed startup probe",
            reason=KillReason.STARTUP_PROBE,
        )
    if record.started and record.image and record.image != container.get("image"):
        return Kill(container=container, message=f"Init container {name} definition changed")
    if record.liveness_failed:
        return Kill(
            container=container,
            message=f"Init container {name} failed liveness probe",
            reason=KillReason.LIVENESS_PROBE,
        )
    return None


def _wants_restart_all(state: PodState) -> bool:
    """Whether a container ended in a way that restarts all of the pod."""
    for container, kind in containers_of(state.pod):
        if kind is Kind.EPHEMERAL or not container.get("restartPolicyRules"):
            continue
        record = state.record(container["name"])
        if record.exists and record.terminated and matching_rule(container, record.exit_code) == RESTART_ALL:
            return not is_deleting(state.pod)
    return False


def forget_all(state: PodState) -> None:
    """All containers have ended: the pod begins anew, attempts go on counting."""
    state.restarting_all = False
    for container, kind in containers_of(state.pod):
        record = state.records.get(container["name"])
        if record is not None and kind is not Kind.EPHEMERAL and record.report is not None:
            record.fresh = True


def held_back(record: ContainerRecord, now: float, *, after_kill: bool) -> float | None:
    """When a start may be tried, if its back-off holds it now; otherwise the try is counted and None returned."""
    if record.report is None:
        return None
    since = record.previous_ended_at if after_kill else record.ended_at
    if since is None or record.fresh:
        return None
    if record.crashes.waits(since, now):
        return since + record.crashes.seconds
    record.crashes.next(since, now)
    return None


def grace_seconds(pod: Object, container: Object, reason: KillReason) -> int:
    """How long a container may take to end. Source: setTerminationGracePeriod."""
    deletion = meta(pod).get("deletionGracePeriodSeconds")
    if deletion is not None:
        return int(deletion)
    probe: Object = {}
    if reason is KillReason.STARTUP_PROBE:
        probe = container.get("startupProbe") or {}
    elif reason is KillReason.LIVENESS_PROBE:
        probe = container.get("livenessProbe") or {}
    own = probe.get("terminationGracePeriodSeconds")
    if own is not None:
        return int(own)
    found = pod["spec"].get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE_SECONDS if found is None else int(found)


def deadline_left(state: PodState, now: datetime.datetime) -> float | None:
    """Seconds until activeDeadlineSeconds is over (not positive: it is); None without one."""
    limit = state.pod["spec"].get("activeDeadlineSeconds")
    if limit is None or state.started_at is None:
        return None
    return float(limit) - (now - state.started_at).total_seconds()


def termination_order(pod: Object) -> Sequence[Sequence[str]]:
    """Groups of containers in the order they are told to end: main ones together, then sidecars, the last first."""
    first = [each["name"] for each, kind in containers_of(pod) if kind in (Kind.MAIN, Kind.EPHEMERAL, Kind.INIT)]
    sidecars = [[each["name"]] for each, kind in containers_of(pod) if kind is Kind.SIDECAR]
    return [first, *reversed(sidecars)]
