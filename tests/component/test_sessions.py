"""From a Python client through a real API server to a node's endpoint and into pods: sessions and proxies.

The backend below stands for processes: a command answers with its words and its input, port 80 with capitals.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import pathlib
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from anynode.aio import tls
from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpClient, Origin
from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.api.errors import ApiError, Forbidden, InternalError, NotFound, ServiceUnavailable
from anynode.api.objects import Object, ObjectKey, Uid, name_of
from anynode.api.resources import Resource, known
from anynode.api.wire import ApiRequest, User
from anynode.apiserver.loopback import LoopbackTransport
from anynode.apiserver.process import ApiServerProcess
from anynode.client import remote
from anynode.client.api_client import ApiClient, PatchKind
from anynode.client.config import ClientConfig
from anynode.client.http import HttpTransport
from anynode.client.transport import Transport
from anynode.kubelet_api.auth import Authenticator
from anynode.kubelet_api.server import KubeletServer
from anynode.provider import ExecIO, LogOptions, ProviderError
from anynode.storage.memory import MemoryStorage
from anynode.streaming import websocket
from anynode.streaming.portforward import PortForwardRefused
from anynode.streaming.pump import Pipe

NODES, PODS, SERVICES, ENDPOINTS = known("nodes"), known("pods"), known("services"), known("endpoints")
POD_IP = "127.9.9.9"
WEB = ObjectKey("default", "web")
CHANCE = random.Random(1)


class Text:
    """Bytes that are all there already."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def close(self) -> None:
        pass


class Capitals:
    """A connection that sends back what it gets, in capitals, until it is closed."""

    def __init__(self) -> None:
        self._pipe = Pipe()

    async def read(self) -> bytes:
        return await self._pipe.read()

    async def write(self, data: bytes) -> None:
        self._pipe.feed(data.upper())

    async def write_eof(self) -> None:
        self._pipe.feed_eof()

    async def close(self) -> None:
        await self._pipe.close()


class Backend:
    """The node's pods and their provider in one."""

    def __init__(self) -> None:
        self.pods: dict[str, Object] = {}
        self.cancelled = asyncio.Event()

    def find(self, namespace: str, name: str) -> Object | None:
        return self.pods.get(name) if namespace == "default" else None

    def list(self) -> Sequence[Object]:
        return tuple(self.pods.values())

    async def logs(self, uid: Uid, container: str, options: LogOptions) -> Text:
        return Text(b"one\n", b"two\n")

    async def exec(self, uid: Uid, container: str, command: Sequence[str], io: ExecIO) -> int:
        if command[0] == "missing":
            raise ProviderError("CannotRun", "no such file")
        if command[0] == "sleep":
            await io.write_stdout(b"asleep")
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        await io.write_stdout(" ".join(command).encode())
        while data := await io.read_stdin():
            await io.write_stderr(data)
        return len(command)

    async def attach(self, uid: Uid, container: str, io: ExecIO) -> None:
        await io.write_stdout(b"attached")

    async def dial(self, uid: Uid, port: int) -> Capitals:
        if port != 80:
            raise ConnectionRefusedError("connection refused")
        return Capitals()


class World:
    """The server, one node and one running pod whose address answers HTTP."""

    def __init__(self, process: ApiServerProcess, admin: ApiClient, backend: Backend, directory: pathlib.Path) -> None:
        self._process = process
        self._directory = directory
        self.admin = admin
        self.backend = backend

    def origin(self) -> Origin:
        """The listener, for who has no certificate."""
        context = tls.client_context(ca=self._process.ca_pem)
        return Origin(host="127.0.0.1", port=self._process.port, tls=context)

    def transport(self, user: str = "kubernetes-admin", groups: Sequence[str] = ("system:masters",)) -> HttpTransport:
        config = json.loads(self._process.kubeconfig())
        pair = self._process.authority.client_certificate(user, list(groups))
        files = {"client-certificate": pair.certificate, "client-key": pair.key}
        for name, content in files.items():
            path = self._directory / f"{user}-{name}"
            path.write_bytes(content)
            config["users"][0]["user"].pop(f"{name}-data", None)
            config["users"][0]["user"][name] = str(path)
        path = self._directory / f"{user}.kubeconfig"
        path.write_text(json.dumps(config))
        return HttpTransport(ClientConfig.from_kubeconfig(str(path)), clock=SystemClock())


