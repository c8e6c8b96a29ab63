"""Objects judged by the CEL rules of their schema, within a budget for the whole object.

A ``RuleTree`` has a node only where there are rules below. Complaints about parts that were wrong before and are the
same now become warnings (KEP-4008), unless the rule looks at the old value. Source: apiextensions-apiserver
``pkg/apiserver/schema/cel/validation.go``, 1.36.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from anynode.api.go_text import go_quoted
from anynode.cel import types, values
from anynode.cel.environment import PER_REQUEST_BUDGET, Budget, Program
from anynode.cel.errors import CelError, CostExceeded
from anynode.cel.escaping import escape
from anynode.schema.custom import wording
from anynode.schema.custom.cel_rules import OLD_SELF, SELF, CompiledRule, compile_rules
from anynode.schema.custom.cel_types import declared
from anynode.schema.custom.correlation import Correlated, ItemIndex
from anynode.schema.custom.structural import Structural
from anynode.schema.custom.wording import child, invalid
from anynode.schema.fields import FieldError

_LONGEST_MESSAGE = 5 * 1024
_SPENT = "validation failed due to running out of cost budget, no further validation rules will be run"


class _StopError(Exception):
    """The budget is spent: nothing more is judged."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Ratchet:
    """What the value correlates with, or else the nearest parent that does."""

    current: Correlated | None = None
    parent: Correlated | None = None

    def lets_pass(self) -> bool:
        if self.current is not None:
            return self.current.same()
        return self.parent is not None and self.parent.same()

    def key(self, name: str) -> _Ratchet:
        if self.current is None:
            return self
        if self.parent is None and name in ("apiVersion", "kind"):
            return _Ratchet()
        return _Ratchet(self.current.key(name), self.current)

    def index(self, position: int) -> _Ratchet:
        return self if self.current is None else _Ratchet(self.current.index(position), self.current)


_NO_RATCHET = _Ratchet()


class RuleTree:
    """The rules of one node and, where there are any, of those below."""

    __slots__ = ("additional", "items", "node", "properties", "rules")

    def __init__(
        self,
        node: Structural,
        rules: Sequence[CompiledRule],
        items: RuleTree | None,
        properties: Mapping[str, RuleTree],
        additional: RuleTree | None,
    ) -> None:
        self.node = node
        self.rules = rules
        self.items = items
        self.properties = properties
        self.additional = additional


def rule_tree(node: Structural, *, root: bool) -> RuleTree | None:
    """The compiled rules of a schema; None where it has none. ``root``: it is that of whole objects."""
    return _tree(node, declared(node, root=root)) if _has_rules(node) else None


def _has_rules(node: Structural) -> bool:
    return bool(node.rules) or any(_has_rules(each) for each in node.below())


def _tree(node: Structural, of: types.Type | None) -> RuleTree | None:
    if not _has_rules(node):
        return None
    element = of.parameters[-1] if of is not None and of.parameters else None
    items = None if node.items is None else _tree(node.items, element)
    additional = None if node.additional is None else _tree(node.additional, element)
    properties = {}
    for name, each in node.properties.items():
        found = _tree(each, _property_type(each, name, of))
        if found is not None:
            properties[name] = found
    rules = compile_rules(node, of) if node.rules and of is not None else ()
    return RuleTree(node, rules, items, properties, additional)


def _property_type(node: Structural, name: str, of: types.Type | None) -> types.Type | None:
    escaped = escape(name)
    if escaped is None:
        return declared(node, root=node.embedded)
    return of.field(escaped) if isinstance(of, types.ObjectType) else None


@dataclasses.dataclass(slots=True)
class Verdict:
    """What the rules say of an object."""

    errors: list[FieldError] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


def judge(
    tree: RuleTree,
    value: Any,
    old: Any = None,
    *,
    path: str = "",
    correlated: Correlated | None = None,
    budget: Budget | None = None,
) -> Verdict:
    """What is wrong with ``value``, which replaces ``old`` (None: it is new); ``correlated`` lets old wrongs pass."""
    run = _Run(budget or Budget(PER_REQUEST_BUDGET))
    with contextlib.suppress(_StopError):
        run.judge(tree, value, old, path, _NO_RATCHET if correlated is None else _Ratchet(correlated))
    return run.verdict


