from __future__ import annotations

from anynode.security import bootstrap


def test_every_object_knows_its_kind_and_name() -> None:
    found = bootstrap.objects()
    assert len(found) == 156
    for resource, obj in found:
        assert (obj["kind"], obj["apiVersion"]) == (resource.kind, resource.api_version)
        assert obj["metadata"]["name"]
    assert {resource.plural for resource, _ in found} >= {"clusterroles", "rolebindings", "priorityclasses"}
