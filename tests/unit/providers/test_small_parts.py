"""Addresses, mount paths, log entries and the registry: the small parts of providers."""

from __future__ import annotations

import ipaddress
import itertools
import os
import pathlib

import pytest

from anynode.provider import LogOptions, ProviderError, ProviderSettings
from anynode.providers import registry
from anynode.providers.addresses import POOL, AddressPool, Claims, ranges_of
from anynode.providers.container_logs import Entries, tail_offset
from anynode.providers.mount_paths import PathRewriter
from anynode.providers.sim import SimProvider


def test_a_node_comes_back_to_its_ranges() -> None:
    first = list(itertools.islice(ranges_of("cluster", "node"), 5))
    assert first == list(itertools.islice(ranges_of("cluster", "node"), 5))
    assert all(each.subnet_of(POOL) for each in first)
    assert first != list(itertools.islice(ranges_of("cluster", "other"), 5))


def test_ranges_of_another_node_are_left_alone() -> None:
    one, two = Claims(), Claims()
    try:
        mine = next(ranges_of("test-cluster", str(os.getpid())))
        assert one(mine)
        assert not two(mine)
        one.release()
        assert two(mine)
    finally:
        one.release()
        two.release()


def test_addresses_come_back_last() -> None:
    pool = AddressPool(iter([ipaddress.IPv4Network("127.128.0.0/29")]))
    pool.keep("127.128.0.2")
    given = [pool.take() for _ in range(5)]
    assert given == [f"127.128.0.{number}" for number in (1, 3, 4, 5, 6)]
    with pytest.raises(LookupError):
        pool.take()
    pool.free("127.128.0.3")
    assert pool.take() == "127.128.0.3"


def test_a_full_range_is_followed_by_one_that_may_be_had() -> None:
    networks = [ipaddress.IPv4Network(f"127.128.{number}.0/30") for number in range(3)]
    pool = AddressPool(iter(networks), lambda network: network is not networks[1])
    assert [pool.take() for _ in range(4)] == ["127.128.0.1", "127.128.0.2", "127.128.2.1", "127.128.2.2"]


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("/etc/app", "/R/etc/app"),
        ("cat /etc/app/x > /data/y", "cat /R/etc/app/x > /R/data/y"),
        ("--config=/etc/app/x", "--config=/R/etc/app/x"),
        ("PATH=/bin:/data", "PATH=/bin:/R/data"),
        ("/etc/application", "/etc/application"),
        ("/other/etc/app", "/other/etc/app"),
        ("/data-old /data.old /data_old", "/data-old /data.old /data_old"),
        ("/etc/app/deep", "/R/etc/app/deep"),
        ("no path", "no path"),
        ('"/data"', '"/R/data"'),
    ],
)
def test_mount_paths_are_rewritten_as_whole_paths(text: str, rewritten: str) -> None:
    assert PathRewriter("/R", ["/etc/app/", "/data", "/etc/app/deep"]).text(text) == rewritten


def test_without_mounts_nothing_is_rewritten() -> None:
    assert PathRewriter("/R", []).environment({"A": "/etc"}) == {"A": "/etc"}


LOG = (
    b"2026-01-01T00:00:00.000000001Z stdout F one\n"
    b"2026-01-01T00:00:01.000000001Z stderr P tw\n"
    b"2026-01-01T00:00:01.000000002Z stderr F o\n"
    b"2026-01-01T00:00:02.000000001Z stdout F three\n"
)


@pytest.mark.parametrize(
    ("options", "since", "out"),
    [
        (LogOptions(), None, b"one\ntwo\nthree\n"),
        (LogOptions(stream="Stderr"), None, b"two\n"),
        (LogOptions(), "2026-01-01T00:00:01.500000000Z", b"three\n"),
        (
            LogOptions(timestamps=True, stream="Stderr"),
            None,
            b"2026-01-01T00:00:01.000000001Z two\n",
        ),
    ],
)
def test_entries(options: LogOptions, since: str | None, out: bytes) -> None:
    entries = Entries(options, since)
    assert b"".join(entries.feed(LOG[start : start + 7]) for start in range(0, len(LOG), 7)) == out


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_tail_counts_lines(tmp_path: pathlib.Path, ending: bytes) -> None:
    lines = [b"%d" % number * 500 for number in range(400)]
    content = b"\n".join(lines) + ending
    file = tmp_path / "log"
    file.write_bytes(content)
    fd = os.open(file, os.O_RDONLY)
    try:
        for count in (0, 1, 2, 150, 399, 400, 1000):
            tail = content[tail_offset(fd, count) :]
            expected = b"\n".join(lines[max(0, len(lines) - count) :]) + ending if count else b""
            assert tail == expected
    finally:
        os.close(fd)


def test_the_registry_loads_by_name(tmp_path: pathlib.Path) -> None:
    settings = ProviderSettings(node="n", cluster_id="c", data_dir=tmp_path)
    assert {"process", "sim"} <= set(registry.names())
    provider = registry.load("sim", settings)
    assert isinstance(provider, SimProvider)
    assert registry.capabilities(provider) == ["logs", "exec", "stats"]
    with pytest.raises(ProviderError, match=r'no provider "cloud"; installed are: .*process'):
        registry.load("cloud", settings)
