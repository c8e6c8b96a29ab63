"""What /proc says of the processes of containers: their use, and who escaped from their group."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Mapping

from anynode.api.formats import Quantity
from anynode.providers.supervisor import birth_of

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def bytes_of(quantity: str) -> int:
    """A memory quantity in bytes."""
    return int(Quantity.parse(quantity).value())


def _pids() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                yield int(name)


def usage(leaders: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Container -> (CPU nanoseconds, resident bytes), summed over the sessions its main processes lead."""
    names = {pid: name for name, pid in leaders.items()}
    totals = dict.fromkeys(leaders, (0, 0))
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        name = names.get(int(fields[3]))
        if name is None:
            continue
        ticks = sum(int(each) for each in fields[11:15])
        cpu, memory = totals[name]
        totals[name] = (cpu + ticks * 1_000_000_000 // CLOCK_TICKS, memory + int(fields[21]) * PAGE_BYTES)
    return totals


def kill_marked(name: str, values: Iterable[str]) -> None:
    """Kill every process of ours that carries this environment variable: those that left their group."""
    marks = {f"{name}={value}".encode() for value in values}
    for pid in _pids() if marks else ():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                marked = not marks.isdisjoint(file.read().split(b"\0"))
        except OSError:
            continue
        if marked:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def kill_group(pid: int, birth: str) -> None:
    """Kill the group ``pid`` leads, if that is still the process that was born then."""
    if pid and birth and birth_of(pid) == birth:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
