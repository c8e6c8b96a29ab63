"""The engine on real etcd: the shared suite, and what only a server elsewhere can do."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import AsyncIterator, Iterator

import pytest

from anynode.aio.clock import SystemClock
from anynode.cluster import StoreSettings
from anynode.security.pki import CertificateAuthority
from anynode.storage import etcd_messages
from anynode.storage.etcd import BadAddress, EtcdSettings, EtcdStorage, address_of
from anynode.storage.types import Compacted, Revision, Storage, StorageUnavailable
from anynode.testing.etcd_server import MISSING, EtcdServer, etcd_program
from anynode.testing.storage_suite import Listener, Opener, StorageSuite, now, storage_machine

pytestmark = pytest.mark.skipif(etcd_program() is None, reason=MISSING)


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


@pytest.fixture
async def pair(server: EtcdServer, tmp_path: pathlib.Path) -> AsyncIterator[tuple[EtcdStorage, EtcdStorage]]:
    """Two servers' engines on one prefix."""
    settings = settings_in(server, tmp_path)
    async with EtcdStorage(settings, clock=SystemClock()) as one, EtcdStorage(settings, clock=SystemClock()) as other:
        yield one, other


async def until_connected(storage: EtcdStorage) -> None:
    async with asyncio.timeout(10):
        await storage._connected.wait()


def lose_connection(storage: EtcdStorage) -> None:
    assert storage._channel is not None
    storage._channel.close("cut by the test")
    storage._connected.clear()


class TestTwoServers:
    async def test_what_one_acknowledged_the_other_shows_after_catching_up(
        self, pair: tuple[EtcdStorage, EtcdStorage]
    ) -> None:
        one, other = pair
        for count in range(20):
            written = await one.put("/a", str(count).encode())
            await other.catch_up()
            found = await other.get("/a")
            assert found == written
        async with asyncio.TaskGroup() as tasks:
            for _ in range(50):
                tasks.create_task(other.catch_up())
        assert other.revision >= one.revision

    async def test_only_one_of_both_swaps(self, pair: tuple[EtcdStorage, EtcdStorage]) -> None:
        one, other = pair
        results = await asyncio.gather(
            one.put("/a", b"1", expected=Revision(0)), other.put("/a", b"2", expected=Revision(0)),
            return_exceptions=True,
        )  # fmt: skip
        assert sum(isinstance(result, Exception) for result in results) == 1

    async def test_what_passed_while_the_connection_was_lost_is_heard_once(
        self, pair: tuple[EtcdStorage, EtcdStorage]
    ) -> None:
        one, other = pair
        listener = Listener()
        await one.put("/gone", b"0")
        await other.catch_up()
        await other.watch("/", listener, after=now(other), ended=listener.ended)
        lose_connection(other)
        await one.put("/short", b"lived")
        await one.delete("/short")
        await one.put("/gone", b"1")
        await one.delete("/gone")
        await until_connected(other)
        await other.catch_up()
        assert [(key, value, deleted) for _, key, value, deleted in listener.heard] == [
            ("/short", b"lived", False), ("/short", b"lived", True), ("/gone", b"1", False), ("/gone", b"1", True),
        ]  # fmt: skip
        assert not (await other.list("")).records
        assert listener.ends == []

    async def test_a_gap_in_history_ends_watches_and_loads_anew(self, pair: tuple[EtcdStorage, EtcdStorage]) -> None:
        one, other = pair
        listener = Listener()
        await other.watch("/", listener, after=now(other), ended=listener.ended)
        lose_connection(other)
        await one.put("/a", b"1")
        await one.put("/a", b"2")
        await one.compact(now(one))
        async with asyncio.timeout(10):
            while not listener.ends:  # noqa: ASYNC110  the engine tells nobody else
                await asyncio.sleep(0.01)
        assert [type(error) for error in listener.ends] == [Compacted]
        await until_connected(other)
        await other.catch_up()
        found = await other.get("/a")
        assert found is not None
        assert found.value == b"2"
        assert other.oldest_revision == one.oldest_revision

    async def test_each_has_a_prefix_of_its_own(self, server: EtcdServer, tmp_path: pathlib.Path) -> None:
        settings = [EtcdSettings(servers=[server.url], prefix=f"/{tmp_path.name}-{each}") for each in "ab"]
        async with (
            EtcdStorage(settings[0], clock=SystemClock()) as one,
            EtcdStorage(settings[1], clock=SystemClock()) as other,
        ):
            heard: list[Revision] = []
            listener = Listener()
            await other.watch("/", listener, after=now(other), ended=listener.ended, progress=heard.append)
            record = await one.put("/registry/pods/x", b"1")
            await other.catch_up()
            assert not (await other.list("/registry/")).records
            assert listener.heard == []
            assert heard[-1] == record.mod_revision, "time passes all the same"
            assert [each.key for each in (await one.list("/registry/")).records] == ["/registry/pods/x"]

    async def test_protobuf_of_another_server_is_damage(self, server: EtcdServer, tmp_path: pathlib.Path) -> None:
        settings = EtcdSettings(servers=[server.url], prefix=f"/{tmp_path.name}")
        async with (
            EtcdStorage(settings, clock=SystemClock()) as one,
            EtcdStorage(settings, clock=SystemClock()) as other,
        ):
            await one.put("/registry/a", b"k8s\x00\n\x0c")
            await other.catch_up()
            for found in (await other.get("/registry/a"), (await other.list("")).records[0]):
                assert found is not None
                assert "only JSON is read" in found.damage
            async with EtcdStorage(settings, clock=SystemClock()) as third:
                assert (await third.list("")).records[0].damage


