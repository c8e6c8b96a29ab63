"""Volume claims as the scheduler deals with them: what they allow, and telling them the node that was chosen.

In: PersistentVolumeClaims, PersistentVolumes and StorageClasses through informers. Out: which rows a pod's claims
refuse; the ``selected-node`` annotation, on which a provisioner makes the volume. Failed writes are tried again.
Source: kube-scheduler ``framework/plugins/volumebinding/binder.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from anynode.aio.clock import Clock
from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, annotations_of, key_of
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.informers.controller import Controller, Done, Outcome
from anynode.informers.informer import Delta, InformerFactory
from anynode.scheduler import plugins
from anynode.scheduler.snapshot import Bools, Snapshot
from anynode.scheduler.volumes import NO_VOLUME, OTHER_NODE, SELECTED_NODE, Lookups, Terms, VolumeNeeds, needs_of

CLAIMS, VOLUMES = known("persistentvolumeclaims"), known("persistentvolumes")
CLASSES = known("storageclasses", "storage.k8s.io")

Refusals = Sequence[tuple[Bools, str]]


class Claims:
    """The claims of all pods."""

    def __init__(
        self, client: ApiClient, informers: InformerFactory, *, clock: Clock, changed: Callable[[], None]
    ) -> None:
        """``changed`` is called whenever a waiting pod may have what it waits for."""
        self._client = client
        self._chosen: dict[ObjectKey, str] = {}
        self._controller = Controller("scheduler-claims", self._tell, clock=clock, workers=4)
        claims, volumes, classes = (informers.informer(each) for each in (CLAIMS, VOLUMES, CLASSES))
        self._lookups = Lookups(
            claim=claims.store.get,
            volume=lambda name: volumes.store.get(ObjectKey("", name)),
            storage_class=lambda name: classes.store.get(ObjectKey("", name)),
        )
        claims.subscribe(self._on_claim)
        for informer in (claims, volumes, classes):
            informer.subscribe(lambda _: changed())

    async def run(self) -> None:
        await self._controller.run()

    def needs_of(self, pod: Object) -> VolumeNeeds:
        """What the pod's claims ask for now; a choice that is on its way counts as made."""
        needs = needs_of(pod, self._lookups)
        for key in tuple(needs.unchosen):
            node = self._chosen.get(key)
            if node is not None:
                needs.unchosen.remove(key)
                needs.selected = node
        return needs

    def _on_claim(self, delta: Delta) -> None:
        """A choice that can be seen, or whose claim is gone, need not be remembered."""
        if delta.kind == "deleted" or SELECTED_NODE in annotations_of(delta.obj):
            self._chosen.pop(key_of(delta.obj), None)

    def choose(self, claims: Iterable[ObjectKey], node: str) -> None:
        """Have these claims told that their pod goes to ``node``."""
        for key in claims:
            self._chosen[key] = node
            self._controller.queue.add(key)

    async def _tell(self, key: ObjectKey) -> Outcome:
        node = self._chosen.get(key)
        if node is None:
            return Done()
        patch = {"metadata": {"annotations": {SELECTED_NODE: node}}}
        try:
            await self._client.patch(CLAIMS, key, patch)
        except NotFound:
            self._chosen.pop(key, None)  # the pod is told of it at its next try
        return Done()


def refused_rows(snapshot: Snapshot, needs: VolumeNeeds) -> Refusals:
    """Rows that the claims refuse, each with the reason."""
    found = [(~_any_matches(snapshot, terms), OTHER_NODE) for terms in needs.bound]
    found += [(~_any_matches(snapshot, terms), NO_VOLUME) for terms in needs.topologies]
    if needs.none_to_bind:
        found.append((np.ones(snapshot.size, dtype=np.bool_), NO_VOLUME))
    if needs.selected:
        elsewhere = np.ones(snapshot.size, dtype=np.bool_)
        row = snapshot.row_of(needs.selected)
        if row is not None:
            elsewhere[row] = False
        found.append((elsewhere, OTHER_NODE))
    return found


def _any_matches(snapshot: Snapshot, terms: Terms) -> Bools:
    some = np.zeros(snapshot.size, dtype=np.bool_)
    for term in terms:
        some |= plugins.term_matches(snapshot, term)
    return some
