"""Log, exec, attach, port-forward and proxy: from the API towards kubelets, pods and services.

The server has said who may and found the objects; ``Connector`` dials and copies. After an upgrade bytes are copied as
they are when the kubelet speaks what the client speaks; for a kubelet that does not, a v5 WebSocket becomes SPDY here.
Source: kubernetes ``pkg/registry/core/pod/strategy.go`` and ``rest/{log,subresources}.go``, apimachinery
``pkg/util/proxy/upgradeaware.go``, apiserver ``pkg/util/proxy``, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence

from anynode.aio.clock import Clock
from anynode.aio.http_client import HttpClient, Origin
from anynode.api import errors
from anynode.api.objects import Object, get_path, name_of, namespace_of
from anynode.api.wire import ApiRequest, ApiResponse, ByteReader, ByteStream
from anynode.apiserver import proxying, translation
from anynode.schema import fields
from anynode.streaming import messages, remotecommand, websocket
from anynode.streaming.portforward import TUNNEL_PROTOCOL

KUBELET_PORT = 10250
MOST_ERROR_BYTES = 50_000
ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS")
"""An address first: names of virtual nodes resolve nowhere."""
SPEAKS_WEBSOCKET = "ExtendWebSocketsToKubelet"
"""A node with this declared feature takes v5 WebSockets and tunnels itself."""
PATHS = {"exec": "exec", "attach": "attach", "portforward": "portForward", "log": "containerLogs"}
CONNECT_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConnectTarget:
    """What a request is connected to. ``address`` and ``tls`` are for the proxies; ``path`` is what follows ``proxy``,
    still encoded, with its leading slash."""

    kind: str
    """``log``, ``exec``, ``attach``, ``portforward``, ``pod-proxy``, ``service-proxy`` or ``node-proxy``."""
    pod: Object | None = None
    node: Object | None = None
    address: tuple[str, int] | None = None
    tls: bool = False
    path: str = ""


class Connector:
    """Connections of the API server to kubelets and pods. ``close`` when the server stops."""

    def __init__(self, *, clock: Clock, kubelet_tls: ssl.SSLContext, backend_tls: ssl.SSLContext) -> None:
        """``kubelet_tls`` shows the server's client certificate; ``backend_tls`` is for ``https:`` proxies and, as
        upstream, trusts what it finds."""
        self._client = HttpClient(clock=clock, connect_seconds=CONNECT_SECONDS)
        self._kubelet_tls = kubelet_tls
        self._backend_tls = backend_tls

    async def close(self) -> None:
        await self._client.close()

    async def connect(self, request: ApiRequest, target: ConnectTarget) -> ApiResponse:
        """The answer, or the upgrade that serves the connection. Raises ``ApiError``."""
        if target.kind == "log":
            return await self._log(request, target)
        if target.kind in ("exec", "attach", "portforward"):
            return await self._session(request, target)
        assert target.address is not None
        host, port = target.address
        kubelet = target.kind == "node-proxy" and target.tls
        tls = (self._kubelet_tls if kubelet else self._backend_tls) if target.tls else None
        proxy = proxying.Proxy(self._client, Origin(host=host, port=port, tls=tls))
        return await proxy.answer(request, target.path)

    def _kubelet(self, node: Object) -> Origin:
        host, port = kubelet_address(node)
        return Origin(host=host, port=port, tls=self._kubelet_tls)

    # Logs

    async def _log(self, request: ApiRequest, target: ConnectTarget) -> ApiResponse:
        pod = target.pod
        assert pod is not None
        params = log_params(request, name_of(pod))
        container = chosen_container(pod, request.argument("container"))
        if target.node is None:
            return ApiResponse(status=204, content_type="text/plain")
        origin = self._kubelet(target.node)
        path = f"/containerLogs/{namespace_of(pod)}/{name_of(pod)}/{container}"
        query = urllib.parse.urlencode(params)
        location = f"{path}?{query}" if query else path
        try:
            body = await self._client.open(origin, "GET", location, {"accept-encoding": "identity"})
        except ConnectionError as error:
            raise _unreachable(f'Get "https://{origin.host}:{origin.port}{location}": {error}') from error
        if not 200 <= body.status <= 206:
            text = await _limited(body)
            raise _kubelet_refusal(body.status, text, name_of(pod))
        if websocket.is_websocket(request.headers):
            return await _log_messages(request, body)
        return ApiResponse(content_type="text/plain", stream=body)

    # Exec, attach, port-forward

    async def _session(self, request: ApiRequest, target: ConnectTarget) -> ApiResponse:
        pod = target.pod
        assert pod is not None
        location = session_location(request, target.kind, pod)
        if target.node is None:
            raise errors.BadRequest(f"pod {name_of(pod)} does not have a host assigned")
        if not is_upgrade(request.headers):
            raise errors.BadRequest("Upgrade request required")
        origin = self._kubelet(target.node)
        protocols = websocket.protocols_of(request.headers) if websocket.is_websocket(request.headers) else []
        speaks = SPEAKS_WEBSOCKET in (get_path(target.node, "status", "declaredFeatures", default=None) or ())
        if not speaks and target.kind == "portforward" and TUNNEL_PROTOCOL in protocols:
            return await translation.tunnel(self._client, origin, location, request)
        if not speaks and target.kind != "portforward" and remotecommand.V5 in protocols:
            return await translation.remote_command(self._client, origin, location, request)
        return await self._copied(request, origin, location)

    async def _copied(self, request: ApiRequest, origin: Origin, location: str) -> ApiResponse:
        """The kubelet's own upgrade, byte for byte."""
        headers = proxying.upgrade_headers(request)
        try:
            answer, stream = await self._client.upgrade(origin, request.method, location, headers, request.body)
        except ConnectionError as error:
            raise _unreachable(f"error dialing backend: {error}") from error
        return proxying.upgraded(answer, stream)


