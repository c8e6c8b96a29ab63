"""Where a webhook may be: URLs and service references, in upstream's words.

Source: apiserver ``pkg/util/webhook/validation.go``, Go ``net/url`` (what its parser refuses), 1.36.
"""

from __future__ import annotations

import re
import urllib.parse

from anynode.api import names
from anynode.api.objects import Object
from anynode.schema.fields import FieldError, FieldPath, invalid, required

_FORM = "; desired format: https://host[/path]"
_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*):(.*)$", re.DOTALL)
_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_BAD_HOST = re.compile(r"[\x00-\x20<>\"\\^`{|}]")


def validate_url(url: str, path: FieldPath) -> list[FieldError]:
    """What is wrong with a webhook's ``url``."""
    trouble = unparsable(url)
    if trouble:
        return [required(path, f"url must be a valid URL: {trouble}{_FORM}")]
    head, _, fragment = url.partition("#")
    match = _SCHEME.match(head)
    scheme = match[1].lower() if match else ""
    rest = match[2] if match else head
    opaque = bool(match) and not rest.startswith("/")
    rest, _, query = rest.partition("?")
    authority = "" if opaque or not rest.startswith("//") else rest[2:].partition("/")[0]
    user, at, host = authority.rpartition("@")
    errors: list[FieldError] = []
    if scheme != "https":
        errors.append(invalid(path, scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    if not host:
        errors.append(invalid(path, "", f"host must be specified{_FORM}"))
    if at:
        errors.append(invalid(path, user, "user information is not permitted in the URL"))
    if fragment:
        errors.append(invalid(path, urllib.parse.unquote(fragment), "fragments are not permitted in the URL"))
    if query:
        errors.append(invalid(path, query, "query parameters are not permitted in the URL"))
    return errors


def unparsable(url: str) -> str:
    """Why Go's parser refuses a URL; empty when it does not."""

    def said(why: str) -> str:
        return f'parse "{url}": {why}'

    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in url):
        return f"parse {_quoted(url)}: net/url: invalid control character in URL"
    rest = url.partition("#")[0]
    if rest.startswith(":"):
        return said("missing protocol scheme")
    match = _SCHEME.match(rest)
    if match is None:
        first = rest.partition("/")[0]
        if ":" in first and not rest.startswith("/"):
            return said("first path segment in URL cannot contain colon")
    else:
        rest = match[2]
    rest = rest.partition("?")[0]
    if rest.startswith("//"):
        authority, _, _ = rest[2:].partition("/")
        why = _bad_host(authority.rpartition("@")[2])
        if why:
            return said(why)
    escape = _ESCAPE.search(rest)
    if escape is not None:
        return said(f'invalid URL escape "{rest[escape.start() : escape.start() + 3]}"')
    return ""


def _quoted(text: str) -> str:
    out = "".join(f"\\x{ord(c):02x}" if ord(c) < 0x20 or ord(c) == 0x7F else c for c in text)
    return '"' + out.replace("\\x0a", "\\n").replace("\\x09", "\\t").replace("\\x0d", "\\r") + '"'


def _bad_host(host: str) -> str:
    if host.startswith("["):
        if "]" not in host:
            return "missing ']' in host"
        port = host.rpartition("]")[2]
    else:
        port = host[host.index(":") :] if ":" in host else ""
        if host.count(":") > 1:
            port = host[host.rindex(":") :]
    if port and not re.fullmatch(r":[0-9]*", port):
        return f'invalid port "{port}" after host'
    bad = _BAD_HOST.search(host)
    return f'invalid character "{bad[0]}" in host name' if bad else ""


def validate_service(service: Object, path: FieldPath) -> list[FieldError]:
    """What is wrong with a service reference; upstream mixes up name and namespace, and so do its answers."""
    errors: list[FieldError] = []
    if not service.get("namespace"):
        errors.append(required(path.child("name")))
    if not service.get("name"):
        errors.append(required(path.child("namespace")))
    port = service.get("port") or 0
    wrong = names.port_number(port)
    if wrong:
        errors.append(invalid(path.child("port"), port, f"port is not valid: {', '.join(wrong)}"))
    return errors + _validate_path(service.get("path"), path.child("path"))


def _validate_path(url_path: str | None, path: FieldPath) -> list[FieldError]:
    if not url_path or url_path == "/":
        return []
    if url_path == "//":
        return [invalid(path, url_path, "segment[0] may not be empty")]
    errors: list[FieldError] = []
    if not url_path.startswith("/"):
        errors.append(invalid(path, url_path, "must start with a '/'"))
    for at, step in enumerate(url_path[1:].removesuffix("/").split("/")):
        if not step:
            errors.append(invalid(path, url_path, f"segment[{at}] may not be empty"))
            continue
        errors += [invalid(path, url_path, f"segment[{at}]: {why}") for why in names.dns1123_subdomain(step)]
    return errors
