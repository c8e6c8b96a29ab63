"""HttpTransport against a real listener: the transport suite, framing, retries, credentials."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.http_message import HttpRequest, HttpResponse, PushSink
from anynode.aio.http_server import HttpServer
from anynode.api.errors import ApiError, InternalError, TooManyRequests
from anynode.api.objects import ObjectKey
from anynode.api.resources import known
from anynode.api.wire import ApiRequest, parse_query
from anynode.client.api_client import ApiClient
from anynode.client.config import ClientConfig, ConfigError
from anynode.client.credentials import Credential
from anynode.client.http import HttpTransport, Lines
from anynode.client.transport import Transport
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi, FakeWatch
from anynode.testing.transport_suite import TransportSuite

PODS = known("pods")
Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class Front:
    """A FakeApi behind HTTP."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        query = parse_query(request.query_string)
        asked = ApiRequest(
            method=request.method, path=request.path, query=query, headers=request.headers, body=request.body
        )
        try:
            if asked.argument("watch") == "true":
                watch = await self.api.watch(asked)
                return HttpResponse(push=lambda sink: self.push(watch, sink))
            answer = await self.api.send(asked)
        except ApiError as error:
            headers = {"content-type": "application/json"}
            return HttpResponse(status=error.status_code, headers=headers, body=orjson.dumps(error.status()))
        return HttpResponse(status=answer.status, body=answer.encoded())

    def push(self, watch: FakeWatch, sink: PushSink) -> None:
        async def copy() -> None:
            async for events in watch:
                for event in events:
                    sink.write(event.line)
            sink.close()

        task = asyncio.create_task(copy())
        sink.on_closed = watch.end
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


@contextlib.asynccontextmanager
async def serving(handler: Handler, **config: object) -> AsyncIterator[HttpTransport]:
    clock = SystemClock()
    async with HttpServer(handler, clock=clock, stop_seconds=1) as server:
        settings = ClientConfig(server=f"http://127.0.0.1:{server.port}", **config)  # type: ignore[arg-type]
        transport = HttpTransport(settings, clock=FakeClock())
        try:
            yield transport
        finally:
            await transport.close()


class TestSuite(TransportSuite):
    @pytest.fixture
    async def transport(self) -> AsyncIterator[Transport]:
        api = FakeApi()
        front = Front(api)
        async with serving(front) as transport:
            yield transport
            await api.close()
            if front.tasks:
                await asyncio.wait(front.tasks)


class TestFakeApi(TransportSuite):
    @pytest.fixture
    def transport(self) -> Transport:
        return FakeApi()


def test_lines_come_in_any_pieces() -> None:
    text = b'{"a":1}\n{"b":2}\n\n{"c":3}\n{"d"'
    for size in range(1, len(text) + 1):
        lines = Lines()
        got = [line for start in range(0, len(text), size) for line in lines.feed(text[start : start + size])]
        assert got == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


async def test_busy_answers_with_a_hint_are_tried_again() -> None:
    answers = [429, 503, 200]

    async def handler(request: HttpRequest) -> HttpResponse:
        status = answers.pop(0)
        return HttpResponse(status=status, headers={"retry-after": "1"} if status != 200 else {}, body=b"{}")

    async with serving(handler) as transport:
        clock = transport._clock
        assert isinstance(clock, FakeClock)
        task = asyncio.create_task(ApiClient(transport).get(PODS, ObjectKey("a", "b")))
        while answers or not task.done():
            await asyncio.sleep(0.001)
            await clock.advance(1)
        assert await task == {}


async def test_busy_answers_without_a_hint_are_not() -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=429, body=b"go away")

    async with serving(handler) as transport:
        with pytest.raises(TooManyRequests, match="go away"):
            await ApiClient(transport).get(PODS, ObjectKey("a", "b"))


async def test_an_answer_that_is_no_status_still_is_an_error() -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=502, body=b"<html>")

    async with serving(handler) as transport:
        with pytest.raises(InternalError) as caught:
            await ApiClient(transport).get(PODS, ObjectKey("a", "b"))
        assert caught.value.status_code == 502


class Renewed:
    """Hands out another token after each rejection."""

    def __init__(self) -> None:
        self.number = 1

    async def current(self) -> Credential:
        return Credential(authorization=f"Bearer {self.number}")

    def rejected(self, credential: Credential) -> bool:
        self.number += 1
        return True


async def test_a_rejected_credential_is_renewed_once() -> None:
    seen: list[str] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        seen.append(request.headers["authorization"])
        good = request.headers["authorization"] == "Bearer 2"
        return HttpResponse(status=200 if good else 401, body=b"{}")

    async with serving(handler, credentials=Renewed(), headers={"impersonate-user": "jane"}) as transport:
        await ApiClient(transport).get(PODS, ObjectKey("a", "b"))
        assert seen == ["Bearer 1", "Bearer 2"]


async def test_a_server_that_is_away_is_a_connection_error() -> None:
    transport = HttpTransport(ClientConfig(server="http://127.0.0.1:1"), clock=SystemClock())
    with pytest.raises(ConnectionError):
        await ApiClient(transport).get(PODS, ObjectKey("a", "b"))
    await transport.close()


async def test_the_servers_path_stands_before_ours() -> None:
    seen: list[str] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        seen.append(request.target)
        return HttpResponse(body=b'{"items":null,"metadata":{}}')

    clock = SystemClock()
    async with HttpServer(handler, clock=clock) as server:
        transport = HttpTransport(ClientConfig(server=f"http://127.0.0.1:{server.port}/k8s/c1"), clock=clock)
        await ApiClient(transport).list(PODS, "ns", limit=5)
        assert seen == ["/k8s/c1/api/v1/namespaces/ns/pods?limit=5"]
        await transport.close()


def test_a_proxy_is_refused_rather_than_ignored() -> None:
    with pytest.raises(ConfigError):
        HttpTransport(ClientConfig(server="http://127.0.0.1:1", proxy_url="http://p"), clock=SystemClock())
