"""The page a provider author reads: what a backend must offer to run pods, and what it is handed.

A provider runs containers somewhere: as local processes, in an engine, in a cloud. It does not decide: restarts and
back-off, init order, probes, hooks, environment, volumes' contents and tokens are worked out by the node and arrive
resolved. Required are ``create``, ``start``, ``stop``, ``delete``, ``list`` and reports; the rest are capabilities,
found by asking ``isinstance(provider, Logs)`` and so on.

Recovery never depends on local state of the node: everything the backend holds carries a ``PodIdentity``, and ``list``
gives it back after a crash, so that no pod is started twice and none is forgotten.

Write one: subclass nothing, satisfy ``Provider``, name it in the entry point group ``anynode.providers``
(``myname = "my_package:factory"``; the factory takes ``ProviderSettings``), and run ``anynode.testing.provider_suite``
on it. Source of what a pod expects: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import pathlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from anynode.api.objects import Object, Uid
from anynode.api.wire import ByteReader, ByteStream


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """What every backend object is marked with from the moment it is made."""

    cluster_id: str
    node: str
    namespace: str
    name: str
    uid: Uid
    spec_hash: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFile:
    """One file of a volume; ``path`` is relative to the volume's root and has no ``..``."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One volume, resolved. ``files`` (configMap, secret, projected, downwardAPI), ``host_path``, or neither: an
    empty directory that lives as long as the pod (``medium`` as in emptyDir)."""

    name: str
    files: Sequence[VolumeFile] | None = None
    host_path: str | None = None
    host_path_type: str = ""
    medium: str = ""
    size_limit_bytes: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Where a container wants a volume."""

    volume: str
    path: str
    sub_path: str = ""
    read_only: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """One container, everything resolved. ``command``/``args`` as in the pod, variables expanded; both empty means
    what the image says. ``attempt`` counts from 0 and equals the container's restart count."""

    name: str
    image: str
    attempt: int
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    working_dir: str = ""
    mounts: Sequence[Mount] = ()
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    termination_message_path: str = "/dev/termination-log"
    limits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    spec: Object = dataclasses.field(default_factory=dict)
    """The container as it stands in the pod, for whatever else a backend can honour (securityContext, ports)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """One pod, resolved; containers come one by one with ``start``. ``pod`` is the object as the API server has it."""

    identity: PodIdentity
    pod: Object
    volumes: Sequence[Volume] = ()
    hostname: str = ""


class ContainerState(enum.Enum):
    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContainerReport:
    """What one attempt of one container is now. ``reason``/``message`` as the kubelet words them (``Completed``,
    ``Error``, ``OOMKilled``, ``ContainerCannotRun``); times are wall times, aware."""

    uid: Uid
    container: str
    attempt: int
    state: ContainerState
    container_id: str = ""
    image_id: str = ""
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    """The termination message, if the container wrote one (at most 4096 bytes)."""
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodSandbox:
    """A pod that was created in the backend: where it is reached."""

    pod_ip: str = ""
    host_ip: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """A pod the backend holds, as ``list`` finds it after a restart of the node: newest attempt of each container."""

    identity: PodIdentity
    sandbox: PodSandbox
    containers: Sequence[ContainerReport]


class ReportSink(Protocol):
    """Takes reports; called on the node's event loop, never waits. A later report of an attempt replaces earlier."""

    def __call__(self, report: ContainerReport) -> None: ...


