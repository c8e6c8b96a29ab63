"""HTTP through the API server to a pod, a service or a node: headers, redirects and links rewritten, upgrades copied.

Source: apimachinery ``pkg/util/proxy/{transport,upgradeaware}.go``, Go's ``net/http/httputil`` ReverseProxy, 1.36.
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping

from anynode.aio.http_client import HttpAnswer, HttpBody, HttpClient, Origin
from anynode.aio.http_stream import TransportStream
from anynode.api import errors
from anynode.api.wire import ApiRequest, ApiResponse, ByteStream
from anynode.streaming import pump

HOP_BY_HOP = frozenset({
    "connection", "proxy-connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
OURS = frozenset({"authorization", "content-length", "expect"})
CORS = frozenset({
    "access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods",
    "access-control-allow-origin",
})  # fmt: skip
MOST_HTML_BYTES = 16 * 1024 * 1024
_LINK = re.compile(
    rb"""(<[a-zA-Z][^<>]*?\s(?:href|src|action|background|cite|codebase|data|formaction|longdesc|poster|usemap)\s*=\s*)"""
    rb"""("[^"<>]*"|'[^'<>]*')"""
)


def forwarded_headers(request: ApiRequest) -> dict[str, str]:
    """The client's headers that go on, with its address added."""
    named = {name.strip().lower() for name in request.headers.get("connection", "").split(",")}
    headers = {
        name: value
        for name, value in request.headers.items()
        if name not in HOP_BY_HOP and name not in OURS and name not in named and not name.startswith("impersonate-")
    }
    client = request.peer.rpartition(":")[0]
    if client:
        before = request.headers.get("x-forwarded-for")
        headers["x-forwarded-for"] = f"{before}, {client}" if before else client
    return headers


def upgrade_headers(request: ApiRequest) -> dict[str, str]:
    """The headers of an upgrade request that goes on."""
    headers = forwarded_headers(request)
    headers.pop("host", None)
    return {**headers, "connection": "Upgrade", "upgrade": request.headers.get("upgrade", "")}


def plain(answer: HttpAnswer) -> ApiResponse:
    """A backend's refusal to upgrade, handed on."""
    if answer.status < 400:
        raise errors.ApiError(f"invalid upgrade response: status code {answer.status}", code=500, reason="")
    headers = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP | OURS}
    content_type = headers.pop("content-type", "text/plain; charset=utf-8")
    return ApiResponse(status=answer.status, headers=headers, content_type=content_type, body=answer.body)


def switching(
    headers: Mapping[str, str], serve: Callable[[ByteStream], Awaitable[None]], back: TransportStream
) -> ApiResponse:
    """The 101 answer; ``back`` is closed when the connection was served."""

    async def served(stream: ByteStream) -> None:
        try:
            await serve(stream)
        finally:
            await back.close()

    return ApiResponse(status=101, headers=headers, upgrade=served)


def upgraded(answer: HttpAnswer, back: TransportStream | None) -> ApiResponse:
    """A backend's upgrade, copied byte for byte both ways from now on."""
    if back is None:
        return plain(answer)

    async def serve(stream: ByteStream) -> None:
        await pump.join(stream, back)

    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}
    return switching(headers, serve, back)


