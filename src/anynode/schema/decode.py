"""Request bodies read as upstream reads them: JSON, YAML and protobuf bytes in, an object and complaints out.

Complaints are upstream's sentences on duplicate keys and unknown fields, which the caller turns into warnings or into a
refusal (``strict_text``) as ``fieldValidation`` says. ``DecodeError`` is worth a 400; ``refusal`` words it. Source:
apimachinery ``pkg/runtime/serializer/json``, apiserver ``pkg/endpoints/handlers/rest.go``, sigs.k8s.io/json, 1.36.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from anynode.api.objects import Object
from anynode.schema import json_syntax, yaml_text
from anynode.schema.protobuf import decode_protobuf
from anynode.schema.typed import DecodeError, FieldTypeError, UnreadableError, check_fields, json_kind

__all__ = [
    "DecodeError",
    "FieldTypeError",
    "UnreadableError",
    "check_fields",
    "decode_json",
    "decode_json_patch",
    "decode_patch_document",
    "decode_protobuf",
    "decode_yaml",
    "in_document_order",
    "refusal",
    "strict_text",
]

_KIND_STRUCT = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_YAML_LINE = "line "
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_json(body: bytes) -> tuple[Object, Sequence[str]]:
    """``(object, complaints about duplicate keys)``; of equal keys the last counts, and maps said twice are merged.

    Raises ``UnreadableError`` with Go's message for what is no JSON or no object.
    """
    prefix = "couldn't get version/kind; json parse error: "
    try:
        value = _loads(body)
    except DecodeError as error:
        raise UnreadableError(f"{prefix}{error}") from None
    if value is None:
        return {}, ()
    if not isinstance(value, dict):
        raise UnreadableError(f"{prefix}json: cannot unmarshal {json_kind(value)} into Go value of type {_KIND_STRUCT}")
    _check_kind(value, prefix)
    complaints = duplicates(body, value)
    return (_united(json.loads(body, object_pairs_hook=_Pairs)), complaints) if complaints else (value, ())


def _check_kind(value: Object, prefix: str) -> None:
    for field in ("apiVersion", "kind"):
        found = value.get(field)
        if found is not None and not isinstance(found, str):
            shown = json_kind(found)
            raise UnreadableError(
                f"{prefix}json: cannot unmarshal {shown} into Go struct field .{field} of type string"
            )


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        wrong = json_syntax.complaint(body)
        if wrong:
            raise DecodeError(wrong) from None
    return _loads_broken_text(body)


def _loads_broken_text(body: bytes) -> Any:
    """JSON that Go takes and orjson does not: bytes that are no UTF-8, half surrogates, deep nesting."""
    try:
        value = json.loads(body.decode("utf-8", "replace"))
        return orjson.loads(_HALF_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    except (RecursionError, ValueError):
        raise DecodeError("exceeded max depth") from None


def duplicates(body: bytes, value: Any) -> Sequence[str]:
    """``'duplicate field "a.b"'`` for each key said twice.

    A body as long as its own compact print holds nothing twice; only other bodies are read a second time.
    """
    if len(orjson.dumps(value)) == len(body.rstrip()):
        return ()
    try:
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except _DuplicateError:
        pairs = json.loads(body, object_pairs_hook=_Pairs)
        return [_complaint(path, again) for path, again in _members(pairs, "") if again]
    except (ValueError, RecursionError):
        return ()
    return ()


def in_document_order(body: bytes, complaints: Sequence[str]) -> Sequence[str]:
    """Complaints on duplicate keys and unknown fields of a JSON body, in the order the body gives cause for them."""
    if len(complaints) < 2:
        return complaints
    places: dict[str, int] = {}
    try:
        for path, again in _members(json.loads(body, object_pairs_hook=_Pairs), ""):
            places.setdefault(_complaint(path, again), len(places))
    except (ValueError, RecursionError):
        return complaints
    return sorted(complaints, key=lambda text: places.get(text, len(places)))


def _complaint(path: str, again: bool) -> str:
    return f'{"duplicate" if again else "unknown"} field "{path}"'


class _DuplicateError(Exception):
    """A key occurs twice in one object."""


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _DuplicateError


class _Pairs(list[tuple[str, Any]]):
    """An object with all its members, also those said twice."""


def _united(value: Any) -> Any:
    """What Go makes of members said twice: it reads the second into what the first one left."""
    if isinstance(value, _Pairs):
        found: Object = {}
        for key, item in value:
            new, old = _united(item), found.get(key)
            found[key] = _overlaid(old, new) if isinstance(old, dict) and isinstance(new, dict) else new
        return found
    return [_united(each) for each in value] if isinstance(value, list) else value


def _overlaid(old: Object, new: Object) -> Object:
    found = dict(old)
    for key, item in new.items():
        current = found.get(key)
        both = isinstance(current, dict) and isinstance(item, dict)
        found[key] = _overlaid(current, item) if both and isinstance(current, dict) else item
    return found


def _members(value: Any, path: str) -> Iterator[tuple[str, bool]]:
    """``(path, said before in the same object)`` of every member, as the text has them."""
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value:
            here = f"{path}.{key}" if path else key
            yield here, key in seen
            seen.add(key)
            yield from _members(item, here)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _members(item, f"{path}[{index}]")


def decode_yaml(body: bytes) -> tuple[Object, Sequence[str]]:
    """``(object with sorted keys, complaints such as 'line 5: key "name" already set in map')``.

    Raises ``UnreadableError`` with the YAML library's message, or Go's where the document is no mapping.
    """
    try:
        value, complaints = yaml_text.load(body)
    except yaml_text.YamlError as error:
        raise UnreadableError(str(error)) from None
    if value is None:
        return {}, complaints
    prefix = "couldn't get version/kind; json parse error: "
    if not isinstance(value, dict):
        raise UnreadableError(f"{prefix}json: cannot unmarshal {json_kind(value)} into Go value of type {_KIND_STRUCT}")
    _check_kind(value, prefix)
    return value, complaints


def decode_json_patch(body: bytes) -> tuple[list[Object], Sequence[str]]:
    """``(operations, complaints)`` of a JSON Patch body; raises ``DecodeError`` with upstream's message."""
    try:
        value = _loads(body)
    except DecodeError as error:
        raise DecodeError(f"error decoding patch: {error}") from None
    into = "json: cannot unmarshal {} into Go value of type {}"
    if value is None:
        return [], ()
    if not isinstance(value, list):
        why = into.format(json_kind(value), "[]handlers.jsonPatchOp")
        raise DecodeError(f"error decoding patch: {why}")
    complaints: list[str] = []
    for index, operation in enumerate(value):
        if not isinstance(operation, dict):
            why = into.format(json_kind(operation), "handlers.jsonPatchOp")
            raise DecodeError(f"error decoding patch: {why}")
        for field in ("op", "path", "from"):
            found = operation.get(field)
            if found is not None and not isinstance(found, str):
                raise DecodeError(
                    f"error decoding patch: json: cannot unmarshal {json_kind(found)} "
                    f"into Go struct field jsonPatchOp.{field} of type string"
                )
        unknown = operation.keys() - {"op", "path", "from", "value"}
        complaints.extend(f'json patch unknown field "[{index}].{field}"' for field in operation if field in unknown)
    complaints.extend(f"json patch {each}" for each in duplicates(body, value))
    return value, complaints


