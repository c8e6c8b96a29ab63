"""Which quality of service a pod gets from what its containers request and may use at most.

Source: kubernetes ``pkg/apis/core/helper/qos/qos.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping

from anynode.api.formats import Quantity
from anynode.api.objects import Object

_COUNTED = ("cpu", "memory")


def qos_class(spec: Object) -> str:
    """``Guaranteed``, ``Burstable`` or ``BestEffort`` for a pod spec."""
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}
    level = spec.get("resources")
    if level is not None:
        _add(requests, level.get("requests"))
        _add(limits, level.get("limits"))
        guaranteed = not level.get("limits") or all(name in limits for name in _COUNTED)
    else:
        guaranteed = True
        for kind in ("containers", "initContainers"):
            for container in spec.get(kind) or ():
                resources = container.get("resources")
                if not resources:
                    guaranteed = False
                    continue
                _add(requests, resources.get("requests"))
                own: dict[str, Quantity] = {}
                _add(own, resources.get("limits"))
                guaranteed = guaranteed and len(own) == len(_COUNTED)
                _add(limits, resources.get("limits"))
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests == limits else "Burstable"


def _add(total: dict[str, Quantity], amounts: Mapping[str, str] | None) -> None:
    if not amounts:
        return
    for name in _COUNTED:
        if name in amounts:
            amount = Quantity.parse(amounts[name])
            if amount.nano > 0:
                total[name] = total[name] + amount if name in total else amount
