"""The typed decode of an object: what Go does when it reads JSON into a struct and writes it again.

An object comes in as decoded JSON; out goes the object a kube-apiserver would have (unknown fields and nulls gone, zero
values gone where the field says ``omitempty``, absent ones there where it does not, quantities and times canonical),
and the unknown fields in upstream's words. What did not change stays the same dict. A wrong type raises
``DecodeError`` with Go's message. Checkers are compiled once per type. Source: sigs.k8s.io/json ``decode.go``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from anynode.api import formats
from anynode.api.objects import Object
from anynode.schema.recent import MOST_REMEMBERED
from anynode.schema.types import REPEATED, Field, Types

_REMEMBERED_BYTES = 16 * 1024
"""The longest text a value is known by: those that come often are short."""
Checker = Callable[[Any, list[str]], Any]


class DecodeError(ValueError):
    """A body that cannot be read; the text is Go's."""


class UnreadableError(DecodeError):
    """A body so wrong that not even its kind could be read."""


class FieldTypeError(DecodeError):
    """A value of the wrong JSON type; knows the struct and the fields that lead to it."""

    def __init__(self, found: str, go_type: str) -> None:
        super().__init__(found, go_type)
        self.found = found
        self.go_type = go_type
        self.struct = ""
        self.path: list[str] = []

    def __str__(self) -> str:
        if not self.path:
            return f"json: cannot unmarshal {self.found} into Go value of type {self.go_type}"
        where = f"{self.struct}.{'.'.join(reversed(self.path))}"
        return f"json: cannot unmarshal {self.found} into Go struct field {where} of type {self.go_type}"


class FloatText(float):
    """A number that keeps how it was written, for messages."""

    text: str

    def __new__(cls, text: str) -> FloatText:
        number = super().__new__(cls, text)
        number.text = text
        return number


class _Dropped:
    """Stands for a value that Go would not write."""


DROPPED = _Dropped()


