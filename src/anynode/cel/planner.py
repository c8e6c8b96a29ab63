"""Expressions made into closures: what runs when a program is evaluated.

A checked tree goes in; a function of a frame comes out. A frame is a list: cost so far, the limit, then one slot per
variable. Costs are what cel-go's tracker counts: one per name and per selection, none for constants, calls by
``charges``. Source: cel-go ``interpreter/{planner,interpretable,attributes,decorators,runtimecost}.go``, v0.26.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anynode.cel import charges, folds, library, operators, selection, values
from anynode.cel.errors import CelEvaluationError, CelProgramError, NoSuchOverload
from anynode.cel.selection import Qualifier
from anynode.cel.syntax import (
    ACCUMULATOR,
    Call,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    Struct,
)
from anynode.cel.types import ObjectType, Type
from anynode.cel.values import MISSING, Optional, StructValue

Frame = list[Any]
Run = Callable[[Frame], Any]
FIRST_SLOT = 2
UNSET: Any = object()
_INDEXED = ("_[_]", "_[?_]", "_?._")


class Plan:
    """A part made ready. ``constant`` is its value if it has one already, ``UNSET`` otherwise."""

    __slots__ = ("constant", "run")

    def __init__(self, run: Run, constant: Any = UNSET) -> None:
        self.run = run
        self.constant = constant

    @property
    def is_constant(self) -> bool:
        return self.constant is not UNSET


def constant(value: Any) -> Plan:
    return Plan(lambda _frame: value, value)


class Planner:
    """Plans one tree. ``slots`` says afterwards where each variable goes."""

    def __init__(self, variables: Mapping[str, Type], functions: Mapping[str, Callable[..., Any]]) -> None:
        self.slots: dict[str, int] = {}
        self.size = FIRST_SLOT
        self._variables = variables
        self._functions = functions
        self._locals: list[dict[str, int]] = []
        self._lazy: dict[int, Run] = {}

    def uses_views(self) -> bool:
        """Whether a result can hold views of bound data, which are taken off before it is handed out."""
        return any(values.adapter_of(self._variables[name]) is not None for name in self.slots)

    def new_slot(self) -> int:
        self.size += 1
        return self.size - 1

    def plan(self, node: Node, *, branch: bool = False) -> Plan:
        """The part as it runs; ``branch``: one that is chosen or an index, where a name alone costs nothing."""
        if isinstance(node, Literal):
            return constant(node.value)
        if isinstance(node, Ident | Select) and node.constant is not None:
            if isinstance(node.constant, ObjectType):
                raise CelProgramError(f"reference to undefined type: {node.constant.name}")
            return constant(node.constant)
        if isinstance(node, Ident | Select):
            return Plan(self._attribute(node, branch=branch))
        if isinstance(node, Call):
            if node.function in _INDEXED:
                return Plan(self._attribute(node, branch=branch))
            return self._call(node)
        if isinstance(node, ListNode):
            return self._list(node)
        if isinstance(node, MapNode):
            return self._map(node)
        if isinstance(node, Struct):
            return self._struct(node)
        assert isinstance(node, Comprehension)
        return self._comprehension(node)

    # --- names and selections --------------------------------------------------------------------------------------

    def _attribute(self, node: Node, *, branch: bool) -> Run:
        """A name or operand with everything selected from it."""
        qualifiers: list[Qualifier] = []
        test = False
        types_on_path: list[Type] = []
        while True:
            if isinstance(node, Select) and not node.resolved:
                qualifiers.append(Qualifier(node.field, None, optional=False))
                test = test or node.test
                types_on_path.append(node.operand.type)
                node = node.operand
            elif isinstance(node, Call) and node.function in _INDEXED:
                qualifiers.append(self._qualifier(node))
                types_on_path.append(node.args[0].type)
                node = node.args[0]
            else:
                break
        qualifiers.reverse()
        types_on_path.reverse()
        base = 0 if branch or test else 1
        if isinstance(node, Ident | Select) and node.constant is None:
            name = node.name if isinstance(node, Ident) else node.resolved
            return self._named(name, qualifiers, types_on_path, base=base, test=test)
        if isinstance(node, Call) and node.function == "_?_:_":
            return selection.qualified(self.plan(node).run, qualifiers, base=0, test=test)
        operand = self.plan(node)
        return selection.qualified(operand.run, qualifiers, base=base, test=test)

    def _qualifier(self, node: Call) -> Qualifier:
        optional = node.function != "_[_]"
        index = self.plan(node.args[1], branch=True)
        if index.is_constant:
            return Qualifier(index.constant, None, optional=optional)
        return Qualifier(None, index.run, optional=optional)

    def _named(
        self, name: str, qualifiers: list[Qualifier], types_on_path: list[Type], *, base: int, test: bool
    ) -> Run:
        slot = self._local(name)
        if slot is not None:
            lazy = self._lazy.get(slot)
            if lazy is not None:
                return selection.qualified(folds.lazily(slot, lazy), qualifiers, base=base, test=test)
            if not qualifiers:
                return selection.slot(slot, base)
            if (
                fast := selection.object_path(slot, qualifiers, types_on_path, base, test=test, viewed=True)
            ) is not None:
                return fast
            return selection.qualified(selection.slot(slot, 0), qualifiers, base=base, test=test)
        slot = self.slots.get(name)
        if slot is None:
            slot = self.slots[name] = self.new_slot()
        if qualifiers:
            fast = selection.object_path(slot, qualifiers, types_on_path, base, test=test, viewed=False)
            if fast is not None:
                return fast
        root = selection.variable(slot, name, values.adapter_of(self._variables[name]), 0 if qualifiers else base)
        return root if not qualifiers else selection.qualified(root, qualifiers, base=base, test=test)

    def _local(self, name: str) -> int | None:
        for scope in reversed(self._locals):
            if name in scope:
                return scope[name]
        return None

    # --- calls -----------------------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Plan:
        function = node.function
        if function in ("_&&_", "_||_"):
            left, right = (self.plan(each).run for each in node.args)
            return Plan(folds.conjunction(left, right) if function == "_&&_" else folds.disjunction(left, right))
        if function == "_?_:_":
            condition = self.plan(node.args[0]).run
            chosen, other = (self.plan(each, branch=True).run for each in node.args[1:])
            return Plan(folds.conditional(condition, chosen, other))
        nodes = node.args if node.target is None else [node.target, *node.args]
        plans = [self.plan(each) for each in nodes]
        overload = node.overloads[0] if len(node.overloads) == 1 else ""
        if function in ("or", "orValue") and len(plans) == 2:
            return Plan(folds.optional_or(plans[0].run, plans[1].run, unwrap=function == "orValue"))
        body = self._functions.get(function)
        if body is None:
            raise CelProgramError(f"no such overload: {function}")
        if function in operators.CONVERSIONS and len(plans) == 1 and plans[0].is_constant:
            try:
                return constant(body(plans[0].constant))
            except NoSuchOverload:
                raise CelProgramError(str(operators.refused(function, [plans[0].constant]))) from None
            except CelEvaluationError as error:
                raise CelProgramError(str(error)) from error
        if overload == "in_list" and plans[1].is_constant and (found := _membership(plans)) is not None:
            return found
        body = library.prepared(function, body, [each.constant if each.is_constant else None for each in plans])
        charge = charges.of(function, overload)
        return Plan(folds.call(function, body, [each.run for each in plans], charge))

    # --- literals with parts ---------------------------------------------------------------------------------------

    def _list(self, node: ListNode) -> Plan:
        plans = [self.plan(each) for each in node.elements]
        runs = [each.run for each in plans]
        if not node.optionals:
            if all(each.is_constant for each in plans):
                return constant([each.constant for each in plans])
            return Plan(_list_of(runs))
        optionals = node.optionals

        def run(frame: Frame) -> Any:
            found = []
            frame[0] += 10
            for index, part in enumerate(runs):
                value = part(frame)
                if index in optionals:
                    if type(value) is not Optional:
                        shown = library.shown(value)
                        raise CelEvaluationError(
                            f"cannot initialize optional list element from non-optional value {shown}"
                        )
                    if value.value is MISSING:
                        continue
                    value = value.value
                found.append(value)
            return found

        return Plan(run)

    def _map(self, node: MapNode) -> Plan:
        plans = [(self.plan(each.key), self.plan(each.value), each.optional) for each in node.entries if each.key]
        parts = [(key.run, value.run, optional) for key, value, optional in plans]

        def run(frame: Frame) -> Any:
            found: dict[Any, Any] = {}
            frame[0] += 30
            for key_run, value_run, optional in parts:
                key = key_run(frame)
                value = value_run(frame)
                if type(key) not in _KEYS:
                    raise CelEvaluationError(f"unsupported key type: {values.kind_name(key)}")
                if optional and (value := _entry(key, value)) is MISSING:
                    found.pop(key, None)
                    continue
                found[key] = value
            return found

        if all(key.is_constant and value.is_constant for key, value, _ in plans):
            return constant(run([0, 0]))
        return Plan(run)

    def _struct(self, node: Struct) -> Plan:
        parts = [(each.field, self.plan(each.value).run, each.optional) for each in node.entries]
        name = node.name

        def run(frame: Frame) -> Any:
            found: dict[str, Any] = {}
            frame[0] += 40
            for field, value_run, optional in parts:
                value = value_run(frame)
                if optional and (value := _entry(field, value)) is MISSING:
                    found.pop(field, None)
                    continue
                found[field] = value
            return StructValue(name, found)

        return Plan(run)

    # --- folds -----------------------------------------------------------------------------------------------------

    def _comprehension(self, node: Comprehension) -> Plan:
        if node.is_bind:
            return self._bind(node)
        ranged = self.plan(node.range)
        accumulator, first = self.new_slot(), self.new_slot()
        second = self.new_slot() if node.variable2 else -1
        init = self.plan(node.init)
        self._locals.append({node.accumulator: accumulator})
        scope = {node.variable: first}
        if second >= 0:
            scope[node.variable2] = second
        self._locals.append(scope)
        loop = folds.Loop(ranged.run, init.run, accumulator, first, second)
        step = self._step(node)
        if step is not None:
            del self._locals[-2:]
            return Plan(step(loop))
        condition, change = self.plan(node.condition), self.plan(node.step)
        self._locals.pop()
        result = self.plan(node.result)
        self._locals.pop()
        return Plan(
            folds.fold(loop, condition.constant if condition.is_constant else condition.run, change.run, result.run)
        )

    def _step(self, node: Comprehension) -> Callable[[folds.Loop], Run] | None:
        """The macros' folds, run without their accumulator's detours; what they cost stays."""
        step = node.step
        if node.accumulator != ACCUMULATOR or not isinstance(step, Call):
            return None
        if isinstance(node.init, Literal) and step.function in ("_&&_", "_||_") and _is_result(step.args[0]):
            predicate = self.plan(step.args[1]).run
            wanted = step.function == "_||_"
            return lambda loop: folds.quantifier(loop, predicate, wanted=wanted)
        condition: Run | None = None
        if step.function == "_?_:_" and _is_result(step.args[2]) and isinstance(step.args[1], Call):
            condition = self.plan(step.args[0]).run
            step = step.args[1]
        if step.function == "_+_" and _is_result(step.args[0]) and isinstance(step.args[1], ListNode):
            element = self.plan(step.args[1].elements[0])
            cost = 2 if element.is_constant else 12
            return lambda loop: folds.appending(loop, condition, element.run, cost)
        if step.function == "cel.@mapInsert":
            inserted = [self.plan(each).run for each in step.args[1:]]
            return lambda loop: folds.inserting(loop, condition, inserted)
        if step.function == "_+_" and condition is not None:
            counted = condition
            return lambda loop: folds.counting(loop, counted)
        return None

    def _bind(self, node: Comprehension) -> Plan:
        init = self.plan(node.init).run
        slot = self.new_slot()
        self._lazy[slot] = init
        self._locals.append({node.accumulator: slot})
        result = self.plan(node.result).run
        self._locals.pop()

        def run(frame: Frame) -> Any:
            frame[slot] = folds.UNSET
            return result(frame)

        return Plan(run)


_KEYS = frozenset({str, int, bool, values.Uint, float})


def _entry(key: Any, value: Any) -> Any:
    if type(value) is not Optional:
        shown = library.shown(value)
        raise CelEvaluationError(f"cannot initialize optional entry '{key}' from non-optional value {shown}")
    return value.value


def _is_result(node: Node) -> bool:
    return isinstance(node, Ident) and node.name == ACCUMULATOR


def _list_of(runs: list[Run]) -> Run:
    def run(frame: Frame) -> Any:
        frame[0] += 10
        return [each(frame) for each in runs]

    return run


def _membership(plans: list[Plan]) -> Plan | None:
    """``in`` a constant list of simple values: free, and by hash."""
    elements = plans[1].constant
    if not elements:
        return constant(False)
    if not all(type(each) in (bool, int, values.Uint, float, str) for each in elements):
        return None
    left = plans[0].run
    bools = {each for each in elements if type(each) is bool}
    others = {each for each in elements if type(each) is not bool}

    def run(frame: Frame) -> Any:
        value = left(frame)
        try:
            return value in bools if type(value) is bool else value in others
        except TypeError:
            return False

    return Plan(run)
