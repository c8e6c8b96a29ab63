"""One client's connection to the HTTP server: bytes in, handler called, bytes out.

A handler that answers without waiting runs inside ``data_received``: no task switch, one ``transport.write``. To keep
that sound the connection owns one long-lived task. The handler's first step is taken inline *as* that task (entered and
left with asyncio's documented calls for task implementations, in that task's context), and when it must wait the task
itself goes on with it; so ``current_task``, timeouts and cancellation mean the same on both paths.

Requests of one connection are answered one at a time and in order (pipelining is safe). Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import logging
import urllib.parse
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol, cast

import httptools

from anynode.aio.http_message import (
    CONTINUE,
    LAST_CHUNK,
    HttpRequest,
    HttpResponse,
    encode_headers,
    frame_chunk,
    header_name,
    may_have_body,
    status_line,
)
from anynode.aio.http_stream import Flusher, Gate, PushWriter, TransportStream, keep_alive

logger = logging.getLogger(__name__)

Handler = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]]

MOST_HEADERS = 1_000
"""Lines of one head; each of a repeated header is joined to those before it."""
MOST_PIPELINED = 32
"""Requests parsed ahead of the one being answered before the connection stops reading."""
JOIN_BYTES = 256 * 1024
"""Up to this size head and body are joined into one write; a copy of more costs more than a second write."""


class Host(Protocol):
    """What a connection needs of its server."""

    handler: Handler
    flusher: Flusher
    max_body_bytes: int
    max_head_bytes: int

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def date(self) -> str:
        """The Date header line, line end included."""
        ...

    def too_large(self) -> HttpResponse: ...

    def opened(self, connection: ServerConnection) -> None: ...

    def closed(self, connection: ServerConnection) -> None: ...


class ServerConnection(asyncio.Protocol):
    """The asyncio protocol of one accepted connection."""

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._loop = loop
        self._transport: asyncio.Transport = asyncio.Transport()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._context = contextvars.copy_context()
        self._gate = Gate()
        self._queue: collections.deque[HttpRequest] = collections.deque()
        self._peer = ""
        self._cert: bytes | None = None
        self.task: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._work: tuple[HttpRequest, Coroutine[Any, Any, HttpResponse] | None, Any] | None = None
        self.busy = False
        self.since = host.now()
        """When the connection last began to wait for its peer."""
        self._stopping = False
        self._gone = False
        self._reading_paused = False
        self._deaf = False
        """No more requests are taken: what comes is thrown away, or kept in ``_early`` for an upgrade."""
        self._upgrading = False
        self._early = b""
        self.push: PushWriter | None = None
        self._stream: TransportStream | None = None
        self._copying = False
        self._url = b""
        self._headers: dict[str, str] = {}
        self._header_lines = 0
        self._head_bytes = 0
        self._in_head = True
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._queued_bytes = 0

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        keep_alive(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._cert = tls.getpeercert(binary_form=True)
        self.task = self._loop.create_task(self._run(), name=f"http/{self._peer}", context=self._context)
        self._host.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._stream is not None:
            self._stream.feed(data)
            return
        if self._deaf:
            if self._upgrading:
                self._early += data
                if len(self._early) > self._host.max_head_bytes:
                    self._transport.abort()
            return
        if not self.waiting_for_head:
            self.since = self._host.now()  # a head has its time as a whole, however it drips
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._host.max_head_bytes + MOST_PIPELINED * 1024:
                self._refuse(431)
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._deaf = self._upgrading = True
            self._early = bytes(data[upgrade.args[0] :])
            if self._queue:
                self._queue[-1].keep_alive = False  # the parser is done: refused the upgrade, the connection ends
        except httptools.HttpParserError:
            self._refuse(400)
            return
        self._advance()

    def eof_received(self) -> bool:
        if self._stream is None:
            return False
        self._stream.feed_eof()
        return self._transport.can_write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        self._parser = None  # it holds us: without this only the collector could free either
        self._gate.lose()
        self._queue.clear()
        push = self.push
        if push is not None:
            self.push = None
            push.lost()
        if self._stream is not None:
            self._stream.lost()
        elif self.task is not None and self._work is None:
            self.task.cancel()
        self._host.closed(self)
        self.task = None  # the host keeps it while a handler still runs

    def pause_writing(self) -> None:
        self._gate.close()

    def resume_writing(self) -> None:
        self._gate.open()
        if self._queue:
            self._loop.call_soon(self._advance)

    # The parser's side

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._header_lines = 0
        self._body = []
        self._body_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer
        self._header_lines += 1
        if self._header_lines > MOST_HEADERS:
            if not self._deaf:
                self._refuse(431)
            return
        key = header_name(name)
        text = value.decode("latin-1")
        headers = self._headers
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        headers = self._headers
        length = headers.get("content-length")
        if length is not None and length.isdigit() and int(length) > self._host.max_body_bytes:
            self._too_large()
        elif headers.get("expect", "").lower() == "100-continue" and not self.busy and not self._queue:
            self._transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        if self._deaf:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._host.max_body_bytes:
            self._too_large()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        if self._deaf:
            return
        path, _, query = self._target()
        parts = self._body
        parser = self._parser
        self._queue.append(
            HttpRequest(
                method=parser.get_method().decode("latin-1"),
                path=path,
                query_string=query,
                headers=self._headers,
                body=parts[0] if len(parts) == 1 else b"".join(parts),
                peer=self._peer,
                client_cert=self._cert,
                keep_alive=parser.should_keep_alive(),
                version=parser.get_http_version(),
            )
        )
        self._queued_bytes += self._body_bytes
        much = len(self._queue) > MOST_PIPELINED or self._queued_bytes > self._host.max_body_bytes
        if much and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _target(self) -> tuple[str, str, str]:
        text = self._url.decode("latin-1")
        if not text.startswith("/"):
            parsed = urllib.parse.urlsplit(text)  # absolute form, as a proxy is asked
            text = f"{parsed.path or '/'}?{parsed.query}" if parsed.query else parsed.path or "/"
        return text.partition("?")

    # Answers without a handler

    def _too_large(self) -> None:
        """Answer at once; what the client still sends is thrown away until it hangs up or time is over."""
        self._deaf = True
        self._answer_and_hang_up(self._host.too_large())

    def _refuse(self, status: int) -> None:
        self._deaf = True
        text = status_line(status).split(" ", 1)[1].strip()
        headers = {"content-type": "text/plain; charset=utf-8"}
        self._answer_and_hang_up(HttpResponse(status=status, headers=headers, body=text.encode()))
        self._transport.close()

    def _answer_and_hang_up(self, response: HttpResponse) -> None:
        self._stopping = True
        if self.busy or self._queue or self._gone:
            return  # an answer under way comes first, and ends the connection
        tail = f"content-length: {len(response.body)}\r\nconnection: close\r\n{self._host.date()}"
        head = encode_headers(status_line(response.status), response.headers, response.repeated, tail)
        self._transport.write(head + response.body)

    # Requests, one after the other

    def _advance(self) -> None:
        """Serve what is queued until a request must wait."""
        while self._queue and not self.busy and not self._gate.shut and not self._gone:
            self.busy = True
            self._serve(self._queue.popleft())
        if not self._queue:
            self._queued_bytes = 0
        if self._reading_paused and not self._queue and not self._gone:
            self._reading_paused = False
            self._transport.resume_reading()

    def _serve(self, request: HttpRequest) -> None:
        coroutine = self._host.handler(request)
        task, loop = self.task, self._loop
        assert task is not None
        if asyncio.current_task(loop) is not None:
            self._hand_over(request, coroutine, None)  # inside some task, mostly our own: ours goes on with it
            return
        asyncio.tasks._enter_task(loop, task)
        try:
            awaited = self._context.run(coroutine.send, None)
        except StopIteration as done:
            response = done.value
        except Exception:
            logger.exception("request failed", extra={"method": request.method, "path": request.path})
            response = _internal_error()
        else:
            self._hand_over(request, coroutine, _Begun(coroutine, awaited))
            return
        finally:
            asyncio.tasks._leave_task(loop, task)
        if response.stream is not None or response.upgrade is not None:
            self._hand_over(request, None, response)
        else:
            self._answer(request, response)

    def _hand_over(self, request: HttpRequest, coroutine: Coroutine[Any, Any, HttpResponse] | None, rest: Any) -> None:
        """Let the connection's task go on: with a handler that waits, or with a response that takes time."""
        self._work = (request, coroutine, rest)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _run(self) -> None:
        """The connection's task: whatever must wait."""
        while not self._gone and self._stream is None:
            cancelled: asyncio.CancelledError | None = None
            if self._work is None:
                self._wake = self._loop.create_future()
                try:
                    await self._wake
                except asyncio.CancelledError as error:
                    if self._work is None:
                        raise
                    cancelled = error  # meant for the handler that began inline, such as a timeout of its own
            if self._work is None:
                continue
            request, coroutine, rest = self._work
            try:
                response = rest if coroutine is None else await self._finish(request, coroutine, rest, cancelled)
                await self._deliver(request, response)
            finally:
                self._work = None
            self._advance()

    async def _finish(
        self,
        request: HttpRequest,
        coroutine: Coroutine[Any, Any, HttpResponse],
        begun: _Begun | None,
        cancelled: asyncio.CancelledError | None,
    ) -> HttpResponse:
        try:
            if begun is None:
                return await coroutine
            begun.cancelled = cancelled
            return await begun
        except Exception:
            logger.exception("request failed", extra={"method": request.method, "path": request.path})
            return _internal_error()

    async def _deliver(self, request: HttpRequest, response: HttpResponse) -> None:
        if self._gone:
            if response.stream is not None:
                await response.stream.close()
        elif response.stream is not None:
            await self._copy(request, response)
        elif response.upgrade is not None:
            await self._upgrade(response)
        else:
            self._answer(request, response)

    def _answer(self, request: HttpRequest, response: HttpResponse) -> None:
        """Write a response that is there as a whole, or begin a pushed one."""
        if self._gone:
            self.busy = False
            return
        if response.push is not None:
            self._push(request, response)
            return
        status, body = response.status, response.body
        tail = self._host.date() if request.keep_alive and not self._stopping else self._last(request)
        if may_have_body(status) and "content-length" not in response.headers:
            tail = f"content-length: {len(body)}\r\n{tail}"
        head = encode_headers(status_line(status), response.headers, response.repeated, tail)
        if request.method == "HEAD" or not body:
            self._transport.write(head)
        elif len(body) <= JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        self._answered(request)

    def _last(self, request: HttpRequest) -> str:
        request.keep_alive = False
        return f"connection: close\r\n{self._host.date()}"

    def _answered(self, request: HttpRequest) -> None:
        self.busy = False
        self.since = self._host.now()
        if not request.keep_alive or self._stopping:
            self._queue.clear()
            self._transport.close()

    def _push(self, request: HttpRequest, response: HttpResponse) -> None:
        tail = f"transfer-encoding: chunked\r\n{self._host.date()}"
        head = encode_headers(status_line(response.status), response.headers, response.repeated, tail)
        self._transport.write(head)
        assert response.push is not None
        if request.method == "HEAD" or request.version == "1.0":
            request.keep_alive = False
            self._answered(request)
            return

        def finished() -> None:
            self.push = None
            if not self._gone:
                self._answered(request)
                self._loop.call_soon(self._advance)

        self.push = PushWriter(self._transport, self._host.flusher, finished)
        response.push(self.push)

    async def _copy(self, request: HttpRequest, response: HttpResponse) -> None:
        """Send a body that is read piece by piece."""
        stream = response.stream
        assert stream is not None
        sized = "content-length" in response.headers
        chunked = not sized and request.version != "1.0"
        if not sized and not chunked:
            request.keep_alive = False
        tail = self._host.date() if request.keep_alive else self._last(request)
        if chunked:
            tail = f"transfer-encoding: chunked\r\n{tail}"
        head = encode_headers(status_line(response.status), response.headers, response.repeated, tail)
        self._transport.write(head)
        work, self._work = self._work, None  # from here on a lost connection cancels the task
        self._copying = True
        complete = False
        try:
            with contextlib.suppress(ConnectionError):
                while request.method != "HEAD" and (data := await stream.read()):
                    self._transport.write(frame_chunk(data) if chunked else data)
                    await self._gate.passed()
                if chunked and request.method != "HEAD":
                    self._transport.write(LAST_CHUNK)
                complete = True
        finally:
            self._work = work
            self._copying = False
            await stream.close()
        if not complete:
            request.keep_alive = False  # a body cut short is told by closing
        self._answered(request)

    async def _upgrade(self, response: HttpResponse) -> None:
        assert response.upgrade is not None
        self._transport.write(encode_headers(status_line(response.status), response.headers, response.repeated, ""))
        self._stream = TransportStream(self._transport, self._gate, self._early)
        self._early = b""
        try:
            with contextlib.suppress(ConnectionError):
                await response.upgrade(self._stream)
        except Exception:
            logger.exception("upgraded connection failed", extra={"peer": self._peer})
        finally:
            self._transport.close()

    # The server's side

    def stop(self) -> None:
        """Take no more requests; end what is idle, pushed or upgraded now, the rest when it is answered."""
        self._stopping = True
        if self._stream is not None and self.task is not None:
            self.task.cancel()
        push = self.push
        if push is not None:
            told = push.on_closed
            push.close()
            if told is not None:
                told()
        if not self.busy and not self._queue:
            self._transport.close()

    def cut(self) -> None:
        """End a streamed body, which may have no end of its own."""
        if self._copying and self.task is not None:
            self.task.cancel()
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()
        if self.task is not None:
            self.task.cancel()

    @property
    def waiting_for_head(self) -> bool:
        """Whether part of a head has come and the rest has not, or nothing that comes is wanted."""
        return self._deaf or (self._in_head and self._head_bytes > 0)


class _Begun:
    """The rest of a coroutine whose first step was already taken; awaited by the connection's task."""

    __slots__ = ("_awaited", "_coroutine", "cancelled")

    def __init__(self, coroutine: Coroutine[Any, Any, HttpResponse], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited
        self.cancelled: BaseException | None = None

    def __await__(self) -> Generator[Any, None, HttpResponse]:
        awaited = self._awaited
        coroutine = self._coroutine
        error = self.cancelled
        try:
            while True:
                if error is None:
                    try:
                        yield awaited
                    except BaseException as thrown:  # noqa: BLE001 - cancellation goes where the wait is
                        error = thrown
                if error is not None:
                    passed_on, error = error, None
                    awaited = coroutine.throw(passed_on)
                else:
                    awaited = coroutine.send(None)
        except StopIteration as done:
            response: HttpResponse = done.value
            return response
        finally:
            coroutine.close()


def _internal_error() -> HttpResponse:
    return HttpResponse(status=500, headers={"content-type": "text/plain"}, body=b"internal server error\n")
