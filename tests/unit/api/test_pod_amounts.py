"""What a pod may use in all."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.objects import Object
from anynode.api.pod_amounts import FOR_LIMIT_RANGE, FOR_QUOTA, pod_amounts


def container(cpu: str, name: str = "c", **more: Any) -> Object:
    return {"name": name, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}, **more}


def total(pod: Object, side: Any = "requests", counting: Any = FOR_QUOTA) -> dict[str, str]:
    return {name: str(amount) for name, amount in pod_amounts(pod, side, counting).items()}


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [container("1"), container("500m")]}, "1500m"),
        ({"containers": [container("1")], "initContainers": [container("3"), container("2")]}, "3"),
        ({"containers": [container("1")], "initContainers": [container("2", restartPolicy="Always")]}, "3"),
        (
            {
                "containers": [container("1")],
                "initContainers": [container("1", restartPolicy="Always"), container("4")],
            },
            "5",
        ),
        ({"containers": [container("1")], "resources": {"requests": {"cpu": "7"}}}, "7"),
        ({"containers": [container("1")], "overhead": {"cpu": "250m"}}, "1250m"),
    ],
)
def test_containers_are_put_together(spec: Object, cpu: str) -> None:
    assert total({"spec": spec}) == {"cpu": cpu}


def test_overhead_tops_limits_only_where_there_are_some_and_no_limit_range_counts_it() -> None:
    spec = {"containers": [container("1")], "overhead": {"cpu": "1", "memory": "1Gi"}}
    assert total({"spec": spec}, "limits") == {"cpu": "2"}
    assert total({"spec": spec}, "limits", FOR_LIMIT_RANGE) == {"cpu": "1"}


def test_huge_pages_of_a_pod_count_for_quotas_alone() -> None:
    spec = {"containers": [container("1")], "resources": {"requests": {"hugepages-2Mi": "4Mi"}}}
    assert total({"spec": spec}) == {"cpu": "1", "hugepages-2Mi": "4Mi"}
    assert total({"spec": spec}, counting=FOR_LIMIT_RANGE) == {"cpu": "1"}


@pytest.mark.parametrize(("reason", "requests", "limits"), [("Deferred", "2", "2"), ("Infeasible", "1500m", "1")])
def test_what_the_node_gave_counts_where_it_is_more_or_the_wish_cannot_be_had(
    reason: str, requests: str, limits: str
) -> None:
    given = {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}, "allocatedResources": {"cpu": "1500m"}}
    condition = {"type": "PodResizePending", "status": "True", "reason": reason}
    status = {"containerStatuses": [{"name": "c", **given}], "conditions": [condition]}
    pod = {"spec": {"containers": [container("2")]}, "status": status}
    assert (total(pod), total(pod, "limits")) == ({"cpu": requests}, {"cpu": limits})
    assert total(pod, counting=FOR_LIMIT_RANGE) == {"cpu": "2"}
