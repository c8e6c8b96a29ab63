"""Logs, exec, attach and port-forward from the client's side, over any ``Transport``.

WebSocket v5 as kubectl speaks it; a server that refuses it is asked again over SPDY. No task outlives the call or the
block that made it. Source: client-go ``tools/remotecommand`` and ``tools/portforward``, 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from anynode.api.errors import ApiError
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import known
from anynode.api.wire import ApiRequest, ByteReader, ByteStream
from anynode.client.transport import Transport
from anynode.streaming import portforward, remotecommand, session, websocket
from anynode.streaming.multiplex import Channels, SpdyChannels, WebSocketChannels, WebSocketTunnel
from anynode.streaming.remotecommand import Channel, Wants

SPDY_HEADERS = {"connection": "Upgrade", "upgrade": "SPDY/3.1"}
MUST_BE_POSTED = frozenset({400, 403, 404, 405, 500, 501})
"""Answers of servers and proxies that know no WebSockets here."""

Take = Callable[[bytes], Awaitable[None]]


class CommandFailed(Exception):
    """The command did not run to an end; ``status`` says why."""

    def __init__(self, status: Object) -> None:
        super().__init__(status.get("message") or "the command did not run to an end")
        self.status = status


async def logs(
    transport: Transport,
    pod: ObjectKey,
    *,
    container: str = "",
    follow: bool = False,
    previous: bool = False,
    timestamps: bool = False,
    tail_lines: int | None = None,
    since_seconds: int | None = None,
    limit_bytes: int | None = None,
) -> ByteReader:
    """The container's output, to be read and closed. Raises ``ApiError`` or ``ConnectionError``."""
    flags = {"follow": follow, "previous": previous, "timestamps": timestamps}
    numbers = {"tailLines": tail_lines, "sinceSeconds": since_seconds, "limitBytes": limit_bytes}
    query = {name: ["true"] for name, wanted in flags.items() if wanted}
    query.update({name: [str(number)] for name, number in numbers.items() if number is not None})
    if container:
        query["container"] = [container]
    return await transport.open(ApiRequest(method="GET", path=_path(pod, "log"), query=query))


async def execute(
    transport: Transport,
    pod: ObjectKey,
    command: Sequence[str],
    *,
    chance: random.Random,
    container: str = "",
    stdin: ByteReader | None = None,
    stdout: Take | None = None,
    stderr: Take | None = None,
    tty: bool = False,
    sizes: AsyncIterator[tuple[int, int]] | None = None,
) -> int:
    """The command's exit code. Raises ``CommandFailed`` when it could not be run, ``ApiError`` when it was refused."""
    wants = Wants(stdin=stdin is not None, stdout=True, stderr=not tty, tty=tty)
    query = {**_query(wants, container), "command": list(command)}
    channels = await _channels(transport, _path(pod, "exec"), query, wants, chance)
    status = await session.attend(channels, wants, stdin=stdin, stdout=stdout, stderr=stderr, sizes=sizes)
    code = remotecommand.exit_code_of(status)
    if code is None:
        raise CommandFailed(status)
    return code


async def attach(
    transport: Transport,
    pod: ObjectKey,
    *,
    chance: random.Random,
    container: str = "",
    stdin: ByteReader | None = None,
    stdout: Take | None = None,
    stderr: Take | None = None,
    tty: bool = False,
    sizes: AsyncIterator[tuple[int, int]] | None = None,
) -> None:
    """Join the container's main process until it ends. Raises as ``execute``."""
    wants = Wants(stdin=stdin is not None, stdout=True, stderr=not tty, tty=tty)
    channels = await _channels(transport, _path(pod, "attach"), _query(wants, container), wants, chance)
    status = await session.attend(channels, wants, stdin=stdin, stdout=stdout, stderr=stderr, sizes=sizes)
    if remotecommand.exit_code_of(status) is None:
        raise CommandFailed(status)


@contextlib.asynccontextmanager
async def port_forward(
    transport: Transport, pod: ObjectKey, *, chance: random.Random
) -> AsyncIterator[portforward.Client]:
    """Connections to the pod's ports inside the block: ``await client.connect(80)``. Raises ``ApiError``."""
    path = _path(pod, "portforward")
    try:
        headers = websocket.request_headers(chance.randbytes(16), (portforward.TUNNEL_PROTOCOL,))
        _, stream = await transport.upgrade(ApiRequest(method="GET", path=path, headers=headers))
        carried: ByteStream = WebSocketTunnel(stream, client=True)
    except ApiError as error:
        if error.status_code not in MUST_BE_POSTED:
            raise
        headers = {**SPDY_HEADERS, "x-stream-protocol-version": portforward.PROTOCOL}
        _, carried = await transport.upgrade(ApiRequest(method="POST", path=path, headers=headers))
    client = portforward.Client(carried)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(client.run())
        try:
            yield client
        finally:
            running.cancel()


async def _channels(
    transport: Transport, path: str, query: Mapping[str, Sequence[str]], wants: Wants, chance: random.Random
) -> Channels:
    """The session's channels, over a WebSocket if the server takes one."""
    try:
        headers = websocket.request_headers(chance.randbytes(16), (remotecommand.V5, remotecommand.V4))
        request = ApiRequest(method="GET", path=path, query=query, headers=headers)
        answer, stream = await transport.upgrade(request)
    except ApiError as error:
        if error.status_code not in MUST_BE_POSTED:
            raise
        headers = {**SPDY_HEADERS, "x-stream-protocol-version": ", ".join(remotecommand.SPDY_PROTOCOLS)}
        request = ApiRequest(method="POST", path=path, query=query, headers=headers)
        answer, stream = await transport.upgrade(request)
        protocol = answer.headers.get("x-stream-protocol-version", remotecommand.V1)
        return SpdyChannels(stream, protocol=protocol, client=True)
    protocol = answer.headers.get("sec-websocket-protocol", "")
    incoming = wants.channels(protocol) - {Channel.STDIN, Channel.RESIZE}
    return WebSocketChannels(stream, protocol=protocol, client=True, incoming=incoming)


def _query(wants: Wants, container: str) -> dict[str, Sequence[str]]:
    flags = {"stdin": wants.stdin, "stdout": wants.stdout, "stderr": wants.stderr, "tty": wants.tty}
    query: dict[str, Sequence[str]] = {name: ["true"] for name, wanted in flags.items() if wanted}
    return {**query, "container": [container]} if container else query


def _path(pod: ObjectKey, subresource: str) -> str:
    return known("pods").path(pod.namespace, pod.name, subresource)
