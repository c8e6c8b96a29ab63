"""String formats of schemas: which are known, and whether a text is of one.

``check(format)`` gives the test of a format, or None for one without. Source: kube-openapi ``pkg/validation/strfmt``,
apiextensions-apiserver ``pkg/apiserver/validation/formats.go``, 1.36.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence

from anynode.api import formats, patterns
from anynode.schema.custom import addresses

Check = Callable[[str], bool]
_HOSTNAME = (
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}]"
    r"(([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
)
_HEX = "[0-9a-f]"
_CREDIT_CARD = (
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|"
    r"3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$"
)
_COLOR = r"(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])"
_RGB = rf"^rgb\(\s*{_COLOR}\s*,\s*{_COLOR}\s*,\s*{_COLOR}\s*\)$"
_BASE64 = r"^(?:[A-Za-z0-9+\/]{4})*(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=|[A-Za-z0-9+\/]{4})$"
_SHORT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_CLOCK = r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"
_UNITS = (
    ("ns", "nano"), ("us", "\u00b5s", "micro"), ("ms", "milli"), ("s", "sec"), ("m", "min"), ("h", "hr", "hour"),
    ("d", "day"), ("w", "wk", "week"),
)  # fmt: skip


def _uuid(third: str, fourth: str) -> str:
    return rf"(?i)^{_HEX}{{8}}-?{_HEX}{{4}}-?{third}-?{fourth}-?{_HEX}{{12}}$"


def _matching(pattern: str) -> Check:
    return lambda text: patterns.searcher(pattern)(text)


def _hostname(text: str) -> bool:
    if not patterns.searcher(_HOSTNAME)(text) or len(text.encode()) > 255:
        return False
    return all(len(part.encode()) <= 63 for part in text.split("."))


def _email(text: str) -> bool:
    """As ``net/mail`` reads one address, with or without a name before it."""
    text = text.strip(" \t")
    if text.endswith(">"):
        name, bracket, text = text[:-1].rpartition("<")
        if not bracket or not _NAME(name.strip()):
            return False
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain:
        return False
    if not _QUOTED(local) and not _dotted(local):
        return False
    return _LITERAL(domain) is not None or _dotted(domain)


def _dotted(text: str) -> bool:
    return bool(_ATOM(text)) and not (text.startswith(".") or text.endswith(".") or ".." in text)


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)+"').fullmatch
_LITERAL = re.compile(r"\[[^\[\]\\]*\]").fullmatch
_NAME = re.compile(r"""(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~. \t\u0080-\U0010ffff-]|"(?:[^"\\]|\\.)*")*""").fullmatch
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\U0010ffff-]+").fullmatch


def _date(text: str) -> bool:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    try:
        datetime.date(max(int(text[:4]), 4) if text[:4] == "0000" else int(text[:4]), int(text[5:7]), int(text[8:]))
    except ValueError:
        return False
    return True


def _date_time(text: str) -> bool:
    parts = text.lower().split("t")
    if len(text.encode()) < 4 or len(parts) < 2 or not _date(parts[0]):
        return False
    match = patterns.compiled(_CLOCK).search(parts[1])
    return match is not None and match.group(1) <= "23" and match.group(2) <= "59" and match.group(3) <= "59"


def _duration(text: str) -> bool:
    try:
        formats.parse_duration(text)
    except ValueError:
        return _wordy_duration(text)
    return True


def _wordy_duration(text: str) -> bool:
    """``3 days``, ``2 wk``: a number and a word each, as Scala writes them."""
    found = False
    for match in patterns.compiled("((\\d+)\\s*([A-Za-z\u00b5]+))").finditer(text):
        if int(match.group(2)) >= 2**63:
            return False
        unit = match.group(3).lower().strip()
        found = found or any(unit in variants or unit.startswith(variants[-1]) for variants in _UNITS)
    return found


def _credit_card(text: str) -> bool:
    digits = re.sub("[^0-9]+", "", text)
    if not patterns.searcher(_CREDIT_CARD)(digits):
        return False
    doubled = [int(each) * (1 + at % 2) for at, each in enumerate(reversed(digits))]
    return sum(each - 9 if each > 9 else each for each in doubled) % 10 == 0


def _isbn10(text: str) -> bool:
    plain = re.sub(r"[\s-]+", "", text, flags=re.ASCII)
    if not re.fullmatch("[0-9]{9}X|[0-9]{10}", plain):
        return False
    return sum((at + 1) * (10 if each == "X" else int(each)) for at, each in enumerate(plain)) % 11 == 0


def _isbn13(text: str) -> bool:
    plain = re.sub(r"[\s-]+", "", text, flags=re.ASCII)
    if not re.fullmatch("[0-9]{13}", plain):
        return False
    total = sum(int(each) * (3 if at % 2 else 1) for at, each in enumerate(plain[:12]))
    return int(plain[12]) == (10 - total % 10) % 10


_CHECKS: Mapping[str, Check] = {
    "bsonobjectid": lambda text: re.fullmatch("[0-9a-fA-F]{24}", text) is not None,
    "uri": addresses.is_request_uri,
    "email": _email,
    "hostname": _hostname,
    "ipv4": addresses.is_ipv4,
    "ipv6": addresses.is_ipv6,
    "cidr": addresses.is_cidr,
    "mac": addresses.is_mac,
    "uuid": _matching(_uuid(f"{_HEX}{{4}}", f"{_HEX}{{4}}")),
    "uuid3": _matching(_uuid(f"3{_HEX}{{3}}", f"{_HEX}{{4}}")),
    "uuid4": _matching(_uuid(f"4{_HEX}{{3}}", f"[89ab]{_HEX}{{3}}")),
    "uuid5": _matching(_uuid(f"5{_HEX}{{3}}", f"[89ab]{_HEX}{{3}}")),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _credit_card,
    "ssn": lambda text: len(text.encode()) == 11 and patterns.searcher(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$")(text),
    "hexcolor": _matching("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    "rgbcolor": _matching(_RGB),
    "byte": _matching(_BASE64),
    "password": lambda _: True,
    "date": _date,
    "duration": _duration,
    "datetime": _date_time,
    "k8sshortname": lambda text: len(text.encode()) <= 63 and re.fullmatch(_SHORT, text) is not None,
    "k8slongname": lambda text: len(text.encode()) <= 253 and re.fullmatch(rf"{_SHORT}(\.{_SHORT})*", text) is not None,
}


def check(name: str) -> Check | None:
    """The test of a string format by the name a schema gives it."""
    return _CHECKS.get(name.replace("-", ""))


def recognized(name: str, of: Sequence[str]) -> bool:
    """Whether a format counts for values of the types ``of``."""
    kind = of[0] if len(of) == 1 else ""
    if kind in ("", "string"):
        return name.replace("-", "") in _CHECKS
    if kind == "integer":
        return name in ("int32", "int64")
    return kind == "number" and name in ("float", "double")
