"""Hooks and probes against real listeners: HTTP, TCP, gRPC, and nobody at all."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.unit.node.pods import container, pod

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.node import grpc_health
from anynode.node.handlers import HandlerError, HandlerFailed, Handlers
from anynode.provider import ProviderSettings
from anynode.providers.sim import SimProvider

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def handlers(tmp_path: Any) -> Handlers:
    provider = SimProvider(ProviderSettings(node="n", cluster_id="c", data_dir=tmp_path))
    return Handlers(provider=provider, clock=SystemClock())


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def answering(reply: bytes, seen: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(65536)
        if seen is not None:
            seen.append(data)
        writer.write(reply)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    return serve


async def probe(handlers: Handlers, spec: Object, main: Object | None = None) -> None:
    await handlers.probe(pod(), main or container("main"), spec, "127.0.0.1")


async def test_http_success_and_what_is_sent(handlers: Handlers) -> None:
    seen: list[bytes] = []
    async with listening(answering(b"HTTP/1.1 204 No Content\r\n\r\n", seen)) as port:
        headers = [{"name": "X-Probe", "value": "1"}, {"name": "host", "value": "example.com"}]
        await probe(handlers, {"httpGet": {"port": port, "path": "health?x=1", "httpHeaders": headers}})
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "GET /health?x=1 HTTP/1.1"
    assert {"X-Probe: 1", "host: example.com", "User-Agent: kube-probe/1.36"} <= set(lines)
    assert not any(line.startswith("Host:") for line in lines)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"HTTP/1.1 500 Oops\r\n\r\n", "HTTP probe failed with statuscode: 500"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "HTTP probe failed with statuscode: 404"),
        (b"", "EOF"),
        (b"SSH-2.0-x\r\n", "malformed HTTP response"),
    ],
)
async def test_http_failures(handlers: Handlers, reply: bytes, message: str) -> None:
    async with listening(answering(reply)) as port:
        with pytest.raises(HandlerFailed, match=message):
            await probe(handlers, {"httpGet": {"port": port}})


async def test_a_hook_takes_any_answer(handlers: Handlers) -> None:
    async with listening(answering(b"HTTP/1.1 500 Oops\r\n\r\n")) as port:
        main = container("main", ports=[{"name": "web", "containerPort": port}])
        await handlers.run(pod(), main, {"httpGet": {"port": "web"}}, "127.0.0.1")


async def test_nobody_listens(handlers: Handlers) -> None:
    async with listening(answering(b"")) as port:
        pass
    with pytest.raises(HandlerFailed, match=f"dial tcp 127.0.0.1:{port}: connect: connection refused"):
        await probe(handlers, {"tcpSocket": {"port": port}})
    with pytest.raises(HandlerFailed, match=f'Get "http://127.0.0.1:{port}/": dial tcp'):
        await probe(handlers, {"httpGet": {"port": port}})


async def test_tcp_success(handlers: Handlers) -> None:
    async with listening(answering(b"")) as port:
        await probe(handlers, {"tcpSocket": {"port": port}})


async def test_a_probe_that_takes_too_long_failed(handlers: Handlers) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(silent) as port:
        with pytest.raises(HandlerFailed, match="context deadline exceeded"):
            await probe(handlers, {"httpGet": {"port": port}, "timeoutSeconds": 0.05})


def health(message: bytes) -> bytes:
    body = b"\0" + len(message).to_bytes(4, "big") + message
    frames = ((4, 0, 0, b""), (1, 4, 1, b"\x88"), (0, 0, 1, body), (1, 5, 1, b"\x00"))
    return b"".join(len(p).to_bytes(3, "big") + bytes((k, f)) + s.to_bytes(4, "big") + p for k, f, s, p in frames)


async def test_grpc_serving(handlers: Handlers) -> None:
    seen: list[bytes] = []
    async with listening(answering(health(b"\x08\x01"), seen)) as port:
        await probe(handlers, {"grpc": {"port": port, "service": "db"}})
    assert seen[0].startswith(grpc_health.PREFACE)
    assert b"/grpc.health.v1.Health/Check" in seen[0]
    assert seen[0].endswith(b"\x00\x00\x00\x00\x04\x0a\x02db")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (health(b"\x08\x02"), 'service unhealthy \\(responded with "NOT_SERVING"\\)'),
        (health(b""), 'responded with "UNKNOWN"'),
        (b"\0\0\x04\x07\0\0\0\0\0abcd", "the server closed the connection"),
        (b"", "gave no answer"),
    ],
)
async def test_grpc_failures(handlers: Handlers, reply: bytes, message: str) -> None:
    async with listening(answering(reply)) as port:
        with pytest.raises(HandlerFailed, match=message):
            await probe(handlers, {"grpc": {"port": port}})


def test_a_grpc_answer_may_come_byte_by_byte() -> None:
    answer = grpc_health.Answer()
    assert any(answer.feed(bytes((each,))) for each in health(b"\x08\x01"))
    assert answer.status == grpc_health.SERVING


async def test_a_handler_without_action_is_an_error(handlers: Handlers) -> None:
    with pytest.raises(HandlerError, match="missing probe handler"):
        await probe(handlers, {})
    with pytest.raises(HandlerError, match="invalid handler"):
        await handlers.run(pod(), container("main"), {}, "127.0.0.1")


@pytest.mark.parametrize(
    "frames",
    [
        bytes((0, 0, 0, grpc_health.DATA, grpc_health.PADDED, 0, 0, 0, grpc_health.STREAM)),
        bytes((0, 0, 1, grpc_health.DATA, grpc_health.PADDED, 0, 0, 0, grpc_health.STREAM, 200)),
        (b"\0\x40\0" + bytes((grpc_health.DATA, 0, 0, 0, 0, grpc_health.STREAM)) + b"\xff" * 0x4000) * 100,
    ],
    ids=["padding of nothing", "more padding than bytes", "no end"],
)
def test_a_health_answer_that_is_none_is_an_error_of_the_pod(frames: bytes) -> None:
    answer = grpc_health.Answer()
    pieces = (frames[at : at + 0x4009] for at in range(0, len(frames), 0x4009))
    with pytest.raises(ValueError, match=r"padding|too long"):
        collections.deque(map(answer.feed, pieces), maxlen=0)
