"""Requests made up from the server's own OpenAPI document never find it at a loss: no 500 but those upstream gives.

``ANYNODE_FUZZ_REQUESTS`` and ``ANYNODE_FUZZ_SEED`` make the run longer or another one: ``make soak`` does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator

import orjson
import pytest
from tests.component.openapi_requests import Made, Requests

from anynode.aio.clock import SystemClock
from anynode.api.wire import ApiRequest, ApiResponse, User, WatchEvent, parse_query
from anynode.apiserver.assembly import Assembly
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",))
REQUESTS = int(os.environ.get("ANYNODE_FUZZ_REQUESTS", "1500"))
SEED = int(os.environ.get("ANYNODE_FUZZ_SEED", "1"))
MOST_SECONDS = 5.0
AS_UPSTREAM = (
    "strconv.ParseUint", "failed to convert new object", "failed to create typed patch object",
    "failed to create manager", "resourceVersion should not be set", "duplicate nodePort", "error trying to reach",
    "unable to decode an event", "failed to prune fields", "failed to create typed live object", "target.",
)  # fmt: skip
"""What upstream answers with a 500 as well."""


class Nobody:
    def deliver(self, events: list[WatchEvent]) -> bool:
        return all(event.line for event in events)

    def end(self) -> None:
        pass


@pytest.fixture
async def assembly() -> AsyncIterator[Assembly]:
    async with MemoryStorage() as storage, Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly:
        yield assembly


async def ask(assembly: Assembly, made: Made) -> ApiResponse:
    path, _, query = made.target.partition("?")
    request = ApiRequest(
        method=made.method, path=path, query=parse_query(query), headers=dict(made.headers), body=made.body, user=ADMIN
    )
    async with asyncio.timeout(MOST_SECONDS):
        response = await assembly.server.handle(request)
        if response.watch is not None:
            response.watch.start(Nobody())
            response.watch.stop()
        elif response.stream is not None:
            await response.stream.close()
    return response


@pytest.mark.timeout(3_600)
async def test_no_request_finds_the_server_at_a_loss(assembly: Assembly, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="anynode.apiserver.server")
    document = await ask(assembly, Made(method="GET", target="/openapi/v2", headers={}, body=b""))
    answered = 0
    for made in Requests(orjson.loads(document.encoded()), random.Random(SEED)).make(REQUESTS):
        response = await ask(assembly, made)
        answered += response.status < 400
        if response.status < 500 or response.status in (503, 504):
            continue
        said = response.encoded()
        assert any(text.encode() in said for text in AS_UPSTREAM), (made, said)
    assert answered > REQUESTS / 20  # some of what is made up has to be good
