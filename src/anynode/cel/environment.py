"""Where expressions are compiled: the variables they may name, on top of what Kubernetes 1.36 offers everywhere.

A text comes in; a ``Program`` goes out that says its result's type, estimates its cost and evaluates against bound
variables, or cel-go's complaints are raised. An environment never changes, a program holds no state of a run. Source:
apiserver ``pkg/cel/environment/base.go``, cel-go ``cel/{env,program}.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anynode.cel.cost import Cost
from anynode.cel.types import ObjectType, Type

PER_CALL_LIMIT = 1_000_000
"""The most one evaluation may cost."""
PER_REQUEST_BUDGET = 10_000_000
"""The most all evaluations for one object, or one policy binding, may cost."""
MATCH_CONDITIONS_BUDGET = 2_500_000

Sizer = Callable[[Sequence[str], Type], int | None]
"""The most elements of what lies at a path (``("self", "items", "@items", "name")``), None where nothing is known."""


class Budget:
    """Cost left over several evaluations; ``remaining`` below zero never happens: ``CostExceeded`` is raised."""

    __slots__ = ("remaining",)

    def __init__(self, remaining: int = PER_REQUEST_BUDGET) -> None:
        self.remaining = remaining


class Program:
    """A compiled expression."""

    result_type: Type
    variables_used: frozenset[str]
    """Names of the environment's variables the expression refers to (``oldSelf`` makes a rule a transition rule)."""

    def estimate(self, sizer: Sizer | None = None) -> Cost:
        """What an evaluation can cost at least and at most, by upstream's reckoning."""
        raise NotImplementedError

    def evaluate(self, bindings: Mapping[str, object], *, budget: Budget | None = None) -> object:
        """The value under ``bindings`` (variable -> plain JSON value or a value of this package).

        Bound values are adapted by the variable's type as they are read and never copied. Raises
        ``CelEvaluationError`` and ``CostExceeded``; the cost is taken off ``budget`` either way.
        """
        raise NotImplementedError


class Environment:
    """Variables and types an expression may name. Immutable; make one per schema and keep it."""

    @staticmethod
    def kubernetes(variables: Mapping[str, Type], *, strict_cost: bool = True) -> Environment:
        """The 1.36 base environment with ``variables``; ``strict_cost`` off prices the libraries' calls at one."""
        raise NotImplementedError

    def extended(
        self, variables: Mapping[str, Type], *, types: Mapping[str, ObjectType] | None = None, mutation: bool = False
    ) -> Environment:
        """This environment with more variables and constructible object types (``Object.spec{...}``).

        ``mutation`` adds ``JSONPatch{...}`` and ``jsonpatch.escapeKey``, which mutating policies have.
        """
        raise NotImplementedError

    def compile(self, text: str, *, returns: Sequence[Type] = ()) -> Program:
        """The program ``text`` means.

        Raises ``CelSyntaxError`` or ``CelTypeError`` with cel-go's text, ``CelResultError`` if the result is none of
        ``returns``, ``CelProgramError`` if it cannot be run.
        """
        raise NotImplementedError
