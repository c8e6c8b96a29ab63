"""Replies in protobuf, and lists that are sent in pieces."""

from __future__ import annotations

import gzip
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
import yaml

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, ApiResponse, User, WatchEvent, parse_query
from anynode.apiserver import long_lists
from anynode.apiserver import read as read_module
from anynode.apiserver.assembly import Assembly
from anynode.schema import protobuf, types
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",))
PROTOBUF = "application/vnd.kubernetes.protobuf"
TYPES = types.builtin()
PATH = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def assembly() -> AsyncIterator[Assembly]:
    async with MemoryStorage() as storage, Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly:
        yield assembly


async def ask(assembly: Assembly, target: str, accept: str, method: str = "GET", body: Any = None) -> ApiResponse:
    path, _, query = target.partition("?")
    raw = b"" if body is None else orjson.dumps(body)
    headers = {"accept": accept}
    return await assembly.server.handle(
        ApiRequest(method=method, path=path, query=parse_query(query), headers=headers, body=raw, user=ADMIN)
    )


async def make(assembly: Assembly, count: int) -> None:
    for number in range(count):
        body = {"metadata": {"name": f"c{number:05}", "labels": {"n": str(number % 2)}}, "data": {"k": "v"}}
        assert (await ask(assembly, PATH, "application/json", "POST", body)).status == 201


def read(response: ApiResponse) -> Object:
    assert response.content_type == PROTOBUF
    return protobuf.decode_protobuf(response.encoded(), TYPES)


async def all_of(response: ApiResponse) -> list[bytes]:
    assert response.stream is not None
    pieces = []
    while piece := await response.stream.read():
        pieces.append(piece)
    return pieces


class Sink:
    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self.ended = False

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        self.events.extend(events)
        return True

    def end(self) -> None:
        self.ended = True


def framed(data: bytes) -> tuple[str, Object]:
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    event = {number: value for number, _, value in protobuf.fields(data[4:])}
    raw = next(value for _, _, value in protobuf.fields(event[2]))
    return event[1].decode(), protobuf.decode_protobuf(raw, TYPES)


async def test_objects_lists_and_refusals_in_protobuf(assembly: Assembly) -> None:
    await make(assembly, 2)
    plain = (await ask(assembly, f"{PATH}/c00000", "application/json")).decoded()
    assert read(await ask(assembly, f"{PATH}/c00000", f"{PROTOBUF},application/json")) == plain
    listed = read(await ask(assembly, PATH, PROTOBUF))
    assert [each["metadata"]["name"] for each in listed["items"]] == ["c00000", "c00001"]
    assert listed["kind"] == "ConfigMapList"
    assert read(await ask(assembly, f"{PATH}/none", PROTOBUF))["reason"] == "NotFound"
    deleted = await ask(assembly, f"{PATH}/c00001", PROTOBUF, "DELETE")
    assert read(deleted)["status"] == "Success"


