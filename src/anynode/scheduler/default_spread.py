"""Which pods belong together although they do not say so: those of one Service or one workload spread by themselves.

In: Services and workloads through informers. Out: for a pod without constraints of its own the selector of its
fellows, or None. Source: kube-scheduler ``framework/plugins/helper/spread.go`` and ``podtopologyspread`` (system
defaults), 1.36.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from anynode.api.objects import Object, ObjectKey, controller_of, get_path, labels_of, namespace_of
from anynode.api.resources import Resource, known
from anynode.api.selectors import LabelSelector, Requirement, SelectorError, of_label_selector, of_labels
from anynode.informers.informer import Delta, Informer, InformerFactory

SERVICES = known("services")
OWNERS: Mapping[tuple[str, str], Resource] = {
    ("v1", "ReplicationController"): known("replicationcontrollers"),
    ("apps/v1", "ReplicaSet"): known("replicasets", "apps"),
    ("apps/v1", "StatefulSet"): known("statefulsets", "apps"),
}
KEPT = 4096


class Fellows:
    """Finds the selector of a pod's fellows."""

    def __init__(self, informers: InformerFactory) -> None:
        self._services = informers.informer(SERVICES)
        self._owners: Mapping[tuple[str, str], Informer] = {
            kind: informers.informer(resource) for kind, resource in OWNERS.items()
        }
        self._found: dict[Hashable, LabelSelector | None] = {}
        for informer in (self._services, *self._owners.values()):
            informer.subscribe(self._forget)

    def selector_of(self, pod: Object) -> LabelSelector | None:
        """What the pod's fellows have in common; None for a pod that is on its own or says itself how to spread."""
        if get_path(pod, "spec", "topologySpreadConstraints"):
            return None
        owner = controller_of(pod)
        named = (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) if owner is not None else None
        key = (namespace_of(pod), frozenset(labels_of(pod).items()), named)
        if key not in self._found:
            if len(self._found) >= KEPT:
                self._found.clear()
            self._found[key] = self._look_up(pod, owner)
        return self._found[key]

    def _look_up(self, pod: Object, owner: Object | None) -> LabelSelector | None:
        labels, namespace = labels_of(pod), namespace_of(pod)
        common: dict[str, str] = {}
        for service in self._services.store.list(namespace):
            wanted = get_path(service, "spec", "selector", default={})
            if wanted and wanted.items() <= labels.items():
                common |= wanted
        selector = of_labels(common)
        informer = self._owners.get((owner.get("apiVersion", ""), owner.get("kind", ""))) if owner is not None else None
        if owner is not None and informer is not None:
            workload = informer.store.get(ObjectKey(namespace, owner.get("name", "")))
            selector = LabelSelector((*selector.requirements, *_requirements(workload)))
        return None if selector.empty else selector

    def _forget(self, delta: Delta) -> None:
        before = get_path(delta.old or {}, "spec", "selector")
        if delta.kind != "modified" or before != get_path(delta.obj, "spec", "selector"):
            self._found.clear()


def _requirements(workload: Object | None) -> tuple[Requirement, ...]:
    """What a workload's selector asks for; a ReplicationController's is a plain map."""
    selector = get_path(workload or {}, "spec", "selector")
    if not selector:
        return ()
    try:
        plain = "matchLabels" not in selector and "matchExpressions" not in selector
        return (of_labels(selector) if plain else of_label_selector(selector)).requirements
    except SelectorError:
        return ()
