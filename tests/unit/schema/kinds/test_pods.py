"""What a pod becomes at each kind of write."""

from __future__ import annotations

from typing import Any

from anynode.schema.kinds.catalogue import rules_of

POD = rules_of("", "Pod")
TIME = "2026-01-01T00:00:00Z"


def pod(**spec: Any) -> dict[str, Any]:
    whole = {"containers": [{"name": "c", "image": "i:1"}], **spec}
    metadata = {"name": "p", "namespace": "d", "labels": {"app": "a"}, "creationTimestamp": TIME}
    return dict(POD.prepare_create(POD.default({"metadata": metadata, "spec": whole})))


def test_a_new_pod_is_pending() -> None:
    made = pod()
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert made["metadata"]["generation"] == 1


def test_a_gated_pod_says_so() -> None:
    [condition] = pod(schedulingGates=[{"name": "a.b/c"}])["status"]["conditions"]
    assert (condition["reason"], condition["lastTransitionTime"]) == ("SchedulingGated", TIME)


def test_label_keys_are_worked_into_selectors() -> None:
    made = pod(
        affinity={
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "z", "labelSelector": {}, "matchLabelKeys": ["app", "none"]}
                ]
            }
        },
        topologySpreadConstraints=[
            {"topologyKey": "z", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {},
             "matchLabelKeys": ["app"]}
        ],
    )  # fmt: skip
    wanted = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]}
    [term] = made["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"] == wanted
    assert made["spec"]["topologySpreadConstraints"][0]["labelSelector"] == wanted


def test_an_update_counts_only_spec_changes() -> None:
    old = pod()
    new = {**old, "spec": {**old["spec"], "activeDeadlineSeconds": 5}, "status": {"phase": "Running"}}
    updated = POD.prepare_update(new, old)
    assert updated["metadata"]["generation"] == 2
    assert updated["status"] == old["status"]
    relabelled = {**old, "metadata": {**old["metadata"], "labels": {}}}
    assert POD.prepare_update(relabelled, old)["metadata"]["generation"] == 1


def test_a_status_write_keeps_what_its_writer_forgot() -> None:
    old = pod()
    known = [{"type": "Ready", "status": "False", "observedGeneration": 1}]
    old["status"] = {**old["status"], "observedGeneration": 1, "conditions": known}
    new = {**old, "spec": {}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    written = POD.prepare_status(new, old)
    assert written["spec"] == old["spec"]
    assert written["status"] == {
        "phase": "Running",
        "qosClass": "BestEffort",
        "observedGeneration": 1,
        "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}],
    }


def test_an_ephemeral_container_comes_alone() -> None:
    old = pod()
    debugger = {"name": "d", "image": "b:1"}
    spec = {**old["spec"], "ephemeralContainers": [debugger], "nodeName": "n"}
    rules = POD.subresources["ephemeralcontainers"]
    new = POD.default(rules.prepare({**old, "spec": spec}, old))
    assert "nodeName" not in new["spec"]
    assert new["metadata"]["generation"] == 2
    assert list(rules.validate(new, old)) == []
    [gone] = rules.validate(old, new)
    assert gone.message.startswith('Forbidden: existing ephemeral containers "d" may not be removed')


def test_a_resize_changes_cpu_and_memory_alone() -> None:
    old = pod(containers=[{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "1"}}}])
    bigger = {**old["spec"]["containers"][0], "image": "other", "resources": {"requests": {"cpu": "2"}}}
    rules = POD.subresources["resize"]
    new = rules.prepare({**old, "spec": {**old["spec"], "containers": [bigger]}}, old)
    assert new["spec"]["containers"][0]["image"] == "i:1"
    assert new["metadata"]["generation"] == 2
    assert list(rules.validate(new, old)) == []
    best_effort = {**bigger, "resources": {}}
    gone = rules.prepare({**old, "spec": {**old["spec"], "containers": [best_effort]}}, old)
    assert [each.message for each in rules.validate(gone, old)] == [
        'Invalid value: "BestEffort": Pod QOS Class may not change as a result of resizing'.replace(
            "BestEffort", "Burstable"
        ),
        "Forbidden: resource requests cannot be removed",
    ]


def test_old_apparmor_annotations_become_fields() -> None:
    metadata = {
        "name": "p",
        "annotations": {"container.apparmor.security.beta.kubernetes.io/c": "localhost/mine"},
    }
    made = POD.prepare_create(
        POD.default({"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    )
    context = made["spec"]["containers"][0]["securityContext"]
    assert context == {"appArmorProfile": {"type": "Localhost", "localhostProfile": "mine"}}


def test_warnings_name_what_is_going_away() -> None:
    made = pod(nodeSelector={"beta.kubernetes.io/os": "linux"})
    assert list(POD.warnings(made)) == [
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'
    ]
    assert list(POD.warnings(pod())) == []