def json_kind(value: Any) -> str:
    """What Go calls the JSON type of ``value``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array"


def _written(number: float) -> str:
    return number.text if isinstance(number, FloatText) else repr(number)


# One value


def _text(go_type: str, keep: bool) -> Checker:
    def check(value: Any, _: list[str]) -> Any:
        if value.__class__ is not str:
            raise FieldTypeError(json_kind(value), go_type)
        return value if value or keep else DROPPED

    return check


def _boolean(keep: bool) -> Checker:
    def check(value: Any, _: list[str]) -> Any:
        if value.__class__ is not bool:
            raise FieldTypeError(json_kind(value), "bool")
        return value if value or keep else DROPPED

    return check


_RANGES = {"i": (-(2**31), 2**31), "l": (-(2**63), 2**63), "u": (0, 2**32), "U": (0, 2**64)}


def _integer(kind: str, go_type: str, keep: bool) -> Checker:
    low, end = _RANGES[kind]

    def check(value: Any, _: list[str]) -> Any:
        if value.__class__ is int and low <= value < end:
            return value if value or keep else DROPPED
        found = json_kind(value)
        raise FieldTypeError(f"number {_written(value)}" if found == "number" else found, go_type)

    return check


def _float(keep: bool) -> Checker:
    def check(value: Any, _: list[str]) -> Any:
        if value.__class__ is int or isinstance(value, float):
            return value if value or keep else DROPPED
        raise FieldTypeError(json_kind(value), "float64")

    return check


def _bytes(keep: bool) -> Checker:
    def check(value: Any, _: list[str]) -> Any:
        if value.__class__ is not str:
            raise FieldTypeError(json_kind(value), "[]uint8")
        if not value:
            return value if keep else DROPPED
        try:
            decoded = binascii.a2b_base64(value, strict_mode=True)
        except (binascii.Error, ValueError):
            return _lenient_base64(value)
        encoded = base64.b64encode(decoded).decode()
        return value if encoded == value else encoded

    return check


_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def _lenient_base64(text: str) -> str:
    """``text`` without its line breaks, which Go skips; raises where Go finds the text corrupt."""
    plain = text.replace("\n", "").replace("\r", "")
    body = plain.rstrip("=")
    wrong = next((index for index, char in enumerate(body) if char not in _BASE64), None)
    if wrong is None and len(plain) % 4 == 0 and len(body) % 4 != 1:
        return base64.b64encode(base64.b64decode(plain)).decode()
    if wrong is None:
        wrong = len(body) if len(plain) - len(body) > 0 and len(plain) % 4 else len(body) // 4 * 4
    raise DecodeError(f"illegal base64 data at input byte {wrong}")


def _quantity(value: Any, _: list[str]) -> Any:
    if value.__class__ is bool:
        raise DecodeError(formats.WRONG_QUANTITY)
    if isinstance(value, dict | list):
        raise DecodeError(formats.WRONG_QUANTITY)
    try:
        printed = formats.canonical_quantity(value.text if isinstance(value, FloatText) else value)
    except ValueError as error:
        raise DecodeError(str(error)) from None
    return value if printed == value else printed


_CORE = "io.k8s.api.core.v1."


def _amount(value: Any, unknown: list[str]) -> Any:
    """A quantity of a resource: of less than thousandths nothing is kept, which defaulting upstream rounds up."""
    printed = _quantity(value, unknown)
    if printed.__class__ is str and (printed[-1:] in ("u", "n") or "e-" in printed):
        return str(formats.Quantity.parse(printed).rounded_up(-3))
    return printed


def _moment(canonical: Callable[[str], str]) -> Checker:
    def check(value: Any, _: list[str]) -> Any:
        if value.__class__ is not str:
            raise FieldTypeError(json_kind(value), "string")
        try:
            return canonical(value)
        except ValueError as error:
            raise DecodeError(str(error)) from None

    return check


def _duration(value: Any, _: list[str]) -> Any:
    if value.__class__ is not str:
        raise FieldTypeError(json_kind(value), "string")
    try:
        return formats.format_duration(formats.parse_duration(value))
    except ValueError as error:
        raise DecodeError(str(error)) from None


def _int_or_string(value: Any, _: list[str]) -> Any:
    if value.__class__ is str or (value.__class__ is int and -(2**31) <= value < 2**31):
        return value
    found = json_kind(value)
    raise FieldTypeError(f"number {_written(value)}" if found == "number" else found, "int32")


def _anything(value: Any, _: list[str]) -> Any:
    return value


_JUDGED_EMPTY = frozenset({("policies", "v2.HPAScalingPolicy")})
"""Lists that validation refuses when they are empty, where those left out would be defaulted."""


def _managed_fields(value: Any, _: list[str]) -> Any:
    if value.__class__ is not list:
        raise FieldTypeError(json_kind(value), "[]v1.ManagedFieldsEntry")
    for entry in value:
        if entry is not None and not isinstance(entry, dict):
            raise FieldTypeError(json_kind(entry), "v1.ManagedFieldsEntry")
        if entry:
            _check_owner(entry)
    if any(entry and ("" in entry.values() or None in entry.values()) for entry in value):
        return [{key: each for key, each in (entry or {}).items() if each not in ("", None)} for entry in value]
    return value


_OWNER_TEXTS = (
    ("manager", "string"), ("operation", "v1.ManagedFieldsOperationType"), ("apiVersion", "string"),
    ("fieldsType", "string"), ("subresource", "string"),
)  # fmt: skip


def _check_owner(entry: Object) -> None:
    """Refuse what typed clients could not read: one such entry would cost them the whole list it is in."""
    for name, go_type in _OWNER_TEXTS:
        value = entry.get(name)
        if value.__class__ is not str and value is not None:
            error = FieldTypeError(json_kind(value), go_type)
            error.struct, error.path = "ManagedFieldsEntry", [name]
            raise error
    time = entry.get("time")
    if time is not None:
        try:
            _read_time(time, [])
        except FieldTypeError as error:
            error.struct, error.path = "ManagedFieldsEntry", ["time"]
            raise


_read_time = _moment(formats.canonical_time)


# Lists, maps and structs


def _list(element: Checker, zero: Any, go_type: str, *, keep: bool, plain: type | None) -> Checker:
    def check(value: Any, unknown: list[str]) -> Any:
        if value.__class__ is not list:
            raise FieldTypeError(json_kind(value), go_type)
        if not value:
            return value if keep else DROPPED
        result: list[Any] | None = None
        seen = len(unknown)
        for index, item in enumerate(value):
            if item.__class__ is plain:
                continue
            new = zero if item is None else element(item, unknown)
            if new is not item:
                if result is None:
                    result = list(value)
                result[index] = new
            if len(unknown) > seen:
                unknown[seen:] = [f"[{index}]{rest}" for rest in unknown[seen:]]
                seen = len(unknown)
        return value if result is None else result

    return check


def _map(element: Checker, zero: Any, go_type: str, *, keep: bool, plain: type | None) -> Checker:
    def check(value: Any, unknown: list[str]) -> Any:
        if value.__class__ is not dict:
            raise FieldTypeError(json_kind(value), go_type)
        if not value:
            return value if keep else DROPPED
        result: dict[str, Any] | None = None
        seen = len(unknown)
        for key, item in value.items():
            if item.__class__ is plain:
                continue
            new = zero if item is None else element(item, unknown)
            if new is not item:
                if result is None:
                    result = dict(value)
                result[key] = new
            if len(unknown) > seen:
                unknown[seen:] = [f".{key}{rest}" for rest in unknown[seen:]]
                seen = len(unknown)
        return value if result is None else result

    return check


class _Struct:
    """The compiled checker of one type. Its slots are filled after it is known, as types refer to themselves."""

    __slots__ = ("embedding", "fill", "fill_names", "go_type", "name", "slots")

    def __init__(self, name: str, go_type: str, embedding: Mapping[str, str]) -> None:
        self.name = name
        self.go_type = go_type
        self.embedding = embedding
        self.slots: dict[str, tuple[type | None, Checker]] = {}
        self.fill: dict[str, Any] = {}
        self.fill_names: frozenset[str] = frozenset()

    def __call__(self, value: Any, unknown: list[str]) -> Any:
        if value.__class__ is not dict:
            raise FieldTypeError(json_kind(value), self.go_type)
        slots, seen = self.slots, len(unknown)
        result: dict[str, Any] | None = None
        name = ""
        try:
            for name, item in value.items():
                slot = slots.get(name)
                if slot is None:
                    unknown.append(f".{name}")
                    seen += 1
                    new: Any = DROPPED
                elif item.__class__ is slot[0] and item:
                    continue
                elif item is None:
                    new = DROPPED
                else:
                    new = slot[1](item, unknown)
                    if len(unknown) > seen:
                        unknown[seen:] = [f".{name}{rest}" for rest in unknown[seen:]]
                        seen = len(unknown)
                    if new is item:
                        continue
                if result is None:
                    result = dict(value)
                if new is DROPPED:
                    del result[name]
                else:
                    result[name] = new
        except FieldTypeError as error:
            if not error.path:
                error.struct = self.name
            error.path.append(self.embedding.get(name, name))
            raise
        found = value if result is None else result
        if not self.fill_names <= found.keys():
            return {**self.fill, **found}
        return found


def _zero(field: Field, compiled: Compiled) -> Any:
    """What Go writes for a value that was never set."""
    if field.kind == "m":
        return compiled.empty(field.target)
    return {"s": "", "y": "", "b": False, "q": "0", "I": 0, "D": "0s", "t": None, "T": None, "F": None}.get(
        field.kind, None if field.kind in "RJ" else 0
    )


class Compiled:
    """The checkers of a type table."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._structs: dict[str, _Struct] = {}
        self._empty: dict[str, Object] = {}

    def struct(self, name: str) -> _Struct:
        """The checker of one type; raises ``KeyError`` for a name that is not known."""
        found = self._structs.get(name)
        if found is None:
            info = self._types[name]
            found = self._structs[name] = _Struct(info.short_name, info.go_type, info.embedding)
            for field in info.fields.values():
                listed = field.go_type == "v1.ResourceList" and name.startswith(_CORE)
                found.slots[field.name] = self._slot(field, _amount if listed else None)
            found.fill = self.empty(name)
            found.fill_names = frozenset(found.fill)
        return found

    def empty(self, name: str) -> Object:
        """What Go writes for a struct of this type in which nothing was set."""
        found = self._empty.get(name)
        if found is None:
            found = {}
            for field in self._types[name].fields.values():
                if field.omitzero:
                    continue
                always = not field.pointer and not field.shape and field.kind in "mqtTIDR"
                if always or not field.omitempty:
                    unset = field.pointer or field.shape or (field.kind == "y")
                    found[field.name] = None if unset else _zero(field, self)
            self._empty[name] = found
        return found

    def raise_fatal(self, value: Any, name: str) -> None:
        """Raise the first error Go stops at, if there is one: values that read themselves, unlike others, end the
        reading at once, whatever was wrong before them."""
        if not isinstance(value, dict):
            return
        fields = self._types[name].fields
        key = ""
        try:
            for key, item in value.items():
                field = fields.get(key)
                if field is not None and item is not None and field.kind in "mqtTDI":
                    self._raise_fatal_of(field, item)
        except FieldTypeError as error:
            if not error.path:
                error.struct = self.struct(name).name
            error.path.append(self.struct(name).embedding.get(key, key))
            raise

    def _raise_fatal_of(self, field: Field, item: Any) -> None:
        if field.shape == "l":
            values = item if isinstance(item, list) else []
        elif field.shape:
            values = list(item.values()) if isinstance(item, dict) and field.shape == "m" else []
        else:
            values = [item]
        for each in values:
            if each is None:
                continue
            if field.kind == "m":
                self.raise_fatal(each, field.target)
            else:
                self._one(field, keep=True)(each, [])

    def _slot(self, field: Field, amount: Checker | None = None) -> tuple[type | None, Checker]:
        keep = field.pointer or not field.omitempty
        if field.name == "managedFields":
            return None, _managed_fields  # an empty list is an order to forget them, so it has to stay
        if not field.shape:
            plain = {"s": str, "b": bool}.get(field.kind)
            return plain, self._one(field, keep)
        element = amount or self._one(field, keep=True)
        plain_element = str if field.kind == "s" else None
        zero = _zero(field, self) if field.kind != "m" else None
        if field.shape == "M":
            element = _list(element, "", field.element_go_type, keep=True, plain=str)
            plain_element = None
        if field.kind == "m":
            zero = self.empty(field.target)
        maker = _list if field.shape == "l" else _map
        keep = not field.omitempty or (field.name, field.element_go_type) in _JUDGED_EMPTY
        return None, maker(element, zero, field.go_type, keep=keep, plain=plain_element)

    def _one(self, field: Field, keep: bool) -> Checker:
        kind = field.kind
        if kind == "m":
            check = _Deferred(self, field.target)
            return _Repeated(check) if field.target in REPEATED else check
        if kind == "s":
            return _text(field.element_go_type, keep)
        if kind in _RANGES:
            return _integer(kind, field.element_go_type, keep)
        if kind == "J" and field.target in _SCHEMA_OR:
            return _SchemaOr(self, field.target)
        if field.target == _NO_FIELDS:
            return _no_fields
        made: Mapping[str, Checker] = {
            "b": _boolean(keep),
            "d": _float(keep),
            "y": _bytes(keep),
            "q": _quantity,
            "I": _int_or_string,
            "D": _duration,
            "t": _moment(formats.canonical_time),
            "T": _moment(formats.canonical_micro_time),
        }
        return made.get(kind, _anything)


