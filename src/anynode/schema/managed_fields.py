"""Who owns which field: ``metadata.managedFields`` of ordinary writes, and server-side apply with its conflicts.

In go the live object and the new one (or an applied config); out come the entries to put into the new object, or the
merged object. Nothing that came in is changed, and entries that did not change stay the same dicts. Source:
apimachinery ``pkg/util/managedfields/internal``, structured-merge-diff v6 ``merge/update.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from anynode.api import errors, formats
from anynode.api.go_text import go_quoted
from anynode.api.objects import Object, meta
from anynode.schema import applying, field_sets, typed
from anynode.schema.comparison import Change, compare
from anynode.schema.field_sets import LEAF, Node
from anynode.schema.shapes import Shape, ShapeError, field_set, shapes
from anynode.schema.types import Types

Entry = Object
Paths = Sequence[tuple[str, ...]]

_MOST_UPDATE_MANAGERS = 10
_ANCIENT = "ancient-changes"
_BEFORE_APPLY = "before-first-apply"
_STATUS: Paths = (("status",),)
_SPEC: Paths = (("spec",),)
_SPEC_AND_METADATA: Paths = (("spec",), ("metadata",))
_STATUS_KEEPS_METADATA = frozenset((
    "ValidatingAdmissionPolicy", "StorageVersion", "FlowSchema", "PriorityLevelConfiguration", "ServiceCIDR",
    "DeviceTaintRule", "ResourceClaim", "ResourcePoolStatusRequest", "PodGroup", "VolumeAttachment",
    "StorageVersionMigration", "APIService",
))  # fmt: skip
_RESET: Mapping[tuple[str, str], Paths] = {
    ("Pod", "status"): (("spec",), ("metadata", "deletionTimestamp"), ("metadata", "ownerReferences")),
    ("Deployment", "status"): (("spec",), ("metadata", "labels")),
    ("CertificateSigningRequest", ""): (("spec",), ("status",)),
    ("CertificateSigningRequest", "status"): (("spec",), ("status", "conditions")),
    ("CertificateSigningRequest", "approval"): (("spec",), ("status", "certificate")),
    ("Namespace", "finalize"): _STATUS,
    ("PodCertificateRequest", ""): (),
}


def reset_paths(kind: str, subresource: str, types: Types, type_name: str) -> Paths:
    """The fields that the endpoint puts back whatever a client sends, so that nobody comes to own them there."""
    found = _RESET.get((kind, subresource))
    if found is not None:
        return found
    if subresource == "status":
        return _SPEC_AND_METADATA if kind in _STATUS_KEEPS_METADATA else _SPEC
    return _STATUS if subresource == "" and "status" in types[type_name].fields else ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OwnedType:
    """A type that is in no table: its shape with all (``plain``) and without what nobody owns (``root``).

    ``reset``: subresource -> the fields its endpoint puts back. ``sibling``: the type in another version (apiVersion),
    None where there is no such version any more.
    """

    kind: str
    plain: Shape
    root: Shape
    reset: Mapping[str, Paths]
    sibling: Callable[[str], OwnedType | None] | None = None
    endpoints: dict[tuple[str, str], _Endpoint] = dataclasses.field(default_factory=dict)


class _Endpoint:
    """What is the same for all objects of one write endpoint."""

    __slots__ = ("api_version", "empty", "is_served", "plain", "reset", "shape", "sibling", "subresource")

    def __init__(
        self,
        api_version: str,
        subresource: str,
        *,
        shape: Shape,
        plain: Shape,
        empty: Object,
        reset: Paths,
        sibling: Callable[[str], OwnedType | None] | None = None,
        is_served: Callable[[str], bool] = bool,
    ) -> None:
        self.api_version = api_version
        self.subresource = subresource
        self.shape = shape
        self.plain = plain
        self.empty = empty
        self.reset = reset
        self.sibling = sibling
        self.is_served = is_served

    def filtered(self, node: Node) -> Node:
        return field_sets.without_paths(node, self.reset)

    def change(self, live: Object, new: Object) -> Change:
        added, removed, modified = compare(self.shape, live, new)
        return Change(self.filtered(added or LEAF), self.filtered(removed or LEAF), self.filtered(modified or LEAF))


def _endpoint(api_version: str, type_name: str, types: Types | OwnedType, subresource: str) -> _Endpoint:
    if isinstance(types, OwnedType):
        return _own_endpoint(api_version, types, subresource)
    memory = types.compiled("managed fields")
    key = (api_version, type_name, subresource)
    found: _Endpoint | None = memory.get(key)
    if found is None:
        found = memory[key] = _Endpoint(
            api_version,
            subresource,
            shape=shapes(types).root(type_name),
            plain=shapes(types).of(type_name),
            empty=typed.compiled(types).empty(type_name),
            reset=reset_paths(type_name.rpartition(".")[2], subresource, types, type_name),
            is_served=functools.partial(_has_kind, types, type_name.rpartition(".")[2]),
        )
    return found


def _has_kind(types: Types, kind: str, api_version: str) -> bool:
    """Whether upstream can tell an object of the kind in ``api_version``: owners in other versions are forgotten."""
    return bool(types.of_kind(api_version, kind)) or api_version in _older_versions().get(kind, ())


@functools.cache
def _older_versions() -> Mapping[str, Sequence[str]]:
    """Kind -> the API versions that upstream knows and no longer serves."""
    found: Mapping[str, Sequence[str]] = json.loads(
        importlib.resources.files("anynode.schema").joinpath("data/older-versions.json").read_text()
    )
    return found


def _own_endpoint(api_version: str, owned: OwnedType, subresource: str) -> _Endpoint:
    found = owned.endpoints.get((api_version, subresource))
    if found is None:
        found = owned.endpoints[api_version, subresource] = _Endpoint(
            api_version,
            subresource,
            shape=owned.root,
            plain=owned.plain,
            empty={"metadata": {}},
            reset=owned.reset.get(subresource, ()),
            sibling=owned.sibling,
        )
    return found


# Entries


def identity(entry: Entry) -> tuple[str, str, str, str]:
    """What makes two entries the same manager's; an apply counts for all versions."""
    operation = entry.get("operation", "")
    version = "" if operation == "Apply" else entry.get("apiVersion", "")
    return entry.get("manager", ""), operation, version, entry.get("subresource", "")


