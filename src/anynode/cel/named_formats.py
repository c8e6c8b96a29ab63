"""``format.dns1123Label()`` and its like: strings judged by Kubernetes' named formats.

Source: apiserver ``pkg/cel/library/format.go``, ``pkg/cel/format.go``; kube-openapi ``pkg/validation/strfmt``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any

from anynode.api import names
from anynode.cel import urls
from anynode.cel.operators import no_overload
from anynode.cel.times import parse_date
from anynode.cel.values import NONE, Optional

_UUID = re.compile(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\Z")
_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:.[0-9]+)?(?:z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)
_DATE_TIME_SIZE = 71
_UUID_SIZE = 70

Judge = Callable[[str], Sequence[str]]


class NamedFormat:
    """A format: ``judge`` gives complaints, ``max_regex_size`` the length it is charged by."""

    __slots__ = ("judge", "max_regex_size", "name")
    type_name = "kubernetes.NamedFormat"

    def __init__(self, name: str, judge: Judge, max_regex_size: int) -> None:
        self.name = name
        self.judge = judge
        self.max_regex_size = max_regex_size

    def __repr__(self) -> str:
        return self.name


def _prefix(judge: Judge) -> Judge:
    """Names a suffix is added to may end in a dash."""
    return lambda text: judge(f"{text[:-2]}a" if len(text) > 1 and text.endswith("-") else text)


def _uri(text: str) -> Sequence[str]:
    try:
        urls.parse_request_uri(text)
    except urls.UrlError as error:
        return [str(error)]
    return []


def _byte(text: str) -> Sequence[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return []


def _date(text: str) -> Sequence[str]:
    try:
        parse_date(text)
    except ValueError:
        return ["invalid date"]
    return []


def _date_time(text: str) -> Sequence[str]:
    day, found, clock = text.lower().partition("t")
    match = _CLOCK.fullmatch(clock.split("t")[0])
    if not found or _date(day) or match is None or match[1] > "23" or match[2] > "59" or match[3] > "59":
        return ["invalid datetime"]
    return []


def _uuid(text: str) -> Sequence[str]:
    return [] if _UUID.match(text) else ["does not match the UUID format"]


FORMATS: dict[str, NamedFormat] = {
    "dns1123Label": NamedFormat("DNS1123Label", names.dns1123_label, 30),
    "dns1123Subdomain": NamedFormat("DNS1123Subdomain", names.dns1123_subdomain, 60),
    "dns1035Label": NamedFormat("DNS1035Label", names.dns1035_label, 30),
    "qualifiedName": NamedFormat("QualifiedName", names.label_key, 60),
    "dns1123LabelPrefix": NamedFormat("DNS1123LabelPrefix", _prefix(names.dns1123_label), 30),
    "dns1123SubdomainPrefix": NamedFormat("DNS1123SubdomainPrefix", _prefix(names.dns1123_subdomain), 60),
    "dns1035LabelPrefix": NamedFormat("DNS1035LabelPrefix", _prefix(names.dns1035_label), 30),
    "labelValue": NamedFormat("LabelValue", names.label_value, 40),
    "uri": NamedFormat("URI", _uri, 1103),
    "uuid": NamedFormat("uuid", _uuid, _UUID_SIZE),
    "byte": NamedFormat("byte", _byte, 84),
    "date": NamedFormat("date", _date, _DATE_TIME_SIZE),
    "datetime": NamedFormat("datetime", _date_time, _DATE_TIME_SIZE),
}


def _named(name: Any) -> Optional:
    if type(name) is not str:
        raise no_overload()
    found = FORMATS.get(name)
    return NONE if found is None else Optional(found)


def _validate(named: Any, text: Any) -> Optional:
    if type(named) is not NamedFormat or type(text) is not str:
        raise no_overload()
    complaints = named.judge(text)
    return Optional(list(complaints)) if complaints else NONE


def _constant(named: NamedFormat) -> Callable[[], NamedFormat]:
    return lambda: named


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "format.named": _named,
    "validate": _validate,
    **{f"format.{name}": _constant(named) for name, named in FORMATS.items()},
}
