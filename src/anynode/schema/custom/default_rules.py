"""Which default values a schema may have: known fields only, good by their own schema, good metadata.

Source: apiextensions-apiserver ``pkg/apiserver/schema/defaulting/{validation,prune,surroundingobject}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from anynode.api.objects import Object
from anynode.cel.environment import PER_REQUEST_BUDGET, Budget
from anynode.schema import typed
from anynode.schema.custom import cel_validation, object_rules, value_rules
from anynode.schema.custom.correlation import alike
from anynode.schema.custom.pruning import coerced, pruned
from anynode.schema.custom.structural import META_FIELDS, Structural
from anynode.schema.custom.value_schema import ValueSchema
from anynode.schema.custom.wording import NOWHERE, invalid
from anynode.schema.fields import FieldError

_TYPE: Object = {"apiVersion": "validation/v1", "kind": "Validation"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Surroundings:
    """The object a value stands in: its schema, and the steps to the value (``[]``: into a list)."""

    root: Structural
    steps: tuple[str, ...] = ()

    def step(self, name: str) -> _Surroundings:
        return _Surroundings(self.root, (*self.steps, name))

    def around(self, value: Any) -> Object:
        for step in reversed(self.steps):
            value = [value] if step == "[]" else {step: value}
        return {**_TYPE, **value} if isinstance(value, dict) else dict(_TYPE)


def validate(node: Structural, path: str, *, require_pruned: bool) -> list[FieldError]:
    """What is wrong with the default values in the schema of whole objects at ``path``."""
    if not node.defaults and node.default is None:
        return []
    root = node.as_embedded()
    return _walk(
        root,
        path,
        _Surroundings(root),
        in_metadata=False,
        pruned_only=require_pruned,
        budget=Budget(PER_REQUEST_BUDGET),
    )


def _walk(
    node: Structural, path: str, around: _Surroundings, *, in_metadata: bool, pruned_only: bool, budget: Budget
) -> list[FieldError]:
    if not node.defaults and node.default is None:
        return []
    if node.embedded:
        in_metadata, around = False, _Surroundings(node)
    errors: list[FieldError] = []
    if node.default is not None:
        where = f"{path}.default"
        if in_metadata:
            errors += _metadata_default(node, where, around, budget)
        else:
            errors += _default(node, where, around.root is node, pruned_only, budget)
    if node.items is not None:
        errors += _walk(
            node.items, f"{path}.items", around.step("[]"),
            in_metadata=in_metadata, pruned_only=pruned_only, budget=budget,
        )  # fmt: skip
    for name, each in node.properties.items():
        inside = in_metadata or (node.embedded and name in META_FIELDS)
        where = f"{path}.properties[{name}]"
        errors += _walk(each, where, around.step(name), in_metadata=inside, pruned_only=pruned_only, budget=budget)
    return errors


def _default(node: Structural, path: str, is_root: bool, pruned_only: bool, budget: Budget) -> list[FieldError]:
    value, errors = node.default, list[FieldError]()
    if pruned_only and not alike(pruned(value, node, whole=node.embedded)[0], value):
        errors.append(invalid(path, value, "must not have unknown fields"))
    strict = node.as_embedded() if node.embedded else node
    try:
        value = coerced(value, strict, path, [], lenient=False)
    except typed.DecodeError as error:
        field, _, message = str(error).partition(": ")
        return [*errors, FieldError("FieldValueInvalid", field or NOWHERE, message)]
    found = object_rules.embedded_errors(value, strict, path) or _value_errors(node, value, path)
    return errors + (found or _rule_errors(node, value, path, is_root, budget))


def _value_errors(node: Structural, value: Any, path: str) -> list[FieldError]:
    schema = ValueSchema(node.raw, strip_formats=False, int_or_string=False)
    return value_rules.errors(schema, value, path=path)


def _rule_errors(node: Structural, value: Any, path: str, is_root: bool, budget: Budget) -> list[FieldError]:
    tree = cel_validation.rule_tree(node, root=is_root)
    if tree is None:
        return []
    as_update = cel_validation.judge(tree, value, value, path=path, budget=budget).errors
    return as_update or cel_validation.judge(tree, value, path=path, budget=budget).errors


def _metadata_default(node: Structural, path: str, around: _Surroundings, budget: Budget) -> list[FieldError]:
    value = node.default
    said = "must result in valid metadata"
    obj = around.around(value)
    try:
        obj = coerced(obj, around.root.as_embedded(), "", [], lenient=False)
    except typed.DecodeError as error:
        return [invalid(path, value, f"{said}: {error}")]
    wrong = object_rules.embedded_errors(obj, around.root.as_embedded())
    if wrong:
        texts = list(dict.fromkeys(f"{each.field}: {each.message}" for each in wrong))
        shown = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        return [invalid(path, value, f"{said}: {shown}")]
    return _value_errors(node, value, path) or _rule_errors(node, value, path, False, budget)


def pruned_defaults(node: Structural) -> Structural:
    """The schema with what its own defaults may not say left out, as it is served."""
    root = node

    def change(each: Structural, steps: tuple[str, ...]) -> Any:
        around = _Surroundings(root, tuple(step for step in steps))
        value = each.default
        obj: Any = value
        for step in reversed(around.steps):
            obj = [obj] if step == "[]" else {step: obj}
        if not isinstance(obj, dict):
            return value
        obj = coerced(obj, root.as_embedded(), "", [], lenient=True)
        obj, _ = pruned(obj, root, whole=True)
        for step in around.steps:
            if isinstance(obj, list) and obj:
                obj = obj[0]
            elif isinstance(obj, dict) and step in obj:
                obj = obj[step]
            else:
                return None
        return obj

    return node.with_defaults(change)
