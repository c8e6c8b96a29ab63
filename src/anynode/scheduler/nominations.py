"""Pods that wait for their victims to leave: each holds its place on its node meanwhile. Pure.

In: which pod was promised which node. Out: a snapshot in which the promised room counts as taken, but not for the pod
itself nor for pods more important than it. Source: kube-scheduler ``backend/queue/nominator.go``, 1.36.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from anynode.api.objects import Uid
from anynode.scheduler.pods import PodFacts
from anynode.scheduler.snapshot import Snapshot


class Nominations:
    """The promised places."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._promised: dict[Uid, tuple[PodFacts, str]] = {}

    def __len__(self) -> int:
        return len(self._promised)

    def __iter__(self) -> Iterator[PodFacts]:
        return iter([facts for facts, _ in self._promised.values()])

    def node_of(self, uid: Uid) -> str:
        """The node promised to the pod; empty when there is none."""
        promised = self._promised.get(uid)
        return "" if promised is None else promised[1]

    def add(self, facts: PodFacts, node: str) -> None:
        """Promise ``node`` to the pod, instead of what it was promised before."""
        self.drop(facts.uid)
        self._promised[facts.uid] = (facts, node)
        self._snapshot.place(facts, node)

    def drop(self, uid: Uid) -> bool:
        """The pod needs its promise no longer; whether it had one."""
        if self._promised.pop(uid, None) is None:
            return False
        self._snapshot.remove(uid)
        return True

    @contextlib.contextmanager
    def aside(self, facts: PodFacts) -> Iterator[None]:
        """Inside, what was promised to the pod itself and to those less important is free."""
        lifted = [
            (other, node)
            for other, node in self._promised.values()
            if other.uid == facts.uid or other.priority < facts.priority
        ]
        for other, _ in lifted:
            self._snapshot.remove(other.uid)
        try:
            yield
        finally:
            for other, node in lifted:
                if other.uid in self._promised and self._snapshot.node_of(other.uid) is None:
                    self._snapshot.place(other, node)
