"""Which writes rules, selectors and names concern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from anynode.admission.chain import Attributes, Operation
from anynode.admission.matching import ALL_KINDS, Criteria, Index, Rule, Sort
from anynode.api import resources
from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User

PODS = resources.known("pods")
NODES = resources.known("nodes")
NAMESPACES = resources.known("namespaces")
HPA1 = next(each for each in resources.builtin() if (each.plural, each.version) == ("horizontalpodautoscalers", "v1"))
HPA2 = next(each for each in resources.builtin() if (each.plural, each.version) == ("horizontalpodautoscalers", "v2"))


class Shapes:
    def equivalents(self, resource: Resource, subresource: str) -> Sequence[Resource]:
        return [each for each in (HPA1, HPA2) if each is not resource] if resource in (HPA1, HPA2) else ()

    async def shown(self, obj: Object, have: Resource, want: Resource) -> Object:
        return obj

    async def taken(
        self, obj: Object, have: Resource, want: Resource, kind: tuple[str, str, str], *, strict: bool = False
    ) -> Object:
        return obj

    def merged(self, live: Object, config: Object, kind: tuple[str, str, str]) -> Object:
        return {**live, **config}


def rule(**said: Any) -> Object:
    return {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], **said}


def attributes(resource: Resource = PODS, operation: Operation = "CREATE", **said: Any) -> Attributes:
    namespace = "ns" if resource.namespaced else ""
    obj = said.pop("obj", {"metadata": {"name": "x", "labels": {"a": "b"}}})
    return Attributes(operation=operation, resource=resource, namespace=namespace, obj=obj, user=User(name="u"), **said)


def spaces(_: Resource, key: ObjectKey) -> Object | None:
    return {"metadata": {"labels": {"team": "t"}}} if key.name == "ns" else None


@pytest.mark.parametrize(
    ("said", "resource", "subresource", "takes"),
    [
        ({}, PODS, "", True),
        ({"operations": ["UPDATE"]}, PODS, "", False),
        ({"apiGroups": ["apps"]}, PODS, "", False),
        ({"apiVersions": ["v2"]}, PODS, "", False),
        ({"resources": ["pods"]}, PODS, "status", False),
        ({"resources": ["*"]}, PODS, "status", False),
        ({"resources": ["pods/*"]}, PODS, "status", True),
        ({"resources": ["*/status"]}, PODS, "status", True),
        ({"resources": ["nodes"]}, PODS, "", False),
        ({"scope": "Cluster"}, PODS, "", False),
        ({"scope": "Cluster"}, NODES, "", True),
        ({"scope": "Cluster"}, NAMESPACES, "", True),
        ({"scope": "Namespaced"}, NAMESPACES, "", False),
    ],
)
def test_rules(said: Object, resource: Resource, subresource: str, takes: bool) -> None:
    sort = Sort.of(attributes(resource, subresource=subresource))
    assert Rule(rule(**said)).takes(sort, resource) is takes


def chosen(criteria: Criteria, write: Attributes) -> Resource | None:
    targets = criteria.targets(Sort.of(write), Shapes())
    return None if targets is None else criteria.chosen(targets, write, spaces)


def test_an_equivalent_resource_is_taken_only_where_none_fits_as_it_is() -> None:
    one = rule(apiVersions=["v1"], resources=["horizontalpodautoscalers"])
    both = rule(resources=["horizontalpodautoscalers"])
    assert chosen(Criteria({"rules": [one], "matchPolicy": "Equivalent"}, rules="rules"), attributes(HPA2)) is HPA1
    assert (
        chosen(Criteria({"rules": [one, both], "matchPolicy": "Equivalent"}, rules="rules"), attributes(HPA2)) is HPA2
    )
    assert chosen(Criteria({"rules": [one], "matchPolicy": "Exact"}, rules="rules"), attributes(HPA2)) is None


def test_names_include_and_exclude() -> None:
    criteria = Criteria(
        {
            "resourceRules": [rule(resourceNames=["x", "y"])],
            "excludeResourceRules": [rule(resourceNames=["y"])],
        }
    )
    assert chosen(criteria, attributes()) is PODS
    assert chosen(criteria, attributes(name="y")) is None
    assert chosen(criteria, attributes(name="z")) is None


def test_no_rules_are_all_or_none() -> None:
    assert chosen(Criteria({}, all_without_rules=True), attributes()) is PODS
    assert chosen(Criteria({}), attributes()) is None


@pytest.mark.parametrize(
    ("selector", "write", "taken"),
    [
        ({"matchLabels": {"team": "t"}}, attributes(), True),
        ({"matchLabels": {"team": "u"}}, attributes(), False),
        ({"matchLabels": {"team": "u"}}, attributes(NODES), True),
        ({"matchLabels": {"a": "b"}}, attributes(NAMESPACES), True),
        ({"matchLabels": {"team": "t"}}, attributes(NAMESPACES, "DELETE", name="ns", obj=None), True),
    ],
)
def test_namespaces_are_selected(selector: Object, write: Attributes, taken: bool) -> None:
    criteria = Criteria({"resourceRules": [rule()], "namespaceSelector": selector})
    assert (chosen(criteria, write) is not None) is taken


def test_a_namespace_that_is_missing() -> None:
    criteria = Criteria({"resourceRules": [rule()], "namespaceSelector": {"matchLabels": {"a": "b"}}})
    write = attributes()
    write.namespace = "gone"
    with pytest.raises(NotFound):
        chosen(criteria, write)


def test_the_old_or_the_new_object_is_selected() -> None:
    criteria = Criteria({"resourceRules": [rule()], "objectSelector": {"matchLabels": {"a": "b"}}})
    bare: Object = {"metadata": {"name": "x"}}
    assert chosen(criteria, attributes()) is PODS
    assert chosen(criteria, attributes(obj=bare)) is None
    old = {"metadata": {"labels": {"a": "b"}}}
    assert chosen(criteria, attributes(operation="UPDATE", obj=bare, old=old)) is PODS


class One:
    def __init__(self, criteria: Criteria) -> None:
        self.criteria = criteria


def test_an_index_remembers_until_something_changes_and_exempts_configurations() -> None:
    index: Index[One] = Index(Shapes(), ALL_KINDS)
    assert not index
    assert index.concerned(attributes()) == ()
    hook = One(Criteria({"resourceRules": [rule()]}))
    index.replace([hook])
    assert [each for each, _ in index.concerned(attributes())] == [hook]
    assert index.concerned(attributes()) is index.concerned(attributes(name="other"))
    own = resources.known("mutatingwebhookconfigurations", "admissionregistration.k8s.io")
    assert index.concerned(attributes(own)) == ()
    index.replace([])
    assert index.concerned(attributes()) == ()