_SCHEMA_OR = frozenset(("v1.JSONSchemaPropsOrArray", "v1.JSONSchemaPropsOrBool", "v1.JSONSchemaPropsOrStringArray"))
_JSON_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"


_NO_FIELDS = "v1.CustomResourceSubresourceStatus"


def _no_fields(value: Any, unknown: list[str]) -> Any:
    """A struct without any fields."""
    if value.__class__ is not dict:
        raise FieldTypeError(json_kind(value), _NO_FIELDS)
    unknown.extend(f".{name}" for name in value)
    return {} if value else value


class _SchemaOr:
    """A JSON schema or what else may stand in its place; fields it does not know go without a word, as upstream."""

    __slots__ = ("_schema", "_target")

    def __init__(self, compiled: Compiled, target: str) -> None:
        self._schema = _Deferred(compiled, _JSON_SCHEMA)
        self._target = target

    def __call__(self, value: Any, _: list[str]) -> Any:
        try:
            return self._read(value)
        except FieldTypeError as error:
            if error.path:
                error.struct = "JSONSchemaProps"  # the one it stands in: Go reads it on its own, then adds where
            raise

    def _read(self, value: Any) -> Any:
        if value.__class__ is dict:
            return self._schema(value, [])
        if self._target == "v1.JSONSchemaPropsOrBool":
            if value.__class__ is not bool:
                raise DecodeError("boolean or JSON schema expected")
            return value
        if value.__class__ is not list:
            return None
        if self._target == "v1.JSONSchemaPropsOrStringArray":
            return value
        schemas = [self._schema({} if each is None else each, []) for each in value]
        return schemas or None