async def hello(request: HttpRequest) -> HttpResponse:
    if request.path == "/moved":
        return HttpResponse(status=302, headers={"location": "/there"})
    return HttpResponse(body=f"{request.method} {request.target} {request.body.decode()}".encode())


async def with_status(client: ApiClient, resource: Resource, obj: Object, status: Object) -> Object:
    """Create ``obj`` and give it its status."""
    made = await client.create(resource, obj, namespace="default" if resource.namespaced else "")
    key = ObjectKey("default" if resource.namespaced else "", name_of(made))
    return await client.patch(resource, key, {"status": status}, kind=PatchKind.MERGE, subresource="status")


async def node_of(world: World, port: int) -> None:
    status: Object = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "declaredFeatures": ["ExtendWebSocketsToKubelet"],
    }
    await with_status(world.admin, NODES, {"metadata": {"name": "n1"}}, status)


async def pod_of(world: World, port: int) -> None:
    containers = [{"name": "main", "image": "x", "ports": [{"containerPort": port}]}]
    spec: Object = {"nodeName": "n1", "containers": containers, "automountServiceAccountToken": False}
    running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    container = {"name": "main", "image": "x", "imageID": "", "ready": True, "restartCount": 0, "state": running}
    status = {"phase": "Running", "podIP": POD_IP, "podIPs": [{"ip": POD_IP}]}
    status = {**status, "containerStatuses": [{**container, "containerID": "x://1"}]}
    pod: Object = {"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": spec}
    world.backend.pods["web"] = await with_status(world.admin, PODS, pod, status)


@pytest.fixture
async def world(tmp_path: pathlib.Path) -> AsyncIterator[World]:
    clock, backend = SystemClock(), Backend()
    async with contextlib.AsyncExitStack() as stack:
        storage = await stack.enter_async_context(MemoryStorage())
        process = await stack.enter_async_context(
            ApiServerProcess(storage, clock=clock, random=random.Random(1), directory=tmp_path)
        )
        user = User(name="admin", groups=("system:masters", "system:authenticated"))
        admin = ApiClient(LoopbackTransport(process.assembly.server, user))
        await admin.create(known("serviceaccounts"), {"metadata": {"name": "default", "namespace": "default"}})
        pair = process.authority.server_certificate(["n1", "127.0.0.1"])
        kubelet = await stack.enter_async_context(
            KubeletServer(
                backend,
                backend,
                node="n1",
                authenticator=Authenticator(node="n1", clock=clock),
                clock=clock,
                ssl=tls.server_context(pair.certificate, pair.key, client_ca=process.authority.certificate),
            )
        )
        web = await stack.enter_async_context(HttpServer(hello, host=POD_IP, clock=clock))
        world = World(process, admin, backend, tmp_path)
        await node_of(world, kubelet.port)
        await pod_of(world, web.port)
        yield world


