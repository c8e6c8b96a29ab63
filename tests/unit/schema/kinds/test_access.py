"""Roles and bindings."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

GROUP = "rbac.authorization.k8s.io"


def told(kind: str, **body: Any) -> list[str]:
    rules = rules_of(GROUP, kind)
    made = rules.default({"metadata": {"name": "system:x"}, **body})
    return [f"{each.field}: {each.message}" for each in rules.validate(made)]


def test_names_may_hold_colons() -> None:
    valid_name = rules_of(GROUP, "Role").valid_name
    assert valid_name is not None
    assert list(valid_name("system:node")) == []
    assert list(valid_name("a/b")) != []


def test_subjects_are_of_this_group() -> None:
    binding = rules_of(GROUP, "RoleBinding").default(
        {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]}
    )
    assert binding["roleRef"]["apiGroup"] == GROUP
    assert [each.get("apiGroup") for each in binding["subjects"]] == [GROUP, None]


RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("Role", {"rules": [RULE]}, []),
        ("Role", {"rules": [{**RULE, "verbs": []}]},
            ["rules[0].verbs: Required value: verbs must contain at least one value"]),
        ("Role", {"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]},
            ['rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs']),
        ("ClusterRole", {"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]}, []),
        ("ClusterRole", {"aggregationRule": {}},
            ["aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if "
             "aggregationRule is non-nil"]),
        ("RoleBinding", {"roleRef": {"kind": "Odd", "name": "a/b"}},
            ['roleRef.kind: Unsupported value: "Odd": supported values: "Role", "ClusterRole"',
             'roleRef.name: Invalid value: "a/b": may not contain \'/\'']),
        ("ClusterRoleBinding", {"roleRef": {"kind": "Role", "name": "r"}},
            ['roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"']),
        ("ClusterRoleBinding", {"roleRef": {"kind": "ClusterRole", "name": "r"},
                                "subjects": [{"kind": "ServiceAccount", "name": "s"}, {"kind": "Odd", "name": "x"}]},
            ["subjects[0].namespace: Required value",
             'subjects[1].kind: Unsupported value: "Odd": supported values: "ServiceAccount", "User", "Group"']),
    ],
)  # fmt: skip
def test_bad_roles(kind: str, body: dict[str, Any], expected: list[str]) -> None:
    assert told(kind, **body) == expected


def test_a_binding_stays_with_its_role() -> None:
    rules = rules_of(GROUP, "RoleBinding")
    old = rules.default({"roleRef": {"kind": "Role", "name": "r"}})
    new = rules.default({"roleRef": {"kind": "Role", "name": "other"}})
    [found] = rules.validate_update(new, old)
    assert found.message.endswith("cannot change roleRef")
    assert (
        list(rules.validate_update({**old, "subjects": [{"kind": "User", "name": "u", "apiGroup": GROUP}]}, old)) == []
    )