def _entry(manager: str, operation: str, api_version: str, time: str, fields: Node, subresource: str) -> Entry:
    entry: Entry = {"manager": manager, "operation": operation, "apiVersion": api_version}
    if time and subresource != "scale":  # what is told of a Scale to its object has no time
        entry["time"] = time
    entry["fieldsType"] = "FieldsV1"
    entry["fieldsV1"] = fields
    if subresource:
        entry["subresource"] = subresource
    return entry


def _with_fields(entry: Entry, fields: Node) -> Entry:
    return {**entry, "fieldsV1": fields}


def _fields(entry: Entry) -> Node:
    found: Node = entry.get("fieldsV1") or LEAF
    return found


def _readable(entries: Any) -> bool:
    """Whether upstream would take these entries; if not, it starts anew."""
    return isinstance(entries, list) and all(
        isinstance(each, dict)
        and each.get("operation") in ("Apply", "Update")
        and each.get("apiVersion")
        and each.get("fieldsType") == "FieldsV1"
        and field_sets.is_set(each.get("fieldsV1") or LEAF)
        for each in entries
    )


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(
        entries,
        key=lambda each: (
            each["operation"], each.get("time") or "", each.get("manager", ""), each["apiVersion"],
            each.get("subresource", ""),
        ),
    )  # fmt: skip


def _current(live: Object, new: Object, subresource: str) -> list[Entry]:
    """The entries a write starts from: those the client sent where it may, else the live object's."""
    sent, known = meta(new).get("managedFields"), meta(live).get("managedFields")
    if not subresource and sent is not None and sent != known:
        if not sent or (len(sent) == 1 and not sent[0]):
            return []
        if _readable(sent):
            found: list[Entry] = sent
            return found
    return known or []


def _time_text(time: datetime.datetime | str) -> str:
    return time if isinstance(time, str) else formats.format_time(time)


