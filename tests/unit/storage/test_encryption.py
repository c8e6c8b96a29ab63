"""Values at rest: upstream's forms, keys that change, and everything that may be wrong."""

from __future__ import annotations

import base64
import contextlib
import pathlib

import pytest

from anynode.registry.rewind import restore
from anynode.storage import secretbox, snapshot
from anynode.storage.encrypted import EncryptedStorage, resource_of
from anynode.storage.encryption import EncryptionConfigError, Unreadable, load, read_config
from anynode.storage.memory import MemoryStorage
from anynode.storage.types import Compacted, Revision, Storage, StorageDamaged, StorageUnavailable
from anynode.testing.storage_suite import Listener, Opener, StorageSuite, now

K16, K32 = base64.b64encode(bytes(range(16))).decode(), base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()
KEY = "/registry/secrets/default/s"


def config(providers: str, resources: str = "[secrets]") -> str:
    return (
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"
        f"resources: [{{resources: {resources}, providers: [{providers}]}}]\n"
    )


def keys(kind: str, *named: tuple[str, str]) -> str:
    listed = ", ".join(f'{{name: "{name}", secret: {key}}}' for name, key in named)
    return f"{{{kind}: {{keys: [{listed}]}}}}"


class TestEncryptedStorage(StorageSuite):
    """The suite's keys are no resources', so these are encrypted by a ring for everything."""

    keeps = False

    @pytest.fixture
    def opener(self) -> Opener:
        @contextlib.asynccontextmanager
        async def opened(_: pathlib.Path):  # type: ignore[no-untyped-def]
            async with MemoryStorage() as inner:
                storage = EncryptedStorage(inner, load(config(keys("aesgcm", ("k", K32)), "['*.*']")))
                storage._rings = Everything(load(config(keys("aesgcm", ("k", K32)))).ring("", "secrets"))
                yield storage

        return opened


class Everything(dict):  # type: ignore[type-arg]
    def __init__(self, ring: object) -> None:
        self.ring = ring

    def get(self, _: object, default: object = None) -> object:
        return self.ring


@pytest.mark.parametrize(
    ("kind", "key", "prefix"),
    [
        ("aesgcm", K16, b"k8s:enc:aesgcm:v1:key1:"),
        ("aescbc", K32, b"k8s:enc:aescbc:v1:key1:"),
        ("secretbox", K32, b"k8s:enc:secretbox:v1:key1:"),
    ],
)
async def test_what_lies_in_the_store_is_upstreams_form(kind: str, key: str, prefix: bytes) -> None:
    async with MemoryStorage() as inner:
        storage = EncryptedStorage(inner, load(config(keys(kind, ("key1", key)))))
        listener = Listener()
        await storage.watch("/registry/", listener, after=now(storage), ended=listener.ended)
        for size in (0, 1, 15, 16, 17, 5_000):
            value = b"v" * size
            written = await storage.put(KEY, value)
            raw = await inner.get(KEY)
            found = await storage.get(KEY)
            assert raw is not None
            assert found is not None
            assert raw.value.startswith(prefix)
            assert value not in raw.value or size < 2
            assert written.value == found.value == listener.changes[-1].record.value == value
        await storage.put("/registry/pods/default/p", b"plain")
        plain = await inner.get("/registry/pods/default/p")
        assert plain is not None
        assert plain.value == b"plain"


def test_secretbox_gives_what_nacl_gives() -> None:
    box = secretbox.seal(b"the quick brown fox" * 20, bytes(range(24)), bytes(range(32)))
    assert box.hex().startswith(
        "eb3eb19655e50cd9127626667d8bd7d82a975d6fb6bfcb73d01ced4c07f824b734ca3eabe4401f9e62cb04"
    )