async def test_the_order_of_accept_decides_and_tables_are_json(assembly: Assembly) -> None:
    await make(assembly, 1)
    asked = f"application/json,{PROTOBUF}"
    assert (await ask(assembly, PATH, asked)).content_type == "application/json"
    table = f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1"
    assert (await ask(assembly, PATH, table)).status == 406
    both = await ask(assembly, PATH, f"{table},application/json;as=Table;g=meta.k8s.io;v=v1")
    assert both.decoded()["kind"] == "Table"
    partial = await ask(assembly, f"{PATH}/c00000", f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
    assert partial.content_type == PROTOBUF
    assert b"PartialObjectMetadata" in partial.encoded()
    assert b"meta.k8s.io/v1" in partial.encoded()


async def test_a_watch_in_protobuf_shares_frames(assembly: Assembly) -> None:
    response = await ask(assembly, f"{PATH}?watch=1", f"{PROTOBUF};stream=watch")
    assert response.headers["content-type"] == f"{PROTOBUF};stream=watch"
    assert response.watch is not None
    other = await ask(assembly, f"{PATH}?watch=1", PROTOBUF)
    assert other.watch is not None
    sinks = Sink(), Sink()
    response.watch.start(sinks[0])
    other.watch.start(sinks[1])
    await make(assembly, 1)
    first, second = (sink.events[-1] for sink in sinks)
    assert first.line is second.line
    kind, obj = framed(first.line)
    assert (kind, obj["metadata"]["name"]) == ("ADDED", "c00000")
    response.watch.stop()
    other.watch.stop()


async def test_who_gets_what_left_a_selector_sees_it_as_it_is(assembly: Assembly) -> None:
    await make(assembly, 1)
    watched = await ask(assembly, f"{PATH}?watch=1&labelSelector=n%3D0", PROTOBUF)
    assert watched.watch is not None
    sink = Sink()
    watched.watch.start(sink)
    change = {"metadata": {"name": "c00000", "labels": {"n": "gone"}}, "data": {"k": "v"}}
    assert (await ask(assembly, f"{PATH}/c00000", "application/json", "PUT", change)).status == 200
    kind, left = framed(sink.events[-1].line)
    now = read(await ask(assembly, f"{PATH}/c00000", PROTOBUF))
    assert (kind, left["metadata"]["labels"], now["metadata"]["labels"]) == ("DELETED", {"n": "0"}, {"n": "gone"})
    assert left["metadata"]["resourceVersion"] == now["metadata"]["resourceVersion"]
    assert read(await ask(assembly, PATH, PROTOBUF))["items"][0]["metadata"] == now["metadata"]
    watched.watch.stop()


async def test_a_watch_that_cannot_be_says_so_in_protobuf(assembly: Assembly) -> None:
    response = await ask(assembly, f"{PATH}?watch=1&resourceVersion=1", PROTOBUF)
    assert response.watch is not None
    sink = Sink()
    response.watch.start(sink)
    kind, status = framed(sink.events[-1].line)
    assert (kind, status["reason"], sink.ended) == ("ERROR", "Expired", True)


@pytest.mark.parametrize("accept", ["application/json", "application/json;as=Table;g=meta.k8s.io;v=v1", PROTOBUF])
async def test_a_long_list_comes_in_pieces(assembly: Assembly, monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    await make(assembly, 250)
    whole = (await ask(assembly, PATH, accept)).encoded()
    monkeypatch.setattr(long_lists, "SHORT", 100)
    response = await ask(assembly, PATH, accept)
    assert b"".join(await all_of(response)) == whole


async def test_pieces_are_of_one_moment(assembly: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "SHORT", 100)
    monkeypatch.setattr(long_lists, "_WHOLE", 50)
    await make(assembly, 150)
    response = await ask(assembly, PATH, "application/json")
    assert response.stream is not None
    first = await response.stream.read()
    await ask(assembly, f"{PATH}/c00149", "application/json", "DELETE")
    rest = b"".join(await all_of(response))
    assert len(orjson.loads(first + rest)["items"]) == 150


async def test_a_compressed_long_list_reads_back(assembly: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "SHORT", 10)
    await make(assembly, 30)
    response = await ask(assembly, PATH, "application/json")
    assert isinstance(response.stream, long_lists.LongList)
    packed = long_lists.Compressed(response.stream, 1)
    data = b""
    while piece := await packed.read():
        data += piece
    assert len(orjson.loads(gzip.decompress(data))["items"]) == 30
    await packed.close()


async def test_a_long_list_in_yaml_says_the_same(assembly: Assembly) -> None:
    await make(assembly, 45)
    plain = orjson.loads((await ask(assembly, PATH, "application/json")).encoded())
    response = await ask(assembly, PATH, "application/yaml")
    assert response.content_type == "application/yaml"
    assert yaml.safe_load(b"".join(await all_of(response))) == plain


async def test_a_long_list_is_looked_through_in_parts(assembly: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_module, "LOOKED_THROUGH_AT_ONCE", 7)
    await make(assembly, 40)
    listed = (await ask(assembly, f"{PATH}?labelSelector=n=1", "application/json")).decoded()
    assert [each["metadata"]["name"] for each in listed["items"]] == [f"c{number:05}" for number in range(1, 40, 2)]
    page = (await ask(assembly, f"{PATH}?labelSelector=n=1&limit=5", "application/json")).decoded()
    assert len(page["items"]) == 5
    rest = f"{PATH}?labelSelector=n=1&limit=50&continue={page['metadata']['continue']}"
    assert len((await ask(assembly, rest, "application/json")).decoded()["items"]) == 15
