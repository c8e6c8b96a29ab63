"""What each keyword of a definition's schema may say, and whether its rules compile and are cheap enough.

Complaints about keywords come before those about rules. Source: apiextensions-apiserver
``pkg/apis/apiextensions/validation/validation.go`` (ValidateCustomResourceDefinitionOpenAPISchema), 1.36.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Protocol

from anynode.api.objects import Object
from anynode.schema.custom import cel_rules
from anynode.schema.custom.cel_rules import CompiledRule
from anynode.schema.custom.cost_rules import MOST_RULE_COST, CelContext, cost_error, times
from anynode.schema.custom.definition_form import items_form, rule_form
from anynode.schema.custom.field_paths import FieldPathError, valid_field_path
from anynode.schema.custom.structural import META_FIELDS, StructuralError, structural
from anynode.schema.custom.wording import forbidden, internal, invalid, not_supported, required
from anynode.schema.fields import FieldError

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")


class Asked(Protocol):
    """What the caller asks of a definition."""

    @property
    def require_types(self) -> bool: ...
    @property
    def require_atomic_sets(self) -> bool: ...
    @property
    def require_map_keys(self) -> bool: ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """What holds on the way down: defaults forbidden and why, inside of metadata, where old values are lost."""

    no_defaults: str | None = None
    in_metadata: bool = False
    uncorrelatable: str = ""
    root: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeywordRules:
    leniency: Asked
    suppress_cost: bool

    def errors(self, schema: Object, path: str, context: CelContext | None) -> list[FieldError]:
        """What is wrong with ``schema`` and everything in it."""
        about_keywords, about_rules = self._walk(schema, path, _Place(root=True), context)
        return [*about_keywords, *about_rules]

    def _walk(
        self, schema: Object, path: str, place: _Place, context: CelContext | None
    ) -> tuple[list[FieldError], list[FieldError]]:
        keywords, rules = self._own_keywords(schema, path, place), list[FieldError]()
        inner_place = dataclasses.replace(place, root=False)
        for each, where, inner, below in self._inner(schema, path, inner_place, place, context):
            found, about = self._walk(each, where, inner, below)
            keywords += found
            rules += about
        keywords += self._list_and_map_keywords(schema, path)
        declared_rules = schema.get("x-kubernetes-validations") or ()
        for at, rule in enumerate(declared_rules):
            keywords += _rule_keywords(rule, schema, f"{path}.x-kubernetes-validations[{at}]")
        if declared_rules and not keywords and context is not None:
            rules += self._compiled(context, path, place)
        return keywords, rules

    def _own_keywords(self, schema: Object, path: str, place: _Place) -> list[FieldError]:
        errors: list[FieldError] = []
        kind = schema.get("type") or ""
        if self.leniency.require_types and kind and kind not in TYPES:
            errors.append(not_supported(f"{path}.type", kind, TYPES))
        if schema.get("default") is not None and place.no_defaults is not None:
            errors.append(forbidden(f"{path}.default", f"must not be set {place.no_defaults}"))
        errors += [
            forbidden(f"{path}.{field}", f"{field} is not supported")
            for field in _UNSUPPORTED
            if schema.get(field) or (field == "additionalItems" and field in schema)
        ]
        if kind == "null":
            text = "type cannot be set to null, use nullable as an alternative"
            errors.append(forbidden(f"{path}.type", text))
        if isinstance(schema.get("items"), list) and schema["items"]:
            errors.append(forbidden(f"{path}.items", "items must be a schema object and not an array"))
        if place.in_metadata and schema.get("x-kubernetes-embedded-resource"):
            text = "must not be used inside of resource meta"
            errors.append(forbidden(f"{path}.x-kubernetes-embedded-resource", text))
        if schema.get("uniqueItems"):
            text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
            errors.append(forbidden(f"{path}.uniqueItems", text))
        additional = schema.get("additionalProperties")
        if additional is not None and schema.get("properties") and additional is not True:
            text = "additionalProperties and properties are mutual exclusive"
            errors.append(forbidden(f"{path}.additionalProperties", text))
        return errors

    def _inner(
        self, schema: Object, path: str, inner: _Place, place: _Place, context: CelContext | None
    ) -> list[tuple[Object, str, _Place, CelContext | None]]:
        """The schemas directly inside, each with its path and what holds there."""
        found: list[tuple[Object, str, _Place, CelContext | None]] = []
        node = None if context is None else context.node
        additional, items = schema.get("additionalProperties"), schema.get("items")
        if isinstance(additional, dict):
            there = inner
            if place.in_metadata:
                reason = "inside additionalProperties applying to object metadata"
                there = dataclasses.replace(inner, no_defaults=reason)
            below = None if context is None or node is None else context.child(node.additional, "{}")
            found.append((additional, f"{path}.additionalProperties", there, below))
        for name, each in sorted((schema.get("properties") or {}).items()):
            below = None if context is None or node is None else context.child(node.properties.get(name), name)
            found.append((each, f"{path}.properties[{name}]", _property_place(schema, path, name, inner, place), below))
        if schema.get("not") is not None:
            found.append((schema["not"], f"{path}.not", inner, None))
        for junctor in ("allOf", "oneOf", "anyOf"):
            for at, each in enumerate(schema.get(junctor) or ()):
                found.append((each, f"{path}.{junctor}[{at}]", inner, None))
        for name, each in sorted((schema.get("definitions") or {}).items()):
            found.append((each, f"{path}.definitions[{name}]", inner, None))
        there = inner
        if schema.get("x-kubernetes-list-type") != "map":
            there = _lost(inner, path)
        if isinstance(items, dict):
            below = None if context is None or node is None else context.child(node.items, "[]")
            found.append((items, f"{path}.items", there, below))
        elif isinstance(items, list):
            found.extend((each, f"{path}.items[{at}]", there, None) for at, each in enumerate(items))
        for name, each in sorted((schema.get("dependencies") or {}).items()):
            if isinstance(each, dict):
                found.append((each, f"{path}.dependencies[{name}]", inner, None))
        return found

    def _list_and_map_keywords(self, schema: Object, path: str) -> list[FieldError]:
        errors: list[FieldError] = []
        kind, map_type = schema.get("type") or "", schema.get("x-kubernetes-map-type")
        if schema.get("x-kubernetes-preserve-unknown-fields") is False:
            where = f"{path}.x-kubernetes-preserve-unknown-fields"
            errors.append(invalid(where, False, "must be true or undefined"))
        if map_type is not None and kind != "object":
            text, where = "must be object if x-kubernetes-map-type is specified", f"{path}.type"
            errors.append(invalid(where, kind, text) if kind else required(where, text))
        if map_type is not None and map_type not in ("atomic", "granular"):
            errors.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular")))
        errors += self._list_type(schema, path, kind)
        keys, list_type = schema.get("x-kubernetes-list-map-keys") or (), schema.get("x-kubernetes-list-type")
        if keys and list_type != "map":
            text, where = "must be map if x-kubernetes-list-map-keys is non-empty", f"{path}.x-kubernetes-list-type"
            errors.append(required(where, text) if list_type is None else invalid(where, list_type, text))
        if list_type == "map":
            errors += _list_map(schema, keys, path)
        if self.leniency.require_map_keys:
            errors += map_key_errors(schema, path)
        return errors

    def _list_type(self, schema: Object, path: str, kind: str) -> list[FieldError]:
        list_type, items = schema.get("x-kubernetes-list-type"), schema.get("items")
        if list_type is None:
            return []
        errors: list[FieldError] = []
        if kind != "array":
            text, where = "must be array if x-kubernetes-list-type is specified", f"{path}.type"
            errors.append(invalid(where, kind, text) if kind else required(where, text))
        elif self.leniency.require_atomic_sets and list_type == "set" and isinstance(items, dict):
            inner, text = (
                items.get("x-kubernetes-list-type"),
                "must be atomic as item of a list with x-kubernetes-list-type=set",
            )
            if items.get("type") == "array" and inner not in (None, "atomic"):
                errors.append(invalid(f"{path}.items.x-kubernetes-list-type", inner, text))
            if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
                errors.append(invalid(f"{path}.items.x-kubernetes-map-type", inner, text))
        if list_type not in ("atomic", "set", "map"):
            errors.append(not_supported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "set", "map")))
        return errors

    # Rules

    def _compiled(self, context: CelContext, path: str, place: _Place) -> list[FieldError]:
        path = f"{path}.x-kubernetes-validations"
        declared = context.declared()
        if declared is None:
            said = "internal error: failed to construct type information for x-kubernetes-validations rules: "
            return [internal(path, f"{said}unable to convert structural schema to CEL declarations")]
        errors: list[FieldError] = []
        for at, rule in enumerate(cel_rules.compile_rules(context.node, declared)):
            errors += self._rule_errors(rule, f"{path}[{at}]", context, place)
        return errors

    def _rule_errors(self, rule: CompiledRule, path: str, context: CelContext, place: _Place) -> list[FieldError]:
        errors: list[FieldError] = []
        bound = rule.cardinality if context.cardinality is None else context.cardinality
        cost = times(rule.cost, bound)
        if cost > MOST_RULE_COST and not self.suppress_cost:
            errors.append(forbidden(f"{path}.rule", cost_error("estimated rule cost", cost, MOST_RULE_COST)))
        context.total.observe(f"{path}.rule", cost)
        if rule.error:
            errors.append(invalid(f"{path}.rule", rule_form(rule.source), rule.error))
        if rule.message_error:
            errors.append(invalid(f"{path}.messageExpression", rule_form(rule.source), rule.message_error))
        elif rule.message is not None:
            if rule.message_cost > MOST_RULE_COST and not self.suppress_cost:
                text = cost_error("estimated messageExpression cost", rule.message_cost, MOST_RULE_COST)
                errors.append(forbidden(f"{path}.messageExpression", text))
            context.total.observe(f"{path}.messageExpression", rule.message_cost)
        if rule.uses_old_self:
            if place.uncorrelatable:
                text = (
                    f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelatable}"
                )
                errors.append(invalid(f"{path}.rule", rule.source.get("rule") or "", text))
        elif rule.source.get("optionalOldSelf") is not None:
            text = "may not be set if oldSelf is not used in rule"
            errors.append(invalid(f"{path}.optionalOldSelf", rule.source["optionalOldSelf"], text))
        return errors


def _property_place(schema: Object, path: str, name: str, inner: _Place, place: _Place) -> _Place:
    there = inner
    if schema.get("x-kubernetes-map-type") not in (None, "granular", "atomic"):
        there = _lost(there, path)
    if (place.root or schema.get("x-kubernetes-embedded-resource")) and name in META_FIELDS:
        there = dataclasses.replace(there, in_metadata=True)
        if place.root:
            there = dataclasses.replace(there, no_defaults=f"in top-level {name}")
    return there


def _lost(place: _Place, path: str) -> _Place:
    return place if place.uncorrelatable else dataclasses.replace(place, uncorrelatable=path)


def _list_map(schema: Object, keys: Sequence[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    items: Any = schema.get("items")
    keys_path = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        errors.append(required(keys_path, "must not be empty if x-kubernetes-list-type is map"))
    if items is None:
        errors.append(required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map"))
    elif not isinstance(items, dict):
        text = "must only have a single schema if x-kubernetes-list-type is map"
        errors.append(invalid(f"{path}.items", items_form(items), text))
    elif items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        errors.append(invalid(f"{path}.items.type", items.get("type") or "", text))
    else:
        seen: set[str] = set()
        properties = items.get("properties") or {}
        for key in keys:
            if key not in properties:
                errors.append(invalid(keys_path, list(keys), "entries must all be names of item properties"))
            elif properties[key].get("type") in ("array", "object"):
                text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
                errors.append(invalid(f"{path}.items.properties[{key}].type", "object", text))
            if key in seen:
                errors.append(invalid(keys_path, list(keys), "must not contain duplicate entries"))
            seen.add(key)
    return errors


def map_key_errors(schema: Object, path: str) -> list[FieldError]:
    """Items and keys of sets and maps that could be missing or null."""
    items, list_type = schema.get("items"), schema.get("x-kubernetes-list-type")
    if not isinstance(items, dict) or list_type not in ("set", "map"):
        return []
    errors: list[FieldError] = []
    if items.get("nullable"):
        text = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        errors.append(forbidden(f"{path}.items.nullable", text))
    if list_type == "set":
        return errors
    wanted, properties = items.get("required") or (), items.get("properties") or {}
    for key in schema.get("x-kubernetes-list-map-keys") or ():
        found = properties.get(key)
        if found is None:
            continue
        where, said = f"{path}.items.properties[{key}]", "this property is in x-kubernetes-list-map-keys, so it"
        if key not in wanted and found.get("default") is None:
            errors.append(required(f"{where}.default", f"{said} must have a default or be a required property"))
        if found.get("nullable"):
            errors.append(forbidden(f"{where}.nullable", f"{said} cannot be nullable"))
    return errors


def _rule_keywords(rule: Object, schema: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    text, message, said = rule.get("rule") or "", rule.get("message") or "", rule.get("messageExpression") or ""
    if not text.strip():
        errors.append(required(f"{path}.rule", "rule is not specified"))
    elif message and not message.strip():
        errors.append(invalid(f"{path}.message", message, "must be non-empty if specified"))
    elif _has_breaks(message.strip()):
        errors.append(invalid(f"{path}.message", message, "must not contain line breaks"))
    elif _has_breaks(text.strip()) and not message.strip():
        errors.append(required(f"{path}.message", "message must be specified if rule contains line breaks"))
    if said and not said.strip():
        errors.append(required(f"{path}.messageExpression", "messageExpression must be non-empty if specified"))
    reason = rule.get("reason")
    if reason is not None and reason not in _REASONS:
        errors.append(not_supported(f"{path}.reason", reason, _REASONS))
    field = rule.get("fieldPath") or ""
    if field and not field.strip():
        errors.append(invalid(f"{path}.fieldPath", field, "must be non-empty if specified"))
    if _has_breaks(field):
        errors.append(invalid(f"{path}.fieldPath", field, "must not contain line breaks"))
    if field and not _leads_somewhere(field, schema):
        errors.append(invalid(f"{path}.fieldPath", field, "must be a valid path"))
    return errors


def _leads_somewhere(path: str, schema: Object) -> bool:
    try:
        node = structural(schema)
    except StructuralError:
        return True
    try:
        valid_field_path(path, node)
    except FieldPathError:
        return False
    return True


def _has_breaks(text: str) -> bool:
    return re.search("[\n\r]", text) is not None
