"""The node's endpoint over real sockets: routes, words and codes as a kubelet has them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpAnswer, HttpClient, Origin
from anynode.api.objects import Object, Uid
from anynode.kubelet_api.auth import Authenticator
from anynode.kubelet_api.pods import log_complaint
from anynode.kubelet_api.server import KubeletServer
from anynode.provider import ContainerUsage, ExecIO, LogOptions, PodNotFound, ProviderError
from anynode.streaming import remotecommand, session, websocket
from anynode.streaming.multiplex import SpdyChannels, WebSocketChannels
from anynode.streaming.remotecommand import Channel, Wants

RUNNING = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "containerID": "x://1"}


def pod(name: str = "web", *, status: Object | None = None) -> Object:
    statuses = [{"name": "main", **(RUNNING if status is None else status)}]
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"containers": [{"name": "main"}, {"name": "other"}]},
        "status": {"containerStatuses": statuses},
    }


class Pods:
    def __init__(self, *pods: Object) -> None:
        self.by_name = {each["metadata"]["name"]: each for each in pods}

    def find(self, namespace: str, name: str) -> Object | None:
        return self.by_name.get(name) if namespace == "default" else None

    def list(self) -> Sequence[Object]:
        return list(self.by_name.values())


class Lines:
    def __init__(self, *lines: bytes) -> None:
        self.lines = list(lines)

    async def read(self) -> bytes:
        return self.lines.pop(0) if self.lines else b""

    async def close(self) -> None:
        pass


@dataclasses.dataclass
class Backend:
    """Echoes: a command's words on stdout, stdin after them; exit code is the number of words."""

    options: list[LogOptions] = dataclasses.field(default_factory=list)

    async def logs(self, uid: Uid, container: str, options: LogOptions) -> Lines:
        self.options.append(options)
        if options.previous:
            raise PodNotFound("gone")
        return Lines(b"one\n", b"two\n")

    async def exec(self, uid: Uid, container: str, command: Sequence[str], io: ExecIO) -> int:
        if command[0] == "fail":
            raise ProviderError("CannotRun", "no such file")
        await io.write_stdout(" ".join(command).encode())
        while data := await io.read_stdin():
            await io.write_stdout(data)
        if io.tty:
            await io.write_stdout(repr(await io.next_size()).encode())
        return len(command)

    async def attach(self, uid: Uid, container: str, io: ExecIO) -> None:
        await io.write_stderr(b"attached")

    async def stats(self, uid: Uid) -> Sequence[ContainerUsage]:
        return [ContainerUsage(name="main", cpu_core_nanoseconds=1_500_000_000, memory_working_set_bytes=4096)]


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
async def server(backend: Backend) -> AsyncIterator[KubeletServer]:
    clock = SystemClock()
    waiting = pod("waiting", status={"state": {"waiting": {"reason": "ContainerCreating"}}})
    async with KubeletServer(
        Pods(pod(), waiting),
        backend,
        node="n1",
        authenticator=Authenticator(node="n1", clock=clock, anonymous=True),
        clock=clock,
        ssl=None,
    ) as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient(clock=SystemClock())
    yield client
    await client.close()


async def get(client: HttpClient, server: KubeletServer, target: str) -> HttpAnswer:
    return await client.request(Origin(host="127.0.0.1", port=server.port), "GET", target, {})


async def test_lists(client: HttpClient, server: KubeletServer) -> None:
    every = orjson.loads((await get(client, server, "/pods")).body)
    assert [each["metadata"]["name"] for each in every["items"]] == ["web", "waiting"]
    running = orjson.loads((await get(client, server, "/runningpods/")).body)
    assert [each["metadata"]["name"] for each in running["items"]] == ["web"]
    assert (await get(client, server, "/healthz")).body == b"ok"


async def test_logs_come_with_the_options_asked_for(
    client: HttpClient, server: KubeletServer, backend: Backend
) -> None:
    query = "follow=true&tailLines=3&sinceTime=2026-01-01T00:00:00Z&timestamps=1&limitBytes=9"
    answer = await get(client, server, f"/containerLogs/default/web/main?{query}")
    assert answer.body == b"one\ntwo\n"
    options = backend.options[0]
    assert (options.follow, options.tail_lines, options.timestamps, options.limit_bytes) == (True, 3, True, 9)
    assert options.since_time is not None


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/containerLogs/default/none/main", 404, b'pod "none" does not exist'),
        ("/containerLogs/default/web/none", 404, b'container "none" not found in pod "web"'),
        ("/containerLogs/default/web/other", 400, b'container "other" in pod "web" is not available'),
        (
            "/containerLogs/default/waiting/main", 400,
            b'container "main" in pod "waiting" is waiting to start: ContainerCreating',
        ),
        (
            "/containerLogs/default/web/main?previous=true", 400,
            b'previous terminated container "main" in pod "web" not found',
        ),
        ("/containerLogs/default/web/main?tailLines=x", 400, b'{"message": "Unable to decode query."}'),
        ("/containerLogs/default/web/main?tailLines=-1", 422, b'{"message": "Invalid request."}'),
        ("/containerLogs/default/web/main?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 422, None),
        ("/exec/default/none/main?output=1", 404, b"pod does not exist"),
        ("/exec/default/web/main", 400, b"you must specify at least 1 of stdin, stdout, stderr"),
        ("/exec/default/waiting/main?output=1", 500, b'container not found ("main")'),
        ("/exec/default/web/wrong-uid/main?output=1", 500, b'container not found ("main")'),
        ("/exec/default/web/main?output=1&command=x", 400, b"unable to upgrade: missing upgrade headers in request"),
        ("/portForward/default/web", 501, None),
        ("/unknown", 404, b"404 page not found\n"),
    ],
)  # fmt: skip
async def test_refusals(
    client: HttpClient, server: KubeletServer, target: str, status: int, body: bytes | None
) -> None:
    answer = await get(client, server, target)
    assert answer.status == status
    if body is not None:
        assert answer.body == body


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (RUNNING, ""),
        ({"state": {"waiting": {"reason": "ErrImagePull"}}}, "is waiting to start: image can't be pulled"),
        ({"state": {"waiting": {"reason": "ImagePullBackOff"}}}, "waiting to start: trying and failing to pull image"),
        ({"state": {}}, "is waiting to start - no logs yet"),
        ({"state": {"terminated": {"exitCode": 1}}}, "is terminated"),
        ({"state": {"terminated": {"exitCode": 1, "containerID": "x://1"}}}, ""),
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"containerID": "x"}}},
            "",
        ),
    ],
)
def test_why_there_are_no_logs(status: Object, complaint: str) -> None:
    said = log_complaint(pod(status=status), "main", previous=False)
    assert said.endswith(complaint)
    assert bool(said) == bool(complaint)


