"""The url, ip and cidr libraries.

Source: apiserver ``pkg/cel/library/{urls,ip,cidr}.go``, ``pkg/cel/{url,ip,cidr}.go``, 1.36; Go ``net/netip``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from anynode.api.go_text import go_quoted
from anynode.cel import urls
from anynode.cel.errors import CelEvaluationError
from anynode.cel.operators import no_overload

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Url:
    """A parsed URL; equal when written the same."""

    __slots__ = ("parts", "text")
    type_name = "kubernetes.URL"

    def __init__(self, text: str, parts: urls.Parts) -> None:
        self.text = text
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text


class Ip:
    __slots__ = ("address",)
    type_name = "net.IP"
    cel_text = True

    def __init__(self, address: Address) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ip) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __str__(self) -> str:
        return _text(self.address)

    @property
    def cel_size(self) -> int:
        return self.address.max_prefixlen // 8


class Cidr:
    """An address with a prefix length, its host bits kept."""

    __slots__ = ("address", "bits")
    type_name = "net.CIDR"
    cel_text = True

    def __init__(self, address: Address, bits: int) -> None:
        self.address = address
        self.bits = bits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cidr) and (other.address, other.bits) == (self.address, self.bits)

    def __hash__(self) -> int:
        return hash((self.address, self.bits))

    def __str__(self) -> str:
        return f"{_text(self.address)}/{self.bits}"

    @property
    def cel_size(self) -> int:
        return -(-self.bits // 8)

    def contains(self, other: Address, bits: int) -> bool:
        """Whether the first ``bits`` of both are the same network's."""
        if other.version != self.address.version:
            return False
        shift = self.address.max_prefixlen - min(self.bits, bits)
        return int(other) >> shift == int(self.address) >> shift


def _text(address: Address) -> str:
    if address.version == 6 and (address.ipv4_mapped is not None):
        return f"::ffff:{address.ipv4_mapped}"
    return str(address)


class _AddressError(ValueError):
    pass


def _parse_address(text: str) -> Address:
    """As ``netip.ParseAddr``; its sentence without the function's name is the error's text."""
    for letter in text:
        if letter == ".":
            return _parse_v4(text)
        if letter in ":%":
            break
    else:
        raise _AddressError("unable to parse IP")
    if letter == "%":
        raise _AddressError("missing IPv6 address")
    return _parse_v6(text)


def _parse_v4(text: str) -> ipaddress.IPv4Address:
    fields = 0
    value, digits = 0, 0
    for position, letter in enumerate(text):
        if letter in "0123456789":
            if digits == 1 and value == 0:
                raise _AddressError("IPv4 field has octet with leading zero")
            value = value * 10 + int(letter)
            digits += 1
            if value > 255:
                raise _AddressError("IPv4 field has value >255")
        elif letter == ".":
            if position == 0 or position == len(text) - 1 or text[position - 1] == ".":
                raise _AddressError(f"IPv4 field must have at least one digit|{text[position:]}")
            if fields == 3:
                raise _AddressError("IPv4 address too long")
            fields += 1
            value, digits = 0, 0
        else:
            raise _AddressError(f"unexpected character|{text[position:]}")
    if fields < 3:
        raise _AddressError("IPv4 address too short")
    return ipaddress.IPv4Address(text)


def _parse_v6(text: str) -> ipaddress.IPv6Address:
    plain, percent, zone = text.partition("%")
    if percent and not zone:
        raise _AddressError("zone must be a non-empty string")
    try:
        return ipaddress.IPv6Address(plain)
    except ValueError:
        raise _AddressError(_wrong_v6(plain)) from None


def _wrong_v6(text: str) -> str:
    rest = text
    if rest.startswith("::"):
        rest = rest[2:]
    groups = 0
    ellipsis = text.startswith("::")
    while groups < 8:
        found = re.match(r"[0-9a-fA-F]*", rest)
        digits = "" if found is None else found[0]
        if len(digits) > 4:
            return f"each group must have 4 or less digits|{rest}"
        if not digits:
            return f"each colon-separated field must have at least one digit|{rest}"
        rest = rest[len(digits) :]
        groups += 1
        if not rest:
            break
        if rest[0] != ":":
            return f"unexpected character, want colon|{rest}"
        if len(rest) == 1:
            return "colon must be followed by more characters|:"
        rest = rest[1:]
        if rest[0] == ":":
            if ellipsis:
                return f"multiple :: in address|{rest}"
            ellipsis = True
            rest = rest[1:]
            if not rest:
                break
    if rest:
        return f"trailing garbage after address|{rest}"
    return "address string too short"


def _go_message(function: str, text: str, error: _AddressError) -> str:
    message, bar, at = str(error).partition("|")
    where = f" (at {go_quoted(at)})" if bar else ""
    return f"{function}({go_quoted(text)}): {message}{where}"


def _ip(text: str) -> Ip:
    try:
        address = _parse_address(text)
    except _AddressError as error:
        shown = _go_message("ParseAddr", text, error)
        complaint = f"IP Address {go_quoted(text)} parse error during conversion from string: {shown}"
        raise CelEvaluationError(complaint) from None
    if "%" in text:
        raise CelEvaluationError(f"IP address {go_quoted(text)} with zone value is not allowed")
    _refuse_mapped(text, address)
    return Ip(address)


