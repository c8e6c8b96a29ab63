"""MutatingAdmissionPolicies: what they make of a write's object.

Source: apiserver ``pkg/admission/plugin/policy/mutating`` and ``pkg/cel/mutation``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from anynode.admission.chain import Attributes, Plugin
from anynode.admission.expressions import BudgetSpent, Evaluator, Expression, Inputs, Variables
from anynode.admission.matching import Shapes
from anynode.admission.policies import Binding, Hook, Judge, Policies, Policy
from anynode.admission.policies_params import ConfigurationError
from anynode.admission.webhooks import taken
from anynode.api import errors, patches
from anynode.api.errors import Cause
from anynode.api.objects import Object, name_of, namespace_of
from anynode.api.resources import Resource
from anynode.cel.environment import PER_REQUEST_BUDGET, Budget
from anynode.cel.times import Duration, Timestamp
from anynode.cel.values import StructValue
from anynode.schema import admission_expressions as expressions


class MutationFailed(Exception):
    """A mutation that could not be made; the policy's failure policy says what that means."""


class Mutation:
    """One mutation of a policy."""

    def __init__(self, wire: Object, variables: Variables) -> None:
        self.is_patch = wire.get("patchType") == "JSONPatch"
        said = wire.get("jsonPatch" if self.is_patch else "applyConfiguration") or {}
        returns = (expressions.JSON_PATCHES,) if self.is_patch else (expressions.OBJECT,)
        self._variables = variables
        self._made = Expression(variables.environment(patch=True), str(said.get("expression") or ""), returns)

    def result(self, inputs: Inputs) -> Any:
        """What the expression gives. Raises ``MutationFailed``."""
        if self._made.program is None:
            raise MutationFailed(self._made.error)
        budget = Budget(PER_REQUEST_BUDGET)
        try:
            result = self._made.result(self._variables.bound(inputs.bindings(), budget), budget)
        except BudgetSpent as error:
            raise MutationFailed(str(error)) from error
        if result.error:
            raise MutationFailed(result.error)
        return result.value


class MutatingPolicy(Policy):
    """A policy with its mutations, compiled when first needed."""

    def __init__(self, wire: Object) -> None:
        super().__init__(wire)
        self.reinvocable = self.spec.get("reinvocationPolicy") == "IfNeeded"
        self._mutations: Sequence[Mutation] | None = None

    @property
    def mutations(self) -> Sequence[Mutation]:
        if self._mutations is None:
            wires = self.spec.get("mutations") or ()
            self._mutations = [Mutation(wire, self.variables) for wire in wires]
        return self._mutations


class _Planned(NamedTuple):
    """One policy, binding and parameter that a write meets."""

    hook: Hook[MutatingPolicy]
    binding: Binding
    resource: Resource
    param: Object | None

    @property
    def key(self) -> tuple[str, ...]:
        param = self.param or {}
        return self.hook.policy.name, self.binding.name, namespace_of(param), name_of(param)


class _Failure(NamedTuple):
    policy: str
    binding: str
    why: str
    reason: str = ""

    def text(self) -> str:
        if self.binding:
            return f"policy '{self.policy}' with binding '{self.binding}' denied request: {self.why}"
        return f'policy "{self.policy}" denied request: {self.why}'


class _Memory:
    """What is kept between the two rounds of mutating policies."""

    def __init__(self) -> None:
        self.last: Object | None = None
        self.invoked: dict[tuple[str, ...], None] = {}
        self.again: set[tuple[str, ...]] = set()

    def require_reinvocation(self) -> None:
        self.again.update(self.invoked)
        self.invoked.clear()


