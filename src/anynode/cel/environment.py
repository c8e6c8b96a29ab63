"""Where expressions are compiled: the variables they may name, on top of what Kubernetes 1.36 offers everywhere.

A text comes in; a ``Program`` goes out that says its result's type, estimates its cost and evaluates against bound
variables, or cel-go's complaints are raised. An environment never changes, a program holds no state of a run. Source:
apiserver ``pkg/cel/environment/base.go``, cel-go ``cel/{env,program}.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anynode.cel import declarations, library, macros, types, values
from anynode.cel.checker import Checker
from anynode.cel.cost import Cost
from anynode.cel.declarations import Functions
from anynode.cel.errors import CelEvaluationError, CelIssues, CelResultError, CelTypeError, CostExceeded, Issue
from anynode.cel.estimate import Estimator, Sizer
from anynode.cel.literal_checks import literal_complaints
from anynode.cel.macros import Macro, MacroKey
from anynode.cel.parser import parse
from anynode.cel.planner import FIRST_SLOT, Planner
from anynode.cel.syntax import Node
from anynode.cel.types import Kind, ObjectType, Type
from anynode.cel.values import MISSING

PER_CALL_LIMIT = 1_000_000
"""The most one evaluation may cost."""
PER_REQUEST_BUDGET = 10_000_000
"""The most all evaluations for one object, or one policy binding, may cost."""
MATCH_CONDITIONS_BUDGET = 2_500_000
_MISUSED = (TypeError, AttributeError, LookupError, ArithmeticError)
_PLAIN = frozenset({bool, int, str, float, type(None)})

__all__ = [
    "MATCH_CONDITIONS_BUDGET", "PER_CALL_LIMIT", "PER_REQUEST_BUDGET", "Budget", "Environment", "Program", "Sizer",
    "sizes_of",
]  # fmt: skip


def sizes_of(root: Type) -> Sizer:
    """The sizes a variable's type declares, as CRD validation asks for them: every path is taken to start at ``root``.

    Scalars and objects count as nothing, as upstream's declared types do.
    """

    def size(path: Sequence[str], _of: Type) -> int | None:
        at: Type | None = root
        for step in path[1:]:
            if at is None:
                return None
            if step in ("@items", "@values"):
                at = at.parameters[-1] if at.kind in (Kind.LIST, Kind.MAP) else None
            elif step == "@keys":
                at = at.parameters[0] if at.kind == Kind.MAP else None
            else:
                at = at.field(step) if isinstance(at, ObjectType) else None
        return None if at is None else max(at.max_size, 0)

    return size


class Budget:
    """Cost left over several evaluations; ``remaining`` never falls below zero: ``CostExceeded`` is raised instead."""

    __slots__ = ("remaining",)

    def __init__(self, remaining: int = PER_REQUEST_BUDGET) -> None:
        self.remaining = remaining

    def take(self, cost: int) -> None:
        """Take ``cost`` off; raises ``CostExceeded`` if there is not as much left."""
        if cost > self.remaining:
            self.remaining = 0
            raise CostExceeded
        self.remaining -= cost


class Program:
    """A compiled expression. ``variables_used`` are the environment's variables it refers to."""

    __slots__ = ("_frame", "_libraries", "_run", "_slots", "_tree", "_viewed", "result_type", "text", "variables_used")

    def __init__(self, text: str, tree: Node, used: frozenset[str], planner: Planner, *, libraries: bool) -> None:
        self.text = text
        self.result_type = tree.type
        self.variables_used = used
        self._tree = tree
        self._libraries = libraries
        self._run = planner.plan(tree).run
        self._slots = tuple(planner.slots.items())
        self._viewed = planner.uses_views()
        self._frame: list[Any] = [0, 0, *([MISSING] * (planner.size - FIRST_SLOT))]

    def estimate(self, sizer: Sizer | None = None) -> Cost:
        """What an evaluation can cost at least and at most, by upstream's reckoning."""
        return Estimator(sizer, libraries=self._libraries).cost(self._tree)

    def evaluate(
        self, bindings: Mapping[str, object], *, budget: Budget | None = None, limit: int = PER_CALL_LIMIT
    ) -> Any:
        """The value under ``bindings`` (variable -> plain JSON value or a value of this package).

        Bound values are adapted by the variable's type as they are read and never copied. Raises
        ``CelEvaluationError`` and ``CostExceeded``; the cost is taken off ``budget`` either way.
        """
        return self.evaluate_costed(bindings, budget=budget, limit=limit)[0]

    def evaluate_costed(
        self, bindings: Mapping[str, object], *, budget: Budget | None = None, limit: int = PER_CALL_LIMIT
    ) -> tuple[Any, int]:
        """The value, and what it cost."""
        frame = self._frame.copy()
        frame[1] = limit
        for name, slot in self._slots:
            frame[slot] = bindings.get(name, MISSING)
        try:
            value = self._run(frame)
        except CelEvaluationError:
            if frame[0] > limit:
                raise CostExceeded from None
            raise
        except RecursionError:
            raise CelEvaluationError("expression nests too deeply") from None
        except _MISUSED as error:  # bound data that is not of its declared type
            raise CelEvaluationError(f"internal error: {error}") from error
        finally:
            if budget is not None:
                budget.take(frame[0])
        if frame[0] > limit:
            raise CostExceeded
        return (values.plain(value) if self._viewed and type(value) not in _PLAIN else value), frame[0]


