"""Claims, expectations, and reading one's own writes."""

from __future__ import annotations

from typing import Any

from anynode.api.objects import Object, ObjectKey, key_of, labels_of, name_of, with_meta
from anynode.api.selectors import of_label_selector
from anynode.controllers.ownership import Expectations, Latest, plan_claim
from anynode.controllers.selection import (
    index_labels,
    index_owned,
    index_selectors,
    labelled,
    orphans,
    owned_by,
    selecting,
    selector_of,
    services_of,
)
from anynode.informers.informer import Delta
from anynode.informers.store import Store
from anynode.testing.clock import FakeClock

KEY = ObjectKey("default", "web")
WEB = of_label_selector({"matchLabels": {"app": "web"}})


def thing(name: str, *, app: str = "web", owner: str = "", version: int = 1, **more: Any) -> Object:
    references = [{"uid": owner, "controller": True}] if owner else []
    metadata = {"name": name, "namespace": "default", "uid": name, "resourceVersion": str(version), **more}
    return {"metadata": {**metadata, "labels": {"app": app}, "ownerReferences": references}}


def names(objects: Any) -> list[str]:
    return [name_of(each) for each in objects]


def test_a_claim_sorts_objects() -> None:
    candidates = [
        thing("mine", owner="me"),
        thing("lost", owner="me", app="other"),
        thing("theirs", owner="them"),
        thing("stray"),
        thing("unrelated", app="other"),
        thing("dying", deletionTimestamp="2026-01-01T00:00:00Z"),
    ]
    claim = plan_claim(thing("me"), WEB, candidates)
    assert names(claim.owned) == ["mine"]
    assert names(claim.adopt) == ["stray"]
    assert names(claim.release) == ["lost"]
    dying = plan_claim(thing("me", deletionTimestamp="2026-01-01T00:00:00Z"), WEB, candidates)
    assert (names(dying.owned), dying.adopt, dying.release) == (["mine"], [], [])


async def test_expectations_are_met_or_forgotten() -> None:
    clock = FakeClock()
    waiting = Expectations(clock)
    assert waiting.satisfied(KEY)
    waiting.expect(KEY, creations=2, deletions=["a"])
    waiting.created(KEY)
    waiting.deleted(KEY, "a")
    waiting.deleted(KEY, "a")
    assert not waiting.satisfied(KEY)
    waiting.created(KEY)
    assert waiting.satisfied(KEY)
    waiting.expect(KEY, creations=1)
    await clock.advance(299)
    assert not waiting.satisfied(KEY)
    await clock.advance(2)
    assert waiting.satisfied(KEY)


def test_own_writes_are_read() -> None:
    store = Store()
    latest = Latest(store)
    old, written, newer = (thing("web", version=version) for version in (9, 10, 11))
    store.put(KEY, old)
    assert latest.note(written) is written
    assert latest.get(KEY) is written
    assert latest.is_echo(Delta("modified", written, old))
    assert not latest.is_echo(Delta("modified", newer, written))
    store.put(KEY, newer)
    assert latest.get(KEY) is newer
    another = with_meta(thing("web", version=5), uid="another")
    latest.note(another)
    assert latest.get(KEY) is newer
    store.remove(KEY)
    assert latest.get(KEY) is None


def test_indexes_find_without_a_scan() -> None:
    store = Store()
    index_owned(store)
    index_labels(store)
    for each in (thing("a"), thing("b", owner="me"), thing("c", app="other"), with_meta(thing("d"), namespace="other")):
        store.put(key_of(each), each)
    assert names(owned_by(store, "me")) == ["b"]
    assert names(orphans(store, "default", WEB)) == ["a"]
    assert names(orphans(store, "default", of_label_selector({}))) == ["a", "c"]
    assert names(labelled(store, "default", {"app": "web"})) == ["a", "b"]
    assert names(labelled(store, "default", {})) == ["a", "b", "c"]


def test_selectors_find_their_owners() -> None:
    store = Store()
    index_selectors(store)
    by_labels = {**thing("by-labels"), "spec": {"selector": {"matchLabels": {"app": "web"}}}}
    expression = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}
    by_expression = {**thing("by-expression"), "spec": {"selector": expression}}
    empty = {**thing("empty"), "spec": {"selector": {}}}
    service = {**thing("service"), "spec": {"selector": {"app": "web"}}}
    for each in (by_labels, by_expression, empty):
        store.put(key_of(each), each)
    assert names(selecting(store, thing("pod"))) == ["by-expression", "by-labels"]
    assert names(selecting(store, thing("pod", app="db"))) == ["by-expression"]
    assert not selector_of(empty).matches(labels_of(thing("pod")))
    services = Store()
    index_selectors(services)
    services.put(key_of(service), service)
    assert names(services_of(services, thing("pod"))) == ["service"]
    assert names(services_of(services, thing("pod", app="db"))) == []
