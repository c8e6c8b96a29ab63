"""The rules of one schema (``x-kubernetes-validations``), compiled: programs, what they may cost, what is wrong.

Source: apiextensions-apiserver ``pkg/apiserver/schema/cel/compilation.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from anynode.api.objects import Object
from anynode.cel import errors, types
from anynode.cel.environment import Environment, Program, Sizer, sizes_of
from anynode.schema.custom.cel_types import MOST_REQUEST_BYTES
from anynode.schema.custom.field_paths import FieldPathError, valid_field_path
from anynode.schema.custom.structural import Structural

SELF, OLD_SELF = "self", "oldSelf"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRule:
    """One rule. ``error`` and ``message_error`` say what is wrong with it or its message expression."""

    source: Object
    program: Program | None = None
    error: str = ""
    uses_old_self: bool = False
    cost: int = 0
    cardinality: int = 0
    message: Program | None = None
    message_error: str = ""
    message_cost: int = 0
    path: str = ""

    @property
    def optional_old_self(self) -> bool:
        return bool(self.source.get("optionalOldSelf"))


def compile_rules(node: Structural, declared: types.Type, rules: Sequence[Object] | None = None) -> list[CompiledRule]:
    """The rules of ``node`` (or those given in their place) as they read values of the type ``declared``."""
    rules = node.rules if rules is None else rules
    cardinality = MOST_REQUEST_BYTES // (declared.min_serialized_size + 1)
    plain = _lazily(lambda: Environment.kubernetes({SELF: declared, OLD_SELF: declared}))
    optional = _lazily(lambda: Environment.kubernetes({SELF: declared, OLD_SELF: types.optional_of(declared)}))
    sizer = sizes_of(declared)
    return [
        _compiled(rule, node, optional if rule.get("optionalOldSelf") else plain, cardinality, sizer) for rule in rules
    ]


def _lazily(make: Callable[[], Environment]) -> Callable[[], Environment]:
    made: list[Environment] = []

    def get() -> Environment:
        if not made:
            made.append(make())
        return made[0]

    return get


def _compiled(
    rule: Object, node: Structural, environment: Callable[[], Environment], cardinality: int, sizer: Sizer
) -> CompiledRule:
    text = rule.get("rule") or ""
    if not text.strip():
        return CompiledRule(source=rule)
    try:
        program = environment().compile(text, returns=(types.BOOL,))
    except errors.CelError as error:
        return CompiledRule(source=rule, error=_rule_error(error))
    compiled = CompiledRule(
        source=rule,
        program=program,
        uses_old_self=OLD_SELF in program.variables_used,
        cost=program.estimate(sizer).max,
        cardinality=cardinality,
        path=_normalized(rule, node),
    )
    said = rule.get("messageExpression") or ""
    if not said:
        return compiled
    try:
        message = environment().compile(said, returns=(types.STRING,))
    except errors.CelError as error:
        return dataclasses.replace(compiled, message_error=_message_error(error), path="")
    return dataclasses.replace(compiled, message=message, message_cost=message.estimate(sizer).max)


def _normalized(rule: Object, node: Structural) -> str:
    path = rule.get("fieldPath") or ""
    if not path:
        return ""
    try:
        return valid_field_path(path, node).path
    except FieldPathError:
        return ""


def _rule_error(error: errors.CelError) -> str:
    if isinstance(error, errors.CelResultError):
        return "cel expression must evaluate to a bool"
    if isinstance(error, errors.CelProgramError):
        return f"program instantiation failed: {error}"
    return f"compilation failed: {error}"


def _message_error(error: errors.CelError) -> str:
    if isinstance(error, errors.CelResultError):
        return "messageExpression must evaluate to a string"
    if isinstance(error, errors.CelProgramError):
        return f"messageExpression instantiation failed: {error}"
    return f"messageExpression compilation failed: {error}"
