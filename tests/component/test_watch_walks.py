"""Random walks over the watch cache on every engine: no event lost, doubled or out of order, whatever happens."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import shutil
from collections.abc import Iterator

import pytest

from anynode.aio.clock import SystemClock
from anynode.storage.etcd import EtcdSettings, EtcdStorage
from anynode.storage.memory import MemoryStorage
from anynode.storage.sqlite import SqliteStorage
from anynode.storage.types import Storage
from anynode.testing.etcd_server import MISSING, EtcdServer, etcd_program
from anynode.testing.watch_suite import watch_machine


def open_sqlite(directory: pathlib.Path) -> contextlib.AbstractAsyncContextManager[Storage]:
    return SqliteStorage(directory / "state.db", clock=SystemClock(), history_changes=10)


def as_after_a_crash(source: pathlib.Path, target: pathlib.Path) -> None:
    for suffix in ("", "-wal"):
        shutil.copyfile(source / f"state.db{suffix}", target / f"state.db{suffix}")


TestMemoryWatched = watch_machine(lambda _: MemoryStorage(), keeps=False, examples=60)
TestSqliteWatched = watch_machine(open_sqlite, crash=as_after_a_crash, examples=15)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path_factory.mktemp("etcd"), sync=False) as running:
        yield running


@pytest.mark.skipif(etcd_program() is None, reason=MISSING)
def test_etcd_watched(server: EtcdServer) -> None:
    def opened(directory: pathlib.Path) -> contextlib.AbstractAsyncContextManager[Storage]:
        prefix = f"/{hashlib.sha1(str(directory.parent).encode()).hexdigest()}"
        return EtcdStorage(EtcdSettings(servers=[server.url], prefix=prefix), clock=SystemClock(), history_changes=10)

    result = watch_machine(opened, examples=5)("runTest").run()
    assert result is not None
    assert not result.errors, result.errors[0][1]
    assert not result.failures, result.failures[0][1]
