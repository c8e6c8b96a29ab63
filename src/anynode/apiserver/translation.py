"""For kubelets that speak SPDY only: a client's v5 WebSocket, or its tunnel, carried on as SPDY.

Source: apiserver ``pkg/util/proxy/{streamtranslator,streamtunnel}.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from anynode.aio.http_client import HttpAnswer, HttpClient, Origin
from anynode.aio.http_stream import TransportStream
from anynode.api import errors
from anynode.api.wire import ApiRequest, ApiResponse, ByteStream
from anynode.apiserver import proxying
from anynode.streaming import portforward, pump, remotecommand, session, websocket
from anynode.streaming.multiplex import Channels, SpdyChannels, WebSocketChannels, WebSocketTunnel
from anynode.streaming.remotecommand import Channel, Wants

SPDY_HEADERS = {"connection": "Upgrade", "upgrade": "SPDY/3.1"}


async def _spdy(
    client: HttpClient, origin: Origin, location: str, protocols: str
) -> tuple[HttpAnswer, TransportStream | None]:
    headers = {**SPDY_HEADERS, "x-stream-protocol-version": protocols}
    try:
        return await client.upgrade(origin, "POST", location, headers)
    except ConnectionError as error:
        raise errors.ApiError(f"error dialing backend: {error}", code=500, reason="") from error


async def tunnel(client: HttpClient, origin: Origin, location: str, request: ApiRequest) -> ApiResponse:
    """Port-forward: the SPDY bytes inside the client's WebSocket go to the kubelet as they are."""
    answer, back = await _spdy(client, origin, location, portforward.PROTOCOL)
    if back is None:
        return proxying.plain(answer)

    async def serve(stream: ByteStream) -> None:
        await pump.join(WebSocketTunnel(stream, client=False), back)

    headers = websocket.upgrade_headers(request.headers, portforward.TUNNEL_PROTOCOL)
    return proxying.switching(headers, serve, back)


async def remote_command(client: HttpClient, origin: Origin, location: str, request: ApiRequest) -> ApiResponse:
    """Exec or attach: each WebSocket channel becomes a SPDY stream."""
    answer, back = await _spdy(client, origin, location, remotecommand.V4)
    if back is None:
        return proxying.plain(answer)
    wants = _wants(request)

    async def serve(stream: ByteStream) -> None:
        incoming = frozenset({Channel.STDIN, Channel.RESIZE})
        front = WebSocketChannels(stream, protocol=remotecommand.V5, client=False, incoming=incoming)
        await _carry(front, SpdyChannels(back, protocol=remotecommand.V4, client=True), wants)

    headers = websocket.upgrade_headers(request.headers, remotecommand.V5)
    return proxying.switching(headers, serve, back)


def _wants(request: ApiRequest) -> Wants:
    given: Mapping[str, bool] = {
        name: request.argument(name).lower() not in ("", "0", "false", "f")
        for name in ("stdin", "stdout", "stderr", "tty")
    }
    return Wants(stdin=given["stdin"], stdout=given["stdout"], stderr=given["stderr"], tty=given["tty"])


async def _carry(front: Channels, back: SpdyChannels, wants: Wants) -> None:
    try:
        with contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(back.run()), tasks.create_task(front.run())]
                await back.open_all(wants.channels(remotecommand.V4))
                running += [
                    tasks.create_task(_copy(front, back, channel)) for channel in (Channel.STDIN, Channel.RESIZE)
                ]
                outputs = [
                    tasks.create_task(_copy(back, front, channel))
                    for channel in (Channel.STDOUT, Channel.STDERR, Channel.ERROR)
                ]
                leaving = tasks.create_task(front.left.wait())
                ended = tasks.create_task(_all(outputs))
                await asyncio.wait((leaving, ended), return_when=asyncio.FIRST_COMPLETED)
                await front.say_goodbye()
                await asyncio.wait((leaving,), timeout=session.LINGER_SECONDS)
                for task in (leaving, ended, *outputs, *running):
                    task.cancel()
    finally:
        await front.close()
        await back.close()


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _copy(source: Channels, target: Channels, channel: Channel) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.inbox(channel).read():
            await target.write(channel, data)
        await target.end(channel)