def _refuse_mapped(text: str, address: Address) -> None:
    if address.version == 6 and address.ipv4_mapped is not None:
        raise CelEvaluationError(f"IPv4-mapped IPv6 address {go_quoted(text)} is not allowed")


def _cidr(text: str) -> Cidr:
    prefix = "network address parse error during conversion from string: "
    try:
        address, bits = _parse_prefix(text)
        _refuse_mapped(text, address)
    except ValueError as error:
        inner = "" if isinstance(error, CelEvaluationError) else prefix
        raise CelEvaluationError(f"{prefix}{inner}{error}") from None
    return Cidr(address, bits)


def _parse_prefix(text: str) -> tuple[Address, int]:
    shown = f"netip.ParsePrefix({go_quoted(text)}): "
    host, slash, bits = text.rpartition("/")
    if not slash:
        raise ValueError(f"{shown}no '/'")
    try:
        address = _parse_address(host)
    except _AddressError as error:
        raise ValueError(shown + _go_message("ParseAddr", host, error)) from None
    if "%" in host:
        raise ValueError(f"{shown}IPv6 zones cannot be present in a prefix")
    if (len(bits) > 1 and bits[0] not in "123456789") or not re.fullmatch(r"[0-9]+", bits, re.ASCII):
        raise ValueError(f"{shown}bad bits after slash: {go_quoted(bits)}")
    if len(bits) > 4 or int(bits) > address.max_prefixlen:
        raise ValueError(f"{shown}prefix length out of range")
    return address, int(bits)


def _text_of(value: Any) -> str:
    if type(value) is not str:
        raise no_overload()
    return value


def _to_ip(value: Any) -> Ip:
    return Ip(value.address) if type(value) is Cidr else _ip(_text_of(value))


def _is(read: Callable[[str], Any]) -> Callable[[Any], bool]:
    def judge(value: Any) -> bool:
        try:
            read(_text_of(value))
        except (CelEvaluationError, urls.UrlError):
            if type(value) is not str:
                raise
            return False
        return True

    return judge


def _address(value: Any) -> Address:
    if type(value) is not Ip:
        raise no_overload()
    return value.address


def _prefix_of(value: Any) -> Cidr:
    if type(value) is not Cidr:
        raise no_overload()
    return value


def _contains_ip(cidr: Any, other: Any) -> bool:
    try:
        address = _address(_ip(other) if type(other) is str else other)
    except CelEvaluationError:
        raise CelEvaluationError("no such overload") from None  # upstream loses what is wrong with the text
    return _prefix_of(cidr).contains(address, address.max_prefixlen)


def _contains_cidr(cidr: Any, other: Any) -> bool:
    inner = _prefix_of(_cidr(other) if type(other) is str else other)
    outer = _prefix_of(cidr)
    return outer.bits <= inner.bits and outer.contains(inner.address, inner.bits)


def _masked(value: Any) -> Cidr:
    cidr = _prefix_of(value)
    shift = cidr.address.max_prefixlen - cidr.bits
    return Cidr(type(cidr.address)(int(cidr.address) >> shift << shift), cidr.bits)


def _link_local_multicast(value: Any) -> bool:
    address = _address(value)
    if address.version == 4:
        return int(address) >> 8 == 0xE00000
    return int(address) >> 112 & 0xFF0F == 0xFF02


def _global_unicast(value: Any) -> bool:
    address = _address(value)
    return not (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
        or (address.version == 4 and int(address) == 0xFFFFFFFF)
    )


def _url(value: Any) -> Url:
    text = _text_of(value)
    try:
        urls.parse_request_uri(text)
        return Url(text, urls.parse(text))
    except urls.UrlError as error:
        raise CelEvaluationError(f"URL parse error during conversion from string: {error}") from None


def _of_url(read: Callable[[urls.Parts], Any]) -> Callable[[Any], Any]:
    def ask(value: Any) -> Any:
        if type(value) is not Url:
            raise no_overload()
        return read(value.parts)

    return ask


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "url": _url,
    "isURL": _is(urls.parse_request_uri),
    "getScheme": _of_url(lambda parts: parts.scheme),
    "getHost": _of_url(lambda parts: parts.host),
    "getHostname": _of_url(lambda parts: urls.hostname(parts.host)),
    "getPort": _of_url(lambda parts: urls.port(parts.host)),
    "getEscapedPath": _of_url(urls.escaped_path),
    "getQuery": _of_url(lambda parts: urls.query_values(parts.query)),
    "ip": _to_ip,
    "isIP": _is(_ip),
    "ip.isCanonical": lambda value: str(_ip(_text_of(value))) == value,
    "family": lambda value: _address(value).version,
    "isUnspecified": lambda value: _address(value).is_unspecified,
    "isLoopback": lambda value: _address(value).is_loopback,
    "isLinkLocalMulticast": _link_local_multicast,
    "isLinkLocalUnicast": lambda value: _address(value).is_link_local,
    "isGlobalUnicast": _global_unicast,
    "cidr": lambda value: _cidr(_text_of(value)),
    "isCIDR": _is(_cidr),
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "prefixLength": lambda value: _prefix_of(value).bits,
    "masked": _masked,
}
