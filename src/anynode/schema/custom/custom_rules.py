"""The rules of a custom resource: what a write may change, and what is wrong with the object in the end.

Complaints come as upstream orders them: type, schema, scale paths, embedded objects, lists, CEL. An update is told what
it may keep though it is wrong; those texts are the findings' warnings. Source: apiextensions-apiserver
``pkg/registry/customresource/{strategy,status_strategy,validator}.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynode.api import names
from anynode.api.go_text import go_quoted, go_type, go_value
from anynode.api.objects import Object, meta
from anynode.api.resources import Resource
from anynode.schema import metadata
from anynode.schema.custom import cel_validation, object_rules, value_rules
from anynode.schema.custom.correlation import Correlated
from anynode.schema.custom.structural import Structural
from anynode.schema.custom.value_schema import ValueSchema
from anynode.schema.custom.wording import invalid
from anynode.schema.fields import FieldError
from anynode.schema.rules import Findings, KindRules

_BLOCKING = frozenset({
    "FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid",
})  # fmt: skip
_UNCHECKED = "some validation rules were not checked because the object was invalid; "
_UNCHECKED += "correct the existing errors to complete validation"
_STANDARD_FINALIZERS = frozenset({"orphan", "foregroundDeletion", "kubernetes"})
_MOST_REPLICAS = 2**31 - 1


class CustomRules:
    """Judges the objects of one version."""

    def __init__(self, resource: Resource, version: Object, node: Structural | None, raw: Object | None) -> None:
        subresources = version.get("subresources") or {}
        self._resource = resource
        self._node = node
        self._schema = ValueSchema(raw or {})
        status = ((raw or {}).get("properties") or {}).get("status")
        self._status_schema = ValueSchema(status) if status is not None else None
        self._has_status = subresources.get("status") is not None
        self._scale: Object | None = subresources.get("scale")
        self._tree = None if node is None else cel_validation.rule_tree(node, root=True)

    def kind_rules(self, default: Callable[[Object], Object]) -> KindRules:
        return KindRules(
            default=default,
            prepare_create=self.prepare_create,
            prepare_update=self.prepare_update,
            prepare_status=prepare_status,
            validate=self.validate,
            validate_update=self.validate_update,
            validate_status=self.validate_status,
            warnings=finalizer_warnings,
            update_warnings=finalizer_warnings_between,
            valid_name=metadata.subdomain_name,
            allow_unconditional_update=False,
        )

    # What a write may change

    def prepare_create(self, obj: Object) -> Object:
        if self._has_status and "status" in obj:
            obj = {field: value for field, value in obj.items() if field != "status"}
        return _with_generation(obj, 1)

    def prepare_update(self, new: Object, old: Object) -> Object:
        if self._has_status and (new.get("status") is not old.get("status") or "status" in new):
            new = {field: value for field, value in new.items() if field != "status"}
            if "status" in old:
                new["status"] = old["status"]
        generation = meta(old).get("generation") or 0
        same = len(new.keys() - {"metadata"}) == len(old.keys() - {"metadata"}) and all(
            new.get(field) == value for field, value in old.items() if field != "metadata"
        )
        return _with_generation(new, generation if same else generation + 1)

    # What is wrong

    def validate(self, obj: Object) -> Sequence[FieldError]:
        errors = self._type_errors(obj) or [*value_rules.errors(self._schema, obj), *self._scale_errors(obj)]
        errors += object_rules.embedded_errors(obj, self._node)
        errors += object_rules.list_errors(obj, self._node)
        if self._tree is None:
            return errors
        return self._ruled(errors, obj, None, None)

    def validate_update(self, new: Object, old: Object) -> Sequence[FieldError]:
        correlated = Correlated(new, old, self._node)
        errors = self._type_errors(new) or [
            *value_rules.errors(self._schema, new, correlated=correlated),
            *self._scale_errors(new),
        ]
        errors += object_rules.embedded_errors(new, self._node)
        errors += self._new_list_errors(new, old)
        return errors if self._tree is None else self._ruled(errors, new, old, correlated)

    def validate_status(self, new: Object, old: Object) -> Sequence[FieldError]:
        correlated = Correlated(new, old, self._node)
        errors = self._type_errors(new) or self._status_errors(new, old, correlated)
        errors += self._new_list_errors(new, old)
        return errors if self._tree is None else self._ruled(errors, new, old, correlated)

    def _status_errors(self, new: Object, old: Object, correlated: Correlated) -> list[FieldError]:
        errors: list[FieldError] = []
        if "status" in new and self._status_schema is not None:
            status = correlated.key("status") or Correlated(new["status"], old.get("status"), None)
            errors += value_rules.errors(self._status_schema, new["status"], path="status", correlated=status)
        return errors + self._status_scale_errors(new)

    def _ruled(
        self, errors: list[FieldError], new: Object, old: Object | None, correlated: Correlated | None
    ) -> Sequence[FieldError]:
        if any(each.reason in _BLOCKING for each in errors):
            return [*errors, invalid("", None, _UNCHECKED)]
        assert self._tree is not None
        verdict = cel_validation.judge(self._tree, new, old, correlated=correlated)
        return Findings([*errors, *verdict.errors], warnings=verdict.warnings)

    def _new_list_errors(self, new: Object, old: Object) -> list[FieldError]:
        found = object_rules.list_errors(new, self._node)
        return found if found and not object_rules.list_errors(old, self._node) else []

    def _type_errors(self, obj: Object) -> list[FieldError]:
        kind, version = obj.get("kind") or "", obj.get("apiVersion") or ""
        resource = self._resource
        errors = [] if kind == resource.kind else [invalid("kind", kind, f"must be {resource.kind}")]
        if version != resource.api_version:
            errors.append(invalid("apiVersion", version, f"must be {resource.api_version}"))
        return errors

    # Scale

    def _scale_errors(self, obj: Object) -> list[FieldError]:
        if self._scale is None:
            return []
        return [*_replica_errors(obj, self._scale.get("specReplicasPath") or ""), *self._status_scale_errors(obj)]

    def _status_scale_errors(self, obj: Object) -> list[FieldError]:
        if self._scale is None:
            return []
        errors = _replica_errors(obj, self._scale.get("statusReplicasPath") or "")
        selector = self._scale.get("labelSelectorPath")
        if selector is not None:
            found, why = nested(obj, selector, str, "string")
            if why:
                errors.append(invalid(selector, found if isinstance(found, str) else "", why))
        return errors


def _with_generation(obj: Object, generation: int) -> Object:
    return {**obj, "metadata": {**meta(obj), "generation": generation}}


def prepare_status(new: Object, old: Object) -> Object:
    """The old object with the new status, and the new entries on whose fields are whose."""
    entries = meta(new).get("managedFields")
    kept = {field: value for field, value in meta(old).items() if field != "managedFields"}
    if entries is not None:
        kept["managedFields"] = entries
    given = meta(new).get("resourceVersion")
    if given:
        kept["resourceVersion"] = given
    found = {**old, "metadata": kept}
    if "status" in new:
        found["status"] = new["status"]
    else:
        found.pop("status", None)
    return found


def nested(obj: Object, path: str, wanted: type, said: str) -> tuple[Any, str]:
    """``(the value at a dotted path or None, what is wrong there)``."""
    value: Any = obj
    steps = path.removeprefix(".").split(".")
    for at, step in enumerate(steps):
        if not isinstance(value, dict):
            return None, _not_of_type(steps[: at + 1], value, "map[string]interface{}")
        if step not in value:
            return None, ""
        value = value[step]
    return (value, "") if value.__class__ is wanted else (None, _not_of_type(steps, value, said))


def _not_of_type(steps: Sequence[str], value: Any, wanted: str) -> str:
    path = f".{'.'.join(steps)}"
    return f"{path} accessor error: {go_value(value)} is of the type {go_type(value)}, expected {wanted}"


def _replica_errors(obj: Object, path: str) -> list[FieldError]:
    found, why = nested(obj, path, int, "int64")
    if why:
        return [invalid(path, 0, why)]
    if found is None or 0 <= found <= _MOST_REPLICAS:
        return []
    if found < 0:
        return [invalid(path, found, "should be a non-negative integer")]
    return [invalid(path, found, f"should be less than or equal to {_MOST_REPLICAS}")]


# Finalizers


def finalizer_warnings(obj: Object) -> Sequence[str]:
    return _finalizer_warnings(meta(obj).get("finalizers") or ())


def finalizer_warnings_between(new: Object, old: Object) -> Sequence[str]:
    before = set(meta(old).get("finalizers") or ())
    return _finalizer_warnings([each for each in meta(new).get("finalizers") or () if each not in before])


def _finalizer_warnings(finalizers: Sequence[str]) -> list[str]:
    found: list[str] = []
    for each in sorted(set(finalizers)):
        head = f"metadata.finalizers: {go_quoted(each)}"
        found.extend(f"{head}: {text}" for text in names.qualified_name(each))
        if "/" not in each and each not in _STANDARD_FINALIZERS:
            path = " including a path (/)" if "." in each else ""
            text = "to avoid accidental conflicts with other finalizer writers"
            found.append(f"{head}: prefer a domain-qualified finalizer name{path} {text}")
    return found
