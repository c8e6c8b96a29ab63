"""Expressions of policies and webhooks at work: what they are bound to, what they cost, what their failures say.

Pure but for the authorizer it is handed. Source: apiserver ``pkg/admission/plugin/cel``,
``pkg/admission/plugin/webhook/matchconditions/matcher.go``, 1.36.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from anynode.admission.chain import Attributes
from anynode.admission.webhooks_review import request_of
from anynode.api import selectors
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.api.wire import User
from anynode.cel import types as cel
from anynode.cel.authorizer import Authorizer, CheckAttributes, ResourceCheck
from anynode.cel.environment import MATCH_CONDITIONS_BUDGET, PER_CALL_LIMIT, Budget, Environment, Program
from anynode.cel.errors import CelError, CelEvaluationError, CostExceeded
from anynode.cel.types import Type
from anynode.cel.values import Fields
from anynode.schema import admission_expressions as expressions
from anynode.security import rbac

OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"
_NAMESPACE_FIELDS = (
    "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "finalizers",
)  # fmt: skip

Decide = Callable[[User, rbac.Attributes], rbac.Decision]
"""Whether a user may do something, and why."""


class BudgetSpent(Exception):
    """Nothing more of this list of expressions is evaluated; the text says why."""


class Expression:
    """An expression, its program or why it has none."""

    __slots__ = ("error", "program", "text")

    def __init__(self, environment: Environment, text: str, returns: Sequence[Type]) -> None:
        self.text = text
        self.error = ""
        self.program: Program | None = None
        try:
            self.program = expressions.compiled(environment, text, returns)
        except expressions.ExpressionError as error:
            self.error = str(error)

    def result(self, bindings: Mapping[str, object], budget: Budget) -> Result:
        """The value, or what went wrong. Raises ``BudgetSpent``."""
        if self.program is None:
            return Result(error=f"compilation error: {self.error}")
        left = budget.remaining
        try:
            return Result(self.program.evaluate(bindings, budget=budget))
        except CostExceeded as error:
            if left <= PER_CALL_LIMIT:
                raise BudgetSpent(OUT_OF_BUDGET) from error
            return Result(error=f"expression '{self.text}' resulted in error: {error}")
        except CelError as error:
            return Result(error=f"expression '{self.text}' resulted in error: {error}")


class Result(NamedTuple):
    """What became of one expression; ``error`` empty: ``value`` holds."""

    value: Any = None
    error: str = ""


class Variables:
    """The variables of one policy, each compiled with those before it."""

    def __init__(self, wires: Sequence[Object], *, params: bool) -> None:
        self.params = params
        self._composes = bool(wires)
        self._types: dict[str, Type] = {}
        self._compiled: dict[str, Expression] = {}
        for wire in wires:
            name = str(wire.get("name") or "")
            made = Expression(self.environment(), str(wire.get("expression") or ""), expressions.ANYTHING)
            self._types[name] = cel.DYN if made.program is None else made.program.result_type
            self._compiled[name] = made

    def environment(self, *, authorizer: bool = True, patch: bool = False) -> Environment:
        """What the policy's expressions may name, with the variables known so far."""
        base = expressions.environment(params=self.params, authorizer=authorizer, patch=patch)
        return expressions.composed(base, self._types) if self._composes else base

    def bound(self, bindings: dict[str, object], budget: Budget) -> Mapping[str, object]:
        """``bindings`` with ``variables``, each evaluated when first named, at the cost of ``budget``."""
        if self._composes:
            makers = {
                name: functools.partial(_variable, name, made, bindings, budget)
                for name, made in self._compiled.items()
            }
            bindings["variables"] = Fields(makers)
        return bindings


def _variable(name: str, made: Expression, bindings: Mapping[str, object], budget: Budget) -> object:
    if made.program is None:
        raise CelEvaluationError(f'composited variable "{name}" fails to compile: {made.error}')
    try:
        return made.program.evaluate(bindings, budget=budget)
    except CelEvaluationError as error:
        raise CelEvaluationError(f'composited variable "{name}" fails to evaluate: {error}') from error