async def _log_messages(request: ApiRequest, body: ByteReader) -> ApiResponse:
    """The log to a client that asks for it over a WebSocket."""
    protocol = websocket.choose_protocol(request.headers, messages.PROTOCOLS)
    if protocol is None:
        await body.close()
        asked = " ".join(websocket.protocols_of(request.headers))
        raise errors.BadRequest(f"requested protocol(s) are not supported: [{asked}]")

    async def serve(stream: ByteStream) -> None:
        try:
            await messages.send_all(stream, messages.pieces_of(body, protocol), text=protocol == messages.BASE64)
        finally:
            await body.close()

    return ApiResponse(status=101, headers=websocket.upgrade_headers(request.headers, protocol), upgrade=serve)


def is_upgrade(headers: Mapping[str, str]) -> bool:
    return "upgrade" in headers.get("connection", "").lower()


def kubelet_address(node: Object) -> tuple[str, int]:
    """Where a node's kubelet listens. Raises ``ApiError`` when the node has no address."""
    addresses = get_path(node, "status", "addresses", default=())
    port = get_path(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port", default=0) or KUBELET_PORT
    for wanted in ADDRESS_TYPES:
        for address in addresses:
            if address.get("type") == wanted and address.get("address"):
                return address["address"], port
    raise _unreachable(f"no preferred addresses found; known addresses: {list(addresses)}")


def chosen_container(pod: Object, wanted: str) -> str:
    """The container meant; raises ``BadRequest`` as upstream words it."""
    names = [
        container["name"]
        for field in ("initContainers", "containers", "ephemeralContainers")
        for container in get_path(pod, "spec", field, default=())
    ]
    if wanted:
        if wanted not in names:
            raise errors.BadRequest(f"container {wanted} is not valid for pod {name_of(pod)}")
        return wanted
    main = get_path(pod, "spec", "containers", default=())
    if len(main) == 1:
        return str(main[0]["name"])
    if not main:
        raise errors.BadRequest(f"a container name must be specified for pod {name_of(pod)}")
    raise errors.BadRequest(
        f"a container name must be specified for pod {name_of(pod)}, choose one of: [{' '.join(names)}]"
    )


def session_location(request: ApiRequest, kind: str, pod: Object) -> str:
    """The kubelet's path and query for an exec, attach or port-forward."""
    params: list[tuple[str, str]] = []
    steps = [PATHS[kind], namespace_of(pod), name_of(pod)]
    if kind == "portforward":
        params += [("port", port) for value in request.query.get("ports", ()) for port in value.split(",")]
    else:
        steps.append(chosen_container(pod, request.argument("container")))
        for ours, theirs in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")):
            if _is_true(request.argument(ours)):
                params.append((theirs, "1"))
        params += [("command", word) for word in request.query.get("command", ())]
    query = urllib.parse.urlencode(params)
    return f"/{'/'.join(steps)}?{query}" if query else f"/{'/'.join(steps)}"


def _is_true(text: str) -> bool:
    return text.lower() not in ("", "0", "false", "f")


def log_params(request: ApiRequest, name: str) -> Sequence[tuple[str, str]]:
    """PodLogOptions from the query as the kubelet takes them. Raises ``ApiError``."""
    flags = ("follow", "previous", "timestamps")
    params = [(flag, "true") for flag in flags if _is_true(request.argument(flag))]
    wrong: list[fields.FieldError] = []
    for field, least, said in (
        ("sinceSeconds", 1, "must be greater than 0"),
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
    ):
        text = request.argument(field)
        if not text:
            continue
        number = _number(text)
        if number < least:
            wrong.append(fields.invalid(fields.FieldPath(field), number, said))
        params.append((field, str(number)))
    since = request.argument("sinceTime")
    if since:
        params.append(("sinceTime", _time(since)))
        if request.argument("sinceSeconds"):
            said = "at most one of `sinceTime` or `sinceSeconds` may be specified"
            wrong.append(fields.forbidden(fields.FieldPath(), said))
    stream = request.argument("stream") or "All"
    if stream not in ("All", "Stdout", "Stderr"):
        wrong.append(fields.not_supported(fields.FieldPath("stream"), stream, ("All", "Stderr", "Stdout")))
    elif stream != "All":
        params.append(("stream", stream))
        if request.argument("tailLines"):
            said = "`tailLines` and specific `stream` are mutually exclusive for now"
            wrong.append(fields.forbidden(fields.FieldPath(), said))
    if wrong:
        raise errors.invalid("PodLogOptions", "", name, [each.cause() for each in wrong])
    return params


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise errors.BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax') from error


def _time(text: str) -> str:
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise errors.BadRequest(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse') from error
    if parsed.tzinfo is None:
        raise errors.BadRequest(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"')
    return text


def _unreachable(message: str) -> errors.ApiError:
    """A failure upstream answers with a bare 500."""
    return errors.ApiError(message, code=500, reason="")


async def _limited(body: ByteReader) -> str:
    parts, size = [], 0
    try:
        while size < MOST_ERROR_BYTES and (data := await body.read()):
            parts.append(data)
            size += len(data)
    finally:
        await body.close()
    return b"".join(parts)[:MOST_ERROR_BYTES].decode("utf-8", "replace")


def _kubelet_refusal(status: int, text: str, name: str) -> errors.ApiError:
    """A kubelet's refusal of a log request as the API words it."""
    if status == 500:
        return errors.InternalError(f"Internal error occurred: {text}", details={"causes": [{"message": text}]})
    if status == 400:
        return errors.BadRequest(text)
    details = {"name": name, "kind": "pods/log"}
    tail = f" ( pods/log {name})"
    known: Mapping[int, tuple[type[errors.ApiError], str]] = {
        401: (errors.Unauthorized, "the server has asked for the client to provide credentials"),
        403: (errors.Forbidden, text),
        404: (errors.NotFound, "the server could not find the requested resource"),
        405: (errors.MethodNotAllowed, "the server does not allow this method on the requested resource"),
        422: (errors.Invalid, "the server rejected our request due to an error in our request"),
        429: (errors.TooManyRequests, "the server has received too many requests and has asked us to try again later"),
        503: (errors.ServiceUnavailable, "the server is currently unable to handle the request"),
    }
    if status in known:
        kind, message = known[status]
        return kind(f"{message}{tail}", details=details)
    message = f'an error on the server ("{text}") has prevented the request from succeeding'
    return errors.ApiError(f"{message}{tail}", code=status, reason="InternalError", details=details)