class Environment:
    """Variables and types an expression may name. Immutable; make one per schema and keep it."""

    __slots__ = ("_functions", "_libraries", "_macros", "_mutation", "_types", "_variables")

    def __init__(
        self,
        variables: Mapping[str, Type],
        type_names: Mapping[str, Type],
        functions: Functions,
        expanded: Mapping[MacroKey, Macro],
        *,
        libraries: bool,
        mutation: bool,
    ) -> None:
        self._variables = variables
        self._types = type_names
        self._functions = functions
        self._macros = expanded
        self._libraries = libraries
        self._mutation = mutation

    @staticmethod
    def kubernetes(variables: Mapping[str, Type], *, strict_cost: bool = True) -> Environment:
        """The 1.36 base environment with ``variables``; ``strict_cost`` off estimates the libraries' calls as one."""
        return Environment(
            dict(variables),
            declarations.type_names(),
            declarations.kubernetes(),
            macros.KUBERNETES,
            libraries=strict_cost,
            mutation=False,
        )

    def extended(
        self,
        variables: Mapping[str, Type],
        *,
        types: Mapping[str, ObjectType] | None = None,
        mutation: bool = False,
        bindings: bool = False,
    ) -> Environment:
        """This environment with more variables and constructible object types (name -> type).

        ``mutation`` adds ``Object{...}``, ``JSONPatch{...}`` and ``jsonpatch.escapeKey``, which mutating policies have;
        ``bindings`` adds ``cel.bind``, which device selectors have.
        """
        mutation = mutation or self._mutation
        functions = {**self._functions, **declarations.mutation()} if mutation else self._functions
        named = {**self._types, **{name: type_value(of) for name, of in (types or {}).items()}}
        if mutation:
            named["JSONPatch"] = type_value(_JSON_PATCH)
        return Environment(
            {**self._variables, **variables},
            named,
            functions,
            {**self._macros, **macros.BINDINGS} if bindings else self._macros,
            libraries=self._libraries,
            mutation=mutation,
        )

    def compile(self, text: str, *, returns: Sequence[Type] = ()) -> Program:
        """The program ``text`` means.

        Raises ``CelSyntaxError`` or ``CelTypeError`` with cel-go's text, ``CelResultError`` if the result is none of
        ``returns``, ``CelProgramError`` if it cannot be run.
        """
        tree, source = parse(text, self._macros)
        checker = Checker(self._variables, self._types, self._functions, open_types=self._mutation)
        try:
            checker.run(tree)
            found = checker.complaints or literal_complaints(tree)
            if found:
                raise CelTypeError(text, [source.issue(offset, message) for offset, message in found])
            if returns and tree.type not in returns:
                raise CelResultError(f"must evaluate to {' or '.join(str(each) for each in returns)}")
            planner = Planner(self._variables, library.FUNCTIONS)
            return Program(text, tree, frozenset(checker.used), planner, libraries=self._libraries)
        except RecursionError:
            raise CelIssues(text, [Issue(-1, -1, "expression recursion limit exceeded: 250")]) from None


def type_value(of: Type) -> Type:
    """The type of the name of a type."""
    return types.type_of(of)


_PATCH_FIELDS = {"op": types.STRING, "path": types.STRING, "from": types.STRING, "value": types.DYN}
_NO_TYPE = Type(Kind.UNSPECIFIED, "")
_JSON_PATCH = ObjectType("JSONPatch", lambda field: _PATCH_FIELDS.get(field, _NO_TYPE), open_fields=True)
