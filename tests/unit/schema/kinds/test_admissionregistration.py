# ruff: noqa: E501 - messages are told whole
"""Webhook configurations and admission policies: defaults, and what upstream says is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.objects import Object
from anynode.schema.fields import FieldPath
from anynode.schema.kinds import webhook_clients
from anynode.schema.kinds.admissionregistration import GROUP
from anynode.schema.kinds.catalogue import rules_of

VALIDATING = rules_of(GROUP, "ValidatingWebhookConfiguration")
MUTATING = rules_of(GROUP, "MutatingWebhookConfiguration")
POLICY = rules_of(GROUP, "ValidatingAdmissionPolicy")
BINDING = rules_of(GROUP, "ValidatingAdmissionPolicyBinding")
MUTATING_POLICY = rules_of(GROUP, "MutatingAdmissionPolicy")
MUTATING_BINDING = rules_of(GROUP, "MutatingAdmissionPolicyBinding")
CLIENT = FieldPath("c")


def rule(**said: Any) -> Object:
    return {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], **said}


def configuration(**said: Any) -> Object:
    hook = {
        "name": "a.b.c",
        "clientConfig": {"url": "https://h/x"},
        "rules": [rule()],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **said,
    }
    return {"metadata": {"name": "w"}, "webhooks": [hook]}


def policy(**said: Any) -> Object:
    spec = {"matchConstraints": {"resourceRules": [rule()]}, "validations": [{"expression": "true"}], **said}
    return POLICY.default({"metadata": {"name": "p"}, "spec": spec})


def binding(**said: Any) -> Object:
    return BINDING.default(
        {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"], **said}}
    )


def wrong(rules: Any, obj: Object) -> list[str]:
    return [f"{error.field}: {error.message}" for error in rules.validate(obj)]


def test_a_webhook_gets_its_defaults() -> None:
    client = {"service": {"name": "s", "namespace": "n"}}
    (hook,) = MUTATING.default(configuration(clientConfig=client))["webhooks"]
    assert (hook["failurePolicy"], hook["matchPolicy"], hook["timeoutSeconds"]) == ("Fail", "Equivalent", 10)
    assert (hook["reinvocationPolicy"], hook["namespaceSelector"], hook["objectSelector"]) == ("Never", {}, {})
    assert hook["rules"][0]["scope"] == "*"
    assert hook["clientConfig"]["service"]["port"] == 443
    assert "reinvocationPolicy" not in VALIDATING.default(configuration())["webhooks"][0]


def test_a_changed_webhook_counts_the_generation_up() -> None:
    old = VALIDATING.prepare_create(configuration())
    assert old["metadata"]["generation"] == 1
    assert VALIDATING.prepare_update(configuration(), old)["metadata"]["generation"] == 1
    assert VALIDATING.prepare_update(configuration(name="x.y.z"), old)["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"name": "a.b"}, ["webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots"]),
        ({"failurePolicy": "X"}, ['webhooks[0].failurePolicy: Unsupported value: "X": supported values: "Fail", "Ignore"']),
        ({"timeoutSeconds": 31}, ["webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"]),
        ({"clientConfig": {}}, ["webhooks[0].clientConfig: Required value: exactly one of url or service is required"]),
        ({"rules": [rule(operations=["*", "CREATE"])]}, ['webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if \'*\' is present, must not specify other operations']),
        ({"rules": [rule(resources=["pods/*", "pods/exec"])]}, ['webhooks[0].rules[0].resources[1]: Invalid value: "pods/exec": if \'pods/*\' is present, must not specify pods/exec']),
        ({"rules": [rule(resources=["*", "pods"])]}, ['webhooks[0].rules[0].resources: Invalid value: ["*","pods"]: if \'*\' is present, must not specify other resources without subresources']),
        ({"matchConditions": [{"name": "a", "expression": "1"}]}, ['webhooks[0].matchConditions[0].expression: Invalid value: "1": must evaluate to bool but got int']),
        ({"matchConditions": [{"name": "", "expression": " "}]}, ["webhooks[0].matchConditions[0].expression: Required value", "webhooks[0].matchConditions[0].name: Required value"]),
        ({"admissionReviewVersions": ["v9"]}, ['webhooks[0].admissionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1']),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_webhook(said: Object, found: list[str]) -> None:
    assert wrong(VALIDATING, VALIDATING.default(configuration(**said))) == found


def test_an_update_need_not_mend_what_was_wrong_before() -> None:
    old = configuration(
        sideEffects="Some", admissionReviewVersions=["v9"], matchConditions=[{"name": "", "expression": ""}]
    )
    assert VALIDATING.validate_update(old, old) == []
    changed = configuration(sideEffects="Other", matchConditions=[])
    assert [error.field for error in VALIDATING.validate_update(changed, old)] == ["webhooks[0].sideEffects"]


def test_names_of_webhooks_are_unique() -> None:
    twice = configuration()
    twice["webhooks"] = [*twice["webhooks"], *twice["webhooks"]]
    assert wrong(VALIDATING, twice) == ['webhooks[1].name: Duplicate value: "a.b.c"']


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://h/x", []),
        ("http://h", ["Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]"]),
        ("https://u:p@h", ['Invalid value: "u:p": user information is not permitted in the URL']),
        ("https://h?q=1", ['Invalid value: "q=1": query parameters are not permitted in the URL']),
        ("https://h#f", ['Invalid value: "f": fragments are not permitted in the URL']),
        ("://h", ['Required value: url must be a valid URL: parse "://h": missing protocol scheme; desired format: https://host[/path]']),
        ("https://h:x", ['Required value: url must be a valid URL: parse "https://h:x": invalid port ":x" after host; desired format: https://host[/path]']),
        ("https://[::1", ['Required value: url must be a valid URL: parse "https://[::1": missing \']\' in host; desired format: https://host[/path]']),
    ],
)  # fmt: skip
def test_urls_of_webhooks(url: str, said: list[str]) -> None:
    assert [error.message for error in webhook_clients.validate_url(url, CLIENT)] == said


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ({"name": "s", "namespace": "n", "port": 443, "path": "/a/"}, []),
        ({"port": 443}, ["c.name", "c.namespace"]),
        ({"name": "s", "port": 443}, ["c.name"]),
        ({"name": "s", "namespace": "n", "port": 0}, ["c.port"]),
        ({"name": "s", "namespace": "n", "port": 1, "path": "x/y"}, ["c.path", "c.path"]),
        ({"name": "s", "namespace": "n", "port": 1, "path": "//"}, ["c.path"]),
        ({"name": "s", "namespace": "n", "port": 1, "path": "/a//B"}, ["c.path", "c.path"]),
    ],
)
def test_services_of_webhooks(service: Object, said: list[str]) -> None:
    assert [error.field for error in webhook_clients.validate_service(service, CLIENT)] == said


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, []),
        ({"validations": []}, [
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
            "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
        ]),
        ({"matchConstraints": None}, ["spec.matchConstraints: Required value"]),
        ({"paramKind": {"apiVersion": "a/b/c"}}, [
            'spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c',
            "spec.paramKind.kind: Required value",
        ]),
        ({"validations": [{"expression": "1"}]}, ['spec.validations[0].expression: Invalid value: "1": must evaluate to bool but got int']),
        ({"validations": [{"expression": "true", "message": "a\nb"}]}, ['spec.validations[0].message: Invalid value: "a\\nb": must not contain line breaks']),
        ({"validations": [{"expression": "true", "reason": "X"}]}, ['spec.validations[0].reason: Unsupported value: "X": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"']),
        ({"variables": [{"name": "in", "expression": "1"}]}, ['spec.variables[0].name: Invalid value: "in": must be a valid CEL identifier']),
        ({"auditAnnotations": [{"key": "a", "valueExpression": "1"}]}, ['spec.auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of [string null_type] but got int']),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_policy(said: Object, found: list[str]) -> None:
    assert wrong(POLICY, policy(**said)) == found


def test_expressions_see_the_variables_before_them_and_params_where_there_are() -> None:
    variables = [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a + 1"}]
    assert wrong(POLICY, policy(variables=variables, validations=[{"expression": "variables.b == 2"}])) == []
    assert "undefined field 'b'" in wrong(POLICY, policy(variables=[{"name": "a", "expression": "variables.b"}]))[0]
    assert (
        "undeclared reference to 'params'" in wrong(POLICY, policy(validations=[{"expression": "params == null"}]))[0]
    )
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    assert wrong(POLICY, policy(paramKind=kind, validations=[{"expression": "params == null"}])) == []


def test_a_policys_status_stands_apart() -> None:
    old = {**POLICY.prepare_create(policy()), "status": {"observedGeneration": 1}}
    changed = POLICY.prepare_update({**policy(failurePolicy="Ignore"), "status": {}}, old)
    assert (changed["status"], changed["metadata"]["generation"]) == ({"observedGeneration": 1}, 2)
    status = {"typeChecking": {"expressionWarnings": [{"fieldRef": " "}]}}
    found = POLICY.validate_status({**old, "status": status}, old)
    assert [error.field.rpartition(".")[2] for error in found] == ["warning", "fieldRef"]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, []),
        ({"policyName": ""}, ["spec.policyName"]),
        ({"validationActions": []}, ["spec.validationActions"]),
        ({"validationActions": ["Deny", "Warn"]}, ["spec.validationActions"]),
        ({"validationActions": ["Deny", "Deny", "X"]}, ["spec.validationActions[1]", "spec.validationActions[2]"]),
        ({"paramRef": {}}, ["spec.paramRef", "spec.paramRef.parameterNotFoundAction"]),
        ({"paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "Deny"}}, [
            "spec.paramRef.name", "spec.paramRef.selector",
        ]),
        ({"matchResources": {"matchPolicy": "X"}}, ["spec.matchResources.matchPolicy"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_binding(said: Object, found: list[str]) -> None:
    assert [error.field for error in BINDING.validate(binding(**said))] == found


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, []),
        ({"reinvocationPolicy": None}, ["spec.reinvocationPolicy"]),
        ({"mutations": [{"patchType": "JSONPatch"}]}, ["spec.mutations[0].jsonPatch"]),
        ({"mutations": [{"patchType": "X"}]}, ["spec.mutations[0].patchType"]),
        ({"mutations": [{}]}, ["spec.mutations[0].patchType"]),
        ({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "1"}}]}, [
            "spec.mutations[0].jsonPatch.expression",
        ]),
        ({"matchConstraints": {"resourceRules": [rule(operations=["DELETE"])]}}, [
            "spec.matchConstraints.resourceRules.operations",
        ]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_mutating_policy(said: Object, found: list[str]) -> None:
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}
    spec = {
        "matchConstraints": {"resourceRules": [rule()]},
        "mutations": [mutation],
        "reinvocationPolicy": "Never",
        **said,
    }
    obj = MUTATING_POLICY.default({"metadata": {"name": "m"}, "spec": spec})
    assert [error.field for error in MUTATING_POLICY.validate(obj)] == found


def test_a_mutating_binding_may_not_name_deletions() -> None:
    match = {"resourceRules": [rule(operations=["DELETE"])]}
    obj = MUTATING_BINDING.default({"metadata": {"name": "m"}, "spec": {"policyName": "p", "matchResources": match}})
    assert [error.field for error in MUTATING_BINDING.validate(obj)] == ["spec.matchResources.resourceRules.operations"]


def test_reserved_names_are_warned_of() -> None:
    obj = {**configuration(), "metadata": {"name": "x.static.k8s.io"}}
    assert VALIDATING.warnings(obj)[0].startswith('metadata.name: names ending with ".static.k8s.io" are reserved')
    assert VALIDATING.warnings(configuration()) == []


def test_expressions_that_would_take_long_to_compile_are_refused_unread() -> None:
    many = [{"expression": f"object.a > {at}".ljust(1_000)} for at in range(400)]
    (error,) = wrong(POLICY, policy(validations=many))
    assert "Forbidden: expressions may have 300000 characters in all" in error
