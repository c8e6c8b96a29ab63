"""``HttpTransport``: requests to any API server over HTTP/1.1 and TLS.

In: a ``ClientConfig``. Out: the ``Transport`` protocol. A 429 or 5xx answer that names a Retry-After is tried again
that much later, at most ``RETRIES`` times; a 401 once more with a fresh credential where one may be had. Nothing
else is repeated here. An answer that does not come within ``ANSWER_SECONDS`` is a ``ConnectionError``; so is a
watch's silence past its time, which ends the watch.

Source: client-go ``rest/request.go`` and ``rest/with_retry.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import orjson

from anynode.aio.clock import Clock
from anynode.aio.http_client import HttpAnswer, HttpBody, HttpClient, Origin
from anynode.api.errors import ApiError, from_status
from anynode.api.wire import ApiRequest, ApiResponse, ByteReader, ByteStream, WatchEvent
from anynode.client.config import ClientConfig, ConfigError
from anynode.client.credentials import Credential

RETRIES = 10
ANSWER_SECONDS = 120.0
WATCH_SLACK_SECONDS = 30.0
"""How much longer than it asked for a watch may last before the server counts as gone."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class _Prepared:
    """A request as the HTTP client takes it."""

    origin: Origin
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    credential: Credential


class HttpTransport:
    """Requests to one API server as one user; ``close`` it."""

    def __init__(self, config: ClientConfig, *, clock: Clock) -> None:
        if config.proxy_url:
            raise ConfigError("proxy-url is not supported")
        self._config = config
        self._clock = clock
        self._http = HttpClient(clock=clock)
        parsed = urllib.parse.urlsplit(config.server)
        self._host = parsed.hostname or ""
        self._port = parsed.port or (443 if parsed.scheme == "https" else 80)
        self._prefix = parsed.path.rstrip("/")
        self._origin: Origin | None = None
        self._origin_of: tuple[bytes, bytes] = (b"", b"")

    async def send(self, request: ApiRequest) -> ApiResponse:
        """The whole answer; raises ``ApiError`` or ``ConnectionError``."""

        async def attempt(prepared: _Prepared) -> ApiResponse:
            answer = await self._http.request(
                prepared.origin, prepared.method, prepared.target, prepared.headers, prepared.body
            )
            if answer.status >= 400:
                raise _refusal(answer.status, answer.headers, answer.body)
            return _response(answer)

        return await self._tried(request, attempt)

    async def watch(self, request: ApiRequest) -> HttpWatch:
        """A running watch; raises as ``send``."""
        asked = float(request.argument("timeoutSeconds") or 0)
        body = await self._tried(request, self._open)
        seconds = asked + WATCH_SLACK_SECONDS if asked else None
        return HttpWatch(body, seconds)

    async def open(self, request: ApiRequest) -> ByteReader:
        """The answer's body, to be read piece by piece and closed; raises as ``send``."""
        return await self._tried(request, self._open)

    async def upgrade(self, request: ApiRequest) -> tuple[ApiResponse, ByteStream]:
        """The 101 answer and the connection, which is the caller's to close; raises as ``send``."""

        async def attempt(prepared: _Prepared) -> tuple[ApiResponse, ByteStream]:
            answer, stream = await self._http.upgrade(
                prepared.origin, prepared.method, prepared.target, prepared.headers, prepared.body
            )
            if stream is None:
                raise _refusal(answer.status, answer.headers, answer.body)
            return _response(answer), stream

        return await self._tried(request, attempt)

    async def close(self) -> None:
        """Release connections; requests under way fail with ``ConnectionError``."""
        await self._http.close()

    async def _open(self, prepared: _Prepared) -> HttpBody:
        body = await self._http.open(prepared.origin, prepared.method, prepared.target, prepared.headers, prepared.body)
        if body.status >= 400:
            raise _refusal(body.status, body.headers, await body.read_all())
        return body

    async def _tried(self, request: ApiRequest, attempt: Callable[[_Prepared], Awaitable[T]]) -> T:
        """What ``attempt`` answers, repeated where that is right."""
        body = orjson.dumps(request.obj) if request.obj is not None else request.body
        retries, fresh = RETRIES, False
        while True:
            prepared = await self._prepare(request, body)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await attempt(prepared)
            except TimeoutError as error:
                raise ConnectionError(f"{request.method} {request.path}: no answer in {ANSWER_SECONDS:g} s") from error
            except ApiError as error:
                if error.status_code == 401 and not fresh and self._config.credentials.rejected(prepared.credential):
                    fresh = True
                elif retries and error.retry_after_seconds and _is_busy(error):
                    retries -= 1
                    await self._clock.sleep(error.retry_after_seconds)
                else:
                    raise

    async def _prepare(self, request: ApiRequest, body: bytes) -> _Prepared:
        credential = await self._config.credentials.current()
        headers = {**request.headers, **self._config.headers}
        if credential.authorization and "authorization" not in headers:
            headers["authorization"] = credential.authorization
        if body and "content-type" not in headers:
            headers["content-type"] = "application/json"
        return _Prepared(
            self._origin_for(credential), request.method, self._prefix + request.target, headers, body, credential
        )

    def _origin_for(self, credential: Credential) -> Origin:
        pair = (credential.certificate, credential.key)
        if self._origin is not None and pair == self._origin_of:
            return self._origin
        try:
            context = self._config.ssl_context(credential)
        except ConfigError:
            if self._origin is None:
                raise
            return self._origin  # half of a rotated pair: the other half will be there soon
        self._origin = Origin(
            host=self._host, port=self._port, tls=context, server_name=self._config.tls_server_name or None
        )
        self._origin_of = pair
        return self._origin