def _convertible(endpoint: _Endpoint, entries: list[Entry], writer: tuple[str, ...], new: Object) -> list[Entry]:
    """The entries of versions that there still are; raises ``ShapeError`` where ``new`` does not fit one of them."""
    kept: list[Entry] = []
    for entry in entries:
        version = entry.get("apiVersion") or ""
        if version != endpoint.api_version and identity(entry) != writer:
            if endpoint.sibling is None:
                if endpoint.is_served(version):
                    kept.append(entry)
                continue
            other = endpoint.sibling(version)
            if other is None:
                continue
            wrong = applying.validate(other.plain, new)
            if wrong:
                raise ShapeError(wrong[0])
        kept.append(entry)
    return kept if len(kept) < len(entries) else entries


# Ordinary writes


def updated(
    live: Object | None,
    new: Object,
    *,
    manager: str,
    operation: str = "Update",
    subresource: str = "",
    api_version: str,
    time: datetime.datetime | str,
    type_name: str,
    types: Types | OwnedType,
) -> list[Entry]:
    """``metadata.managedFields`` for ``new``, which replaces ``live`` (None: it is created); may be empty.

    ``new`` is what the client sent, typed and defaulted, before admission and before the strategy touches it.
    """
    endpoint = _endpoint(api_version, type_name, types, subresource)
    before = endpoint.empty if live is None else live
    entries = _current(before, new, subresource)
    if not entries and meta(before).get("uid"):
        return []
    if endpoint.sibling is not None and any(_is_misfit(endpoint, each) for each in (live, new)):
        return []  # a custom resource its schema does not fit
    try:
        entries = _convertible(endpoint, entries, (manager or "unknown", operation, api_version, subresource), new)
        result = _update(endpoint, before, new, entries, manager or "unknown", operation, _time_text(time))
    except ShapeError:
        return []  # as upstream forgets who owns what where it cannot tell
    return result if result is entries else _sorted(_capped(result))


def _is_misfit(endpoint: _Endpoint, obj: Object | None) -> bool:
    """Whether an object is not of its type; items that occur twice do no harm here."""
    return any("duplicate entries" not in each for each in applying.validate(endpoint.plain, obj))


def _update(
    endpoint: _Endpoint, live: Object, new: Object, entries: list[Entry], manager: str, operation: str, time: str
) -> list[Entry]:
    """The entries after ``manager`` made ``new`` of ``live``; the same list when nobody's fields changed."""
    added, removed, modified = endpoint.change(live, new)
    added, removed, modified = added or LEAF, removed or LEAF, modified or LEAF
    changed = field_sets.union(added, modified) if added and modified else added or modified
    if not changed and not removed:
        return entries
    writer = (manager, operation, endpoint.api_version, endpoint.subresource)
    mine: Node | None = None
    result: list[Entry] = []
    for entry in entries:
        fields = _fields(entry)
        rest = field_sets.difference(field_sets.difference(fields, changed), removed)
        if identity(entry) == writer:
            mine = rest
            if changed:
                continue
        if rest is fields:
            result.append(entry)
        elif rest:
            result.append(_with_fields(entry, rest))
    if changed:
        joined = bool(mine) or bool(added and modified)  # what comes of one comparison is in order
        fields = field_sets.union(changed, mine) if mine else changed
        fields = field_sets.sorted_set(fields) if joined else fields
        result.append(_entry(manager, operation, endpoint.api_version, time, fields, endpoint.subresource))
    return result


def _capped(entries: list[Entry]) -> list[Entry]:
    """At most ten managers that update: the oldest of a version become one, ``ancient-changes``."""
    updaters = sorted(
        (entry for entry in entries if entry["operation"] == "Update"),
        key=lambda each: (each.get("time") or "", identity(each)),
    )
    excess = len(updaters) - _MOST_UPDATE_MANAGERS
    if excess <= 0:
        return entries
    kept = [entry for entry in entries if entry["operation"] != "Update"]
    buckets: dict[str, Entry] = {}
    first: dict[str, Entry] = {}
    for entry in updaters:
        if entry.get("manager") == _ANCIENT and not entry.get("subresource"):
            buckets[entry["apiVersion"]] = entry
    gone: set[int] = set()
    for entry in updaters:
        if excess <= 0:
            break
        version = entry["apiVersion"]
        if version not in first:
            first[version] = entry
            continue
        bucket = buckets.get(version)
        if bucket is None:
            bucket = first[version]
        gone.update((id(first[version]), id(entry), id(bucket)))
        fields = field_sets.sorted_set(field_sets.union(_fields(entry), _fields(bucket)))
        buckets[version] = _entry(_ANCIENT, "Update", version, entry.get("time") or "", fields, "")
        gone.discard(id(buckets[version]))
        excess -= 1
    return [*kept, *(each for each in updaters if id(each) not in gone and each not in buckets.values()),
            *buckets.values()]  # fmt: skip


