"""The node's side of the supervisor: requests, news of ended containers, and the sessions of exec and attach.

Starts the supervisor when nobody listens on its socket. Invariant: every request is answered or fails with
``ConnectionError`` when the supervisor is gone. The protocol stands in ``supervisor``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from anynode.aio.tasks import Supervisor as Tasks
from anynode.provider import ExecIO, ProviderError
from anynode.providers import supervisor
from anynode.providers.run_directory import run_directory

SOCKET_PATH_BYTES = 100
IDLE_SECONDS = 2.0
CONNECT_TRIES = 5
CLOSE_SECONDS = 1.0
"""How long the rest of a user's input may take to reach the supervisor when the user has left."""
LINE_BYTES = 64 * 1024 * 1024
"""More than the list of all the containers a node may have."""
Exited = Callable[[supervisor.Key, dict[str, Any]], None]


def socket_path(data_dir: pathlib.Path) -> pathlib.Path:
    """Where the supervisor of ``data_dir`` listens; elsewhere when the path is too long for a Unix socket."""
    path = data_dir / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES - 12:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:20]
    return run_directory() / f"{digest}.sock"


class Supervision:
    """One control connection to the supervisor of one data directory."""

    def __init__(self, data_dir: pathlib.Path, exited: Exited) -> None:
        self._path = socket_path(data_dir)
        self._exited = exited
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._serial = 0

    async def connect(self) -> asyncio.StreamReader:
        """The control connection, the supervisor started if need be; read it with ``listen``.

        An idle supervisor may end at the very moment it is called, so it must answer once before it is believed.
        """
        for _ in range(CONNECT_TRIES):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=LINE_BYTES)
                writer.write(b'{"id":0,"op":"idle","seconds":%d}\n' % IDLE_SECONDS)
                if await reader.readline():
                    self._writer = writer
                    return reader
                writer.close()
            await asyncio.to_thread(self._launch)
        raise ConnectionError("the supervisor of containers does not answer")

    def _launch(self) -> None:
        program = [sys.executable, "-I", "-S", supervisor.__file__, str(self._path), str(IDLE_SECONDS)]
        done = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            raise ConnectionError(f"the supervisor of containers did not start: {done.stderr.decode()[-500:]}")

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Hand on answers and news until the supervisor is gone, then raise ``ConnectionError``."""
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if message.get("event") == "exit":
                    uid, container, attempt = message["key"]
                    self._exited((uid, container, attempt), message)
                    continue
                future = self._waiting.pop(message["id"], None)
                if future is not None and not future.done():
                    future.set_result(message)
        finally:
            await self.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError("the supervisor of containers is gone"))
            self._waiting.clear()
        raise ConnectionError("the supervisor of containers is gone")

    async def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """The answer; it has ``error`` when the request failed."""
        if self._writer is None:
            raise ConnectionError("the supervisor of containers is gone")
        self._serial += 1
        number = self._serial
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(json.dumps({"id": number, "op": operation, **fields}).encode() + b"\n")
            await self._writer.drain()
            return await future
        except OSError as error:
            raise ConnectionError(f"the supervisor of containers is gone: {error}") from error
        finally:
            self._waiting.pop(number, None)

    async def spare(self) -> None:
        """Nothing is held: the supervisor may end as soon as it is left."""
        await self.ask("idle", seconds=0)

    async def close(self) -> None:
        """Leave; containers run on."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def session(self, operation: str, **fields: Any) -> Session:
        """A connection of its own for exec or attach; raises ``ProviderError`` when it cannot begin."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._path))
            writer.write(json.dumps({"id": 0, "op": operation, **fields}).encode() + b"\n")
            line = await reader.readline()
        except OSError as error:
            raise ProviderError("ExecFailed", f"the supervisor of containers cannot be reached: {error}") from error
        answer = json.loads(line) if line else {"error": "the supervisor of containers is gone"}
        if "error" in answer:
            writer.close()
            raise ProviderError("ExecFailed", answer["error"])
        return Session(reader, writer)


class Session:
    """One exec or attach: frames to and from the supervisor, joined to the user's side by ``run``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def run(self, io: ExecIO) -> int | None:
        """Copy both ways until the command ends; its exit code, or None when the connection broke or the user left."""
        result: int | None = None
        try:
            async with Tasks("session") as tasks:
                if io.stdin:
                    tasks.start("stdin", lambda: self._copy_stdin(io))
                if io.tty:
                    tasks.start("sizes", lambda: self._copy_sizes(io))
                result = await self._copy_output(io)
        finally:
            self._writer.close()
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._writer.wait_closed()
            except OSError:  # also a time-out: input that nobody will read
                self._writer.transport.abort()
        return result

    async def _copy_output(self, io: ExecIO) -> int | None:
        while True:
            try:
                kind, length = supervisor.FRAME.unpack(await self._reader.readexactly(supervisor.FRAME.size))
                payload = await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if kind == supervisor.EXIT:
                return int(json.loads(payload)["code"])
            if kind == supervisor.STDOUT and io.stdout:
                await io.write_stdout(payload)
            elif kind == supervisor.STDERR and io.stderr:
                await io.write_stderr(payload)

    async def _copy_stdin(self, io: ExecIO) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await io.read_stdin():
                await self._send(supervisor.STDIN, data)
            await self._send(supervisor.STDIN_END, b"")

    async def _copy_sizes(self, io: ExecIO) -> None:
        with contextlib.suppress(ConnectionError):
            while (size := await io.next_size()) is not None:
                width, height = min(size.width, 65535), min(size.height, 65535)
                await self._send(supervisor.RESIZE, width.to_bytes(2, "big") + height.to_bytes(2, "big"))

    async def _send(self, kind: int, payload: bytes) -> None:
        self._writer.write(supervisor.FRAME.pack(kind, len(payload)) + payload)
        await self._writer.drain()
