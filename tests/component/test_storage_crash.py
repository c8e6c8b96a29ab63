"""``kill -9`` in the midst of concurrent writes, again and again: nothing acknowledged is missing."""

from __future__ import annotations

import pathlib
import random
import subprocess
import sys

import pytest

from anynode.aio.clock import SystemClock
from anynode.storage.sqlite import SqliteStorage

WRITER = pathlib.Path(__file__).with_name("storage_writer.py")
ROUNDS = 20


def acknowledged_until_killed(path: pathlib.Path, first: int, lines: int) -> dict[str, int]:
    """key -> revision of what one writing process acknowledged before it was killed at about line ``lines``."""
    command = [sys.executable, str(WRITER), str(path), str(first), "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    words = [line.split() for line in said if line.endswith("\n")]
    return {key: int(revision) for key, revision in words}


@pytest.mark.slow
async def test_nothing_acknowledged_is_missing_after_kill(tmp_path: pathlib.Path) -> None:
    path, chance = tmp_path / "state.db", random.Random(20)
    acknowledged: dict[str, int] = {}
    for count in range(ROUNDS):
        said = acknowledged_until_killed(path, count, chance.randrange(1, 200))
        assert not acknowledged or min(said.values()) > max(acknowledged.values()), "no revision is used twice"
        acknowledged |= said
        if count % 5 == 4:
            async with SqliteStorage(path, clock=SystemClock()) as storage:
                found = {record.key: record for record in (await storage.list("/k/")).records}
            missing = acknowledged.keys() - found.keys()
            assert not missing
            assert {key: found[key].mod_revision for key in acknowledged} == acknowledged
            assert all(record.value == key.encode() * 50 for key, record in found.items())
    assert len(acknowledged) > ROUNDS