class Stdin:
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def close(self) -> None:
        pass


async def run(
    client: HttpClient, server: KubeletServer, target: str, wants: Wants, *, spdy: bool, stdin: Stdin | None = None
) -> tuple[Object, bytes, bytes]:
    origin = Origin(host="127.0.0.1", port=server.port)
    out, err = [], []

    async def on_out(data: bytes) -> None:
        out.append(data)

    async def on_err(data: bytes) -> None:
        err.append(data)

    if spdy:
        headers = {"connection": "Upgrade", "upgrade": "SPDY/3.1", "x-stream-protocol-version": "v9, v4.channel.k8s.io"}
    else:
        headers = websocket.request_headers(b"0123456789abcdef", (remotecommand.V5,))
    answer, stream = await client.upgrade(origin, "POST" if spdy else "GET", target, headers)
    assert answer.status == 101
    assert stream is not None
    channels: SpdyChannels | WebSocketChannels
    if spdy:
        assert answer.headers["x-stream-protocol-version"] == remotecommand.V4
        channels = SpdyChannels(stream, protocol=remotecommand.V4, client=True)
    else:
        incoming = frozenset({Channel.STDOUT, Channel.STDERR, Channel.ERROR})
        channels = WebSocketChannels(stream, protocol=remotecommand.V5, client=True, incoming=incoming)
    async with asyncio.timeout(5):
        status = await session.attend(channels, wants, stdin=stdin, stdout=on_out, stderr=on_err)
    return status, b"".join(out), b"".join(err)


@pytest.mark.parametrize("spdy", [False, True], ids=["websocket", "spdy"])
async def test_exec(client: HttpClient, server: KubeletServer, spdy: bool) -> None:
    wants = Wants(stdin=True, stdout=True, stderr=True)
    target = "/exec/default/web/main?input=1&output=1&error=1&command=echo&command=a%20b"
    status, out, _ = await run(client, server, target, wants, spdy=spdy, stdin=Stdin(b"+in", b"+more"))
    assert out == b"echo a b+in+more"
    assert remotecommand.exit_code_of(status) == 2


@pytest.mark.parametrize("spdy", [False, True], ids=["websocket", "spdy"])
async def test_a_command_that_cannot_be_run(client: HttpClient, server: KubeletServer, spdy: bool) -> None:
    target = "/exec/default/web/main?output=1&command=fail"
    status, _, _ = await run(client, server, target, Wants(stdout=True), spdy=spdy)
    assert status["message"] == "Internal error occurred: error executing command in container: no such file"
    assert status["code"] == 500


async def test_attach(client: HttpClient, server: KubeletServer) -> None:
    wants = Wants(stdout=True, stderr=True)
    status, _, err = await run(client, server, "/attach/default/web/main?output=1&error=1", wants, spdy=False)
    assert (status["status"], err) == ("Success", b"attached")


async def test_protocols_nobody_speaks_are_refused(client: HttpClient, server: KubeletServer) -> None:
    origin = Origin(host="127.0.0.1", port=server.port)
    target = "/exec/default/web/main?output=1&command=x"
    headers = websocket.request_headers(b"0123456789abcdef", ("v9.channel.k8s.io",))
    answer, _ = await client.upgrade(origin, "GET", target, headers)
    assert answer.status == 403
    headers = {"connection": "Upgrade", "upgrade": "SPDY/3.1", "x-stream-protocol-version": "v9"}
    answer, _ = await client.upgrade(origin, "POST", target, headers)
    assert answer.status == 403
    assert answer.headers["x-accepted-stream-protocol-versions"].startswith("v4.channel.k8s.io, v3")


async def test_usage_is_told_twice(client: HttpClient, server: KubeletServer) -> None:
    summary = orjson.loads((await get(client, server, "/stats/summary")).body)
    assert summary["node"]["nodeName"] == "n1"
    (row,) = summary["pods"]
    assert row["podRef"] == {"name": "web", "namespace": "default", "uid": "uid-web"}
    assert row["containers"][0]["memory"]["workingSetBytes"] == 4096
    assert row["cpu"]["usageCoreNanoSeconds"] == 1_500_000_000
    text = (await get(client, server, "/metrics/resource")).body.decode()
    labels = 'container="main",namespace="default",pod="web"'
    assert f"container_cpu_usage_seconds_total{{{labels}}} 1.5" in text
    assert f"container_memory_working_set_bytes{{{labels}}} 4096" in text
    assert "# TYPE pod_cpu_usage_seconds_total counter" in text