def with_entries(obj: Object, entries: Sequence[Entry]) -> Object:
    """``obj`` with ``metadata.managedFields`` set to ``entries``, or without the field when there are none."""
    metadata = meta(obj)
    if not entries and "managedFields" not in metadata:
        return obj
    rest = {key: value for key, value in metadata.items() if key != "managedFields"}
    return {**obj, "metadata": {**rest, "managedFields": list(entries)} if entries else rest}


def with_old_times(new: Object, old: Object) -> Object:
    """``new`` with the old entries' times where nothing but those times differs from ``old``, so that it is no change.

    To be called last, with both objects as they are stored.
    """
    new_entries = meta(new).get("managedFields") or []
    old_entries = meta(old).get("managedFields") or []
    if not new_entries or len(new_entries) != len(old_entries) or new_entries is old_entries:
        return new
    pairs = list(zip(new_entries, old_entries, strict=True))
    if all(one.get("time") == other.get("time") for one, other in pairs):
        return new
    if any({**one, "time": None} != {**other, "time": None} for one, other in pairs):
        return new
    settled = with_entries(new, old_entries)
    return settled if settled == old else new


# Server-side apply


def apply(
    live: Object | None,
    config: Object,
    *,
    manager: str,
    force: bool = False,
    subresource: str = "",
    api_version: str,
    kind: str,
    time: datetime.datetime | str,
    type_name: str,
    types: Types | OwnedType,
) -> Object:
    """The live object (None: an empty one) with ``config`` applied and ``managedFields`` set; not yet defaulted.

    ``live`` itself, apart from its entries, when the config changes nothing. Raises ``Conflict`` with a cause per
    field, ``BadRequest`` for a config of another version, ``ApiError`` (500, as upstream) for one the type refuses.
    """
    _check_kind(config, api_version, kind)
    endpoint = _endpoint(api_version, type_name, types, subresource)
    before = live if live is not None else {"kind": kind, "apiVersion": api_version, **endpoint.empty}
    stamp = _time_text(time)
    entries = meta(before).get("managedFields") or []
    if not entries:
        entries = _first_entries(endpoint, before, kind, stamp)
    _check_config(endpoint, config, api_version, kind)
    merged = applying.merge(endpoint.shape, before, config)
    wanted = field_sets.sorted_set(endpoint.filtered(field_set(endpoint.shape, config)))
    writer = (manager, "Apply", "", subresource)
    last = next((each for each in entries if identity(each) == writer), None)
    others = [each for each in entries if identity(each) != writer]
    if last is not None:
        said = field_set(endpoint.plain, config)  # with the name, which nobody owns but which must stay
        merged = _pruned(endpoint.plain, merged, _fields(last), [said, *map(_fields, others)])
    try:
        others = _convertible(endpoint, others, writer, merged)
    except ShapeError as error:
        raise errors.ApiError(f"failed to convert new object: {error}", code=500, reason="") from error
    added, removed, modified = endpoint.change(before, merged)
    changed = field_sets.union(added or LEAF, modified or LEAF)
    if not force:
        _refuse_conflicts(others, changed)
    result: list[Entry] = []
    for entry in others:
        rest = field_sets.difference(field_sets.difference(_fields(entry), changed), removed or LEAF)
        if rest:
            result.append(entry if rest is entry.get("fieldsV1") else _with_fields(entry, rest))
    same = _equal_but_entries(before, merged)
    if wanted:
        applied_at = stamp if not same else (last or {}).get("time", "")
        result.append(_entry(manager, "Apply", api_version, applied_at, wanted, subresource))
    return with_entries(before if same else merged, _sorted(result))


