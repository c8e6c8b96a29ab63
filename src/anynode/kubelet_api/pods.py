"""A node's pods over HTTP: lists, logs, exec, attach and port-forward, worded as a kubelet words its answers.

Needs of the node nothing but ``PodLookup`` and the provider's capabilities. Source: kubelet
``pkg/kubelet/server/server.go`` and ``kubelet_pods.go``, cri-streaming ``pkg/streaming``, 1.36.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from typing import Any, Protocol

from anynode import provider as providers
from anynode.aio.http_message import ByteStream, HttpRequest, HttpResponse
from anynode.api.objects import Object, get_path, uid_of
from anynode.kubelet_api.replies import Query, Refused, choose_spdy, choose_websocket, first, json
from anynode.streaming import portforward, remotecommand, session, websocket
from anynode.streaming.multiplex import SpdyChannels, WebSocketChannels, WebSocketTunnel
from anynode.streaming.remotecommand import Wants


class PodLookup(Protocol):
    """The node's own view of its pods, statuses as it last reported them."""

    def find(self, namespace: str, name: str) -> Object | None: ...

    def list(self) -> Sequence[Object]: ...


class PodHandlers:
    """Answers what concerns pods."""

    def __init__(self, pods: PodLookup, provider: Any) -> None:
        self._pods = pods
        self._provider = provider

    # Lists

    def all_pods(self) -> HttpResponse:
        return json(_pod_list(self._pods.list()))

    def running_pods(self) -> HttpResponse:
        running = [
            pod
            for pod in self._pods.list()
            if any("running" in (each.get("state") or {}) for each in container_statuses(pod))
        ]
        return json(_pod_list(running))

    # Logs

    async def logs(self, namespace: str, name: str, container: str, query: Query) -> HttpResponse:
        """The container's output, in pieces. Raises ``Refused``."""
        options = log_options(query)
        pod = self._pods.find(namespace, name)
        if pod is None:
            raise Refused(404, f'pod "{name}" does not exist')
        if container_spec(pod, container) is None:
            raise Refused(404, f'container "{container}" not found in pod "{name}"')
        complaint = log_complaint(pod, container, previous=options.previous)
        if complaint:
            raise Refused(400, complaint)
        if not isinstance(self._provider, providers.Logs):
            raise Refused(501, "this node's provider keeps no logs")
        try:
            reader = await self._provider.logs(uid_of(pod), container, options)
        except providers.PodNotFound as error:
            if options.previous:
                raise Refused(400, f'previous terminated container "{container}" in pod "{name}" not found') from error
            return HttpResponse(headers={"content-type": "text/plain"})
        except providers.ProviderError as error:
            raise Refused(400, error.message) from error
        return HttpResponse(headers={"content-type": "text/plain"}, stream=reader)

    # Exec and attach

    def exec(
        self, request: HttpRequest, namespace: str, name: str, uid: str, container: str, query: Query
    ) -> HttpResponse:
        """The upgrade to an exec session. Raises ``Refused``."""
        wants = wants_of(query)
        pod = self._running(namespace, name, uid, container)
        command = list(query.get("command", ()))
        runner = self._provider
        if not isinstance(runner, providers.Exec):
            raise Refused(501, "this node's provider cannot run commands in containers")
        if not command:
            raise Refused(400, "you must specify a command")

        async def work(user: session.Session) -> Object:
            try:
                code = await runner.exec(uid_of(pod), container, command, UserIO(user))
            except providers.ProviderError as error:
                return remotecommand.failure(f"error executing command in container: {error.message}")
            return remotecommand.exit_status(code)

        return _session(request, wants, work)

    def attach(
        self, request: HttpRequest, namespace: str, name: str, uid: str, container: str, query: Query
    ) -> HttpResponse:
        """The upgrade to the container's main process. Raises ``Refused``."""
        wants = wants_of(query)
        pod = self._running(namespace, name, uid, container)
        runner = self._provider
        if not isinstance(runner, providers.Attach):
            raise Refused(501, "this node's provider cannot attach to containers")

        async def work(user: session.Session) -> Object:
            try:
                await runner.attach(uid_of(pod), container, UserIO(user))
            except providers.ProviderError as error:
                return remotecommand.failure(f"error attaching to container: {error.message}")
            return remotecommand.success()

        return _session(request, wants, work)

    def _running(self, namespace: str, name: str, uid: str, container: str) -> Object:
        pod = self._pods.find(namespace, name)
        if pod is None:
            raise Refused(404, "pod does not exist")
        status = next((each for each in container_statuses(pod) if each.get("name") == container), None)
        stopped = status is not None and "running" not in (status.get("state") or {})
        if container_spec(pod, container) is None or stopped or (uid and uid_of(pod) != uid):
            raise Refused(500, f'container not found ("{container}")')
        return pod

    # Port-forward

    def port_forward(self, request: HttpRequest, namespace: str, name: str, uid: str, query: Query) -> HttpResponse:
        """The upgrade to a port-forward connection. Raises ``Refused``."""
        tunnel = portforward.TUNNEL_PROTOCOL in websocket.protocols_of(request.headers)
        channels = websocket.is_websocket(request.headers) and not tunnel
        ports = _ports(query) if channels else []
        pod = self._pods.find(namespace, name)
        if pod is None:
            raise Refused(404, "pod does not exist")
        if uid and uid_of(pod) != uid:
            raise Refused(404, "pod not found")
        dialer = self._provider
        if not isinstance(dialer, providers.Dial):
            raise Refused(501, "this node's provider cannot reach ports of pods")

        async def dial(port: int) -> ByteStream:
            try:
                return await dialer.dial(uid_of(pod), port)
            except providers.ProviderError as error:
                raise ConnectionError(error.message) from error

        def explain(port: int, error: Exception) -> str:
            number = getattr(error, "errno", None) or 0
            why = f"dial tcp :{port}: connect: {os.strerror(number).lower()}" if number > 0 else str(error)
            return f"error forwarding port {port} to pod {uid_of(pod)}, uid : {why}"

        return _forwarding(request, tunnel, channels, ports, dial, explain)