class HttpWatch:
    """Watch events out of a body of JSON lines, a batch per piece that arrived.

    It is its own iterator: whoever stops iterating may go on later where he stopped, until ``close``.
    """

    def __init__(self, body: HttpBody, seconds: float | None) -> None:
        self._body = body
        self._lines = Lines()
        self._deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds

    def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent]]:
        return self

    async def __anext__(self) -> Sequence[WatchEvent]:
        while True:
            try:
                async with asyncio.timeout_at(self._deadline):
                    data = await self._body.read()
            except TimeoutError:
                data = b""  # the server should have ended the watch by now: the connection is dead
            if not data:
                await self._body.close()
                raise StopAsyncIteration
            events = [read_event(line) for line in self._lines.feed(data)]
            if events:
                return events

    async def close(self) -> None:
        await self._body.close()


class Lines:
    """Splits pieces of a byte stream into whole lines; a line may come in any number of pieces."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their line ends; empty ones are left out."""
        if b"\n" not in data:
            self._parts.append(data)
            return []
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
            self._parts.clear()
        *lines, rest = data.split(b"\n")
        if rest:
            self._parts.append(rest)
        return [line for line in lines if line]


def read_event(line: bytes) -> WatchEvent:
    """One line of a watch; raises ``ConnectionError`` for what is no watch event."""
    try:
        event = orjson.loads(line)
        return WatchEvent(event["type"], obj=event["object"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionError("the watch carries something that is no event") from error


def _response(answer: HttpAnswer) -> ApiResponse:
    content_type = answer.headers.get("content-type", "")
    return ApiResponse(status=answer.status, headers=answer.headers, content_type=content_type, body=answer.body)


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error a failed answer means, also when a proxy gave it in words of its own."""
    try:
        said = orjson.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict) or said.get("kind") != "Status":
        text = body[:2048].decode(errors="replace").strip()
        said = {"message": text, "code": status} if text else {"code": status}
    error = from_status(said, status)
    after = headers.get("retry-after", "")
    if after.isdigit():
        error.retry_after_seconds = int(after)
    return error


def _is_busy(error: ApiError) -> bool:
    return error.status_code == 429 or error.status_code >= 500
