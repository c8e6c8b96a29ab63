"""Pods as processes of this machine: isolation level 0, no privilege, no images.

Comes in: resolved plans; goes out: one process group per container under the supervisor, with its own directory,
environment, log files and loopback address. Pods live on when the node dies; ``list`` and ``run`` find them again
from their directories, and the supervisor kept their exit codes. What a container asks for that a bare process cannot
have (its image's files, cgroups, a network of its own) is not there; mount paths are links below ANYNODE_ROOT, see
``mount_paths``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import hashlib
import ipaddress
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock, SystemClock
from anynode.aio.tasks import Supervisor as Tasks
from anynode.api.objects import Object, Uid, get_path
from anynode.provider import (
    ContainerPlan,
    ContainerReport,
    ContainerState,
    ContainerUsage,
    ExecIO,
    LogOptions,
    PodIdentity,
    PodNotFound,
    PodPlan,
    PodRecord,
    PodSandbox,
    ProviderError,
    ProviderSettings,
    ReportSink,
    Volume,
)
from anynode.providers import addresses, applets, images, pod_files, process_table, sockets
from anynode.providers.container_logs import LogReader, last_output, open_log
from anynode.providers.mount_paths import PathRewriter
from anynode.providers.supervision import Supervision

MESSAGE_BYTES = 4096
LOG_MESSAGE_BYTES = 2048
LOG_MESSAGE_LINES = 80
POD_MARK = "ANYNODE_POD_UID"
ROOT = "ANYNODE_ROOT"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AGAIN = Backoff(first_seconds=0.1, most_seconds=5.0)
CONNECT_TRIES = 50
UNKNOWN = "ContainerStatusUnknown"
LOST = "The container could not be located when the pod was terminated"


@dataclasses.dataclass(slots=True, kw_only=True)
class _Container:
    """The newest attempt of one container."""

    plan: Mapping[str, Any]
    """What an exec needs again: env, cwd, mounts, and how the termination message is found."""
    report: ContainerReport


@dataclasses.dataclass(slots=True, kw_only=True)
class _Pod:
    identity: PodIdentity
    pod_ip: str
    files: pod_files.PodFiles
    hostname: str = ""
    containers: dict[str, _Container] = dataclasses.field(default_factory=dict)


class ProcessProvider:
    """See the module. Options: ``image:NAME=VALUE``, ``images`` (file), ``pod-cidr``, ``pods``, ``rlimits=true``."""

    def __init__(self, settings: ProviderSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._directory = settings.data_dir / "pods"
        self._applets = settings.data_dir / "applets"
        self._images = images.from_options(settings.options)
        network = settings.options.get("pod-cidr")
        self._claims = addresses.Claims()
        self._addresses = (
            addresses.AddressPool(iter([ipaddress.IPv4Network(network)]))
            if network
            else addresses.AddressPool(addresses.ranges_of(settings.cluster_id, settings.node), self._claims)
        )
        self._pods: dict[Uid, _Pod] = {}
        self._sink: ReportSink = _nobody
        self._supervision: Supervision | None = None

    # -- life

    def run(self, reports: ReportSink) -> AbstractAsyncContextManager[None]:
        return self._run(reports)

    @contextlib.asynccontextmanager
    async def _run(self, reports: ReportSink) -> AsyncIterator[None]:
        self._sink = reports
        await asyncio.to_thread(pod_files.make_private, self._directory)
        await asyncio.to_thread(applets.install, self._applets)
        supervision = Supervision(self._settings.data_dir, self._exited)
        self._supervision = supervision
        reader = await supervision.connect()
        try:
            async with Tasks("process-provider", clock=self._clock) as tasks:
                first = [reader]

                async def listen() -> None:
                    again = not first
                    connected = first.pop() if first else await supervision.connect()
                    if again:
                        tasks.start("recover", self._recover, restart=AGAIN)
                    await supervision.listen(connected)

                tasks.start("supervisor", listen, restart=AGAIN)
                await self._recover_first()
                for pod in self._pods.values():
                    for container in pod.containers.values():
                        self._sink(container.report)
                yield
                if not self._pods:
                    await supervision.spare()
        finally:
            await supervision.close()
            self._claims.release()
            self._sink = _nobody

    async def _recover_first(self) -> None:
        """Recover; a supervisor that was about to leave when we came is replaced meanwhile."""
        for _ in range(CONNECT_TRIES):
            try:
                await self._recover()
            except ConnectionError:
                await self._clock.sleep(AGAIN.first_seconds)
            else:
                return
        raise ProviderError("CreateContainerError", "the supervisor of containers cannot be reached")

    async def _recover(self) -> None:
        """Read what the directories hold; a container whose supervisor is gone is ended, since nobody hears of it."""
        answer = await self._link.ask("list")
        running = {(uid, container, attempt) for uid, container, attempt, _ in answer["running"]}
        found = await asyncio.to_thread(self._read_all, running)
        for pod in found:
            self._addresses.keep(pod.pod_ip)
            known = self._pods.setdefault(Uid(pod.identity.uid), pod)
            for name, container in pod.containers.items():
                old = known.containers.get(name)
                known.containers[name] = container
                if old is not None and old.report != container.report:
                    self._sink(container.report)

    def _read_all(self, running: set[tuple[str, str, int]]) -> list[_Pod]:
        pods = []
        for directory in self._directory.iterdir():
            files = pod_files.PodFiles(directory)
            record = files.read()
            if record is None:
                shutil.rmtree(directory, ignore_errors=True)
                continue
            identity, pod_ip = record
            pod = _Pod(identity=identity, pod_ip=pod_ip, files=files)
            for name in files.containers():
                container = self._read_container(pod, name, running)
                if container is not None:
                    pod.containers[name] = container
            pods.append(pod)
        return pods

    def _read_container(self, pod: _Pod, name: str, running: set[tuple[str, str, int]]) -> _Container | None:
        files = pod.files.container(name)
        attempts = files.attempts()
        if not attempts:
            return None
        attempt = attempts[-1]
        state = files.read_state(attempt)
        plan = files.read_plan(attempt)
        key = (pod.identity.uid, name, attempt)
        if "code" not in state and key not in running:
            process_table.kill_group(state.get("pid", 0), state.get("boot", ""))
            state = {**state, "code": 137, "signal": 0, "reason": UNKNOWN, "message": LOST}
        return _Container(plan=plan, report=self._report(pod, name, attempt, state, plan))

    @property
    def _link(self) -> Supervision:
        if self._supervision is None:
            raise ProviderError("CreateContainerError", "the process provider is not running")
        return self._supervision

    # -- pods

    async def create(self, plan: PodPlan) -> PodSandbox:
        uid = plan.identity.uid
        pod = self._pods.get(uid)
        if pod is None:
            try:
                host_network = get_path(plan.pod, "spec", "hostNetwork")
                pod_ip = self._settings.node_ip if host_network else self._addresses.take()
            except LookupError as error:
                raise ProviderError("FailedCreatePodSandBox", str(error)) from error
            pod = _Pod(
                identity=plan.identity,
                pod_ip=pod_ip,
                files=pod_files.PodFiles(self._directory / uid),
                hostname=plan.hostname,
            )
            self._pods[uid] = pod
        pod.hostname = plan.hostname or pod.hostname
        try:
            await asyncio.to_thread(_make_pod, pod, plan.volumes)
        except OSError as error:
            raise ProviderError("FailedMount", f"{error.strerror}: {error.filename}") from error
        return PodSandbox(pod_ip=pod.pod_ip, host_ip=self._settings.node_ip)

    async def update_volumes(self, uid: Uid, volumes: Sequence[Volume]) -> None:
        pod = self._pod(uid)
        with_files = [each for each in volumes if each.files is not None]
        await asyncio.to_thread(_make_volumes, pod, with_files)

    async def delete(self, uid: Uid) -> None:
        pod = self._pods.get(uid)
        if pod is None:
            return
        for name in tuple(pod.containers):
            await self.stop(uid, name, 0)
        await asyncio.to_thread(_remove_pod, pod)
        self._pods.pop(uid, None)
        self._addresses.free(pod.pod_ip)

    async def list(self) -> Sequence[PodRecord]:
        return [
            PodRecord(
                identity=pod.identity,
                sandbox=PodSandbox(pod_ip=pod.pod_ip, host_ip=self._settings.node_ip),
                containers=[each.report for each in pod.containers.values()],
            )
            for pod in self._pods.values()
        ]

    def capacity(self) -> Mapping[str, str]:
        place = self._settings.data_dir if self._settings.data_dir.exists() else "/"
        disk = os.statvfs(place)
        return {
            "cpu": str(os.cpu_count() or 1),
            "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 1024}Ki",
            "pods": self._settings.options.get("pods", "110"),
            "ephemeral-storage": f"{disk.f_blocks * disk.f_frsize // 1024}Ki",
        }

    # -- containers

    async def ensure_image(self, container: Object, *, pull: Callable[[], None]) -> None:
        image = container.get("image") or ""
        policy = container.get("imagePullPolicy") or "IfNotPresent"
        try:
            self._images.program(image, container.get("command") or (), container.get("args") or (), policy)
        except ProviderError as error:
            if error.reason == "ErrImagePull":
                pull()
            raise

    async def start(self, uid: Uid, container: ContainerPlan) -> None:
        pod = self._pod(uid)
        known = pod.containers.get(container.name)
        if known is not None and known.report.attempt >= container.attempt:
            return
        policy = container.spec.get("imagePullPolicy") or "IfNotPresent"
        program = self._images.program(container.image, container.command, container.args, policy)
        _check_user(pod.identity, container.spec)
        plan = self._container_plan(pod, container, program)
        files = pod.files.container(container.name)
        await asyncio.to_thread(_make_container, pod, container, plan)
        try:
            answer = await self._link.ask(
                "start",
                uid=uid,
                container=container.name,
                attempt=container.attempt,
                argv=plan["argv"],
                env=plan["env"],
                cwd=plan["cwd"],
                tty=container.tty,
                stdin=container.stdin,
                stdin_once=container.stdin_once,
                rlimits=plan["rlimits"],
                log=str(files.log(container.attempt)),
                state=str(files.state(container.attempt)),
            )
        except ConnectionError as error:
            raise ProviderError("CreateContainerError", str(error)) from error
        if "error" in answer:
            message = f"failed to start container process: {answer['error']}"
            state = {"code": 128, "signal": 0, "reason": "StartError", "message": message}
            files.state(container.attempt).write_text(json.dumps(state))
            self._set(pod, container.name, plan, self._report(pod, container.name, container.attempt, state, plan))
            raise ProviderError("RunContainerError", message)
        current = pod.containers.get(container.name)
        if current is not None and current.report.attempt >= container.attempt:
            return  # it ended before the answer was read
        state = {"pid": answer["pid"], "started": answer["started"]}
        self._set(pod, container.name, plan, self._report(pod, container.name, container.attempt, state, plan))

    def _container_plan(self, pod: _Pod, container: ContainerPlan, program: images.Program) -> dict[str, Any]:
        """Everything the supervisor needs, mount paths rewritten; also kept on disk for execs after a restart."""
        root = pod.files.container(container.name).root
        message_path = container.termination_message_path
        rewriter = PathRewriter(str(root), [*(each.path for each in container.mounts), message_path])
        path = f"{os.environ.get('PATH', DEFAULT_PATH)}:{self._applets.resolve()}"
        if program.directory:
            path = f"{program.directory}:{program.directory}/bin:{path}"
        env = {"PATH": path, "HOME": str(root), "HOSTNAME": pod.hostname or pod.identity.name}
        if container.tty:
            env["TERM"] = "xterm"
        env.update(program.env)
        env.update(rewriter.environment(container.env))
        env[ROOT], env[POD_MARK] = str(root), pod.identity.uid
        cwd = program.directory or str(root)
        if container.working_dir:
            cwd = rewriter.text(container.working_dir)
            if not os.path.isdir(cwd):
                cwd = str(root) + container.working_dir
        return {
            "argv": rewriter.words(program.argv),
            "env": env,
            "cwd": cwd,
            "tty": container.tty,
            "paths": [*(each.path for each in container.mounts), message_path],
            "message_path": message_path,
            "message_policy": container.spec.get("terminationMessagePolicy") or "File",
            "rlimits": self._rlimits(container.limits),
        }

    def _rlimits(self, limits: Mapping[str, str]) -> dict[str, int]:
        """Only if asked: a limit on data space ends programs that merely reserve memory."""
        if self._settings.options.get("rlimits") != "true" or "memory" not in limits:
            return {}
        return {"RLIMIT_DATA": process_table.bytes_of(limits["memory"])}

    async def stop(self, uid: Uid, container: str, grace_seconds: float) -> None:
        pod = self._pods.get(uid)
        known = pod.containers.get(container) if pod is not None else None
        if known is None or known.report.state is not ContainerState.RUNNING:
            return
        try:
            await self._link.ask(
                "stop", uid=uid, container=container, attempt=known.report.attempt, grace=max(0.0, grace_seconds)
            )
        except ConnectionError as error:
            raise ProviderError("KillContainerError", str(error)) from error

    def _exited(self, key: tuple[str, str, int], message: dict[str, Any]) -> None:
        uid, name, attempt = key
        pod = self._pods.get(Uid(uid))
        if pod is None:
            return
        known = pod.containers.get(name)
        if known is not None and known.report.attempt > attempt:
            return
        if known is not None and known.report.attempt == attempt:
            plan = known.plan
        else:  # it ended before the answer to its start was read: that it ran is told first
            plan = pod.files.container(name).read_plan(attempt)
            started = {"started": message.get("started")}
            self._set(pod, name, plan, self._report(pod, name, attempt, started, plan))
        self._set(pod, name, plan, self._report(pod, name, attempt, message, plan))

    def _set(self, pod: _Pod, name: str, plan: Mapping[str, Any], report: ContainerReport) -> None:
        pod.containers[name] = _Container(plan=plan, report=report)
        self._sink(report)

    def _report(
        self, pod: _Pod, name: str, attempt: int, state: Mapping[str, Any], plan: Mapping[str, Any]
    ) -> ContainerReport:
        uid = pod.identity.uid
        ended = "code" in state
        code = state.get("code", 0)
        image = plan.get("image", "")
        return ContainerReport(
            uid=uid,
            container=name,
            attempt=attempt,
            state=ContainerState.TERMINATED if ended else ContainerState.RUNNING,
            container_id="anynode://" + hashlib.sha256(f"{uid}/{name}/{attempt}".encode()).hexdigest(),
            image_id=f"host@sha256:{hashlib.sha256(image.encode()).hexdigest()}",
            exit_code=code,
            signal=state.get("signal", 0),
            reason=(state.get("reason") or ("Completed" if code == 0 else "Error")) if ended else "",
            message=(state.get("message") or _message(pod, name, attempt, code, plan)) if ended else "",
            started_at=_moment(state.get("started")),
            finished_at=_moment(state.get("finished")),
        )

    # -- capabilities

    async def logs(self, uid: Uid, container: str, options: LogOptions) -> LogReader:
        pod = self._pod(uid)
        known = pod.containers.get(container)
        if known is None:
            raise PodNotFound(f'container "{container}" has not been started')
        attempt = known.report.attempt - 1 if options.previous else known.report.attempt

        def running() -> bool:
            current = pod.containers.get(container)
            return (
                current is not None
                and current.report.attempt == attempt
                and current.report.state is ContainerState.RUNNING
            )

        try:
            return LogReader(pod.files.container(container).log(attempt), options, self._clock, running)
        except OSError as error:
            raise PodNotFound(f'previous terminated container "{container}" not found') from error

    async def exec(self, uid: Uid, container: str, command: Sequence[str], io: ExecIO) -> int:
        known = self._running(uid, container)
        plan = known.plan
        root = plan["env"][ROOT]
        env = {**plan["env"], "TERM": "xterm"} if io.tty else plan["env"]
        session = await self._link.session(
            "exec",
            argv=PathRewriter(root, plan["paths"]).words(command),
            env=env,
            cwd=plan["cwd"],
            tty=io.tty,
            stdin=io.stdin,
        )
        code = await session.run(io)
        return 137 if code is None else code

    async def attach(self, uid: Uid, container: str, io: ExecIO) -> None:
        known = self._running(uid, container)
        session = await self._link.session("attach", uid=uid, container=container, attempt=known.report.attempt)
        await session.run(io)

    async def dial(self, uid: Uid, port: int) -> sockets.SocketStream:
        pod = self._pods.get(uid)
        if pod is None:
            raise ConnectionError("the pod is not on this node")
        return await sockets.connect(pod.pod_ip, port)

    async def stats(self, uid: Uid) -> Sequence[ContainerUsage]:
        pod = self._pod(uid)
        leaders = {
            name: pod.files.container(name).read_state(each.report.attempt).get("pid", 0)
            for name, each in pod.containers.items()
            if each.report.state is ContainerState.RUNNING
        }
        usage = await asyncio.to_thread(process_table.usage, leaders)
        return [
            ContainerUsage(name=name, cpu_core_nanoseconds=cpu, memory_working_set_bytes=memory)
            for name, (cpu, memory) in usage.items()
        ]

    def _pod(self, uid: Uid) -> _Pod:
        pod = self._pods.get(uid)
        if pod is None:
            raise PodNotFound(f"pod {uid} is not on this node")
        return pod

    def _running(self, uid: Uid, container: str) -> _Container:
        known = self._pod(uid).containers.get(container)
        if known is None or known.report.state is not ContainerState.RUNNING:
            raise PodNotFound(f"container not found ({container})")
        return known


def provider(settings: ProviderSettings) -> ProcessProvider:
    """The factory of the entry point ``process``."""
    return ProcessProvider(settings)


def _nobody(report: ContainerReport) -> None:
    return


def _moment(nanoseconds: int | None) -> datetime.datetime | None:
    if nanoseconds is None:
        return None
    return datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.UTC)


def _make_pod(pod: _Pod, volumes: Sequence[Volume]) -> None:
    pod.files.write(pod.identity, pod.pod_ip)
    _make_volumes(pod, volumes)


def _make_volumes(pod: _Pod, volumes: Sequence[Volume]) -> None:
    for volume in volumes:
        try:
            pod_files.make_volume(pod.files, volume)
        except ProviderError as error:
            message = f'MountVolume.SetUp failed for volume "{volume.name}" : {error.message}'
            raise ProviderError("FailedMount", message) from error


def _remove_pod(pod: _Pod) -> None:
    """Its processes are known by their directories: another cluster on this machine may have a pod of this UID."""
    roots = [str(pod.files.container(name).root) for name in pod.files.containers()]
    process_table.kill_marked(ROOT, roots)
    pod.files.remove()


def _make_container(pod: _Pod, container: ContainerPlan, plan: dict[str, Any]) -> None:
    """Directory, links of mounts, place of the termination message, working directory, and the plan on disk."""
    files = pod.files.container(container.name)
    if container.attempt > 0:
        process_table.kill_marked(ROOT, [str(files.root)])  # what the attempt before left running
    pod_files.make_root(pod.files, container.name, container.mounts)
    link = files.root / container.termination_message_path.strip("/")
    message = files.message(container.attempt)
    message.touch(mode=0o600)
    with contextlib.suppress(OSError):
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(message)
    with contextlib.suppress(OSError):
        os.makedirs(plan["cwd"], exist_ok=True)
    plan["image"] = container.image
    files.plan(container.attempt).write_text(json.dumps(plan))
    for old in files.attempts()[:-1]:
        files.forget(old)


def _message(pod: _Pod, name: str, attempt: int, code: int, plan: Mapping[str, Any]) -> str:
    """What the container left as its termination message, or the end of its log when it may stand in."""
    files = pod.files.container(name)
    try:
        with open(open_log(files.message(attempt)), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MESSAGE_BYTES))
            text = file.read(MESSAGE_BYTES)
    except OSError:
        text = b""
    if not text and code != 0 and plan.get("message_policy") == "FallbackToLogsOnError":
        text = last_output(files.log(attempt), LOG_MESSAGE_LINES, LOG_MESSAGE_BYTES)
    return text.decode(errors="replace")


def _check_user(identity: PodIdentity, spec: Object) -> None:
    """Refuse what must not run as root when we are root. Source: kuberuntime ``security_context.go``."""
    context = spec.get("securityContext") or {}
    if not context.get("runAsNonRoot") or os.getuid() != 0:
        return
    user = get_path(context, "runAsUser")
    where = f'(pod: "{identity.name}_{identity.namespace}({identity.uid})", container: {spec.get("name", "")})'
    if user == 0:
        raise ProviderError("CreateContainerConfigError", f"container's runAsUser breaks non-root policy {where}")
    raise ProviderError("CreateContainerConfigError", f"container has runAsNonRoot and image will run as root {where}")