def _forwarding(
    request: HttpRequest,
    tunnel: bool,
    channels: bool,
    ports: Sequence[int],
    dial: portforward.Dial,
    explain: portforward.Explain,
) -> HttpResponse:
    if channels:
        protocol, headers = choose_websocket(request, portforward.CHANNEL_PROTOCOLS)
    elif tunnel:
        protocol, headers = choose_websocket(request, (portforward.TUNNEL_PROTOCOL,))
    else:
        protocol, headers = choose_spdy(request, (portforward.PROTOCOL,))

    async def serve(stream: ByteStream) -> None:
        if channels:
            await portforward.serve_channels(stream, protocol, ports, dial, explain)
        else:
            carried = WebSocketTunnel(stream, client=False) if tunnel else stream
            await portforward.Server(carried, dial, explain).run()

    return HttpResponse(status=101, headers=headers, upgrade=serve)


class UserIO:
    """``provider.ExecIO`` over a session."""

    def __init__(self, user: session.Session) -> None:
        self._user = user
        self.stdin = user.stdin
        self.stdout = user.stdout
        self.stderr = user.stderr
        self.tty = user.tty
        self.read_stdin = user.read_stdin
        self.write_stdout = user.write_stdout
        self.write_stderr = user.write_stderr

    async def next_size(self) -> providers.TerminalSize | None:
        size = await self._user.next_size()
        return providers.TerminalSize(width=size[0], height=size[1]) if size is not None else None


def _session(request: HttpRequest, wants: Wants, work: session.Work) -> HttpResponse:
    over_websocket = websocket.is_websocket(request.headers)
    if over_websocket:
        protocol, headers = choose_websocket(request, remotecommand.WEBSOCKET_PROTOCOLS)
    else:
        protocol, headers = choose_spdy(request, remotecommand.SPDY_PROTOCOLS)

    async def serve(stream: ByteStream) -> None:
        if over_websocket:
            incoming = {remotecommand.Channel.RESIZE, *([remotecommand.Channel.STDIN] if wants.stdin else [])}
            await session.serve(
                WebSocketChannels(stream, protocol=protocol, client=False, incoming=frozenset(incoming)), wants, work
            )
        else:
            await session.serve(SpdyChannels(stream, protocol=protocol, client=False), wants, work)

    return HttpResponse(status=101, headers=headers, upgrade=serve)


