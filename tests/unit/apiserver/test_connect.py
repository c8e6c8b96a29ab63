"""The API server towards kubelets: locations, refusals in upstream's words, sessions copied and translated."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator, Callable

import pytest

from anynode.aio import tls
from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpClient, Origin
from anynode.aio.http_message import ByteStream, HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.api import errors
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, parse_query
from anynode.apiserver.connect import (
    Connector,
    ConnectTarget,
    chosen_container,
    kubelet_address,
    log_params,
    session_location,
)
from anynode.security.pki import CertificateAuthority
from anynode.streaming import portforward, remotecommand, session, websocket
from anynode.streaming.multiplex import SpdyChannels, WebSocketChannels, WebSocketTunnel
from anynode.streaming.remotecommand import Channel, Wants

POD: Object = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"nodeName": "n1", "containers": [{"name": "main"}], "initContainers": [{"name": "init"}]},
}
TWO: Object = {**POD, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}


def asked(query: str = "", headers: dict[str, str] | None = None, method: str = "GET") -> ApiRequest:
    path = "/api/v1/namespaces/default/pods/web/exec"
    return ApiRequest(method=method, path=path, query=parse_query(query), headers=headers or {}, peer="10.0.0.9:1234")


def test_the_only_container_is_meant() -> None:
    assert chosen_container(POD, "") == "main"
    assert chosen_container(POD, "init") == "init"


@pytest.mark.parametrize(
    ("pod", "wanted", "said"),
    [
        (POD, "x", "container x is not valid for pod web"),
        (TWO, "", "a container name must be specified for pod web, choose one of: [a b]"),
        ({**POD, "spec": {}}, "", "a container name must be specified for pod web"),
    ],
)
def test_no_container_is_guessed(pod: Object, wanted: str, said: str) -> None:
    with pytest.raises(errors.BadRequest) as refused:
        chosen_container(pod, wanted)
    assert refused.value.message == said


def test_the_kubelets_path_of_a_session() -> None:
    request = asked("stdin=true&stdout=1&tty=false&command=sh&command=-c&command=a%20%26b")
    expected = "/exec/default/web/main?input=1&output=1&command=sh&command=-c&command=a+%26b"
    assert session_location(request, "exec", POD) == expected
    assert session_location(asked("ports=80,81"), "portforward", POD) == "/portForward/default/web?port=80&port=81"


def test_a_node_is_reached_by_its_address() -> None:
    status: Object = {
        "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1234}},
    }
    assert kubelet_address({"status": status}) == ("127.0.0.1", 1234)
    assert kubelet_address({"status": {"addresses": status["addresses"]}}) == ("127.0.0.1", 10250)
    with pytest.raises(errors.ApiError, match="no preferred addresses found"):
        kubelet_address({})


def test_log_options_are_handed_on() -> None:
    query = "follow=true&previous=false&tailLines=5&sinceSeconds=10&limitBytes=100&stream=All&container=main"
    assert log_params(asked(query), "web") == [
        ("follow", "true"), ("sinceSeconds", "10"), ("tailLines", "5"), ("limitBytes", "100"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 422, "at most one of `sinceTime` or `sinceSeconds`"),
        ("stream=Both", 422, 'stream: Unsupported value: "Both"'),
        ("tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)
def test_wrong_log_options(query: str, code: int, said: str) -> None:
    with pytest.raises(errors.ApiError) as refused:
        log_params(asked(query), "web")
    assert refused.value.status_code == code
    assert said in refused.value.message


class Kubelet:
    """A kubelet that shows who asked, serves SPDY sessions, and takes WebSockets only when ``modern``."""

    def __init__(self, *, modern: bool) -> None:
        self.modern = modern
        self.seen: list[HttpRequest] = []

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        self.seen.append(request)
        if request.path.startswith("/containerLogs"):
            status = int(parse_query(request.query_string).get("tailLines", ["200"])[0])
            return HttpResponse(status=status, headers={"content-type": "text/plain"}, body=b"a line")
        if request.path.startswith("/portForward"):
            return self._port_forward(request)
        return self._exec(request)

    def _exec(self, request: HttpRequest) -> HttpResponse:
        wants = Wants(stdin=True, stdout=True, stderr=True)

        async def work(user: session.Session) -> Object:
            while data := await user.read_stdin():
                await user.write_stdout(data.upper())
            await user.write_stderr(b"done")
            return remotecommand.exit_status(3)

        async def over_websocket(stream: ByteStream) -> None:
            incoming = frozenset({Channel.STDIN})
            channels = WebSocketChannels(stream, protocol=remotecommand.V5, client=False, incoming=incoming)
            await session.serve(channels, wants, work)

        async def over_spdy(stream: ByteStream) -> None:
            await session.serve(SpdyChannels(stream, protocol=remotecommand.V4, client=False), wants, work)

        if websocket.is_websocket(request.headers):
            if not self.modern:
                return HttpResponse(status=403, body=b"no websockets here")
            headers = websocket.upgrade_headers(request.headers, remotecommand.V5)
            return HttpResponse(status=101, headers=headers, upgrade=over_websocket)
        return HttpResponse(status=101, headers=SPDY, upgrade=over_spdy)

    def _port_forward(self, request: HttpRequest) -> HttpResponse:
        async def dial(port: int) -> ByteStream:
            raise ConnectionRefusedError("nobody listens")

        async def serve(stream: ByteStream) -> None:
            await portforward.Server(stream, dial, lambda port, error: f"{port}: {error}").run()

        return HttpResponse(status=101, headers=SPDY, upgrade=serve)


SPDY = {"connection": "Upgrade", "upgrade": "SPDY/3.1"}


class Api:
    """The smallest API server: everything goes to one target."""

    def __init__(self, connector: Connector, target: Callable[[str], ConnectTarget]) -> None:
        self._connector = connector
        self._target = target

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        given = ApiRequest(
            method=request.method,
            path=request.path,
            query=parse_query(request.query_string),
            headers=request.headers,
            peer=request.peer,
        )
        try:
            answer = await self._connector.connect(given, self._target(request.path.rpartition("/")[2]))
        except errors.ApiError as error:
            return HttpResponse(status=error.status_code, body=error.message.encode())
        return HttpResponse(
            status=answer.status,
            headers=answer.headers,
            body=answer.encoded(),
            stream=answer.stream,
            upgrade=answer.upgrade,
        )


class World:
    """A client, the connector behind a listener, and a kubelet over TLS that wants a certificate."""

    def __init__(self, kubelet: Kubelet, client: HttpClient, origin: Origin) -> None:
        self.kubelet = kubelet
        self.client = client
        self.origin = origin

    async def get(self, target: str) -> tuple[int, bytes]:
        answer = await self.client.request(self.origin, "GET", target, {})
        return answer.status, answer.body


@pytest.fixture(params=[True, False], ids=["websocket-kubelet", "spdy-kubelet"])
async def world(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[World]:
    clock = SystemClock()
    authority = CertificateAuthority.load_or_create(tmp_path, clock)
    served, own = authority.server_certificate(["n1"]), authority.client_certificate("api", ["system:masters"])
    kubelet = Kubelet(modern=request.param)
    context = tls.server_context(served.certificate, served.key, client_ca=authority.certificate)
    connector = Connector(
        clock=clock,
        kubelet_tls=tls.client_context(certificate=own.certificate, key=own.key, verify=False),
        backend_tls=tls.client_context(verify=False),
    )
    client = HttpClient(clock=clock)
    async with HttpServer(kubelet, ssl=context, clock=clock) as listener:
        status: Object = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": listener.port}},
            "declaredFeatures": ["ExtendWebSocketsToKubelet"] if request.param else [],
        }
        node: Object = {"metadata": {"name": "n1"}, "status": status}
        api = Api(connector, lambda kind: ConnectTarget(kind=kind, pod=POD, node=None if kind == "x" else node))
        async with HttpServer(api, clock=clock) as front:
            yield World(kubelet, client, Origin(host="127.0.0.1", port=front.port))
            await client.close()
        await connector.close()


async def test_logs_show_the_servers_certificate_and_come_through(world: World) -> None:
    assert await world.get("/log") == (200, b"a line")
    assert world.kubelet.seen[0].client_cert is not None
    assert world.kubelet.seen[0].path == "/containerLogs/default/web/main"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        (400, 400, b"a line"),
        (404, 404, b"the server could not find the requested resource ( pods/log web)"),
        (500, 500, b"Internal error occurred: a line"),
        (501, 501, b'an error on the server ("a line") has prevented the request from succeeding ( pods/log web)'),
    ],
)
async def test_a_kubelets_refusal_of_logs(world: World, code: int, status: int, said: bytes) -> None:
    assert await world.get(f"/log?tailLines={code}") == (status, said)


async def test_a_session_needs_an_upgrade(world: World) -> None:
    assert await world.get("/exec?stdout=1&command=x") == (400, b"Upgrade request required")


async def attended(world: World, channels: Callable[[ByteStream], WebSocketChannels | SpdyChannels]) -> None:
    pieces = [b"one", b"two" * 50_000]
    out = b""

    class Stdin:
        async def read(self) -> bytes:
            return pieces.pop(0) if pieces else b""

        async def close(self) -> None:
            pass

    async def take(data: bytes) -> None:
        nonlocal out
        out += data

    websockets = channels is over_websocket
    headers = websocket.request_headers(b"k" * 16, (remotecommand.V5,)) if websockets else {**SPDY, **VERSIONS}
    target = "/exec?stdin=1&stdout=1&stderr=1&command=x"
    answer, stream = await world.client.upgrade(world.origin, "GET" if websockets else "POST", target, headers)
    assert (answer.status, answer.body) == (101, b"")
    assert stream is not None
    wants = Wants(stdin=True, stdout=True, stderr=True)
    async with asyncio.timeout(5):
        status = await session.attend(channels(stream), wants, stdin=Stdin(), stdout=take)
    assert out == b"ONE" + b"TWO" * 50_000
    assert remotecommand.exit_code_of(status) == 3


VERSIONS = {"x-stream-protocol-version": "v4.channel.k8s.io"}


def over_websocket(stream: ByteStream) -> WebSocketChannels:
    incoming = frozenset({Channel.STDOUT, Channel.STDERR, Channel.ERROR})
    return WebSocketChannels(stream, protocol=remotecommand.V5, client=True, incoming=incoming)


def over_spdy(stream: ByteStream) -> SpdyChannels:
    return SpdyChannels(stream, protocol=remotecommand.V4, client=True)


async def test_exec_over_websocket(world: World) -> None:
    await attended(world, over_websocket)
    assert websocket.is_websocket(world.kubelet.seen[-1].headers) is world.kubelet.modern


async def test_exec_over_spdy(world: World) -> None:
    await attended(world, over_spdy)
    assert world.kubelet.seen[-1].headers["x-forwarded-for"] == "127.0.0.1"


async def test_port_forward_inside_a_websocket_reaches_a_kubelet_that_speaks_spdy(world: World) -> None:
    if world.kubelet.modern:
        return
    headers = websocket.request_headers(b"k" * 16, (portforward.TUNNEL_PROTOCOL,))
    answer, stream = await world.client.upgrade(world.origin, "GET", "/portforward", headers)
    assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, portforward.TUNNEL_PROTOCOL)
    assert stream is not None
    forwarding = portforward.Client(WebSocketTunnel(stream, client=True))
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(forwarding.run())
        connection = await forwarding.connect(80)
        with pytest.raises(portforward.PortForwardRefused, match="80: nobody listens"):
            await connection.read()
        await forwarding.close()


async def test_a_node_that_is_gone() -> None:
    status: Object = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}},
    }
    context = tls.client_context(verify=False)
    connector = Connector(clock=SystemClock(), kubelet_tls=context, backend_tls=context)
    node: Object = {"status": status}
    with pytest.raises(errors.ApiError) as refused:
        await connector.connect(asked(), ConnectTarget(kind="log", pod=POD, node=node))
    url = "https://127.0.0.1:1/containerLogs/default/web/main"
    assert refused.value.message == f'Get "{url}": dial tcp 127.0.0.1:1: connect: connection refused'
    request = asked("stdout=1&command=x", SPDY, "POST")
    with pytest.raises(errors.ApiError, match="error dialing backend: dial tcp"):
        await connector.connect(request, ConnectTarget(kind="exec", pod=POD, node=node))
    with pytest.raises(errors.BadRequest, match="pod web does not have a host assigned"):
        await connector.connect(request, ConnectTarget(kind="exec", pod=POD))
    unassigned = await connector.connect(asked(), ConnectTarget(kind="log", pod=POD))
    assert (unassigned.status, unassigned.encoded()) == (204, b"")
    await connector.close()