class TestOutages:
    async def test_nobody_answers(self) -> None:
        with pytest.raises(StorageUnavailable, match=r"etcd http://127\.0\.0\.1:9: .*(refused|failed)"):
            async with EtcdStorage(
                EtcdSettings(servers=["http://127.0.0.1:9"], start_seconds=0.2), clock=SystemClock()
            ):
                pass

    async def test_etcd_is_killed_and_comes_back(self, tmp_path: pathlib.Path) -> None:
        with EtcdServer(tmp_path / "etcd") as server:
            async with EtcdStorage(
                EtcdSettings(servers=[server.url], root="", prefix="/p"), clock=SystemClock()
            ) as one:
                listener = Listener()
                await one.watch("/", listener, after=now(one), ended=listener.ended)
                await one.put("/a", b"1")
                server.kill()
                with pytest.raises(StorageUnavailable, match="etcd http"):
                    await one.put("/a", b"2")
                found = await one.get("/a")
                assert found is not None
                assert found.value == b"1", "what was heard stays readable"
                assert one.trouble.startswith(f"etcd {server.url}: ")
                server.start()
                while True:
                    with contextlib.suppress(StorageUnavailable):  # until the loss is noticed
                        await one.put("/a", b"3")
                        break
                assert one.trouble == ""
                assert [value for _, _, value, _ in listener.heard] == [b"1", b"3"]
                assert listener.ends == []

    async def test_tls_both_ways(self, tmp_path: pathlib.Path) -> None:
        authority = CertificateAuthority.load_or_create(tmp_path / "pki", SystemClock())
        pair = authority.server_certificate(["127.0.0.1"])
        (tmp_path / "server.crt").write_bytes(pair.certificate)
        (tmp_path / "server.key").write_bytes(pair.key)
        files = {
            "cert-file": tmp_path / "server.crt",
            "key-file": tmp_path / "server.key",
            "trusted-ca-file": tmp_path / "pki" / "ca.crt",
        }
        own = authority.client_certificate("anynode")
        (tmp_path / "own.crt").write_bytes(own.certificate)
        (tmp_path / "own.key").write_bytes(own.key)
        with EtcdServer(tmp_path / "etcd", sync=False, tls=files) as server:
            store = StoreSettings(
                etcd_servers=[server.url],
                etcd_ca_file=str(tmp_path / "pki" / "ca.crt"),
                etcd_cert_file=str(tmp_path / "own.crt"),
                etcd_key_file=str(tmp_path / "own.key"),
            )
            async with EtcdStorage(store.etcd(), clock=SystemClock()) as storage:
                await storage.put("/registry/a", b"1" * 200_000)
                assert len((await storage.list("/registry/")).records) == 1
            nobody = dataclasses.replace(store, etcd_cert_file="", etcd_key_file="").etcd()
            with pytest.raises(StorageUnavailable, match="etcd https://"):
                async with EtcdStorage(dataclasses.replace(nobody, start_seconds=0.3), clock=SystemClock()):
                    pass

    async def test_a_second_server_is_tried(self, server: EtcdServer, tmp_path: pathlib.Path) -> None:
        settings = EtcdSettings(servers=["http://127.0.0.1:9", server.url], prefix=f"/{tmp_path.name}", root="")
        async with EtcdStorage(settings, clock=SystemClock()) as storage:
            await storage.put("/a", b"1")


@pytest.mark.parametrize("address", ["ftp://x", "http://", "http:///x", "http://x:y", "http://x:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BadAddress, match="http://127"):
        address_of(address)
    assert address_of("127.0.0.1:2379") == ("127.0.0.1", 2379)


def test_what_is_no_message_is_refused() -> None:
    for content in (b"\x0a", b"\x0a\x05ab", b"\x0b", b"\xff" * 12):
        with pytest.raises(ValueError):
            etcd_messages.range_answer(content)
    assert etcd_messages.prefix_range_end(b"/a\xff\xff") == b"/b"
    assert etcd_messages.prefix_range_end(b"\xff") == etcd_messages.ALL
