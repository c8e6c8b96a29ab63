"""Empty lists that are always written come back as null, and nothing else changes."""

from __future__ import annotations

from typing import Any

from anynode.schema import managed_fields, types
from anynode.schema.stored import as_stored
from anynode.schema.typed import check_fields

TYPES = types.builtin()
ROLE = "io.k8s.api.rbac.v1.Role"
POD = "io.k8s.api.core.v1.Pod"


def test_an_empty_list_that_is_always_written_becomes_null() -> None:
    role, _ = check_fields({"metadata": {"name": "r"}, "rules": []}, ROLE, TYPES)
    assert role["rules"] == []
    assert as_stored(role, ROLE, TYPES) == {"metadata": {"name": "r"}, "rules": None}


def test_whoever_sent_the_empty_list_owns_it() -> None:
    role, _ = check_fields({"metadata": {"name": "r"}, "rules": []}, ROLE, TYPES)
    (entry,) = managed_fields.updated(
        None, role, manager="m", api_version="rbac.authorization.k8s.io/v1", time="", type_name=ROLE, types=TYPES
    )
    assert entry["fieldsV1"] == {"f:rules": {}}


def test_inner_lists_too_and_the_rest_stays_the_same() -> None:
    pod: dict[str, Any] = {
        "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "c", "args": []}],
            "volumes": [{"name": "a", "projected": {"sources": []}}, {"name": "b", "emptyDir": {}}],
        },
    }
    settled = as_stored(pod, POD, TYPES)
    assert settled["spec"]["volumes"][0]["projected"] == {"sources": None}
    assert settled["spec"]["volumes"][1] is pod["spec"]["volumes"][1]
    assert settled["spec"]["containers"] is pod["spec"]["containers"]
    assert settled["metadata"] is pod["metadata"]
    same = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    assert as_stored(same, POD, TYPES) is same
