"""Deployments, replica sets, daemon sets, stateful sets, replication controllers and revisions."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

LABELS = {"a": "b"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
BASE: dict[str, Any] = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}
KINDS = ("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet")


def made(kind: str, **spec: Any) -> dict[str, Any]:
    rules = rules_of("apps", kind)
    whole = {**BASE, **({"serviceName": "s"} if kind == "StatefulSet" else {}), **spec}
    return dict(rules.prepare_create(rules.default({"metadata": {"name": "x", "namespace": "d"}, "spec": whole})))


def told(kind: str, **spec: Any) -> list[str]:
    return [f"{each.field}: {each.message}" for each in rules_of("apps", kind).validate(made(kind, **spec))]


def changed(kind: str, old: dict[str, Any], **spec: Any) -> list[str]:
    rules = rules_of("apps", kind)
    new = rules.prepare_update(rules.default({**old, "spec": {**old["spec"], **spec}}), old)
    return [f"{each.field}: {each.message}" for each in rules.validate_update(new, old)]


def test_a_deployment_is_filled() -> None:
    spec = made("Deployment")["spec"]
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert [spec[name] for name in ("replicas", "revisionHistoryLimit", "progressDeadlineSeconds")] == [1, 10, 600]
    assert spec["template"]["spec"]["dnsPolicy"] == "ClusterFirst"


def test_the_others_are_filled() -> None:
    daemon = made("DaemonSet")["spec"]
    assert daemon["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    stateful = made("StatefulSet")["spec"]
    assert stateful["podManagementPolicy"] == "OrderedReady"
    assert stateful["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert made("ReplicaSet")["spec"]["replicas"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_selector_must_fit_its_template(kind: str) -> None:
    assert told(kind) == []
    [found] = told(kind, selector={"matchLabels": {"x": "y"}})
    assert found == (
        'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`'
    )
    if kind != "DaemonSet":
        assert "spec.selector: Required value" in told(kind, selector=None)


@pytest.mark.parametrize("kind", KINDS)
def test_pods_of_workloads_run_always(kind: str) -> None:
    template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
    assert told(kind, template=template) == [
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_selector_never_changes(kind: str) -> None:
    old = made(kind)
    both = {"a": "b", "c": "d"}
    template = {**TEMPLATE, "metadata": {"labels": both}}
    found = changed(kind, old, selector={"matchLabels": both}, template=template)
    assert len(found) == 1
    assert "field is immutable" in found[0] or "updates to statefulset spec for fields other than" in found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_only_spec_changes_count(kind: str) -> None:
    rules, old = rules_of("apps", kind), made(kind)
    longer = {**old, "spec": {**old["spec"], "minReadySeconds": 5}}
    assert rules.prepare_update(longer, old)["metadata"]["generation"] == 2
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"x": "y"}}}
    assert rules.prepare_update(labelled, old)["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("Deployment", {"replicas": -1}, ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        ("Deployment", {"progressDeadlineSeconds": 5, "minReadySeconds": 5},
            ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"]),
        ("Deployment", {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}},
            ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]),
        ("Deployment", {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}},
            ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]),
        ("Deployment", {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "101%"}}},
            ['spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%']),
        ("DaemonSet", {"updateStrategy": {"type": "Odd"}},
            ['spec.updateStrategy: Unsupported value: {"Type":"Odd","RollingUpdate":null}: supported values: '
             '"RollingUpdate", "OnDelete"']),
        ("StatefulSet", {"podManagementPolicy": "Odd"},
            ['spec.podManagementPolicy: Invalid value: "Odd": must be \'OrderedReady\' or \'Parallel\'']),
    ],
)  # fmt: skip
def test_bad_workloads(kind: str, spec: dict[str, Any], expected: list[str]) -> None:
    assert told(kind, **spec) == expected


def test_a_stateful_set_changes_only_in_part() -> None:
    old = made("StatefulSet")
    assert changed("StatefulSet", old, replicas=3, minReadySeconds=4) == []
    [found] = changed("StatefulSet", old, podManagementPolicy="Parallel")
    assert found.startswith("spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals'")


def test_deployment_counts_must_agree() -> None:
    rules, old = rules_of("apps", "Deployment"), made("Deployment")
    new = {**old, "status": {"replicas": 1, "availableReplicas": 2, "readyReplicas": 2}}
    assert [each.field for each in rules.validate_status(new, old)] == [
        "status.readyReplicas",
        "status.availableReplicas",
    ]


def test_a_revision_keeps_its_data() -> None:
    rules = rules_of("apps", "ControllerRevision")
    old = rules.default({"metadata": {"name": "r"}, "revision": 1, "data": {"a": 1}})
    assert list(rules.validate_update({**old, "revision": 2}, old)) == []
    assert [each.field for each in rules.validate_update({**old, "data": {"a": 2}}, old)] == ["data"]


def test_a_replication_controller_is_selected_by_its_template() -> None:
    rules = rules_of("", "ReplicationController")
    filled = rules.default({"metadata": {"name": "r", "namespace": "d"}, "spec": {"template": TEMPLATE}})
    assert filled["spec"]["selector"] == LABELS
    assert filled["metadata"]["labels"] == LABELS
    assert list(rules.validate(filled)) == []


def test_a_daemon_set_counts_its_templates() -> None:
    rules, old = rules_of("apps", "DaemonSet"), made("DaemonSet")
    name = "deprecated.daemonset.template.generation"
    assert old["metadata"]["annotations"] == {name: "1"}
    other = {**TEMPLATE, "spec": {"containers": [{"name": "c", "image": "i:2"}]}}
    forgetful = {**old, "metadata": {"name": "x"}, "spec": {**old["spec"], "template": other}}
    new = rules.prepare_update(rules.default(forgetful), old)
    assert new["metadata"]["annotations"] == {name: "2"}
    assert new["metadata"]["generation"] == 2
    claimed = {**new, "metadata": {**new["metadata"], "annotations": {name: "9"}}}
    assert rules.prepare_update(claimed, new)["metadata"]["annotations"] == {name: "2"}
    assert rules.prepare_status(claimed, new)["metadata"]["annotations"] == {name: "2"}


def test_the_switched_off_share_of_a_stateful_set_is_dropped() -> None:
    rules = rules_of("apps", "StatefulSet")
    update = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1, "maxUnavailable": -1}}
    made = rules.prepare_create({"metadata": {"name": "s"}, "spec": {"updateStrategy": update}})
    assert made["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 1}
    changed = rules.prepare_update({**made, "spec": {"updateStrategy": update}}, made)
    assert changed["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 1}