class Proxy:
    """One backend. ``answer`` serves one request to it."""

    def __init__(self, client: HttpClient, origin: Origin) -> None:
        self._client = client
        self._origin = origin

    async def answer(self, request: ApiRequest, path: str) -> ApiResponse:
        """The backend's answer to ``path`` (empty: the client is sent to ``/``). Raises ``ApiError``."""
        query = request.target.partition("?")[2]
        if "upgrade" in request.headers.get("connection", "").lower():
            return await self._upgrade(request, f"{path or '/'}?{query}" if query else path or "/")
        if not path and request.method in ("GET", "HEAD"):
            location = f"{request.path}/?{query}" if query else f"{request.path}/"
            return ApiResponse(status=301, headers={"location": location}, content_type="text/plain", body=b"")
        path = path or "/"
        headers = {**forwarded_headers(request), "x-forwarded-uri": request.path}
        target = f"{path}?{query}" if query else path
        try:
            body = await self._client.open(self._origin, request.method, target, headers, request.body)
        except ConnectionError as error:
            raise errors.ServiceUnavailable(f"error trying to reach service: {error}") from error
        return await self._answered(request, path, body)

    async def _upgrade(self, request: ApiRequest, target: str) -> ApiResponse:
        headers = {**upgrade_headers(request), "host": request.headers.get("host", self._origin.authority)}
        try:
            answer, back = await self._client.upgrade(self._origin, request.method, target, headers, request.body)
        except ConnectionError as error:
            raise errors.ApiError(f"error dialing backend: {error}", code=500, reason="") from error
        return upgraded(answer, back)

    async def _answered(self, request: ApiRequest, path: str, body: HttpBody) -> ApiResponse:
        named = {name.strip().lower() for name in body.headers.get("connection", "").split(",")}
        dropped = HOP_BY_HOP | CORS | named | {"set-cookie"}
        headers = {name: value for name, value in body.headers.items() if name not in dropped}
        prefix = request.path.removesuffix(path) if path != "/" else request.path.rstrip("/")
        links = Links(request.headers.get("host", ""), self._origin.authority, prefix)
        if "location" in headers:
            headers["location"] = links.rewritten(headers["location"])
        repeated = [(name, value) for name, value in body.pairs if name == "set-cookie"]
        content_type = headers.pop("content-type", "")
        response = ApiResponse(status=body.status, headers=headers, content_type=content_type, repeated=repeated)
        is_html = content_type.partition(";")[0].strip() == "text/html"
        if is_html and "content-encoding" not in headers and request.method != "HEAD" and "location" not in headers:
            headers.pop("content-length", None)
            response.body = links.in_html(await _whole(body))
        else:
            response.stream = body
        return response


class Links:
    """Rewrites what points at the backend so that it points through the API server."""

    def __init__(self, host: str, backend: str, prefix: str) -> None:
        self._host = host
        self._backend = backend
        self._prefix = prefix

    def rewritten(self, link: str) -> str:
        """``link`` through the proxy, on whatever host the page is read from, when it is absolute on the backend."""
        try:
            parsed = urllib.parse.urlsplit(link)
        except ValueError:
            return link
        elsewhere = parsed.netloc not in ("", self._backend, self._host)
        if elsewhere or not parsed.path.startswith("/"):
            return link
        path = parsed.path
        if not path.startswith(self._prefix):
            path = posixpath.normpath(f"{self._prefix}{path}") + ("/" if path.endswith("/") else "")
        scheme, host = (parsed.scheme, self._host) if parsed.netloc and parsed.netloc == self._host else ("", "")
        return urllib.parse.urlunsplit((scheme, host, path, parsed.query, parsed.fragment))

    def in_html(self, content: bytes) -> bytes:
        """The links in the tags of a page, rewritten."""

        def replaced(match: re.Match[bytes]) -> bytes:
            quote = match[2][:1]
            link = match[2][1:-1].decode("utf-8", "surrogateescape")
            return match[1] + quote + self.rewritten(link).encode("utf-8", "surrogateescape") + quote

        return _LINK.sub(replaced, content)


async def _whole(body: HttpBody) -> bytes:
    parts, size = [], 0
    try:
        while data := await body.read():
            parts.append(data)
            size += len(data)
            if size > MOST_HTML_BYTES:
                raise errors.InternalError(f"a page of more than {MOST_HTML_BYTES} bytes cannot be rewritten")
    except ConnectionError as error:
        raise errors.ServiceUnavailable(f"error trying to reach service: {error}") from error
    finally:
        await body.close()
    return b"".join(parts)