class ProviderError(Exception):
    """A provider's refusal. ``reason`` becomes the container's waiting reason or the event's reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class PodNotFound(ProviderError):
    """The backend does not know this pod or container."""

    def __init__(self, message: str) -> None:
        super().__init__("NotFound", message)


class ImageError(ProviderError):
    """The image cannot be had: ``ErrImagePull``, ``InvalidImageName``, ``ErrImageNeverPull``. The node retries with
    back-off (ImagePullBackOff) and shows ``message`` to the user, so say what they can do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What a provider's factory is given. ``options`` are the user's ``--provider-option key=value``."""

    node: str
    cluster_id: str
    data_dir: pathlib.Path
    node_ip: str = "127.0.0.1"
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Provider(Protocol):
    """The required part. Every method may be called again after a failure and must then finish the work."""

    def run(self, reports: ReportSink) -> AbstractAsyncContextManager[None]:
        """Ready when entered; from then on every change of a container is reported, beginning with what ``list``
        shows. Leaving it releases the provider's own resources and **leaves pods running** (see ``list``)."""
        ...

    async def create(self, plan: PodPlan) -> PodSandbox:
        """Make the pod's place: address, volumes. The same UID again returns the existing one."""
        ...

    async def start(self, uid: Uid, container: ContainerPlan) -> None:
        """Run an attempt. Returns when it is started or raises ``ImageError``/``ProviderError``; how it goes on is
        reported. The same attempt again is not started twice."""
        ...

    async def stop(self, uid: Uid, container: str, grace_seconds: float) -> None:
        """Ask the container to end (SIGTERM or the image's stop signal), kill it after ``grace_seconds``; returns when
        it is gone. Unknown or ended containers are no error."""
        ...

    async def delete(self, uid: Uid) -> None:
        """Kill what still runs and remove everything of the pod, logs included. Unknown pods are no error."""
        ...

    async def list(self) -> Sequence[PodRecord]:
        """Every pod of this node the backend holds."""
        ...

    def capacity(self) -> Mapping[str, str]:
        """Resource name -> quantity for the Node object: cpu, memory, pods, ephemeral-storage."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """As in PodLogOptions; None means not given (``tail_lines=0`` gives nothing)."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_seconds: int | None = None
    since_time: datetime.datetime | None = None
    stream: str = "All"
    """``All``, ``Stdout`` or ``Stderr``."""


@runtime_checkable
class Logs(Protocol):
    async def logs(self, uid: Uid, container: str, options: LogOptions) -> ByteReader:
        """The container's output. Raises ``PodNotFound`` when there is none (yet)."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TerminalSize:
    width: int
    height: int


class ExecIO(Protocol):
    """The user's side of an exec or attach session."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    async def read_stdin(self) -> bytes:
        """The user's next bytes; empty at their end."""
        ...

    async def write_stdout(self, data: bytes) -> None: ...

    async def write_stderr(self, data: bytes) -> None: ...

    async def next_size(self) -> TerminalSize | None:
        """The next terminal size; None when no more will come."""
        ...


@runtime_checkable
class Exec(Protocol):
    async def exec(self, uid: Uid, container: str, command: Sequence[str], io: ExecIO) -> int:
        """Run ``command`` beside the container, with its environment and files; returns the exit code. Cancelled, the
        command is killed before this returns. Raises ``PodNotFound`` or ``ProviderError``."""
        ...


@runtime_checkable
class Attach(Protocol):
    async def attach(self, uid: Uid, container: str, io: ExecIO) -> None:
        """Join the container's main process until it ends or the user leaves; leaving does not end the process."""
        ...


@runtime_checkable
class Dial(Protocol):
    async def dial(self, uid: Uid, port: int) -> ByteStream:
        """A connection to ``port`` of the pod, made however this backend reaches it. Raises ``ConnectionError``."""
        ...


@runtime_checkable
class Images(Protocol):
    """For backends that fetch or look up images before a container is made; others find out in ``start``."""

    async def ensure_image(self, container: Object, *, pull: Callable[[], None]) -> None:
        """The image of ``container`` (as it stands in the pod) is at hand when this returns; raises ``ImageError``.
        ``pull`` is called when fetching it begins."""
        ...


@runtime_checkable
class VolumeUpdates(Protocol):
    async def update_volumes(self, uid: Uid, volumes: Sequence[Volume]) -> None:
        """Give running containers the new content of volumes made of files, each swapped at once."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUsage:
    """One container's use: CPU time since its start, memory now."""

    name: str
    cpu_core_nanoseconds: int
    memory_working_set_bytes: int


@runtime_checkable
class Stats(Protocol):
    async def stats(self, uid: Uid) -> Sequence[ContainerUsage]: ...