class MutatingPolicies(Plugin):
    """Lets the policies that concern a write change its object, one after the other."""

    name = "MutatingAdmissionPolicy"
    operations = frozenset({"CREATE", "UPDATE", "CONNECT"})

    def __init__(self, policies: Policies[MutatingPolicy], judge: Judge, evaluator: Evaluator, shapes: Shapes) -> None:
        self._policies = policies
        self._judge = judge
        self._evaluator = evaluator
        self._shapes = shapes

    async def admit(self, attributes: Attributes) -> Object | None:
        if not self._policies.index:
            return attributes.obj
        planned, failures = self._plan(attributes)
        if planned:
            failures += await self._carry_out(planned, attributes)
        if failures:
            raise _refusal(failures, attributes)
        return attributes.obj

    def _plan(self, attributes: Attributes) -> tuple[list[_Planned], list[_Failure]]:
        planned: list[_Planned] = []
        failures: list[_Failure] = []
        for hook, resource in self._judge.invocations(self._policies, attributes):
            policy = hook.policy
            try:
                kind = self._judge.param_resource(policy)
            except ConfigurationError as error:
                if not policy.ignores_failure:
                    failures.append(_Failure(policy.name, "", f"failed to configure policy: {error}"))
                continue
            for binding in self._judge.bindings(hook, attributes):
                try:
                    params = self._judge.params(kind, binding, attributes)
                except ConfigurationError as error:
                    if not policy.ignores_failure:
                        failures.append(_Failure(policy.name, binding.name, f"failed to configure binding: {error}"))
                    continue
                planned += [_Planned(hook, binding, resource, param) for param in params]
        return planned, failures

    async def _carry_out(self, planned: Sequence[_Planned], attributes: Attributes) -> list[_Failure]:
        memory = attributes.memory.setdefault(self.name, _Memory())
        assert isinstance(memory, _Memory)
        if attributes.reinvoked and memory.last != attributes.obj:
            memory.require_reinvocation()
        namespace = self._judge.namespace(attributes)
        failures: list[_Failure] = []
        for each in planned:
            failures += await self._invoke(each, attributes, memory, namespace)
        memory.last = attributes.obj
        return failures

    async def _invoke(
        self, planned: _Planned, attributes: Attributes, memory: _Memory, namespace: Object | None
    ) -> list[_Failure]:
        policy = planned.hook.policy
        inputs = await self._inputs(planned, attributes, namespace)
        if policy.conditions is not None:
            met = policy.conditions.met(inputs)
            if met.error:
                return self._failed(planned, met.error)
            if not met.matches:
                return []
        if attributes.reinvoked and planned.key not in memory.again:
            return []
        before = attributes.obj
        failures: list[_Failure] = []
        for mutation in policy.mutations if before is not None else ():
            if attributes.obj is not before:
                inputs = await self._inputs(planned, attributes, namespace)
            try:
                await self._mutate(mutation, inputs, planned.resource, attributes)
            except MutationFailed as error:
                failures += self._failed(planned, str(error))
        if attributes.obj != before:
            memory.require_reinvocation()
            attributes.wants_reinvocation = attributes.wants_reinvocation or not attributes.reinvoked
        if policy.reinvocable:
            memory.invoked[planned.key] = None
        return failures

    async def _inputs(self, planned: _Planned, attributes: Attributes, namespace: Object | None) -> Inputs:
        obj, old = await self._judge.objects(attributes, planned.resource)
        inputs = self._evaluator.inputs(attributes, planned.resource, obj, old, namespace=namespace)
        return inputs if planned.param is None else inputs.with_params(planned.param)

    def _failed(self, planned: _Planned, why: str) -> list[_Failure]:
        if planned.hook.policy.ignores_failure:
            return []
        return [_Failure(planned.hook.policy.name, planned.binding.name, why, "Invalid")]

    async def _mutate(self, mutation: Mutation, inputs: Inputs, resource: Resource, attributes: Attributes) -> None:
        found = mutation.result(inputs)
        obj, _ = await self._judge.objects(attributes, resource)
        assert obj is not None
        if mutation.is_patch:
            operations = [_operation(each) for each in found]
            try:
                made = patches.json_patch(obj, operations)
            except patches.TestFailed:
                return
            except patches.PatchError as error:
                raise MutationFailed(f"JSON Patch: {error}") from error
        else:
            made = self._applied(obj, found, resource, attributes)
        attributes.obj = await taken(self._shapes, made, resource, attributes, strict=mutation.is_patch)

    def _applied(self, obj: Object, found: Any, resource: Resource, attributes: Attributes) -> Object:
        wrong = _misnamed(found, ["Object"])
        if wrong:
            raise MutationFailed("type mismatch: " + "\n".join(wrong))
        config = {**plain(found), "apiVersion": obj.get("apiVersion"), "kind": obj.get("kind")}
        own = attributes.resource
        kind = attributes.kind
        if kind == (own.group, own.version, own.kind):
            kind = (resource.group, resource.version, resource.kind)
        try:
            return self._shapes.merged(obj, config, kind)
        except ValueError as error:
            raise MutationFailed(f"error applying patch: {error}") from error


def _operation(value: Any) -> Object:
    """One ``JSONPatch{...}`` as JSON Patch has it. Raises ``MutationFailed``."""
    if not isinstance(value, StructValue):
        raise MutationFailed("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch")
    fields = value.fields
    operation: Object = {"op": fields.get("op") or "", "path": fields.get("path") or ""}
    if fields.get("from"):
        operation["from"] = fields["from"]
    if "value" in fields:
        made = fields["value"]
        wrong = _misnamed(made, [made.name]) if isinstance(made, StructValue) else []
        if wrong:
            raise MutationFailed("type mismatch: " + "\n".join(wrong))
        operation["value"] = plain(fields["value"])
    return operation


def _misnamed(value: Any, path: list[str]) -> list[str]:
    """Objects whose type is not named after where they stand."""
    wrong: list[str] = []
    if isinstance(value, StructValue):
        wanted = ".".join(path)
        if value.name != wanted:
            why = "which matches field name path from root Object type"
            wrong.append(f'unexpected type name "{value.name}", expected "{wanted}", {why}')
        for name, field in value.fields.items():
            wrong += _misnamed(field, [*path, name])
    elif isinstance(value, list):
        for each in value:
            wrong += _misnamed(each, path)
    elif isinstance(value, dict):
        for each in value.values():
            wrong += _misnamed(each, path)
    return wrong


def plain(value: Any) -> Any:
    """An expression's result as JSON."""
    if isinstance(value, StructValue):
        return {name: plain(field) for name, field in value.fields.items()}
    if isinstance(value, dict):
        return {str(name): plain(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Timestamp | Duration):
        return str(value)
    return value


def _refusal(failures: Sequence[_Failure], attributes: Attributes) -> errors.ApiError:
    texts = [failure.text() for failure in failures]
    forbidden = attributes.forbidden("admission request denied by policy")
    return errors.ApiError(
        texts[0],
        code=403,
        reason=failures[0].reason or "Forbidden",
        details=forbidden.details,
        causes=[Cause(reason="", message=text) for text in texts],
    )
