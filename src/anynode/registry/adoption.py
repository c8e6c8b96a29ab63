"""The records of another cluster made this one's own: what a fork and a restored copy begin with.

Services keep their place in the range of cluster IPs, in this cluster's range; what names other processes (leases,
reservations) is left behind and made anew. All else stays byte for byte, revisions included.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator

import orjson

from anynode.api.objects import Object
from anynode.storage.types import Record

SERVICES = "/registry/services/"
LEFT_BEHIND = (
    "/registry/coordination.k8s.io/leases/",
    "/registry/masterleases/",
    "/registry/ranges/",
    "/registry/networking.k8s.io/ipaddresses/",
    "/registry/networking.k8s.io/servicecidrs/",
)


def adopted(records: Iterable[Record], *, source_network: str, network: str) -> Iterator[Record]:
    """``records`` for a cluster whose cluster IPs come from ``network`` instead of ``source_network`` (CIDRs)."""
    moving = _Moving(source_network, network)
    for record in records:
        if record.key.startswith(LEFT_BEHIND):
            continue
        if record.key.startswith(SERVICES):
            record = dataclasses.replace(record, value=moving.service(record.value))
        yield record


class _Moving:
    """Cluster IPs from one network to the same place in another."""

    def __init__(self, source: str, target: str) -> None:
        self._source = ipaddress.IPv4Network(source) if source else None
        self._target = ipaddress.IPv4Network(target)

    def service(self, value: bytes) -> bytes:
        if self._source is None or self._source == self._target:
            return value
        service: Object = orjson.loads(value)
        spec = service.get("spec") or {}
        moved = dict(spec)
        if "clusterIP" in spec:
            moved["clusterIP"] = self._address(spec["clusterIP"])
        if "clusterIPs" in spec:
            moved["clusterIPs"] = [self._address(each) for each in spec["clusterIPs"] or ()]
        return value if moved == spec else orjson.dumps({**service, "spec": moved})

    def _address(self, text: str) -> str:
        """The address in the new network; as it is when it was none of the old one or finds no room."""
        assert self._source is not None
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            return text
        if address not in self._source:
            return text
        place = int(address) - int(self._source.network_address)
        if place >= self._target.num_addresses - 1:
            return text
        return str(self._target.network_address + place)