@pytest.fixture(params=["https", "loopback"])
async def transport(world: World, request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    transport = world.transport() if request.param == "https" else world.admin.transport
    yield transport
    await transport.close()


class Sink:
    def __init__(self) -> None:
        self.data = b""
        self.came = asyncio.Event()

    async def __call__(self, data: bytes) -> None:
        self.data += data
        self.came.set()


async def test_logs(transport: Transport) -> None:
    reader = await remote.logs(transport, WEB, tail_lines=2)
    got = b""
    while data := await reader.read():
        got += data
    assert got == b"one\ntwo\n"
    with pytest.raises(ApiError, match="container nope is not valid for pod web"):
        await remote.logs(transport, WEB, container="nope")


@pytest.mark.parametrize("protocol", ["binary.k8s.io", "base64.binary.k8s.io"])
async def test_logs_over_a_websocket(transport: Transport, protocol: str) -> None:
    headers = websocket.request_headers(b"k" * 16, (protocol,))
    request = ApiRequest(method="GET", path=PODS.path("default", "web", "log"), headers=headers)
    answer, stream = await transport.upgrade(request)
    assert answer.headers["sec-websocket-protocol"] == protocol
    socket, said = websocket.WebSocket(client=True), []
    while not socket.close_received:
        said += socket.receive(await stream.read())
    got = [event for event in said if isinstance(event, websocket.Message)]
    assert got[0].data == b""
    assert got[1].text is (protocol != "binary.k8s.io")
    plain = [base64.b64decode(event.data) if event.text else event.data for event in got]
    assert b"".join(plain) == b"one\ntwo\n"
    await stream.close()


async def test_a_watch_over_a_websocket(world: World) -> None:
    transport = world.transport()
    headers = websocket.request_headers(b"k" * 16, ("",))
    query = {"watch": ["true"], "fieldSelector": ["metadata.name=web"]}
    request = ApiRequest(method="GET", path=PODS.path("default"), query=query, headers=headers)
    _, stream = await transport.upgrade(request)
    socket, said = websocket.WebSocket(client=True), []
    while not said:
        said += socket.receive(await stream.read())
    event = said[0]
    assert isinstance(event, websocket.Message)
    assert event.text
    assert json.loads(event.data)["type"] == "ADDED"
    assert json.loads(event.data)["object"]["metadata"]["name"] == "web"
    await stream.close()
    await transport.close()


async def test_a_browser_shows_its_token_as_a_sub_protocol(world: World) -> None:
    accounts = known("serviceaccounts")
    await world.admin.create(accounts, {"metadata": {"name": "jane"}}, namespace="default")
    request: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = await world.admin.create(accounts, request, namespace="default", name="jane", subresource="token")
    token = base64.urlsafe_b64encode(made["status"]["token"].encode()).decode().rstrip("=")
    hidden = f"base64url.bearer.authorization.k8s.io.{token}"
    client = HttpClient(clock=SystemClock())
    for protocols, user in (((hidden, "binary.k8s.io"), b":default:jane"), (("binary.k8s.io",), b"system:anonymous")):
        headers = websocket.request_headers(b"k" * 16, protocols)
        answer, _ = await client.upgrade(world.origin(), "GET", PODS.path("default", "web", "log"), headers)
        assert answer.status == 403
        assert user in answer.body
    await client.close()


async def test_exec(transport: Transport) -> None:
    out, err = Sink(), Sink()
    stdin = Text(b"x" * 100_000, b"end")
    words = ["echo", "a b"]
    code = await remote.execute(transport, WEB, words, chance=CHANCE, stdin=stdin, stdout=out, stderr=err)
    assert (code, out.data, err.data) == (2, b"echo a b", b"x" * 100_000 + b"end")


async def test_what_cannot_be_run_or_found(transport: Transport) -> None:
    with pytest.raises(remote.CommandFailed, match="error executing command in container: no such file"):
        await remote.execute(transport, WEB, ["missing"], chance=CHANCE)
    with pytest.raises(NotFound, match='pods "none" not found'):
        await remote.execute(transport, ObjectKey("default", "none"), ["x"], chance=CHANCE)


async def test_a_container_that_does_not_run(world: World, transport: Transport) -> None:
    pod = world.backend.pods["web"]
    ended = {**pod["status"]["containerStatuses"][0], "state": {"terminated": {"exitCode": 0}}}
    world.backend.pods["web"] = {**pod, "status": {"containerStatuses": [ended]}}
    with pytest.raises(InternalError, match="container not found"):
        await remote.execute(transport, WEB, ["x"], chance=CHANCE)


async def test_a_client_that_leaves_takes_its_command_along(world: World, transport: Transport) -> None:
    out = Sink()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(remote.execute(transport, WEB, ["sleep"], chance=CHANCE, stdout=out))
        await asyncio.wait_for(out.came.wait(), 5)
        running.cancel()
    await asyncio.wait_for(world.backend.cancelled.wait(), 5)


async def test_attach(transport: Transport) -> None:
    out = Sink()
    await remote.attach(transport, WEB, chance=CHANCE, stdout=out)
    assert out.data == b"attached"


async def test_port_forward(transport: Transport) -> None:
    async with asyncio.timeout(10), remote.port_forward(transport, WEB, chance=CHANCE) as forwarding:
        connections = [await forwarding.connect(80) for _ in range(3)]
        for connection in connections:
            await connection.write(b"hello")
        assert [await connection.read() for connection in connections] == [b"HELLO"] * 3
        refused = await forwarding.connect(81)
        with pytest.raises(PortForwardRefused, match="error forwarding port 81 to pod"):
            await refused.read()


async def asked(transport: Transport, path: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
    plain, _, query = path.partition("?")
    given = {key: [value] for key, _, value in (part.partition("=") for part in query.split("&") if part)}
    request = ApiRequest(method=method, path=f"/api/v1/{plain}", query=given, body=body)
    answer = await transport.send(request)
    return answer.status, answer.encoded()


async def test_pods_are_reached_through_the_proxy(transport: Transport) -> None:
    path = "namespaces/default/pods/web/proxy"
    assert await asked(transport, f"{path}/a%20b?x=1", "PUT", b"data") == (200, b"PUT /a%20b?x=1 data")
    assert await asked(transport, f"{path}/deep/") == (200, b"GET /deep/ ")
    status, _ = await asked(transport, f"{path}/moved")
    assert status == 302
    with pytest.raises(ServiceUnavailable, match="connect: connection refused"):
        await asked(transport, "namespaces/default/pods/web:1/proxy/")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_goes_through_the_proxy(world: World, method: str) -> None:
    transport = world.transport()
    path = "namespaces/default/pods/web/proxy/some/path/with/GET"
    assert await asked(transport, path, method) == (200, f"{method} /some/path/with/GET ".encode())
    assert await asked(transport, path, "HEAD") == (200, b"")
    await transport.close()


async def test_services_are_reached_through_the_proxy(world: World, transport: Transport) -> None:
    port = world.backend.pods["web"]["spec"]["containers"][0]["ports"][0]["containerPort"]
    spec = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": port}]}
    await world.admin.create(SERVICES, {"metadata": {"name": "web"}, "spec": spec}, namespace="default")
    with pytest.raises(ApiError):
        await asked(transport, "namespaces/default/services/web:http/proxy/")
    address = {"ip": POD_IP, "targetRef": {"kind": "Pod", "name": "web", "namespace": "default"}}
    subsets = [{"addresses": [address], "ports": [{"name": "http", "port": port}]}]
    await world.admin.create(ENDPOINTS, {"metadata": {"name": "web"}, "subsets": subsets}, namespace="default")
    for name in ("web:http", "web:80", "http:web:http"):
        assert await asked(transport, f"namespaces/default/services/{name}/proxy/x") == (200, b"GET /x ")
    with pytest.raises(ServiceUnavailable, match='no endpoints available for service "web:other"'):
        await asked(transport, "namespaces/default/services/web:other/proxy/x")
    with pytest.raises(ServiceUnavailable, match='no service port 81 found for service "web"'):
        await asked(transport, "namespaces/default/services/web:81/proxy/x")


async def test_nodes_are_reached_through_the_proxy(transport: Transport) -> None:
    assert await asked(transport, "nodes/n1/proxy/healthz") == (200, b"ok")
    assert await asked(transport, "nodes/n1/proxy/containerLogs/default/web/main") == (200, b"one\ntwo\n")


async def test_a_websocket_needs_the_verb_create(world: World) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]}]
    await world.admin.create(
        known("roles", "rbac.authorization.k8s.io"), {"metadata": {"name": "look"}, "rules": rules}, namespace="default"
    )
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]
    binding = {"metadata": {"name": "look"}, "roleRef": reference, "subjects": subjects}
    await world.admin.create(known("rolebindings", "rbac.authorization.k8s.io"), binding, namespace="default")
    transport = world.transport("jane", ())
    with pytest.raises(Forbidden, match='cannot create resource "pods/exec"'):
        await remote.execute(transport, WEB, ["x"], chance=CHANCE)
    await transport.close()