class Inputs:
    """What the expressions of one policy or webhook see of one write."""

    def __init__(
        self,
        attributes: Attributes,
        resource: Resource,
        obj: Object | None,
        old: Object | None,
        decide: Decide,
        *,
        namespace: Object | None = None,
        params: Object | None = None,
    ) -> None:
        authorizer = authorizer_of(attributes.user, decide)
        self._fixed: dict[str, object] = {
            "object": obj,
            "oldObject": old,
            "request": request_of(attributes, resource),
            "namespaceObject": None if namespace is None else _shown_namespace(namespace),
            "params": params,
            "authorizer": authorizer,
            "authorizer.requestResource": request_authorizer(attributes, authorizer),
        }

    def with_params(self, params: Object | None) -> Inputs:
        """The same write, judged with other parameters."""
        other = object.__new__(Inputs)
        other._fixed = {**self._fixed, "params": params}
        return other

    def bindings(self) -> dict[str, object]:
        return dict(self._fixed)


def _shown_namespace(namespace: Object) -> Object:
    metadata = namespace.get("metadata") or {}
    kept = {field: metadata[field] for field in _NAMESPACE_FIELDS if field in metadata}
    return {"metadata": kept, "spec": namespace.get("spec") or {}, "status": namespace.get("status") or {}}


class Evaluator:
    """Makes ``Inputs``; knows who may do what."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide

    def inputs(
        self,
        attributes: Attributes,
        resource: Resource,
        obj: Object | None,
        old: Object | None,
        *,
        namespace: Object | None = None,
    ) -> Inputs:
        return Inputs(attributes, resource, obj, old, self._decide, namespace=namespace)


class Met(NamedTuple):
    """Whether match conditions are met, or why that cannot be told."""

    matches: bool
    error: str = ""


class Conditions:
    """The match conditions of one webhook or policy; compiled when first needed."""

    def __init__(
        self, wires: Sequence[Object], *, ignores_failure: bool, params: bool, variables: Variables | None = None
    ) -> None:
        self._wires = wires
        self._ignores_failure = ignores_failure
        self._params = params
        self._variables = variables
        self._compiled: Sequence[Expression] | None = None

    def _expressions(self) -> Sequence[Expression]:
        if self._compiled is None:
            if self._variables is None:
                environment = expressions.environment(params=self._params, authorizer=True)
            else:
                environment = self._variables.environment()
            texts = (str(wire.get("expression") or "") for wire in self._wires)
            self._compiled = [Expression(environment, text, expressions.BOOLEAN) for text in texts]
        return self._compiled

    def met(self, inputs: Inputs) -> Met:
        """A false condition excludes; else a failed one is what the failure policy makes of it."""
        budget = Budget(MATCH_CONDITIONS_BUDGET)
        bindings: Mapping[str, object] = inputs.bindings()
        if self._variables is not None:
            bindings = self._variables.bound(inputs.bindings(), budget)
        wrong: list[str] = []
        try:
            results = [each.result(bindings, budget) for each in self._expressions()]
        except BudgetSpent as error:
            return Met(False, "" if self._ignores_failure else str(error))
        for result in results:
            if result.error:
                wrong.append(result.error)
            elif result.value is False:
                return Met(False)
        if not wrong:
            return Met(True)
        return Met(False, "" if self._ignores_failure else aggregate(wrong))


def aggregate(wrong: Sequence[str]) -> str:
    """Several errors as apimachinery prints them."""
    distinct = list(dict.fromkeys(wrong))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"


def authorizer_of(user: User, decide: Decide) -> Authorizer:
    """The ``authorizer`` variable: what the user, or a service account, may do."""

    def ask(check: CheckAttributes, /) -> tuple[bool, str, str | None]:
        who = user if check.service_account is None else _service_account(*check.service_account)
        wanted = rbac.Attributes(
            verb=check.verb,
            group=check.group,
            version="" if check.path else "*",
            resource=check.resource,
            subresource=check.subresource,
            namespace=check.namespace,
            name=check.name,
            path=check.path,
            fields=_exact_fields(check.field_selector),
        )
        decision = decide(who, wanted)
        return decision.allowed, decision.reason, None

    return Authorizer(ask)


def _service_account(namespace: str, name: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(name=f"system:serviceaccount:{namespace}:{name}", groups=groups)


def _exact_fields(selector: str) -> tuple[tuple[str, str], ...]:
    """The fields a selector requires to have one value; none of a selector that is none."""
    if not selector:
        return ()
    try:
        terms = selectors.parse_fields(selector).terms
    except selectors.SelectorError:
        return ()
    return tuple((term.field, term.value) for term in terms if term.equal)


def request_authorizer(attributes: Attributes, authorizer: Authorizer) -> ResourceCheck:
    """The ``authorizer.requestResource`` variable."""
    resource = attributes.resource
    return ResourceCheck(
        authorizer,
        resource.group,
        resource.plural,
        attributes.subresource,
        attributes.request_namespace,
        attributes.request_name,
    )
