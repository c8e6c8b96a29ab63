"""The Scale of a custom resource, by the paths its definition names."""

from __future__ import annotations

import pytest

from anynode.api import errors
from anynode.api.objects import Object
from anynode.registry import custom_scale
from anynode.registry.custom_scale import ScalePaths

PATHS = ScalePaths(".spec.size.want", ".status.have", ".status.selector")


def widget(**parts: object) -> Object:
    return {
        "kind": "Widget",
        "metadata": {"name": "a", "namespace": "n", "resourceVersion": "7", "labels": {}},
        **parts,
    }


def test_a_scale_tells_what_is_at_its_paths() -> None:
    obj = widget(spec={"size": {"want": 3}}, status={"have": 2, "selector": "a=b"})
    assert custom_scale.of(obj, PATHS) == {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {"name": "a", "namespace": "n", "resourceVersion": "7"},
        "spec": {"replicas": 3},
        "status": {"replicas": 2, "selector": "a=b"},
    }


def test_no_replicas_is_no_scale_but_zero_is_one() -> None:
    with pytest.raises(errors.InternalError, match=r'the spec replicas field "\.spec\.size\.want" does not exist'):
        custom_scale.of(widget(spec={}), PATHS)
    assert custom_scale.of(widget(spec={"size": {"want": 0}}), PATHS)["spec"] == {}
    assert custom_scale.to_change(widget(), PATHS)["spec"] == {"replicas": custom_scale.UNSET}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"spec": {"size": {"want": "3"}}}, ".spec.size.want accessor error: 3 is of the type string, expected int64"),
        ({"spec": {"size": 3}}, ".spec.size.want accessor error: 3 is of the type int64, expected map"),
        (
            {"spec": {"size": {"want": 1}}, "status": {"selector": 5}},
            ".status.selector accessor error: 5 is of the type",
        ),
    ],
)
def test_what_is_of_another_type_is_an_error(parts: Object, message: str) -> None:
    with pytest.raises(errors.ApiError) as raised:
        custom_scale.of(widget(**parts), PATHS)
    assert raised.value.message.startswith(message)


def test_a_changed_scale_makes_the_path_and_keeps_what_is_beside_it() -> None:
    obj = widget(spec={"color": "red"})
    changed = custom_scale.applied(obj, {"metadata": {"resourceVersion": "6"}, "spec": {"replicas": 4}}, PATHS)
    assert changed["spec"] == {"color": "red", "size": {"want": 4}}
    assert changed["metadata"]["resourceVersion"] == "6"
    assert obj["spec"] == {"color": "red"}
    with pytest.raises(errors.BadRequest, match="cannot be empty"):
        custom_scale.applied(obj, {"metadata": {}, "spec": {"replicas": custom_scale.UNSET}}, PATHS)


def test_ownership_of_replicas_follows_the_path() -> None:
    assert PATHS.owned == {"f:spec": {"f:size": {"f:want": {}}}}
