"""What may change in a pod that exists."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

POD = rules_of("", "Pod")


def pod(**spec: Any) -> dict[str, Any]:
    whole = {"containers": [{"name": "c", "image": "i:1"}], **spec}
    made = POD.default({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": whole})
    return dict(POD.prepare_create(made))


def changed(old: dict[str, Any], **spec: Any) -> list[str]:
    new = POD.default({**old, "spec": {**old["spec"], **spec}})
    return [f"{each.field}: {each.message}" for each in POD.validate_update(POD.prepare_update(new, old), old)]


def reported(old: dict[str, Any], **status: Any) -> list[str]:
    new = POD.prepare_status({**old, "status": {**old["status"], **status}}, old)
    return [f"{each.field}: {each.message}" for each in POD.validate_status(new, old)]


def test_images_may_change() -> None:
    assert changed(pod(), containers=[{**pod()["spec"]["containers"][0], "image": "i:2"}]) == []


def test_anything_else_is_refused_with_a_diff() -> None:
    [found] = changed(pod(), nodeName="n")
    assert found.startswith("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")
    assert '-  "NodeName": "",\n' not in found
    assert '"NodeName": "n"' in found
    assert "\n@@" in found or "@@ " in found


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, 5, []),
        (5, 4, []),
        (4, 5, ["must be less than or equal to previous value"]),
        (5, None, ["must not update from a positive integer to nil value"]),
    ],
)
def test_a_deadline_only_sinks(before: int | None, after: int | None, expected: list[str]) -> None:
    old = pod() if before is None else pod(activeDeadlineSeconds=before)
    found = changed(old, activeDeadlineSeconds=after)
    assert len(found) == len(expected)
    for text, end in zip(found, expected, strict=True):
        assert text.endswith(end)


def test_tolerations_may_come_not_go() -> None:
    one, other = {"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}
    assert changed(pod(tolerations=[one]), tolerations=[one, other]) == []
    found = changed(pod(tolerations=[one]), tolerations=[other])
    assert "existing toleration" in found[0]


def test_gates_may_go_not_come() -> None:
    gates = [{"name": "a.b/c"}, {"name": "a.b/d"}]
    assert changed(pod(schedulingGates=gates), schedulingGates=gates[:1]) == []
    found = changed(pod(schedulingGates=gates[:1]), schedulingGates=gates)
    assert any("only deletion is allowed, but found new scheduling gate" in text for text in found)


def test_a_gated_pod_may_be_narrowed() -> None:
    gated = pod(schedulingGates=[{"name": "a.b/c"}], nodeSelector={"a": "b"})
    assert changed(gated, nodeSelector={"a": "b", "c": "d"}) == []
    assert "only additions to spec.nodeSelector are allowed" in changed(gated, nodeSelector={"a": "x"})[0]


def test_containers_stay_as_many_as_they_were() -> None:
    [container] = pod()["spec"]["containers"]
    found = changed(pod(), containers=[container, {**container, "name": "d"}])
    assert found == ["spec.containers: Forbidden: pod updates may not add or remove containers"]


def test_status_is_judged() -> None:
    assert reported(pod(), phase="Running", podIP="10.0.0.1", podIPs=[{"ip": "10.0.0.1"}]) == []
    assert reported(pod(), qosClass="Guaranteed") == [
        'status.qosClass: Invalid value: "Guaranteed": field is immutable'
    ]
    assert "must be a valid IP address" in reported(pod(), podIPs=[{"ip": "x"}])[0]
    two = reported(pod(), podIPs=[{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}])
    assert two[0].endswith("may specify no more than one IP for each IP family")


@pytest.mark.parametrize(
    ("policy", "code", "allowed"),
    [("Always", 0, True), ("OnFailure", 1, True), ("OnFailure", 0, False), ("Never", 1, False)],
)
def test_an_ended_container_stays_ended_unless_restarted(policy: str, code: int, allowed: bool) -> None:
    old = pod(restartPolicy=policy)
    ended = {"name": "c", "state": {"terminated": {"exitCode": code}}}
    old["status"] = {**old["status"], "containerStatuses": [ended]}
    found = reported(old, containerStatuses=[{"name": "c", "state": {"running": {}}}])
    refusal = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    assert found == ([] if allowed else [refusal])
