"""In which form a reader wants objects: JSON, YAML or protobuf; whole, as a Table, or metadata only. And the refusals.

A ``Form`` renders items (``registry.items.Form``) and joins lists from bytes already made. Source: apiserver
``pkg/endpoints/handlers/negotiation`` and ``response.go``, go-restful's matching of ``Accept``, 1.36.
"""

from __future__ import annotations

import dataclasses
import functools

from anynode.api.errors import NotAcceptable, UnsupportedMediaType
from anynode.api.objects import Object

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_PRODUCED = (JSON, YAML, PROTOBUF)
_WATCHED = (*_PRODUCED, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
_TARGETS = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList"})


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """What was agreed on. ``target`` is empty, Table, PartialObjectMetadata or PartialObjectMetadataList."""

    media_type: str = JSON
    target: str = ""
    version: str = "v1"
    pretty: bool = False


PLAIN = Accepted()


def accepted(header: str, *, watchable: bool = False, binary: bool = False, routed: bool = True) -> Accepted:
    """The form to answer in; raises ``NotAcceptable``. ``binary``: there is one in protobuf. ``routed``: upstream's
    router, which knows no ``application/*``, has looked at the header before."""
    if header in ("", JSON, "*/*"):
        return PLAIN
    found = _accepted(header, watchable, binary, routed)
    if isinstance(found, Accepted):
        return found
    said, details = found
    raise NotAcceptable(said, details=details)  # a new one each time: an error keeps whoever raised it


@functools.lru_cache(maxsize=512)
def _accepted(header: str, watchable: bool, binary: bool, routed: bool = True) -> Accepted | tuple[str, Object | None]:
    clauses = _clauses(header)
    produced = _WATCHED if watchable else _PRODUCED
    if routed and not any(media == "*/*" or media in _PRODUCED for media, _ in clauses):
        listed = ", ".join(produced)
        return f"406: Not Acceptable\n\nAvailable representations: {listed}", {}
    for media, parameters in clauses:
        if media not in (JSON, YAML, "*/*", "application/*") and not (binary and media == PROTOBUF):
            continue
        answered = media if media in (YAML, PROTOBUF) else JSON
        target = parameters.get("as", "")
        if target:
            version = parameters.get("v", "")
            known = parameters.get("g") == "meta.k8s.io" and version in ("v1", "v1beta1")
            if not known or target not in _TARGETS or (target == "Table" and answered == PROTOBUF):
                continue
            return Accepted(answered, target, version)
        return Accepted(answered)
    listed = ", ".join(_PRODUCED)
    return f"only the following media types are accepted: {listed}", None


def check_produced(header: str, media: str) -> None:
    """Raise ``NotAcceptable`` where a document of one media type alone is not wanted."""
    if header and not any(each in ("*/*", media) for each, _ in _clauses(header)):
        raise NotAcceptable(f"406: Not Acceptable\n\nAvailable representations: {media}", details={})


def check_page(header: str) -> None:
    """The same for pages meant to be read; their machine-readable forms have to be asked for by name."""
    if header and not any(each in ("*/*", "text/plain") for each, _ in _clauses(header)):
        listed = f"{JSON}, {YAML}, text/plain"
        raise NotAcceptable(f"only the following media types are accepted: {listed}")


def prefers_protobuf(header: str) -> bool:
    """Whether an answer that is one plain object goes out as protobuf."""
    if PROTOBUF not in header:
        return False
    found = _accepted(header, False, True)
    return isinstance(found, Accepted) and found.media_type == PROTOBUF and not found.target


def _clauses(header: str) -> list[tuple[str, dict[str, str]]]:
    """(media type, parameters), the most wanted first."""
    found: list[tuple[float, int, str, dict[str, str]]] = []
    for index, clause in enumerate(header.split(",")):
        media, *rest = clause.split(";")
        parameters = dict(_parameter(each) for each in rest)
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 1.0
        found.append((-quality, index, media.strip(), parameters))
    return [(media, parameters) for _, _, media, parameters in sorted(found, key=lambda each: each[:2])]


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()


BODIES = (JSON, YAML, PROTOBUF)
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


def content_type(header: str, allowed: tuple[str, ...] = BODIES) -> str:
    """The media type of a body, JSON when unnamed; raises ``UnsupportedMediaType``.

    For patches of what is built in, upstream's routing looks at each type of a list, before anything is read.
    """
    if allowed is PATCHES and not any(each.partition(";")[0].strip() in allowed for each in header.split(",")):
        raise UnsupportedMediaType("415: Unsupported Media Type", details={})
    media = header.partition(";")[0].strip().lower() if header else allowed[0]
    if media in allowed:
        return media
    listed = ", ".join(allowed)
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {listed}"
    )
