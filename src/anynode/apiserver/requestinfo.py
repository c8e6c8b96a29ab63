"""What a request asks for, read from its method and URL: verb, resource, subresource, namespace, name. Pure.

Source: apiserver ``pkg/endpoints/request/requestinfo.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import urllib.parse

from anynode.api import selectors
from anynode.api.wire import ApiRequest

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class BadPath(ValueError):
    """A path no resource can have."""


@dataclasses.dataclass(slots=True)
class RequestInfo:
    """One request's target. For a non-resource request only ``verb`` (the method, lower case) and ``path`` count."""

    path: str
    verb: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    plural: str = ""
    subresource: str = ""
    name: str = ""
    rest: str = ""
    """What follows the subresource (the path of a proxied request), with its leading slash; else empty."""
    trailing_slash: bool = False
    fields: tuple[tuple[str, str], ...] = ()
    """What the field selector of a list, watch or deletion pins: (field, value)."""
    notes: dict[str, str] | None = None
    """Annotations of the request's audit event, where it has one; whoever handles the request adds."""

    @property
    def resource_path(self) -> str:
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural


def is_true(text: str) -> bool:
    """A query parameter as Go converts it to bool: anything but an explicit no."""
    return text not in _FALSE and text != ""


def wants_watch(request: ApiRequest) -> bool:
    values = request.query.get("watch")
    return bool(values) and values[0] not in _FALSE if values else False


def parse(request: ApiRequest) -> RequestInfo:
    """The request's target; raises ``BadPath`` for doubled slashes, encoded ones, and a namespace in another."""
    path = request.path
    parts = path.split("/")
    trailing = False
    if len(parts) > 2 and parts[-1] == "":
        parts.pop()
        trailing = True
    kind = parts[1] if len(parts) > 1 else ""
    if kind == "api" and len(parts) > 3:
        group, version, at = "", parts[2], 3
    elif kind == "apis" and len(parts) > 4:
        group, version, at = parts[2], parts[3], 4
    else:
        return RequestInfo(path, request.method.lower(), trailing_slash=trailing)
    if "%" in path:
        parts = [_unquoted(part) for part in parts]
    info = RequestInfo(path, _VERBS.get(request.method, ""), True, group, version, trailing_slash=trailing)
    if parts[at] == "watch" and len(parts) > at + 1:
        at += 1
        info.verb = "watch" if info.verb == "get" else info.verb
    _read_target(info, parts, at)
    if "" in parts[1 : at + 4] and "" in parts[1:]:
        _refuse_doubled(info, parts)
    if info.verb in ("get", "delete") and not info.name:
        _of_collection(info, request)
    elif info.verb == "watch" and not info.name:
        _read_selector(info, request)
    return info


def _read_target(info: RequestInfo, parts: list[str], at: int) -> None:
    count = len(parts)
    if parts[at] == "namespaces" and count > at + 2 and parts[at + 2] not in _NAMESPACE_SUBRESOURCES:
        info.namespace = parts[at + 1]
        at += 2
        if parts[at] == "namespaces":
            raise BadPath(info.path)  # rights in the first one would reach the second
    elif parts[at] == "namespaces" and count > at + 1:
        info.namespace = parts[at + 1]
    info.plural = parts[at]
    if count > at + 1:
        info.name = parts[at + 1]
    if count > at + 2:
        info.subresource = parts[at + 2]
    if count > at + 3:
        info.rest = "/" + "/".join(parts[at + 3 :])


def _refuse_doubled(info: RequestInfo, parts: list[str]) -> None:
    fixed = len(parts) - (info.rest.count("/") if info.rest else 0)
    if "" in parts[1:fixed]:
        raise BadPath(info.path)


def _of_collection(info: RequestInfo, request: ApiRequest) -> None:
    if info.verb == "delete":
        info.verb = "deletecollection"
        if request.query:
            info.fields = _pinned(request)
        return
    info.verb = "watch" if wants_watch(request) else "list"
    if request.query:
        _read_selector(info, request)


def _read_selector(info: RequestInfo, request: ApiRequest) -> None:
    """What a ``fieldSelector`` pins, which authorization then looks at: read as the list itself will read it."""
    info.fields = _pinned(request)
    for field, value in info.fields:
        if field == "metadata.name":
            info.name = value
            return


def _pinned(request: ApiRequest) -> tuple[tuple[str, str], ...]:
    text = request.argument("fieldSelector")
    if not text:
        return ()
    try:
        return tuple((term.field, term.value) for term in selectors.parse_fields(text).terms if term.equal)
    except selectors.SelectorError:
        return ()


def _unquoted(part: str) -> str:
    text = urllib.parse.unquote(part)
    if "/" in text:
        raise BadPath(part)
    return text