def wants_of(query: Query) -> Wants:
    """Which streams the request asks for. Raises ``Refused``."""
    stdin, stdout, stderr, tty = (first(query, name) == "1" for name in ("input", "output", "error", "tty"))
    stderr = stderr and not tty
    if not stdin and not stdout and not stderr:
        raise Refused(400, "you must specify at least 1 of stdin, stdout, stderr")
    return Wants(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)


def _ports(query: Query) -> list[int]:
    given = query.get("port", ())
    if not given:
        raise Refused(400, 'query parameter "port" is required')
    ports = []
    for text in given:
        for part in text.split(","):
            try:
                ports.append(portforward.port_of(part))
            except ValueError as error:
                raise Refused(400, str(error)) from error
    return ports


def log_options(query: Query) -> providers.LogOptions:
    """PodLogOptions from the query. Raises ``Refused``."""
    tail = first(query, "tail") or first(query, "tailLines")
    stream = first(query, "stream") or "All"
    try:
        options = providers.LogOptions(
            follow=_flag(first(query, "follow")),
            previous=_flag(first(query, "previous")),
            timestamps=_flag(first(query, "timestamps")),
            tail_lines=None if tail in ("", "all") else int(tail),
            limit_bytes=_number(first(query, "limitBytes")),
            since_seconds=_number(first(query, "sinceSeconds")),
            since_time=_time(first(query, "sinceTime")),
            stream=stream,
        )
    except ValueError as error:
        raise Refused(400, '{"message": "Unable to decode query."}') from error
    invalid = (
        (options.tail_lines is not None and options.tail_lines < 0)
        or (options.limit_bytes is not None and options.limit_bytes < 1)
        or (options.since_seconds is not None and options.since_seconds < 1)
        or (options.since_seconds is not None and options.since_time is not None)
        or stream not in ("All", "Stdout", "Stderr")
        or (stream != "All" and options.tail_lines is not None)
    )
    if invalid:
        raise Refused(422, '{"message": "Invalid request."}')
    return options


def _flag(text: str) -> bool:
    return text.lower() not in ("", "0", "false", "f")


def _number(text: str) -> int | None:
    return int(text) if text else None


def _time(text: str) -> datetime.datetime | None:
    if not text:
        return None
    parsed = datetime.datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return parsed


def container_spec(pod: Object, name: str) -> Object | None:
    """The container of any kind with this name."""
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in get_path(pod, "spec", field, default=()):
            if container.get("name") == name:
                found: Object = container
                return found
    return None


def container_statuses(pod: Object) -> list[Object]:
    """The statuses of all containers, of every kind."""
    fields = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    return [status for field in fields for status in get_path(pod, "status", field, default=())]


def log_complaint(pod: Object, container: str, *, previous: bool) -> str:
    """Why there are no logs to show, in the kubelet's words; empty when there may be some."""
    name = get_path(pod, "metadata", "name", default="")
    label = f'container "{container}" in pod "{name}"'
    status = next((each for each in container_statuses(pod) if each.get("name") == container), None)
    if status is None:
        return f"{label} is not available"
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
    if previous:
        return "" if last and last.get("containerID") else f"previous terminated {label} not found"
    if "running" in state:
        return ""
    ended = state.get("terminated")
    if ended is not None:
        known = ended.get("containerID") or (last or {}).get("containerID")
        return "" if known else f"{label} is terminated"
    if last is not None:
        return "" if last.get("containerID") else f"{label} is terminated"
    waiting = state.get("waiting")
    if waiting is None:
        return f"{label} is waiting to start - no logs yet"
    reason = waiting.get("reason", "")
    words = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
    return f"{label} is waiting to start: {words.get(reason, reason)}"


def _pod_list(pods: Sequence[Object]) -> Object:
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods)}
