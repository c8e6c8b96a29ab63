"""Health checks by upstream's names, and the two pages about the server."""

from __future__ import annotations

import pytest

from anynode.api.wire import ApiRequest, parse_query
from anynode.apiserver.health import Health
from anynode.testing.clock import FakeClock


class Storage:
    wrong = ""

    def trouble(self) -> str:
        return self.wrong


def asked(health: Health, target: str) -> tuple[int, str]:
    path, _, query = target.partition("?")
    response = health.answer(ApiRequest(method="GET", path=path, query=parse_query(query)), path)
    assert response is not None
    return response.status, response.encoded().decode()


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def health(storage: Storage, clock: FakeClock) -> Health:
    return Health(storage=storage.trouble, clock=clock, version="1.36", flags={"secure-port": "6443"})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_each_root_has_its_checks(health: Health) -> None:
    assert asked(health, "/livez") == (200, "ok")
    live, ready = asked(health, "/livez?verbose")[1], asked(health, "/readyz?verbose")[1]
    assert live.startswith("[+]ping ok\n[+]log ok\n[+]loopback-serving-certificate ok\n[+]etcd ok\n")
    assert live.endswith("livez check passed\n")
    assert "[+]informer-sync ok\n" in ready
    assert ready.endswith("[+]shutdown ok\nreadyz check passed\n")
    assert asked(health, "/readyz/shutdown") == (200, "ok")
    assert asked(health, "/livez/shutdown")[0] == 404
    assert asked(health, "/healthz/poststarthook/rbac/bootstrap-roles") == (200, "ok")
    assert health.answer(ApiRequest(method="GET", path="/other"), "/other") is None


def test_what_is_wrong_fails_and_says_so(health: Health, storage: Storage) -> None:
    storage.wrong = "the disk is full"
    code, text = asked(health, "/livez")
    assert code == 500
    assert "[-]etcd failed: reason withheld\n" in text
    assert text.endswith("livez check failed\n")
    assert asked(health, "/livez/etcd") == (500, "internal server error: the disk is full\n")


def test_checks_can_be_left_out_by_name(health: Health, storage: Storage) -> None:
    storage.wrong = "gone"
    assert asked(health, "/livez?exclude=etcd") == (200, "ok")
    code, text = asked(health, "/livez?exclude=etcd&exclude=nope&verbose")
    assert code == 200
    assert "[+]etcd excluded: ok\n" in text
    assert 'warn: some health checks cannot be excluded: no matches for "nope"\n' in text


async def test_pages_tell_of_the_server(health: Health, clock: FakeClock) -> None:
    await clock.advance(3_723)
    text = asked(health, "/statusz")[1]
    assert "Up: 1 hr 02 min 03 sec\nBinary version: 1.36\n" in text
    assert asked(health, "/flagz")[1].endswith("\nsecure-port 6443\n")
