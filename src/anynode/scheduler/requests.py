"""What a pod asks of a node: resources, summed as the scheduler counts them. Pure.

In: a pod's spec. Out: resource name -> amount (cpu in millicores, all else in whole units). Containers add up, init
containers count as far as they exceed that, sidecars count all along, pod-level requests win, overhead comes on top.
Source: component-helpers ``resource/helpers.go``, 1.36; KEP-753 (sidecars), KEP-2837 (pod-level resources).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from anynode.api.formats import milli_value, whole_value
from anynode.api.objects import Object

CPU, MEMORY, EPHEMERAL_STORAGE = "cpu", "memory", "ephemeral-storage"
UNSAID = {CPU: 100, MEMORY: 200 * 1024 * 1024}
"""What scoring assumes for a container that asks for nothing, so that such containers spread."""

Amounts = dict[str, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """``amounts`` is what must fit; ``scored_cpu`` and ``scored_memory`` assume something where nothing was said."""

    amounts: Mapping[str, int]
    scored_cpu: int
    scored_memory: int


def requests_of(spec: Mapping[str, Any]) -> Requests:
    """The requests of a pod with this spec; zero amounts are left out."""
    scored = _total(spec, UNSAID)
    return Requests(
        amounts={name: amount for name, amount in _total(spec, {}).items() if amount},
        scored_cpu=scored.get(CPU, 0),
        scored_memory=scored.get(MEMORY, 0),
    )


def amount_of(resource: str, quantity: str | int | float) -> int:
    """One quantity in the unit the resource is counted in."""
    return milli_value(quantity) if resource == CPU else whole_value(quantity)


def amounts_of(quantities: Mapping[str, Any] | None) -> Amounts:
    return {name: amount_of(name, quantity) for name, quantity in (quantities or {}).items()}


def _total(spec: Mapping[str, Any], unsaid: Mapping[str, int]) -> Amounts:
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _asked(container, unsaid))
    sidecars: Amounts = {}
    highest: Amounts = {}
    for container in spec.get("initContainers") or ():
        asked = _asked(container, unsaid)
        if container.get("restartPolicy") == "Always":
            _add(total, asked)
            _add(sidecars, asked)
            _raise(highest, sidecars)
        else:
            _add(asked, sidecars)
            _raise(highest, asked)
    _raise(total, highest)
    for name, amount in amounts_of((spec.get("resources") or {}).get("requests")).items():
        if name in (CPU, MEMORY) or name.startswith("hugepages-"):
            total[name] = amount
    _add(total, amounts_of(spec.get("overhead")))
    return total


def _asked(container: Object, unsaid: Mapping[str, int]) -> Amounts:
    return {**unsaid, **amounts_of((container.get("resources") or {}).get("requests"))}


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: Amounts, least: Mapping[str, int]) -> None:
    for name, amount in least.items():
        if amount > total.get(name, 0):
            total[name] = amount
