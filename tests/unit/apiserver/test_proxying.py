"""HTTP through the API server: what is rewritten on the way, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpClient, Origin
from anynode.aio.http_message import ByteStream, HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.api import errors
from anynode.api.wire import ApiRequest, ApiResponse, parse_query
from anynode.apiserver.connect_routes import Reference, proxied_path
from anynode.apiserver.proxying import Links, Proxy

PREFIX = "/api/v1/namespaces/default/pods/web:80/proxy"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (PREFIX, ""),
        (f"{PREFIX}/", "/"),
        (f"{PREFIX}/a%2Fb/c", "/a%2Fb/c"),
        ("/api/v1/nodes/n1/proxy/stats/", "/stats/"),
        ("/api/v1/namespaces/proxy/services/proxy/proxy/proxy", "/proxy"),
    ],
)
def test_the_backends_path_is_what_follows(path: str, expected: str) -> None:
    assert proxied_path(path) == expected


def test_names_may_carry_scheme_and_port() -> None:
    assert Reference.parse("web", "pod") == Reference("", "web", "")
    assert Reference.parse("web:http", "pod") == Reference("", "web", "http")
    assert Reference.parse("https:web:443", "pod") == Reference("https", "web", "443")
    with pytest.raises(errors.BadRequest, match='invalid pod request "ftp:web:1"'):
        Reference.parse("ftp:web:1", "pod")


LINKS = Links("api.example:6443", "10.0.0.1:80", PREFIX)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("/login?x=1#y", f"{PREFIX}/login?x=1#y"),
        ("http://10.0.0.1:80/a/", f"{PREFIX}/a/"),
        (f"{PREFIX}/a", f"{PREFIX}/a"),
        ("http://api.example:6443/a", f"http://api.example:6443{PREFIX}/a"),
        ("relative/path", "relative/path"),
        ("https://elsewhere.example/a", "https://elsewhere.example/a"),
    ],
)
def test_links_to_the_backend_go_through_the_proxy(link: str, expected: str) -> None:
    assert LINKS.rewritten(link) == expected


def test_only_links_in_tags_are_rewritten() -> None:
    page = b"""<a class="x" href="/a">href="/b"</a><img src='/c.png'><p data="x">/d</p>"""
    through = PREFIX.encode()
    assert LINKS.in_html(page) == page.replace(b'"/a"', b'"%b/a"' % through).replace(b"'/c", b"'%b/c" % through)


async def backend(request: HttpRequest) -> HttpResponse:
    if request.path == "/redirect":
        return HttpResponse(status=302, headers={"location": "/next"})
    if request.path == "/page":
        return HttpResponse(headers={"content-type": "text/html; charset=utf-8"}, body=b'<a href="/x">')
    if request.path == "/cookies":
        cors = {"access-control-allow-origin": "*", "keep-alive": "timeout=5", "x-own": "1"}
        return HttpResponse(status=418, headers=cors, repeated=[("set-cookie", "a=1"), ("set-cookie", "b=2")])
    if request.path == "/upgrade":

        async def echo(stream: ByteStream) -> None:
            while data := await stream.read():
                await stream.write(data)

        return HttpResponse(status=101, headers={"connection": "Upgrade", "upgrade": "echo"}, upgrade=echo)
    seen = {"method": request.method, "target": request.target, "headers": request.headers}
    return HttpResponse(body=orjson.dumps({**seen, "body": request.body.decode()}))


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    clock = SystemClock()
    async with HttpServer(backend, clock=clock) as server:
        client = HttpClient(clock=clock)
        yield Proxy(client, Origin(host="127.0.0.1", port=server.port))
        await client.close()


def asked(path: str, *, method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b"") -> ApiRequest:
    plain, _, query = path.partition("?")
    given = {"host": "api.example:6443", **(headers or {})}
    return ApiRequest(
        method=method, path=PREFIX + plain, query=parse_query(query), headers=given, body=body, peer="10.9.9.9:1"
    )


async def content(answer: ApiResponse) -> bytes:
    if answer.stream is None:
        return answer.encoded()
    data = b""
    while piece := await answer.stream.read():
        data += piece
    return data


async def test_a_request_goes_on_without_what_is_ours(proxy: Proxy) -> None:
    headers = {
        "authorization": "Bearer secret",
        "impersonate-user": "x",
        "connection": "x-hop",
        "x-hop": "1",
        "x-own": "kept",
        "x-forwarded-for": "10.1.1.1",
    }
    answer = await proxy.answer(asked("/p%2Fq?a=1", method="PUT", headers=headers, body=b"data"), "/p%2Fq")
    seen = orjson.loads(await content(answer))
    assert (seen["method"], seen["target"], seen["body"]) == ("PUT", "/p%2Fq?a=1", "data")
    assert seen["headers"]["x-forwarded-for"] == "10.1.1.1, 10.9.9.9"
    assert seen["headers"]["x-forwarded-uri"] == f"{PREFIX}/p%2Fq"
    assert seen["headers"]["host"] == "api.example:6443"
    assert seen["headers"]["x-own"] == "kept"
    assert not {"authorization", "impersonate-user", "x-hop"} & seen["headers"].keys()


async def test_no_path_sends_the_client_to_the_root(proxy: Proxy) -> None:
    answer = await proxy.answer(asked("?a=1"), "")
    assert (answer.status, answer.headers["location"]) == (301, f"{PREFIX}/?a=1")
    posted = await proxy.answer(asked("", method="POST"), "")
    assert orjson.loads(await content(posted))["target"] == "/"


async def test_redirects_and_pages_point_through_the_proxy(proxy: Proxy) -> None:
    redirect = await proxy.answer(asked("/redirect"), "/redirect")
    assert (redirect.status, redirect.headers["location"]) == (302, f"{PREFIX}/next")
    await content(redirect)
    page = await proxy.answer(asked("/page"), "/page")
    assert await content(page) == f'<a href="{PREFIX}/x">'.encode()
    assert "content-length" not in page.headers


async def test_the_answer_keeps_its_status_and_cookies_but_not_its_cors_headers(proxy: Proxy) -> None:
    answer = await proxy.answer(asked("/cookies"), "/cookies")
    await content(answer)
    assert answer.status == 418
    assert list(answer.repeated) == [("set-cookie", "a=1"), ("set-cookie", "b=2")]
    assert answer.headers["x-own"] == "1"
    assert not {"access-control-allow-origin", "keep-alive", "set-cookie"} & answer.headers.keys()


async def test_upgrades_are_offered_to_the_backend(proxy: Proxy) -> None:
    headers = {"connection": "Upgrade", "upgrade": "echo"}
    answer = await proxy.answer(asked("/upgrade", headers=headers), "/upgrade")
    assert (answer.status, answer.headers["upgrade"]) == (101, "echo")
    assert answer.upgrade is not None
    pieces = [b"ping"]

    class Client:
        """Says one thing, and leaves when it was said back."""

        def __init__(self) -> None:
            self.got = b""
            self.answered = asyncio.Event()

        async def read(self) -> bytes:
            if pieces:
                return pieces.pop()
            await self.answered.wait()
            return b""

        async def write(self, data: bytes) -> None:
            self.got += data
            self.answered.set()

        async def write_eof(self) -> None:
            pass

        async def close(self) -> None:
            pass

    client = Client()
    await answer.upgrade(client)
    assert client.got == b"ping"


async def test_a_backend_that_is_not_there(proxy: Proxy) -> None:
    clock = SystemClock()
    client = HttpClient(clock=clock)
    nobody = Proxy(client, Origin(host="127.0.0.1", port=1))
    with pytest.raises(errors.ServiceUnavailable) as refused:
        await nobody.answer(asked("/"), "/")
    expected = "error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused"
    assert refused.value.message == expected
    await client.close()