async def test_a_key_is_changed_by_putting_the_new_one_first() -> None:
    async with MemoryStorage() as inner:
        await inner.put(KEY, b"written before")
        old = EncryptedStorage(inner, load(config(f"{keys('aescbc', ('old', K32))}, {{identity: {{}}}}")))
        found = await old.get(KEY)
        assert found is not None
        assert found.value == b"written before"
        assert old.is_stale(KEY)
        await old.put(KEY, b"by the old key")
        assert not old.is_stale(KEY)
        both = keys("aescbc", ("new", OTHER), ("old", K32))
        new = EncryptedStorage(inner, load(config(both)))
        assert [record.value for record in (await new.list("/registry/")).records] == [b"by the old key"]
        assert new.is_stale(KEY)
        await new.put(KEY, b"by the new key")
        raw = await inner.get(KEY)
        assert raw is not None
        assert raw.value.startswith(b"k8s:enc:aescbc:v1:new:")
        back = EncryptedStorage(inner, load(config(f"{{identity: {{}}}}, {both}")))
        found = await back.get(KEY)
        assert found is not None
        assert found.value == b"by the new key"
        assert back.is_stale(KEY)


async def test_the_same_provider_may_be_named_twice() -> None:
    async with MemoryStorage() as inner:
        first = keys("aescbc", ("1", K32))
        await EncryptedStorage(inner, load(config(first))).put(KEY, b"value")
        both = EncryptedStorage(inner, load(config(f"{keys('aescbc', ('2', OTHER))}, {first}")))
        found = await both.get(KEY)
        assert found is not None
        assert found.value == b"value"


async def test_what_nobody_can_read_is_damage_and_no_error() -> None:
    async with MemoryStorage() as inner:
        gcm = EncryptedStorage(inner, load(config(keys("aesgcm", ("k", K32)))))
        await gcm.put(KEY, b"value")
        raw = await inner.get(KEY)
        assert raw is not None
        await inner.put("/registry/secrets/default/moved", raw.value)
        await inner.put("/registry/secrets/default/short", b"k8s:enc:aesgcm:v1:k:abc")
        await inner.put("/registry/secrets/default/foreign", b"k8s:enc:aesgcm:v1:other:" + raw.value)
        await inner.put("/registry/secrets/default/plain", b"plain")
        page = await gcm.list("/registry/secrets/")
        assert {record.key.rpartition("/")[2]: record.damage for record in page.records} == {
            "s": "",
            "moved": "cipher: message authentication failed",
            "short": "the stored data was shorter than the required size",
            "foreign": "no matching key was found for the provided AES transformer",
            "plain": "no matching prefix found",
        }
        assert all(record.value == b"" for record in page.records if record.damage)
        unnamed = EncryptedStorage(inner, load(config("{identity: {}}", "[configmaps]")))
        found = await unnamed.get(KEY)
        assert found is not None
        assert found.damage == "no matching prefix found"
        gone = await gcm.delete("/registry/secrets/default/moved")
        assert gone is not None, "what cannot be read can be removed"


async def test_no_backup_is_made_of_what_cannot_be_read() -> None:
    async with MemoryStorage() as inner:
        await inner.put(KEY, b"k8s:enc:aesgcm:v1:lost:value")
        storage = EncryptedStorage(inner, load(config(keys("aesgcm", ("k", K32)))))
        with pytest.raises(StorageDamaged, match=f"{KEY} cannot be read: no matching key"):
            async for _ in snapshot.chunks(storage):
                pass
        with pytest.raises(StorageUnavailable, match="cannot be read"):
            await restore(storage, {})
        assert await inner.get(KEY) is not None


async def test_a_changed_box_or_padding_is_noticed() -> None:
    for kind, why in (("secretbox", "output array was not large enough"), ("aescbc", "invalid padding")):
        ring = load(config(keys(kind, ("k", K32)))).ring("", "secrets")
        sealed = ring.encrypt(b"value", b"")
        with pytest.raises(Unreadable, match=why):
            ring.decrypt(sealed[:-1] + bytes((sealed[-1] ^ 1,)), b"")
        with pytest.raises(Unreadable, match="shorter"):
            ring.decrypt(ring.current + b"x", b"")
    with pytest.raises(Unreadable, match="multiple of the block size"):
        load(config(keys("aescbc", ("k", K32)))).ring("", "secrets").decrypt(b"k8s:enc:aescbc:v1:k:" + b"x" * 17, b"")


