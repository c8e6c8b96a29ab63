"""ValidatingAdmissionPolicies: what they decide about a write, and how that is told.

Source: apiserver ``pkg/admission/plugin/policy/validating/{dispatcher,validator,plugin}.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from anynode.admission.chain import Attributes, Plugin
from anynode.admission.expressions import BudgetSpent, Evaluator, Expression, Inputs, Result
from anynode.admission.policies import Binding, Hook, Invocation, Judge, Policies, Policy
from anynode.admission.policies_params import ConfigurationError
from anynode.api import errors
from anynode.api.errors import Cause
from anynode.api.objects import Object
from anynode.cel.environment import PER_REQUEST_BUDGET, Budget
from anynode.schema import admission_expressions as expressions

MOST_MESSAGE_BYTES = 5 * 1024
MOST_ANNOTATION_BYTES = 10 * 1024
CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}


class Decision(NamedTuple):
    """What one validation came to; an empty ``message`` lets the write pass."""

    message: str = ""
    reason: str = ""
    position: int = 0


class Annotation(NamedTuple):
    """What one audit annotation came to."""

    key: str
    value: str = ""
    error: str = ""


class Verdict(NamedTuple):
    decisions: Sequence[Decision] = ()
    annotations: Sequence[Annotation] = ()


class ValidatingPolicy(Policy):
    """A policy with its validations, compiled when first needed."""

    def __init__(self, wire: Object) -> None:
        super().__init__(wire)
        self._validations: list[Expression] | None = None
        self._messages: list[Expression | None] = []
        self._annotations: list[Expression] = []

    def _compile(self) -> list[Expression]:
        if self._validations is None:
            environment = self.variables.environment()
            plain = self.variables.environment(authorizer=False)
            wires = self.spec.get("validations") or ()
            texts = [str(wire.get("messageExpression") or "") for wire in wires]
            self._messages = [Expression(plain, text, expressions.MESSAGE) if text else None for text in texts]
            self._annotations = [
                Expression(environment, str(wire.get("valueExpression") or ""), expressions.ANNOTATION)
                for wire in self.spec.get("auditAnnotations") or ()
            ]
            self._validations = [
                Expression(environment, str(wire.get("expression") or ""), expressions.BOOLEAN) for wire in wires
            ]
        return self._validations

    def verdict(self, inputs: Inputs) -> Verdict:
        """What the policy says of a write."""
        conditions = self.conditions
        if conditions is not None:
            met = conditions.met(inputs)
            if met.error:
                return Verdict([self._failed(met.error)])
            if not met.matches:
                return Verdict()
        validations = self._compile()
        budget = Budget(PER_REQUEST_BUDGET)
        bindings = self.variables.bound(inputs.bindings(), budget)
        try:
            results = [each.result(bindings, budget) for each in validations]
        except BudgetSpent as error:
            return Verdict([self._failed(str(error))])
        decisions = self._decisions(results, inputs, budget)
        try:
            return Verdict(decisions, self._annotated(inputs))
        except BudgetSpent as error:
            return Verdict([self._failed(str(error))])

    def _failed(self, why: str, position: int = 0) -> Decision:
        return Decision(position=position) if self.ignores_failure else Decision(why, position=position)

    def _decisions(self, results: Sequence[Result], inputs: Inputs, budget: Budget) -> Sequence[Decision]:
        if all(result.value is True for result in results):
            return ()
        bindings = self.variables.bound(inputs.bindings(), budget)
        bindings = {name: value for name, value in bindings.items() if not name.startswith("authorizer")}
        spent = ""
        messages: list[Result | None] = []
        for made in self._messages:
            try:
                messages.append(made.result(bindings, budget) if made is not None and not spent else None)
            except BudgetSpent as error:
                spent = str(error)
                messages = []
        decisions = []
        for position, (result, wire) in enumerate(zip(results, self.spec.get("validations") or (), strict=True)):
            if result.error:
                decisions.append(self._failed(result.error, position))
            elif spent:
                decisions.append(self._failed(f"failed messageExpression: {spent}", position))
            elif result.value is not True:
                said = messages[position] if position < len(messages) else None
                reason = str(wire.get("reason") or "Invalid")
                decisions.append(Decision(_message(wire, said), reason, position))
        return decisions

    def _annotated(self, inputs: Inputs) -> Sequence[Annotation]:
        if not self._annotations:
            return ()
        budget = Budget(PER_REQUEST_BUDGET)
        bindings = self.variables.bound(inputs.bindings(), budget)
        bindings = {name: value for name, value in bindings.items() if not name.startswith("authorizer")}
        found = []
        for wire, made in zip(self.spec.get("auditAnnotations") or (), self._annotations, strict=True):
            key = str(wire.get("key") or "")
            result = made.result(bindings, budget)
            if result.error:
                if not self.ignores_failure:
                    found.append(Annotation(key, error=result.error))
            elif isinstance(result.value, str) and result.value.strip():
                found.append(Annotation(key, value=result.value.strip()))
        return found


def _message(wire: Object, said: Result | None) -> str:
    """What a failed validation is told as: its message expression, its message, or itself."""
    if said is not None and not said.error and isinstance(said.value, str):
        text = said.value.strip()
        if text and len(text.encode()) <= MOST_MESSAGE_BYTES and "\n" not in text:
            return text
    text = str(wire.get("message") or "").strip()
    return text or f"failed expression: {str(wire.get('expression') or '').strip()}"


class _Denial(NamedTuple):
    policy: str
    binding: str
    message: str
    reason: str = ""


class ValidatingPolicies(Plugin):
    """Judges writes by all policies that concern them; the first denial is the answer."""

    name = "ValidatingAdmissionPolicy"
    operations = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})

    def __init__(self, policies: Policies[ValidatingPolicy], judge: Judge, evaluator: Evaluator) -> None:
        self._policies = policies
        self._judge = judge
        self._evaluator = evaluator

    async def validate(self, attributes: Attributes) -> None:
        if not self._policies.index:
            return
        denials: list[_Denial] = []
        for invocation in self._judge.invocations(self._policies, attributes):
            denials += await self._judged(invocation, attributes)
        if denials:
            raise _refusal(denials[0], attributes)

    async def _judged(self, invocation: Invocation[ValidatingPolicy], attributes: Attributes) -> list[_Denial]:
        hook, resource = invocation
        policy = hook.policy
        try:
            kind = self._judge.param_resource(policy)
        except ConfigurationError as error:
            why = f"failed to configure policy: {error}"
            return [] if policy.ignores_failure else [_Denial(policy.name, "", why)]
        denials: list[_Denial] = []
        notes: dict[str, list[str]] = {}
        inputs: Inputs | None = None
        for binding in self._judge.bindings(hook, attributes):
            try:
                params = self._judge.params(kind, binding, attributes)
            except ConfigurationError as error:
                if not policy.ignores_failure:
                    denials.append(_Denial(policy.name, binding.name, f"failed to configure binding: {error}"))
                continue
            if inputs is None and params:
                obj, old = await self._judge.objects(attributes, resource)
                namespace = self._judge.namespace(attributes)
                inputs = self._evaluator.inputs(attributes, resource, obj, old, namespace=namespace)
            for param in params:
                assert inputs is not None
                verdict = policy.verdict(inputs if param is None else inputs.with_params(param))
                denials += _carried_out(hook, binding, verdict, attributes, notes)
        for key, values in notes.items():
            attributes.audit[f"{policy.name}/{key}"] = ", ".join(values)
        return denials


def _carried_out(
    hook: Hook[ValidatingPolicy],
    binding: Binding,
    verdict: Verdict,
    attributes: Attributes,
    notes: dict[str, list[str]],
) -> list[_Denial]:
    """Warn, note or deny as the binding says."""
    policy, denials = hook.policy.name, []
    for decision in verdict.decisions:
        if not decision.message:
            continue
        for action in binding.actions:
            if action == "Deny":
                denials.append(_Denial(policy, binding.name, decision.message, decision.reason))
            elif action == "Warn":
                said = f"Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding.name}'"
                attributes.warnings.append(f"{said}: {decision.message}")
            elif action == "Audit":
                key = "validation.policy.admission.k8s.io/validation_failure"
                attributes.audit.setdefault(key, _noted(policy, binding, decision))
    for annotation in verdict.annotations:
        if annotation.error:
            denials.append(_Denial(policy, binding.name, annotation.error))
        else:
            values = notes.setdefault(annotation.key, [])
            value = annotation.value.encode()[:MOST_ANNOTATION_BYTES].decode(errors="ignore")
            if value not in values:
                values.append(value)
    return denials


def _noted(policy: str, binding: Binding, decision: Decision) -> str:
    """A failure as the audit log has it."""
    failure = {
        "message": decision.message,
        "policy": policy,
        "binding": binding.name,
        "expressionIndex": decision.position,
        "validationActions": list(binding.actions),
    }
    return orjson.dumps([failure]).decode()


def _refusal(denial: _Denial, attributes: Attributes) -> errors.ApiError:
    with_binding = f" with binding '{denial.binding}'" if denial.binding else ""
    said = f"ValidatingAdmissionPolicy '{denial.policy}'{with_binding} denied request: {denial.message}"
    forbidden = attributes.forbidden(said)
    reason = denial.reason or "Invalid"
    return errors.ApiError(
        forbidden.message,
        code=CODES.get(reason, 422),
        reason=reason,
        details=forbidden.details,
        causes=[Cause(reason="", message=said)],
    )
