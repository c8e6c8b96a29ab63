"""Default classes and finalizers, as admission adds them."""

from __future__ import annotations

import pytest

from anynode.admission.chain import Attributes, Chain
from anynode.admission.default_classes import CLAIM_CLASS, DefaultIngressClass, DefaultStorageClass
from anynode.admission.storage_protection import FINALIZERS, StorageObjectInUseProtection
from anynode.api import resources
from anynode.api.objects import Object, meta
from anynode.api.resources import Resource
from anynode.api.wire import User

CLAIMS = resources.known("persistentvolumeclaims")


def marked(name: str, made: str, *, default: str = "true", kind: str = "storageclass") -> Object:
    mark = {f"{kind}.kubernetes.io/is-default-class": default}
    return {"metadata": {"name": name, "creationTimestamp": made, "annotations": mark}}


async def admitted(obj: Object, *classes: Object, resource: Resource = CLAIMS) -> Object:
    plugins = [DefaultStorageClass(lambda _: classes), DefaultIngressClass(lambda _: classes)]
    chain = Chain([*plugins, StorageObjectInUseProtection()])
    found = await chain.admit(
        Attributes(operation="CREATE", resource=resource, namespace="ns", obj=obj, user=User(name="u"))
    )
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("classes", "chosen"),
    [
        ([], None),
        ([marked("a", "2026-01-01T00:00:00Z", default="false")], None),
        ([marked("a", "2026-01-01T00:00:00Z"), marked("b", "2026-01-02T00:00:00Z")], "b"),
        ([marked("b", "2026-01-01T00:00:00Z"), marked("a", "2026-01-01T00:00:00Z")], "a"),
        ([marked("old", "2026-01-01T00:00:00Z", kind="storageclass.beta")], "old"),
    ],
)
async def test_the_newest_default_is_taken_of_equal_ones_the_first(classes: list[Object], chosen: str | None) -> None:
    found = await admitted({"metadata": {"name": "c"}, "spec": {}}, *classes)
    assert found["spec"].get("storageClassName") == chosen


async def test_who_names_a_class_or_none_on_purpose_keeps_it() -> None:
    default = marked("a", "2026-01-01T00:00:00Z")
    assert (await admitted({"spec": {"storageClassName": ""}}, default))["spec"] == {"storageClassName": ""}
    annotated = await admitted({"metadata": {"annotations": {CLAIM_CLASS: "x"}}, "spec": {}}, default)
    assert annotated["spec"] == {}
    ingresses = resources.known("ingresses", "networking.k8s.io")
    web = marked("web", "2026-01-01T00:00:00Z", kind="ingressclass")
    assert (await admitted({"spec": {}}, web, resource=ingresses))["spec"] == {"ingressClassName": "web"}


@pytest.mark.parametrize("qualified", sorted(FINALIZERS))
async def test_storage_objects_get_their_finalizer_once(qualified: str) -> None:
    plural, _, group = qualified.partition(".")
    resource = resources.known(plural, group)
    found = await admitted({"metadata": {"finalizers": ["own"]}, "spec": {}}, resource=resource)
    assert meta(found)["finalizers"] == ["own", FINALIZERS[qualified]]
    assert meta(await admitted(found, resource=resource))["finalizers"] == ["own", FINALIZERS[qualified]]