class _Deferred:
    """A struct checker that is compiled when a value of its type is first met."""

    __slots__ = ("_check", "_compiled", "_name")

    def __init__(self, compiled: Compiled, name: str) -> None:
        self._compiled = compiled
        self._name = name
        self._check: _Struct | None = None

    def __call__(self, value: Any, unknown: list[str]) -> Any:
        check = self._check
        if check is None:
            check = self._check = self._compiled.struct(self._name)
        return check(value, unknown)


class _Repeated:
    """Checks values that come again and again, as the specs of pods made from one template do.

    They are known by their JSON, checked once, and become one object, which saves those after us work, too.
    """

    __slots__ = ("_check", "_known")

    def __init__(self, check: Checker) -> None:
        self._check = check
        self._known: dict[bytes, Any] = {}

    def __call__(self, value: Any, unknown: list[str]) -> Any:
        try:
            text = orjson.dumps(value)
        except orjson.JSONEncodeError:
            return self._check(value, unknown)
        if b"null" in text:
            return self._check(value, unknown)  # which is how numbers that are none look, too
        found = self._known.get(text)
        if found is not None:
            return found
        seen = len(unknown)
        found = self._check(value, unknown)
        if len(unknown) == seen and len(text) <= _REMEMBERED_BYTES and found is not DROPPED:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[text] = found
        return found


