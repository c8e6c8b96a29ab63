"""Loopback addresses for pods: every pod its own, out of small ranges of 127/8 that belong to its node.

A node takes /26 ranges (62 pods) of 127.128.0.0/9 as it needs them, in an order that follows from cluster id and node
name, so that it comes back to the same ones. Whether a range is free is asked of ``claim``: on one machine several
nodes, clusters and processes share 127/8 (``Claims`` keeps them apart). Service addresses live elsewhere in 127/8.
"""

from __future__ import annotations

import collections
import fcntl
import hashlib
import ipaddress
import os
from collections.abc import Callable, Iterator

from anynode.providers.run_directory import run_directory

POOL = ipaddress.IPv4Network("127.128.0.0/9")
RANGE_PREFIX = 26
MOST_TRIES = 10_000
Claim = Callable[[ipaddress.IPv4Network], bool]


def ranges_of(cluster_id: str, node: str) -> Iterator[ipaddress.IPv4Network]:
    """The ranges a node tries, one after the other; always the same for the same node."""
    count = 2 ** (RANGE_PREFIX - POOL.prefixlen)
    for serial in range(MOST_TRIES):
        digest = hashlib.sha256(f"{cluster_id}/{node}/{serial}".encode()).digest()
        index = int.from_bytes(digest[:8], "big") % count
        first = int(POOL.network_address) + index * 2 ** (32 - RANGE_PREFIX)
        yield ipaddress.IPv4Network((first, RANGE_PREFIX))


def free_for_all(_: ipaddress.IPv4Network) -> bool:
    """The claim of who needs none: addresses nobody listens on."""
    return True


class AddressPool:
    """Addresses out of ``ranges``; a freed one is given again only after all others of its range were."""

    def __init__(self, ranges: Iterator[ipaddress.IPv4Network], claim: Claim = free_for_all) -> None:
        self._ranges = ranges
        self._claim = claim
        self._free: collections.deque[str] = collections.deque()
        self._taken: set[str] = set()

    def take(self) -> str:
        """A free address; raises ``LookupError`` when there is none."""
        while True:
            while self._free:
                address = self._free.popleft()
                if address not in self._taken:
                    self._taken.add(address)
                    return address
            self._grow()

    def _grow(self) -> None:
        for network in self._ranges:
            if self._claim(network):
                self._free.extend(str(each) for each in network.hosts())
                return
        raise LookupError("every pod address of this node is taken")

    def keep(self, address: str) -> None:
        """Mark an address that a pod already has."""
        self._taken.add(address)

    def free(self, address: str) -> None:
        if address in self._taken:
            self._taken.discard(address)
            self._free.append(address)


class Claims:
    """Ranges this node has on this machine: each a locked file, let go when the process ends, however it ends."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def __call__(self, network: ipaddress.IPv4Network) -> bool:
        """Whether the range is ours from now on."""
        directory = run_directory() / "addresses"
        directory.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(directory / str(network.network_address), flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._held.append(fd)
        return True

    def release(self) -> None:
        while self._held:
            os.close(self._held.pop())
