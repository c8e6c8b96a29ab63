"""Requests per second of the bare HTTP server over TLS: GET of 3 KB, POST with JSON decode and encode, pushed chunks.

The server runs in its own process on one core, the load comes from this process on another. Printed beside the wall
rate is the rate per CPU second of the server, steadier when the machine is busy. ``python -m bench.http_server``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import multiprocessing
import multiprocessing.connection
import os
import time

import httptools
import orjson
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anynode.aio import tls
from anynode.aio.clock import SystemClock
from anynode.aio.http_message import HttpRequest, HttpResponse, PushSink, frame_chunk
from anynode.aio.http_server import HttpServer

CONNECTIONS = 32
WATCHERS = 500
EVENT_BYTES = 1024
BODY = orjson.dumps(
    {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "web", "namespace": "default", "labels": {f"label-{n}": "x" * 20 for n in range(20)}},
        "spec": {
            "containers": [{"name": f"c{n}", "image": "registry.example/app:1", "args": ["x"] * 20} for n in range(20)]
        },
    }
)


def self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    encoded_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), encoded_key


SINKS: list[PushSink] = []


async def answer(request: HttpRequest) -> HttpResponse:
    if request.path == "/watch":
        return HttpResponse(push=SINKS.append)
    if request.path == "/event":
        chunk = frame_chunk(b"x" * EVENT_BYTES)
        for sink in SINKS:
            sink.write_framed(chunk)
        return HttpResponse(status=204)
    headers = {"content-type": "application/json", "audit-id": "0b7e0c9e-4c5a-4c55-9d5e-000000000000"}
    if request.method == "POST":
        obj = orjson.loads(request.body)
        obj["metadata"] = {**obj["metadata"], "uid": "1"}
        return HttpResponse(status=201, headers=headers, body=orjson.dumps(obj))
    return HttpResponse(headers=headers, body=BODY)


def serve(pipe: multiprocessing.connection.Connection, plain: bool) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    async def main() -> None:
        context = None if plain else tls.server_context(*self_signed())
        async with HttpServer(answer, ssl=context, clock=SystemClock()) as server:
            pipe.send(server.port)
            loop = asyncio.get_running_loop()
            asked = asyncio.Event()
            loop.add_reader(pipe.fileno(), asked.set)
            while True:
                await asked.wait()
                asked.clear()
                if pipe.recv() == "stop":
                    return
                pipe.send(time.process_time())

    uvloop.run(main())


class Load(asyncio.Protocol):
    """One connection that sends the same request again when its answer has come."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.count = 0
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.count += 1
        self.transport.write(self.request)  # type: ignore[attr-defined]


class Listener(asyncio.Protocol):
    """A watcher that counts bytes."""

    def __init__(self) -> None:
        self.got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"GET /watch HTTP/1.1\r\nhost: bench\r\n\r\n")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.got += len(data)


async def fan_out(port: int, seconds: float, plain: bool) -> tuple[int, float]:
    """Events one after the other, each to all watchers."""
    loop = asyncio.get_running_loop()
    context = None if plain else tls.client_context(verify=False)
    listeners = [(await loop.create_connection(Listener, "127.0.0.1", port, ssl=context))[1] for _ in range(WATCHERS)]
    await asyncio.sleep(0.5)
    before, began = sum(each.got for each in listeners), time.perf_counter()
    request = b"POST /event HTTP/1.1\r\nhost: bench\r\ncontent-length: 0\r\n\r\n"
    transport, _ = await loop.create_connection(lambda: Load(request), "127.0.0.1", port, ssl=context)
    await asyncio.sleep(seconds)
    transport.abort()
    got, took = sum(each.got for each in listeners) - before, time.perf_counter() - began
    return got // len(frame_chunk(b"x" * EVENT_BYTES)), took


async def measure(port: int, request: bytes, seconds: float, plain: bool) -> tuple[int, float]:
    loop = asyncio.get_running_loop()
    context = None if plain else tls.client_context(verify=False)
    loads = []
    for _ in range(CONNECTIONS):
        transport, load = await loop.create_connection(lambda: Load(request), "127.0.0.1", port, ssl=context)
        loads.append((transport, load))
    await asyncio.sleep(0.3)
    before, began = sum(load.count for _, load in loads), time.perf_counter()
    await asyncio.sleep(seconds)
    done, took = sum(load.count for _, load in loads) - before, time.perf_counter() - began
    for transport, _ in loads:
        transport.abort()
    return done, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--plain", action="store_true", help="without TLS")
    arguments = parser.parse_args()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there, arguments.plain))
    process.start()
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    port = here.recv()
    try:
        for name, request in (
            ("GET", b"GET /api/v1/namespaces/default/pods/web HTTP/1.1\r\nhost: bench\r\naccept: */*\r\n\r\n"),
            (
                "POST",
                b"POST /api/v1/namespaces/default/pods HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY),
            ),
        ):
            uvloop.run(measure(port, request, 0.5, arguments.plain))
            here.send("cpu")
            cpu = here.recv()
            done, took = uvloop.run(measure(port, request, arguments.seconds, arguments.plain))
            here.send("cpu")
            used = here.recv() - cpu
            print(f"{name:5} {done / took:9,.0f} req/s   {done / used:9,.0f} per CPU second   body {len(BODY)} bytes")
        here.send("cpu")
        cpu = here.recv()
        done, took = uvloop.run(fan_out(port, arguments.seconds, arguments.plain))
        here.send("cpu")
        used = here.recv() - cpu
        print(f"PUSH  {done / took:9,.0f} /s       {done / used:9,.0f} per CPU second   {WATCHERS} watchers")
    finally:
        here.send("stop")
        process.join(10)


if __name__ == "__main__":
    main()
