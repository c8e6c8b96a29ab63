"""What differs between two states: objects that came, went or changed, and where.

Pure: two ``ClusterState`` values go in, ``Difference`` values come out in the order of their ids.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

from anynode.api.objects import Object
from anynode.history.state import ClusterState, ObjectId, comparable, masked

Action = Literal["created", "changed", "deleted"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One object that is not the same in both states; None where it does not exist. Secrets are masked."""

    id: ObjectId
    before: Object | None
    after: Object | None

    @property
    def action(self) -> Action:
        if self.before is None:
            return "created"
        return "deleted" if self.after is None else "changed"

    def paths(self) -> list[str]:
        """The fields that differ, as ``spec.replicas`` or ``spec.ports[0].port``; empty unless the object changed."""
        if self.before is None or self.after is None:
            return []
        return list(_paths(self.before, self.after, ""))


def differences(
    before: ClusterState, after: ClusterState, *, foreign: bool = False, status: bool = True
) -> list[Difference]:
    """Every object that differs. ``foreign``: the states are of two clusters; ``status``: compare that too."""
    found: list[Difference] = []
    for each in sorted(before.objects.keys() | after.objects.keys()):
        old, new = before.objects.get(each), after.objects.get(each)
        if old is new:
            continue
        old = None if old is None else comparable(old, foreign=foreign, status=status)
        new = None if new is None else comparable(new, foreign=foreign, status=status)
        if old == new:
            continue
        if each.kind == "Secret" and not each.group:
            old, new = masked(old, new)
        found.append(Difference(id=each, before=old, after=new))
    return found


def _paths(before: Any, after: Any, path: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _paths(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _paths(old, new, f"{path}[{index}]")
    else:
        yield path
