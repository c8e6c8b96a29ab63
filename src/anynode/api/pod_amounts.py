"""What a pod may use in all, as exact quantities: its containers, init containers, sidecars and overhead put together.

In: a pod. Out: resource name -> ``Quantity``. Containers add up, init containers count as far as they exceed that,
sidecars count all along, pod-level amounts win.
Source: component-helpers ``resource/helpers.go``, 1.36; KEP-753 (sidecars), KEP-2837 (pod-level resources).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from anynode.api.formats import Quantity
from anynode.api.objects import Object, condition_of

Amounts: TypeAlias = dict[str, Quantity]
Side: TypeAlias = Literal["requests", "limits"]
_NONE: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """How amounts are put together. ``actual``: what the node says it gave counts where it is more, and the overhead
    comes on top; ``huge_pages``: pod-level amounts of huge pages win as those of cpu and memory do."""

    actual: bool
    huge_pages: bool


FOR_QUOTA = Counting(actual=True, huge_pages=True)
FOR_LIMIT_RANGE = Counting(actual=False, huge_pages=False)


def parsed(quantities: Mapping[str, Any] | None) -> Amounts:
    return {name: Quantity.parse(text) for name, text in (quantities or _NONE).items()}


def add(total: Amounts, more: Mapping[str, Quantity]) -> None:
    for name, amount in more.items():
        total[name] = total[name] + amount if name in total else amount


def raise_to(total: Amounts, least: Mapping[str, Quantity]) -> None:
    """Let ``total`` be at least ``least``, name by name."""
    for name, amount in least.items():
        if name not in total or total[name] < amount:
            total[name] = amount


def is_pod_level(name: str) -> bool:
    """Whether a pod as a whole may ask for this resource."""
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def has_pod_level(spec: Mapping[str, Any]) -> bool:
    """Whether the pod as a whole asks for anything."""
    own = spec.get("resources") or _NONE
    return any(is_pod_level(name) for side in ("requests", "limits") for name in own.get(side) or ())


def pod_amounts(pod: Mapping[str, Any], side: Side, counting: Counting) -> Amounts:
    """The pod's ``requests`` or ``limits`` in all."""
    spec, status = pod.get("spec") or _NONE, pod.get("status") or _NONE
    given = _given(status) if counting.actual else {}
    infeasible = counting.actual and _is_infeasible(pod)
    total: Amounts = {}
    for container in spec.get("containers") or ():
        add(total, _of_container(container, side, given.get(container.get("name")), infeasible))
    sidecars: Amounts = {}
    highest: Amounts = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            own = _of_container(container, side, given.get(container.get("name")), infeasible)
            add(total, own)
            add(sidecars, own)
            raise_to(highest, sidecars)
        else:
            own = _of_container(container, side, None, infeasible)
            add(own, sidecars)
            raise_to(highest, own)
    raise_to(total, highest)
    _apply_pod_level(total, spec, status, side, counting, infeasible)
    if counting.actual:
        for name, amount in parsed(spec.get("overhead")).items():
            if side == "requests" or total.get(name):
                add(total, {name: amount})
    return total


def _apply_pod_level(
    total: Amounts,
    spec: Mapping[str, Any],
    status: Mapping[str, Any],
    side: Side,
    counting: Counting,
    infeasible: bool,
) -> None:
    wanted = parsed((spec.get("resources") or _NONE).get(side))
    actual = status.get("resources") if counting.actual else None
    if actual is not None:
        allocated = parsed(status.get("allocatedResources")) if side == "requests" else {}
        wanted = _effective(wanted, parsed(actual.get(side)), allocated, infeasible)
    for name, amount in wanted.items():
        if name in ("cpu", "memory") or (counting.huge_pages and is_pod_level(name)):
            total[name] = amount


def _given(status: Mapping[str, Any]) -> dict[str, Object]:
    """Container statuses that say what the container was given, by name."""
    statuses: Iterable[Object] = (
        *(status.get("containerStatuses") or ()),
        *(status.get("initContainerStatuses") or ()),
    )
    return {each.get("name", ""): each for each in statuses if each.get("resources") is not None}


def _is_infeasible(pod: Mapping[str, Any]) -> bool:
    condition = condition_of(pod, "PodResizePending")
    return condition is not None and condition.get("reason") == "Infeasible"


def _of_container(container: Object, side: Side, given: Object | None, infeasible: bool) -> Amounts:
    wanted = parsed((container.get("resources") or _NONE).get(side))
    if given is None:
        return wanted
    allocated = parsed(given.get("allocatedResources")) if side == "requests" else {}
    return _effective(wanted, parsed(given["resources"].get(side)), allocated, infeasible)


def _effective(wanted: Amounts, actual: Amounts, allocated: Amounts, infeasible: bool) -> Amounts:
    """The most of what is wanted, given and allocated; what cannot be had does not count."""
    total = {} if infeasible else dict(wanted)
    raise_to(total, actual)
    raise_to(total, allocated)
    return total
