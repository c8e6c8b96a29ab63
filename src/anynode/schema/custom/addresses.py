"""Addresses among the string formats: IP addresses, networks, hardware addresses and URIs as Go's ``net`` reads them.

Source: k8s.io/utils ``net/parse.go``, ``internal/third_party/forked/golang/net``, Go's ``net`` and ``net/url``.
"""

from __future__ import annotations

import ipaddress
import re

_HEX_PAIRS = re.compile("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2})*|[0-9a-fA-F]{2}(-[0-9a-fA-F]{2})*")
_BARE_HEX = re.compile("[0-9a-fA-F]+")
_HEX_QUADS = re.compile(r"[0-9a-fA-F]{4}(\.[0-9a-fA-F]{4})*")
_SCHEME = re.compile("[a-zA-Z][a-zA-Z0-9+.-]*")
_HOST = re.compile(r"""(?:[A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>"\u0080-\U0010ffff]|%25|%[89a-fA-F][0-9a-fA-F])*""")
_PORT = re.compile("(:[0-9]*)?")


def _is_sloppy_ipv4(text: str) -> bool:
    """Four numbers up to 255, zeros before them allowed as they were long ago."""
    parts = text.split(".")
    return len(parts) == 4 and all(
        part.isascii() and part.isdigit() and len(part.lstrip("0")) <= 3 and int(part) <= 255 for part in parts
    )


def is_ip(text: str, *, sloppy: bool = True) -> bool:
    if ":" in text:
        if "%" in text:
            return False
        head, _, tail = text.rpartition(":")
        if "." in tail and sloppy and _is_sloppy_ipv4(tail):
            text = f"{head}:0.0.0.0"
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            return False
        return True
    if sloppy:
        return _is_sloppy_ipv4(text)
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def is_ipv4(text: str) -> bool:
    """An address with a dot in it: ``::ffff:1.2.3.4`` is one too."""
    return "." in text and is_ip(text)


def is_ipv6(text: str) -> bool:
    return ":" in text and is_ip(text, sloppy=False)


def is_cidr(text: str) -> bool:
    address, slash, length = text.partition("/")
    if not slash or not is_ip(address) or not length.isascii() or not length.isdigit() or len(length) > 3:
        return False
    return int(length) <= (128 if ":" in address else 32)


def is_mac(text: str) -> bool:
    """Of 6, 8 or 20 bytes: in pairs, in fours, or all together."""
    if _HEX_PAIRS.fullmatch(text):
        return (len(text) + 1) // 3 in (6, 8, 20)
    if _BARE_HEX.fullmatch(text):
        return len(text) // 2 in (6, 8, 20) and len(text) % 2 == 0
    return bool(_HEX_QUADS.fullmatch(text)) and 2 * ((len(text) + 1) // 5) in (6, 8, 20)


def is_request_uri(text: str) -> bool:
    """An absolute URI or an absolute path, as a request line has them."""
    if not text or any(char < " " or char == "\x7f" for char in text):
        return False
    if text == "*":
        return True
    scheme, colon, rest = _split_scheme(text)
    if scheme is None:
        return False
    path = rest.partition("?")[0]
    if not path.startswith("/"):
        return bool(colon and scheme)
    if path.startswith("//") and (colon or not path.startswith("///")):
        authority, slash, path = path[2:].partition("/")
        path = f"{slash}{path}"
        if not _is_authority(authority):
            return False
    return "%" not in path or re.fullmatch("(?:[^%]|%[0-9a-fA-F]{2})*", path) is not None


def _split_scheme(text: str) -> tuple[str | None, str, str]:
    """``(scheme, ":" where there is one, rest)``; no scheme at all where the text has an empty one."""
    for index, char in enumerate(text):
        if char.isascii() and (char.isalpha() or (index and (char.isdigit() or char in "+-."))):
            continue
        if char == ":":
            return (None, "", text) if index == 0 else (text[:index], ":", text[index + 1 :])
        return "", "", text
    return "", "", text


def _is_authority(text: str) -> bool:
    user, at, host = text.rpartition("@")
    if at and not re.fullmatch(r"(?:[A-Za-z0-9\-._:~!$&'()*+,;=@]|%[0-9a-fA-F]{2})*", user):
        return False
    if host.startswith("["):
        inside, bracket, port = host.rpartition("]")
        return bool(bracket) and _PORT.fullmatch(port) is not None and _is_zoned(inside[1:])
    name, colon, port = host.rpartition(":")
    if colon and not (port == "" or (port.isascii() and port.isdigit())):
        return False
    return _HOST.fullmatch(name if colon else host) is not None


def _is_zoned(text: str) -> bool:
    return is_ip(text.partition("%25")[0], sloppy=False)
