"""The engine on real etcd: the shared suite, and what only a server elsewhere can do."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import shutil
from collections.abc import Iterator

import pytest

from anynode.aio.clock import SystemClock
from anynode.storage.etcd import EtcdSettings, EtcdStorage
from anynode.storage.types import Storage
from anynode.testing.etcd_server import EtcdServer
from anynode.testing.storage_suite import Opener, StorageSuite, storage_machine

pytestmark = pytest.mark.skipif(shutil.which("etcd") is None, reason="needs etcd")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path_factory.mktemp("etcd"), sync=False) as running:
        yield running


def settings_in(server: EtcdServer, directory: pathlib.Path) -> EtcdSettings:
    """A prefix of its own for each directory."""
    return EtcdSettings(servers=[server.url], prefix="/" + hashlib.sha1(str(directory).encode()).hexdigest(), root="")


class TestEtcdStorage(StorageSuite):
    @pytest.fixture
    def opener(self, server: EtcdServer) -> Opener:
        def opened(directory: pathlib.Path) -> contextlib.AbstractAsyncContextManager[Storage]:
            return EtcdStorage(settings_in(server, directory), clock=SystemClock())

        return opened


class TestEtcdStorageReadingFromTheServer(StorageSuite):
    @pytest.fixture
    def opener(self, server: EtcdServer) -> Opener:
        def opened(directory: pathlib.Path) -> contextlib.AbstractAsyncContextManager[Storage]:
            return EtcdStorage(settings_in(server, directory), clock=SystemClock(), history_changes=3)

        return opened


def test_random_walks(server: EtcdServer) -> None:
    def opened(directory: pathlib.Path) -> contextlib.AbstractAsyncContextManager[Storage]:
        return EtcdStorage(settings_in(server, directory), clock=SystemClock(), history_changes=5)

    case = storage_machine(opened, examples=8)
    result = case("runTest").run()
    assert result is not None
    assert not result.errors
    assert not result.failures, result.failures[0][1]
