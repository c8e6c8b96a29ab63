"""IP addresses and ranges as upstream's older fields take them.

Source: apimachinery ``pkg/util/validation/ip.go``, 1.36.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import TypeAlias

from anynode.api.objects import Object
from anynode.api.remembering import remembered
from anynode.schema.fields import FieldError, FieldPath, invalid

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NO_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_NO_RANGE = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def _without_zeros(text: str) -> str:
    """Older fields take octets with leading zeros and mean decimals."""
    if ":" in text or text.count(".") != 3:
        return text
    return ".".join(part.lstrip("0") or "0" if part.isdigit() else part for part in text.split("."))


@remembered(4096)
def parse_address(text: str) -> Address | None:
    if "%" in text or not text.isascii():
        return None
    try:
        return ipaddress.ip_address(_without_zeros(text))
    except ValueError:
        return None


@remembered(4096)
def parse_range(text: str) -> Network | None:
    address, slash, length = text.partition("/")
    if not slash or not length.isdigit() or parse_address(address) is None:
        return None
    try:
        return ipaddress.ip_network(f"{_without_zeros(address)}/{length}", strict=False)
    except ValueError:
        return None


def validate_address(text: str, path: FieldPath, known: Collection[str] = ()) -> list[FieldError]:
    """Complaints about an address of an older field; ``known`` were there before and stay good."""
    if text in known or parse_address(text) is not None:
        return []
    return [invalid(path, text, _NO_ADDRESS)]


def validate_range(text: str, path: FieldPath, known: Collection[str] = ()) -> list[FieldError]:
    if text in known or parse_range(text) is not None:
        return []
    return [invalid(path, text, _NO_RANGE)]


def validate_canonical_address(text: str, path: FieldPath) -> list[FieldError]:
    """Complaints about an address of a newer field, which must be written the one right way."""
    found = parse_address(text)
    if found is None:
        return [invalid(path, text, _NO_ADDRESS)]
    if found.version == 4 and _without_zeros(text) != text:
        return [invalid(path, text, "must not have leading 0s")]
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return [invalid(path, text, "must not be an IPv4-mapped IPv6 address")]
    if str(found) != text:
        return [invalid(path, text, f'must be in canonical form ("{found}")')]
    return []


def validate_interface_address(text: str, path: FieldPath) -> list[FieldError]:
    """Complaints about an address with the length of its network's prefix, as a network interface has one."""
    found = parse_range(text)
    if found is None:
        text_of_error = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
        return [invalid(path, text, text_of_error)]
    address = parse_address(text.partition("/")[0])
    canonical = f"{address}/{found.prefixlen}"
    return [] if text == canonical else [invalid(path, text, f'must be in canonical form ("{canonical}")')]


def address_warnings(text: str, path: FieldPath) -> list[str]:
    found = parse_address(text)
    if found is None:
        return []
    if found.version == 4 and _without_zeros(text) != text:
        return [f'{path}: non-standard IP address "{text}" is invalid: use "{found}"']
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return [f'{path}: non-standard IP address "{text}" is invalid: use "{found.ipv4_mapped}"']
        if str(found) != text:
            return [f'{path}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{found}")']
    return []


def balancer_warnings(obj: Object) -> list[str]:
    """Warnings about the addresses a load balancer gave an object, by its status."""
    given = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    path = FieldPath("status.loadBalancer.ingress")
    return [
        text for at, each in enumerate(given) if each.get("ip") for text in address_warnings(each["ip"], path.index(at))
    ]


def is_ipv6(text: str) -> bool:
    return ":" in text


def dual_stack(addresses: Collection[str]) -> bool:
    """Whether both families are there."""
    return len({is_ipv6(each) for each in addresses}) == 2
