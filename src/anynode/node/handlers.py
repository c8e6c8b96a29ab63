"""What hooks and probes do: run a command in a container, ask over HTTP or gRPC, connect over TCP, or sleep.

Comes in: a handler as it stands in the pod and the provider; goes out: success with what was said. Connections go
through the provider's ``dial`` where it has one. Raises ``HandlerFailed`` with upstream's words. Source: kubelet
``pkg/kubelet/lifecycle/handlers.go``, ``pkg/probe/{exec,grpc,http,tcp}``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Mapping, Sequence

from anynode.aio.clock import Clock
from anynode.api.objects import Object, Uid, meta
from anynode.api.wire import ByteStream
from anynode.node import grpc_health
from anynode.node.pod_machine import display
from anynode.provider import Dial, Exec, Provider, ProviderError, TerminalSize

OUTPUT_BYTES = 10 * 1024
HEAD_BYTES = 64 * 1024
USER_AGENT = "kube-probe/1.36"


class HandlerFailed(Exception):
    """The handler ran and the answer is no."""


class HandlerError(Exception):
    """The handler could not be tried: its result is unknown."""


class CollectedOutput:
    """An ``ExecIO`` without a user: keeps the beginning of what is written."""

    stdin = False
    stdout = True
    stderr = True
    tty = False

    def __init__(self) -> None:
        self.output = b""

    async def read_stdin(self) -> bytes:
        return b""

    async def write_stdout(self, data: bytes) -> None:
        if len(self.output) < OUTPUT_BYTES:
            self.output += data[: OUTPUT_BYTES - len(self.output)]

    async def write_stderr(self, data: bytes) -> None:
        await self.write_stdout(data)

    async def next_size(self) -> TerminalSize | None:
        return None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Runs handlers of the pods of one provider."""

    provider: Provider
    clock: Clock

    async def run(self, pod: Object, container: Object, handler: Object, pod_ip: str) -> None:
        """Run a lifecycle hook; raises ``HandlerFailed`` or ``HandlerError``."""
        if "sleep" in handler:
            await self.clock.sleep(float(handler["sleep"].get("seconds", 0)))
        elif "exec" in handler:
            await self.exec(pod, container, handler["exec"].get("command") or ())
        elif "httpGet" in handler:
            await self.http_get(pod, container, handler["httpGet"], pod_ip, hook=True)
        else:
            raise HandlerError(f"invalid handler of container {container['name']} in pod {display(pod)}")

    async def probe(self, pod: Object, container: Object, probe: Object, pod_ip: str) -> None:
        """Try a probe once within its time; raises ``HandlerFailed`` or ``HandlerError``."""
        seconds = float(probe.get("timeoutSeconds") or 1)
        try:
            async with asyncio.timeout(seconds):
                if "exec" in probe:
                    await self.exec(pod, container, probe["exec"].get("command") or ())
                elif "httpGet" in probe:
                    await self.http_get(pod, container, probe["httpGet"], pod_ip)
                elif "tcpSocket" in probe:
                    await self.tcp(pod, container, probe["tcpSocket"], pod_ip)
                elif "grpc" in probe:
                    await self.grpc(pod, probe["grpc"], pod_ip)
                else:
                    raise HandlerError(f"missing probe handler for {display(pod)}:{container['name']}")
        except TimeoutError as error:
            raise HandlerFailed(_late(probe, seconds, pod_ip)) from error

    async def exec(self, pod: Object, container: Object, command: Sequence[str]) -> None:
        provider = self.provider
        if not isinstance(provider, Exec):
            raise HandlerError("this node's provider cannot run commands in containers")
        io = CollectedOutput()
        try:
            code = await provider.exec(_uid(pod), container["name"], command, io)
        except ProviderError as error:
            raise HandlerFailed(error.message) from error
        except ConnectionError as error:
            raise HandlerError(str(error)) from error
        if code:
            raise HandlerFailed(io.output.decode(errors="replace"))

    async def tcp(self, pod: Object, container: Object, action: Object, pod_ip: str) -> None:
        port = resolve_port(action.get("port"), container)
        stream = await self._connect(pod, action.get("host") or "", port, pod_ip)
        await stream.close()

    async def grpc(self, pod: Object, action: Object, pod_ip: str) -> None:
        port = int(action.get("port") or 0)
        stream = await self._connect(pod, "", port, pod_ip)
        try:
            await stream.write(grpc_health.request(action.get("service") or "", f"{pod_ip}:{port}"))
            answer = grpc_health.Answer()
            while answer.status is None:
                data = await stream.read()
                if not data or answer.feed(data):
                    break
        except (ConnectionError, ValueError) as error:
            raise HandlerFailed(f"error: health rpc failed: {error}") from error
        finally:
            await stream.close()
        if answer.status is None:
            raise HandlerFailed("error: health rpc failed: the server gave no answer")
        if answer.status != grpc_health.SERVING:
            raise HandlerFailed(f'service unhealthy (responded with "{grpc_health.name_of(answer.status)}")')

    async def http_get(
        self, pod: Object, container: Object, action: Object, pod_ip: str, *, hook: bool = False
    ) -> None:
        """Any status from 200 to 399 is success; for a hook any answer at all."""
        port = resolve_port(action.get("port"), container)
        host = action.get("host") or ""
        path = action.get("path") or "/"
        path = path if path.startswith("/") else f"/{path}"
        secure = (action.get("scheme") or "HTTP").upper() == "HTTPS"
        shown = f"http{'s' if secure else ''}://{host or pod_ip}:{port}{path}"
        try:
            stream = await self._connect(pod, host, port, pod_ip, secure=secure)
        except HandlerFailed as error:
            raise HandlerFailed(f'Get "{shown}": {error}') from error
        try:
            await stream.write(_request(path, f"{host or pod_ip}:{port}", action.get("httpHeaders") or ()))
            status = await _status_of(stream)
        except (ConnectionError, ValueError) as error:
            raise HandlerFailed(f'Get "{shown}": {str(error) or "EOF"}') from error
        finally:
            await stream.close()
        if not hook and not 200 <= status < 400:
            raise HandlerFailed(f"HTTP probe failed with statuscode: {status}")

    async def _connect(self, pod: Object, host: str, port: int, pod_ip: str, *, secure: bool = False) -> ByteStream:
        provider = self.provider
        try:
            if not host and not secure and isinstance(provider, Dial):
                return await provider.dial(_uid(pod), port)
            context = _unverified() if secure else None
            reader, writer = await asyncio.open_connection(host or pod_ip, port, ssl=context)
        except ConnectionRefusedError as error:
            raise HandlerFailed(f"dial tcp {host or pod_ip}:{port}: connect: connection refused") from error
        except OSError as error:
            raise HandlerFailed(f"dial tcp {host or pod_ip}:{port}: {error.strerror or error}") from error
        return _Connection(reader, writer)