def test_rules_choose_by_name_then_group_then_all() -> None:
    text = (
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
        f"- {{resources: [deployments.apps], providers: [{keys('aesgcm', ('a', K32))}]}}\n"
        f"- {{resources: ['*.apps'], providers: [{keys('aesgcm', ('b', K32))}]}}\n"
        f"- {{resources: ['*.'], providers: [{keys('aesgcm', ('c', K32))}]}}\n"
        f"- {{resources: ['*.*'], providers: [{keys('aesgcm', ('d', K32))}]}}\n"
    )
    chosen = load(text)
    names = [("apps", "deployments"), ("apps", "replicasets"), ("", "secrets"), ("example.com", "things")]
    assert [chosen.ring(*name).current[-2:] for name in names] == [b"a:", b"b:", b"c:", b"d:"]


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("/registry/secrets/default/s", ("", "secrets")),
        ("/registry/namespaces/default", ("", "namespaces")),
        ("/registry/apps/deployments/default/d", ("apps", "deployments")),
        ("/registry/storage.k8s.io/storageclasses/fast", ("storage.k8s.io", "storageclasses")),
        ("/other/x", None),
    ],
)
def test_keys_tell_their_resource(key: str, found: tuple[str, str] | None) -> None:
    assert resource_of(key) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("a: [", "no YAML"),
        ("kind: Pod", "must be a EncryptionConfiguration"),
        (config("{identity: {}}", "[]"), r"resources\[0\].resources: Required value"),
        (config("", "[secrets]"), r"resources\[0\].providers: Required value"),
        (config("{identity: {}}", "[Secrets]"), "capital letters"),
        (config("{identity: {}}", "['*']"), "use '\\*.' to encrypt"),
        (config("{identity: {}}", "[secrets, secrets]"), "cannot be specified multiple times"),
        (config("{identity: {}}", "[secrets, '*.']"), "overlapping"),
        (config("{identity: {}}", "[events.events.k8s.io]"), "events"),
        (config("{identity: {}}", "[jobs.*]"), "across groups"),
        (config("{}"), "does not contain any of the expected providers"),
        (config("{kms: {name: a}}"), "kms providers are not supported"),
        (config("{identity: {}, aesgcm: {keys: []}}"), "more than one provider"),
        (config(keys("aesgcm", ("k", "AAAA"))), r"got 3, expected one of \[16 24 32\]"),
        (config(keys("secretbox", ("k", K16))), r"got 16, expected one of \[32\]"),
        (config(keys("aesgcm", ("k", "'*'"))), "base64"),
        (config("{aesgcm: {keys: [{name: '', secret: AAAA}]}}"), "name is a mandatory field"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_sentence(text: str, why: str) -> None:
    with pytest.raises(EncryptionConfigError, match=why) as refused:
        load(text)
    assert K16 not in str(refused.value)


def test_masked_rules_are_refused() -> None:
    rule = f"providers: [{keys('aesgcm', ('a', K32))}]"
    head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
    with pytest.raises(EncryptionConfigError, match=r'"secrets" is masked by earlier rule "\*\.\*"'):
        load(f"{head}- {{resources: ['*.*'], {rule}}}\n- {{resources: [secrets], {rule}}}\n")


def test_a_file_others_can_read_is_warned_of(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "enc.yaml"
    path.write_text(config("{identity: {}}"))
    path.chmod(0o644)
    read_config(path)
    assert "chmod 600" in caplog.text
    caplog.clear()
    path.chmod(0o600)
    read_config(path)
    assert not caplog.text


def type_check(storage: EncryptedStorage) -> tuple[Storage, type[Compacted], Revision]:
    """An encrypted store is a store."""
    return storage, Compacted, storage.revision
