"""Pools that services draw from: cluster IPs of one range, node ports of another. In memory, rebuilt at start.

Between reserving and storing nothing waits but the write itself, and every write goes through one process; so a set
is enough. Source: kubernetes ``pkg/registry/core/service/{ipallocator,portallocator}``, 1.36.
"""

from __future__ import annotations

import ipaddress
import random

DYNAMIC_SHARE_MOST = 256
"""Addresses at the lower end that are given only to who names them, at most."""


class PoolFull(Exception):
    """Nothing left to give."""


class AddressPool:
    """IPv4 addresses of ``network`` but its first and last."""

    def __init__(self, network: str, random: random.Random) -> None:
        self.network = ipaddress.IPv4Network(network)
        self._random = random
        self._first = int(self.network.network_address) + 1
        self._count = max(1, self.network.num_addresses - 2)
        self._reserved = min(max(16, self._count // 16), DYNAMIC_SHARE_MOST) if self._count > 32 else 0
        self._used: set[int] = set()

    def contains(self, address: str) -> bool:
        try:
            number = int(ipaddress.IPv4Address(address))
        except ValueError:
            return False
        return self._first <= number < self._first + self._count

    def take(self, address: str) -> bool:
        """Whether ``address`` was free; it is taken now."""
        number = int(ipaddress.IPv4Address(address))
        if number in self._used:
            return False
        self._used.add(number)
        return True

    def next(self) -> str:
        """Any free address, taken; raises ``PoolFull``."""
        start = self._random.randrange(self._count - self._reserved)
        for low, size in ((self._reserved, self._count - self._reserved), (0, self._reserved)):
            for step in range(size):
                number = self._first + low + (start + step) % size
                if number not in self._used:
                    self._used.add(number)
                    return str(ipaddress.IPv4Address(number))
        raise PoolFull

    def release(self, address: str) -> None:
        if self.contains(address):
            self._used.discard(int(ipaddress.IPv4Address(address)))


class PortPool:
    """Ports from ``first`` to ``last``; a port may be shared by protocols, as one number."""

    def __init__(self, first: int, last: int, random: random.Random) -> None:
        self.first, self.last = first, last
        self._random = random
        self._used: set[int] = set()

    def contains(self, port: int) -> bool:
        return self.first <= port <= self.last

    def take(self, port: int) -> bool:
        if port in self._used:
            return False
        self._used.add(port)
        return True

    def next(self) -> int:
        """Any free port, taken; raises ``PoolFull``."""
        size = self.last - self.first + 1
        start = self._random.randrange(size)
        for step in range(size):
            port = self.first + (start + step) % size
            if port not in self._used:
                self._used.add(port)
                return port
        raise PoolFull

    def release(self, port: int) -> None:
        self._used.discard(port)
