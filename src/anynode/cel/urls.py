"""URLs as Go's ``net/url`` reads them, with its error sentences.

Text comes in, a ``Url`` goes out or ``UrlError`` is raised. Source: Go ``net/url/url.go``; apiserver
``pkg/cel/library/urls.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import quote

from anynode.api.go_text import go_quoted

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_HOST_ALLOWED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~!$&'()*+,;=:[]<>\"")
_USER_ALLOWED = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_PATH_SAFE = "/-_.~$&+,:;=@"


class UrlError(ValueError):
    """A text that is no URL; its text is Go's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    scheme: str
    opaque: str
    host: str
    path: str
    raw_path: str
    query: str


def parse_request_uri(text: str) -> Parts:
    """An absolute URI or absolute path, without fragment; raises ``UrlError``."""
    return _located(text, text, via_request=True)


def parse(text: str) -> Parts:
    """Any URL, its fragment dropped; raises ``UrlError``."""
    return _located(text, text.partition("#")[0], via_request=False)


def _located(text: str, without_fragment: str, *, via_request: bool) -> Parts:
    try:
        return _parse(without_fragment, via_request=via_request)
    except UrlError as error:
        raise UrlError(f"parse {go_quoted(text)}: {error}") from None


def _parse(text: str, *, via_request: bool) -> Parts:
    if any(each < " " or each == "\x7f" for each in text):
        raise UrlError("net/url: invalid control character in URL")
    if not text and via_request:
        raise UrlError("empty url")
    if text == "*":
        return Parts("", "", "", "*", "", "")
    if text.startswith(":"):
        raise UrlError("missing protocol scheme")
    scheme, rest = "", text
    found = _SCHEME.fullmatch(text)
    if found is not None:
        scheme, rest = found[1].lower(), found[2]
    query = ""
    if "?" in rest:
        rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return Parts(scheme, rest, "", "", "", query)
        if via_request:
            raise UrlError("invalid URI for request")
        if ":" in rest.partition("/")[0]:
            raise UrlError("first path segment in URL cannot contain colon")
    host = ""
    if (scheme or (not via_request and not rest.startswith("///"))) and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        host = _authority(authority)
        rest = slash + path
    return Parts(scheme, "", host, _unescaped(rest), rest, query)


def _authority(text: str) -> str:
    user, at, host = text.rpartition("@")
    if at and not _USER_ALLOWED.fullmatch(user):
        raise UrlError("net/url: invalid userinfo")
    if host.startswith("["):
        end = host.rfind("]")
        if end < 0:
            raise UrlError("missing ']' in host")
        _check_port(host[end + 1 :])
        return host
    colon = host.rfind(":")
    if colon >= 0:
        _check_port(host[colon:])
    for letter in host.encode():
        if letter < 128 and letter not in _HOST_ALLOWED and letter != ord("%"):
            raise UrlError(f"invalid character {go_quoted(chr(letter))} in host name")
    for found in _ESCAPE.finditer(host.encode()):
        if found[1] is None or int(found[1][:1], 16) < 8:
            raise UrlError(f"invalid URL escape {go_quoted(_escape_at(host, found.start()))}")
    return host


def _check_port(text: str) -> None:
    if text and not re.fullmatch(r":[0-9]*", text, re.ASCII):
        raise UrlError(f"invalid port {go_quoted(text)} after host")


def _escape_at(text: str, at: int) -> str:
    return text.encode()[at : at + 3].decode("utf-8", "replace")


def _unescaped(text: str) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    if b"%" not in raw:
        return text
    for found in _ESCAPE.finditer(raw):
        if found[1] is None:
            raise UrlError(f"invalid URL escape {go_quoted(_escape_at(text, found.start()))}")
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw).decode("utf-8", "surrogateescape")


def escaped_path(parts: Parts) -> str:
    """The path as it is sent: as written where that is well escaped."""
    if re.fullmatch(r"[A-Za-z0-9\-_.~/$&+,:;=@!'()*%\[\]]*", parts.raw_path, re.ASCII):
        return parts.raw_path
    return quote(parts.path.encode("utf-8", "surrogateescape"), safe=_PATH_SAFE)


def query_values(query: str) -> dict[str, list[str]]:
    """The keys and values of a query; pairs with a semicolon or a wrong escape are left out."""
    found: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if not pair or ";" in pair:
            continue
        key, _, value = pair.partition("=")
        try:
            found.setdefault(_unescaped(key.replace("+", " ")), []).append(_unescaped(value.replace("+", " ")))
        except UrlError:
            continue
    return found


def hostname(host: str) -> str:
    """The host without port and brackets."""
    if host.startswith("["):
        return host[1 : host.rfind("]")]
    colon = host.rfind(":")
    return host if colon < 0 else host[:colon]


def port(host: str) -> str:
    """The digits of the port, empty if there is none."""
    rest = host[host.rfind("]") + 1 :] if host.startswith("[") else host
    colon = rest.rfind(":")
    return "" if colon < 0 else rest[colon + 1 :]
