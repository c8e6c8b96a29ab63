"""States and what differs between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anynode.api.objects import Object
from anynode.history.difference import differences
from anynode.history.state import ClusterState, ObjectId, comparable, masked
from anynode.history.text import unified, wire

DATA = st.dictionaries(st.text("abc", min_size=1), st.text("xyz"))


def state(*objects: Object) -> ClusterState:
    found = {}
    for obj in objects:
        group, _, _ = obj.get("apiVersion", "v1").rpartition("/")
        metadata = obj["metadata"]
        found[ObjectId(group, obj["kind"], metadata.get("namespace", ""), metadata["name"])] = obj
    return ClusterState(revision="7", objects=found)


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": data}


def test_what_came_went_and_changed() -> None:
    before = state(config_map("kept", a="1"), config_map("gone"), config_map("other", a="1", b="2"))
    after = state(config_map("kept", a="1"), config_map("new"), config_map("other", a="1", b="3"))
    found = differences(before, after)
    assert [(each.action, str(each.id)) for each in found] == [
        ("deleted", "configmap/gone -n shop"),
        ("created", "configmap/new -n shop"),
        ("changed", "configmap/other -n shop"),
    ]
    assert found[2].paths() == ["data.b"]


def test_bookkeeping_is_no_difference() -> None:
    one, other = config_map("web"), config_map("web")
    one["metadata"] = {**one["metadata"], "resourceVersion": "1", "managedFields": [{"manager": "a"}], "uid": "u1"}
    other["metadata"] = {**other["metadata"], "resourceVersion": "9", "uid": "u1"}
    assert differences(state(one), state(other)) == []


def test_clusters_have_uids_of_their_own() -> None:
    owner = {"kind": "ReplicaSet", "name": "web", "apiVersion": "apps/v1"}
    one, other = config_map("web"), config_map("web")
    one["metadata"] = {**one["metadata"], "uid": "u1", "ownerReferences": [{**owner, "uid": "o1"}]}
    other["metadata"] = {**other["metadata"], "uid": "u2", "ownerReferences": [{**owner, "uid": "o2"}]}
    assert differences(state(one), state(other), foreign=True) == []
    assert [each.paths() for each in differences(state(one), state(other))] == [
        ["metadata.ownerReferences[0].uid", "metadata.uid"]
    ]


def test_status_counts_only_when_asked() -> None:
    one, other = {**config_map("web"), "status": {"a": 1}}, {**config_map("web"), "status": {"a": 2}}
    assert differences(state(one), state(other), status=False) == []
    assert len(differences(state(one), state(other))) == 1
    assert comparable(one, status=False) == config_map("web")


def test_secrets_are_masked() -> None:
    def secret(value: str) -> Object:
        applied = {"kubectl.kubernetes.io/last-applied-configuration": f'{{"data":{{"key":"{value}"}}}}'}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "key", "namespace": "shop", "annotations": applied},
            "data": {"key": value, "same": "c2FtZQ=="},
        }

    (found,) = differences(state(secret("aHVzaA==")), state(secret("cXVpZXQ=")))
    shown = "\n".join(unified(found, "a", "b")) + str(wire(found))
    assert found.before is not None
    assert found.before["data"] == {"key": "*** (before)", "same": "***"}
    assert "aHVzaA==" not in shown
    assert "cXVpZXQ=" not in shown
    (new,) = differences(state(), state(secret("aHVzaA==")))
    assert "aHVzaA==" not in str(wire(new))
    assert masked(None, None) == (None, None)


def test_unified_reads_like_kubectl_diff() -> None:
    (found,) = differences(state(config_map("web", a="1")), state(config_map("web", a="2")))
    lines = list(unified(found, "@1", "now"))
    assert lines[:2] == ["--- @1 configmap/web -n shop", "+++ now configmap/web -n shop"]
    assert "-  a: '1'" in lines
    assert "+  a: '2'" in lines


@given(DATA, DATA)
def test_paths_name_exactly_what_differs(before: dict[str, str], after: dict[str, str]) -> None:
    found = differences(state(config_map("web", **before)), state(config_map("web", **after)))
    expected = sorted(f"data.{key}" for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    assert (found[0].paths() if found else []) == expected