class _Connection:
    """A plain connection as a ``ByteStream``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        return await self._reader.read(HEAD_BYTES)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def write_eof(self) -> None:
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()


def resolve_port(port: object, container: Object) -> int:
    """A number, or the name of one of the container's ports; raises ``HandlerError``."""
    if isinstance(port, int):
        return port
    text = str(port or "")
    for each in container.get("ports") or ():
        if each.get("name") == text:
            return int(each["containerPort"])
    if text.isdigit():
        return int(text)
    raise HandlerError(f"couldn't find port: {text}")


def _uid(pod: Object) -> Uid:
    return Uid(meta(pod).get("uid", ""))


def _late(probe: Object, seconds: float, pod_ip: str) -> str:
    if "exec" in probe:
        command = " ".join(probe["exec"].get("command") or ())
        return f'command timed out: "{command}" timed out after {seconds:g}s'
    if "httpGet" in probe:
        action = probe["httpGet"]
        scheme = (action.get("scheme") or "http").lower()
        where = f"{scheme}://{action.get('host') or pod_ip}:{action.get('port')}{action.get('path') or '/'}"
        return f'Get "{where}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    if "grpc" in probe:
        return f'timeout: failed to connect service "{pod_ip}:{probe["grpc"].get("port")}" within {seconds:g}s'
    return "i/o timeout"


def _unverified() -> ssl.SSLContext:
    """Probes ask whether somebody answers, not who: the kubelet does not verify either."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _request(path: str, authority: str, headers: Sequence[Mapping[str, str]]) -> bytes:
    given = {each["name"]: each.get("value", "") for each in headers}
    lower = {name.lower() for name in given}
    lines = [f"GET {path} HTTP/1.1"]
    for name, value in (("Host", authority), ("User-Agent", USER_AGENT), ("Accept", "*/*"), ("Connection", "close")):
        if name.lower() not in lower:
            lines.append(f"{name}: {value}")
    lines += [f"{name}: {value}" for name, value in given.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _status_of(stream: ByteStream) -> int:
    """The status of an HTTP/1 answer; raises ``ValueError`` when it is none."""
    head = b""
    while b"\r\n" not in head and len(head) < HEAD_BYTES:
        data = await stream.read()
        if not data:
            break
        head += data
    parts = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
        raise ValueError("EOF" if not head else "malformed HTTP response")
    return int(parts[1])
