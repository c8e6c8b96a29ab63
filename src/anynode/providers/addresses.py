"""Loopback addresses for pods: every pod of a node its own, out of a range of 127/8 that belongs to the node.

Pure. Ranges of nodes follow from cluster id and node name, so that nodes of one machine do not meet: /22 blocks (1,021
pods) of 127.128.0.0/9. Service addresses live elsewhere in 127/8.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

POOL = ipaddress.IPv4Network("127.128.0.0/9")
BLOCK_PREFIX = 22


def block_of(cluster_id: str, node: str) -> ipaddress.IPv4Network:
    """The range of a node that was given none."""
    blocks = 2 ** (BLOCK_PREFIX - POOL.prefixlen)
    digest = hashlib.sha256(f"{cluster_id}/{node}".encode()).digest()
    index = int.from_bytes(digest[:8], "big") % blocks
    first = int(POOL.network_address) + index * 2 ** (32 - BLOCK_PREFIX)
    return ipaddress.IPv4Network((first, BLOCK_PREFIX))


class AddressPool:
    """Addresses of one range; a freed address is given again only after all others were."""

    def __init__(self, network: ipaddress.IPv4Network, taken: Iterable[str] = ()) -> None:
        self._first = int(network.network_address) + 1
        self._size = network.num_addresses - 2
        self._taken = {int(ipaddress.IPv4Address(each)) for each in taken if each}
        self._next = 0

    def take(self) -> str:
        """A free address; raises ``LookupError`` when there is none."""
        for _ in range(self._size):
            candidate = self._first + self._next
            self._next = (self._next + 1) % self._size
            if candidate not in self._taken:
                self._taken.add(candidate)
                return str(ipaddress.IPv4Address(candidate))
        raise LookupError("every pod address of this node is taken")

    def keep(self, address: str) -> None:
        """Mark an address that a pod already has."""
        self._taken.add(int(ipaddress.IPv4Address(address)))

    def free(self, address: str) -> None:
        self._taken.discard(int(ipaddress.IPv4Address(address)))