class _Run:
    __slots__ = ("_budget", "verdict")

    def __init__(self, budget: Budget) -> None:
        self.verdict = Verdict()
        self._budget = budget

    def judge(self, tree: RuleTree, value: Any, old: Any, path: str, ratchet: _Ratchet) -> None:
        if value is None:
            return
        if tree.rules:
            self._own(tree, value, old, path, ratchet)
        if isinstance(value, list):
            if tree.items is not None:
                index = ItemIndex(tree.node, old if isinstance(old, list) else None)
                for at, item in enumerate(value):
                    self.judge(tree.items, item, index.get(item), f"{path}[{at}]", ratchet.index(at))
        elif isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            if tree.additional is not None:
                for key in sorted(value):
                    self.judge(tree.additional, value[key], before.get(key), f"{path}[{key}]", ratchet.key(key))
            for key, inner in tree.properties.items():
                if key in value:
                    self.judge(inner, value[key], before.get(key), child(path, key), ratchet.key(key))

    def _own(self, tree: RuleTree, value: Any, old: Any, path: str, ratchet: _Ratchet) -> None:
        kind = tree.node.type
        if self._budget.remaining <= 0:
            self._stop(path, kind, _SPENT)
        for rule in tree.rules:
            if rule.error:
                self.verdict.errors.append(invalid(path, kind, f"rule compile error: {rule.error}"))
                continue
            if rule.program is None or (rule.uses_old_self and old is None and not rule.optional_old_self):
                continue
            bindings = _bindings(rule, value, old)
            if self._holds(rule, rule.program, bindings, path, kind):
                continue
            where = child(path, rule.path) if rule.path else path
            detail = self._detail(rule, bindings, where, kind, ratchet)
            shown = wording.OMITTED if kind in ("object", "array") else value
            self._add(_for_reason(where, shown, detail, rule.source.get("reason")), rule, ratchet)

    def _holds(
        self, rule: CompiledRule, program: Program, bindings: Mapping[str, object], path: str, kind: str
    ) -> bool:
        said = _said(rule)
        try:
            return program.evaluate(bindings, budget=self._budget) is True
        except CostExceeded as error:
            if self._budget.remaining <= 0:
                self._stop(path, kind, _SPENT)
            text = "no further validation rules will be run due to call cost exceeds limit for rule"
            self._stop(path, kind, f"'{error}': {text}: {said}")
        except CelError as error:
            text = f"{error} evaluating rule: {said}"
            if str(error).startswith("no such overload"):
                text = "call arguments did not match a supported operator, function or macro signature for rule"
                text = f"'{error}': {text}: {said}"
            self.verdict.errors.append(invalid(path, kind, text))
        return True

    def _stop(self, path: str, kind: str, text: str) -> None:
        self.verdict.errors.append(invalid(path, kind, text))
        raise _StopError

    def _add(self, error: FieldError, rule: CompiledRule, ratchet: _Ratchet) -> None:
        if not rule.uses_old_self and ratchet.lets_pass():
            self.verdict.warnings.append(f"{error.field}: {error.message}")
        else:
            self.verdict.errors.append(error)

    def _detail(
        self, rule: CompiledRule, bindings: Mapping[str, object], path: str, kind: str, ratchet: _Ratchet
    ) -> str:
        """What the rule's message expression says, where it says something fit to print; else its message."""
        if rule.message is not None:
            try:
                found = rule.message.evaluate(bindings, budget=self._budget)
            except CostExceeded:
                text = "messageExpression evaluation failed due to running out of cost budget, no further validation "
                text += "rules will be run"
                if self._budget.remaining > 0:
                    shown = go_quoted(rule.source.get("messageExpression") or "")
                    text = "no further validation rules will be run due to call cost exceeds limit for "
                    text += f"messageExpression: {shown}"
                self._add(invalid(path, kind, text), rule, ratchet)
                raise _StopError from None
            except CelError:
                found = ""
            text = found.strip() if isinstance(found, str) else ""
            if text and len(text.encode()) <= _LONGEST_MESSAGE and "\n" not in text:
                return text
        message = rule.source.get("message") or ""
        return message.strip() if message else f"failed rule: {_said(rule)}"


def _bindings(rule: CompiledRule, value: Any, old: Any) -> Mapping[str, object]:
    if not rule.uses_old_self:
        return {SELF: value}
    if rule.optional_old_self:
        return {SELF: value, OLD_SELF: values.NONE if old is None else values.Optional(old)}
    return {SELF: value, OLD_SELF: old}


def _said(rule: CompiledRule) -> str:
    return (rule.source.get("message") or rule.source.get("rule") or "").strip()


def _for_reason(path: str, value: Any, detail: str, reason: str | None) -> FieldError:
    if reason == "FieldValueForbidden":
        return wording.forbidden(path, detail)
    if reason == "FieldValueRequired":
        return wording.required(path, detail)
    if reason == "FieldValueDuplicate":
        return wording.duplicate(path, value)
    return invalid(path, value, detail)
