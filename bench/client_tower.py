"""``python -m bench.client_tower``: what the library costs by itself, no API server involved.

Informers: watch events per second through reflector, store with two indexes and one subscriber, from lines as they come
over HTTP and from objects as they come in process. Service proxy: connections per second and bytes per second through
it, beside the same without it; client, proxy and server share one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import orjson
import uvloop

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import known
from anynode.api.wire import WatchEvent
from anynode.client.http import Lines, read_event
from anynode.informers.informer import Informer
from anynode.informers.reflector import Scope
from anynode.network.l4_proxy import L4Proxy
from anynode.network.routing import Balancer, Endpoint, Listen, Route

PODS, EVENTS = 5_000, 50_000
CONNECTIONS, AT_ONCE, ECHOED_BYTES = 4_000, 20, 200 << 20
PIECE = 64 * 1024


def pod(number: int, version: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": f"ns-{number % 20}",
            "name": f"pod-{number}",
            "uid": f"u{number}",
            "resourceVersion": str(version),
            "labels": {"app": f"app-{number % 50}"},
        },
        "spec": {"nodeName": f"node-{number % 100}", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def informer_rate(*, encoded: bool) -> float:
    """Events per second."""
    informer = Informer(Scope(resource=known("pods")))
    informer.store.add_index("node", lambda each: [each["spec"]["nodeName"]])
    informer.store.add_index("app", lambda each: [each["metadata"]["labels"]["app"]])
    seen = []
    informer.subscribe(seen.append)
    events = [WatchEvent("MODIFIED", obj=pod(number % PODS, number + 1)) for number in range(EVENTS)]
    body = b"".join(event.line for event in events) if encoded else b""
    pieces = [body[start : start + PIECE] for start in range(0, len(body), PIECE)]
    began = time.process_time()
    if encoded:
        lines = Lines()
        for piece in pieces:
            for line in lines.feed(piece):
                event = read_event(line)
                informer.apply(event.type, event.object)
    else:
        for event in events:
            informer.apply(event.type, event.object)
    took = time.process_time() - began
    if len(seen) != EVENTS or orjson.loads(orjson.dumps(seen[-1].obj)) != pod((EVENTS - 1) % PODS, EVENTS):
        raise SystemExit("events were lost")
    return EVENTS / took


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    writer.close()


async def measure(address: str, port: int) -> tuple[float, float]:
    """Connections per second with one byte there and back; bytes per second there and back on one connection."""

    async def some() -> None:
        for _ in range(CONNECTIONS // AT_ONCE):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"x")
            await reader.read(1)
            writer.close()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(some())
    connections = CONNECTIONS / (time.perf_counter() - began)
    reader, writer = await asyncio.open_connection(address, port)

    async def send() -> None:
        for _ in range(ECHOED_BYTES // PIECE):
            writer.write(b"x" * PIECE)
            await writer.drain()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        left = ECHOED_BYTES
        while left:
            left -= len(await reader.read(1 << 20))
    rate = ECHOED_BYTES / (time.perf_counter() - began)
    writer.close()
    return connections, rate


async def proxy_rates() -> None:
    server = await asyncio.start_server(echo, "127.1.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    listen = Listen("127.0.0.1", 38080)
    endpoints = (Endpoint("127.1.0.1", port),)
    balancer = Balancer(Route(listen=listen, service=ObjectKey("d", "s"), port_name="", endpoints=endpoints))
    async with L4Proxy(clock=SystemClock()) as proxy:
        await proxy.listen(listen, balancer)
        for name, where in (("direct", ("127.1.0.1", port)), ("through the proxy", (listen.address, listen.port))):
            connections, rate = await measure(*where)
            print(f"{name}: {connections:,.0f} connections/s, {rate / 1e6:,.0f} MB/s echoed")
    server.close()


def main() -> None:
    print(f"informer, in process: {informer_rate(encoded=False):,.0f} events/s")
    print(f"informer, over HTTP: {informer_rate(encoded=True):,.0f} events/s")
    uvloop.run(proxy_rates())


if __name__ == "__main__":
    main()