def decode_patch_document(body: bytes, *, strategic: bool) -> tuple[Object, Sequence[str]]:
    """``(patch, complaints about duplicate keys)`` of a merge patch or strategic merge patch body.

    Raises ``DecodeError`` with upstream's message.
    """
    prefix = "" if strategic else "error decoding patch: "
    try:
        value = _loads(body)
    except DecodeError as error:
        raise DecodeError(f"{prefix}{error}") from None
    if value is None:
        if strategic:
            return {}, ()
        raise DecodeError("Invalid JSON Patch")
    if not isinstance(value, dict):
        why = f"json: cannot unmarshal {json_kind(value)} into Go value of type map[string]interface {{}}"
        raise DecodeError(f"{prefix}{why}")
    return value, duplicates(body, value)


def strict_text(complaints: Sequence[str]) -> str:
    """What a request with ``fieldValidation=Strict`` is refused with, after ``strict decoding error: ``."""
    lines = [each for each in complaints if each.startswith(_YAML_LINE)]
    joined = "\n  ".join(lines)
    parts = [f"yaml: unmarshal errors:\n  {joined}"] if lines else []
    parts.extend(each for each in complaints if not each.startswith(_YAML_LINE))
    return ", ".join(parts)


def refusal(error: DecodeError, *, kind: str, version: str, body: bytes) -> str:
    """The message of the 400 for a body meant as a ``kind`` of ``version``."""
    if isinstance(error, UnreadableError):
        return f"the object provided is unrecognized (must be of type {kind}): {error} ({summary(body)})"
    return f'{kind} in version "{version}" cannot be handled as a {kind}: {error}'


def summary(body: bytes) -> str:
    """A body in a message: its beginning, as text when it looks like JSON, else in hexadecimal."""
    if not body:
        return "<empty>"
    if body[:1] == b"{":
        text = body[:30].decode("utf-8", "replace")
        return f"{text} ..." if len(body) > 30 else text
    return f"{body[:30].hex()} ..." if len(body) > 30 else body.hex()