def compiled(types: Types) -> Compiled:
    """The checkers of ``types``, made once."""
    memory = types.compiled("decode")
    found: Compiled | None = memory.get("structs")
    if found is None:
        found = memory["structs"] = Compiled(types)
    return found


def check_fields(
    obj: Any, type_name: str, types: Types, body: bytes | None = None, known: Object | None = None
) -> tuple[Object, Sequence[str]]:
    """``(object as Go has it after reading, complaints such as 'unknown field "spec.foo"')``.

    Raises ``DecodeError`` with Go's message for a value of a wrong type; ``body``, the JSON the object was read from,
    makes the message name numbers as they were written. ``known`` is an object that was checked before: what stands in
    both at the top (``spec`` of a status patch, say) is not looked at again.
    """
    unknown: list[str] = []
    check = compiled(types).struct(type_name)
    try:
        found = check(obj, unknown) if known is None else _check_new(check, obj, known, unknown)
    except DecodeError:
        said = obj if body is None else json.loads(body, parse_float=FloatText)
        compiled(types).raise_fatal(said, type_name)
        if body is not None:
            check(said, [])
        raise
    if unknown:
        return found, [f'unknown field "{path[1:] if path[0] == "." else path}"' for path in unknown]
    return found, ()


def _check_new(check: _Struct, obj: Object, known: Object, unknown: list[str]) -> Object:
    changed = {name: value for name, value in obj.items() if value is None or known.get(name) is not value}
    if len(changed) == len(obj):
        found: Object = check(obj, unknown)
        return found
    checked = check(changed, unknown)
    kept = {name: value for name, value in obj.items() if name not in changed}
    return {**checked, **kept}