def _first_entries(endpoint: _Endpoint, live: Object, kind: str, stamp: str) -> list[Entry]:
    """Who owns what in an object whose owners were never written down."""
    try:
        return _update(endpoint, endpoint.empty, live, [], _BEFORE_APPLY, "Update", stamp)
    except ShapeError as error:
        wrong = applying.validate(endpoint.plain, live) or [str(error)]
        said = wrong[0] if len(wrong) == 1 else "\n  ".join(("errors:", *wrong))
        metadata = meta(live)
        named = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
        what = f"{named}; {_shown_kind(endpoint.api_version, kind)}"
        text = (
            f"failed to create manager for existing fields: failed to convert new object ({what}) to smd typed: {said}"
        )
        raise errors.ApiError(text, code=500, reason="") from error


def _equal_but_entries(left: Object, right: Object) -> bool:
    return left is right or left == right


def _shown_kind(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    return f"{group}/{version}, Kind={kind}"


def _check_kind(config: Object, api_version: str, kind: str) -> None:
    found = (config.get("apiVersion") or "", config.get("kind") or "")
    if found != (api_version, kind):
        raise errors.BadRequest(f"invalid object type: {_shown_kind(*found)}")


def _check_config(endpoint: _Endpoint, config: Object, api_version: str, kind: str) -> None:
    metadata = meta(config) if isinstance(meta(config), dict) else {}
    if metadata.get("managedFields") is not None:
        raise errors.BadRequest("metadata.managedFields must be nil")
    wrong = applying.validate(endpoint.plain, config)
    if wrong:
        said = wrong[0] if len(wrong) == 1 else "\n  ".join(("errors:", *wrong))
        named = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}; {_shown_kind(api_version, kind)}"
        raise errors.ApiError(f"failed to create typed patch object ({named}): {said}", code=500, reason="")


def _pruned(shape: Shape, merged: Object, last: Node, owned: Sequence[Node]) -> Object:
    """``merged`` without what the manager applied before, applies no more, and nobody else owns."""
    named = applying.with_named_fields
    last = named(shape, last)
    first = applying.remove(shape, merged, last)
    everything: Node = LEAF
    for node in owned:
        everything = field_sets.union(everything, node)
    merged_set = named(shape, field_set(shape, merged))
    keep = field_sets.union(named(shape, field_set(shape, first)), named(shape, everything))
    second = applying.remove(shape, merged, field_sets.difference(merged_set, keep))
    second_set = named(shape, field_set(shape, second))
    dangling = field_sets.intersection(field_sets.difference(merged_set, second_set), last)
    found: Object = applying.remove(shape, merged, dangling)
    return found


def _refuse_conflicts(others: Sequence[Entry], changed: Node) -> None:
    """Raise ``Conflict`` when the config changes fields of other managers."""
    found: list[tuple[str, str]] = []
    for entry in sorted(others, key=identity):
        clash = field_sets.intersection(_fields(entry), changed)
        found.extend((_shown_manager(entry), path) for path in field_sets.paths(clash))
    if not found:
        return
    causes = [
        errors.Cause(reason="FieldManagerConflict", message=f"conflict with {who}", field=path) for who, path in found
    ]
    if len(found) == 1:
        who, path = found[0]
        raise errors.Conflict(f"Apply failed with 1 conflict: conflict with {who}: {path}", causes=causes)
    lines: list[str] = []
    for who in dict.fromkeys(who for who, _ in found):
        lines.append(f"conflicts with {who}:")
        lines.extend(f"- {path}" for each, path in found if each == who)
    raise errors.Conflict(f"Apply failed with {len(found)} conflicts: {chr(10).join(lines)}", causes=causes)


def _shown_manager(entry: Entry) -> str:
    text = go_quoted(entry.get("manager", ""))
    if entry.get("subresource"):
        text = f"{text} with subresource {go_quoted(entry['subresource'])}"
    return f"{text} using {entry['apiVersion']}" if entry["operation"] == "Update" else text
