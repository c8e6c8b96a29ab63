"""The strategic merge patch from the status the API has to the one it should have.

Pure. Only what a kubelet owns is touched: others' conditions and fields stay. Source: kubelet
``pkg/util/pod/pod.go`` (PatchPodStatus) and the patch markers of core/v1 PodStatus, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anynode.api.objects import Object, find_condition
from anynode.node import pod_status


def own_conditions(conditions: Sequence[Object]) -> Mapping[str, Object]:
    """Condition type -> condition, of those a kubelet writes."""
    return {each["type"]: each for each in conditions if each.get("type") in pod_status.OWN_CONDITIONS}


def status_patch(current: Object, wanted: Object) -> Object:
    """The strategic merge patch of the status; empty when nothing of ours differs.

    Conditions are merged by type: others' are left alone. What is gone is set to null.
    """
    patch: Object = {}
    for key, value in wanted.items():
        if key == "conditions":
            changed = _conditions_patch(current.get("conditions") or (), value)
            if changed:
                patch["conditions"] = changed
        elif key not in current or current[key] != value:
            patch[key] = _map_patch(current.get(key), value)
    for key in current:
        if key in wanted or key in ("conditions", "resourceClaimStatuses", "nominatedNodeName", "resize"):
            continue
        patch[key] = None
    return patch


def _map_patch(current: object, wanted: object) -> object:
    if isinstance(current, dict) and isinstance(wanted, dict):
        removed = dict.fromkeys(current.keys() - wanted.keys())
        changed = {
            key: _map_patch(current.get(key), value) for key, value in wanted.items() if current.get(key) != value
        }
        return {**removed, **changed}
    return wanted


def _conditions_patch(current: Sequence[Object], wanted: Sequence[Object]) -> list[Object]:
    changed: list[Object] = []
    for condition in wanted:
        old = find_condition(current, condition["type"])
        if condition["type"] not in pod_status.OWN_CONDITIONS:
            continue
        if old is None:
            changed.append(condition)
            continue
        difference = {key: value for key, value in condition.items() if old.get(key) != value}
        difference.update({key: None for key in old if key not in condition and old[key] is not None})
        if difference:
            changed.append({**difference, "type": condition["type"]})
    types = {condition["type"] for condition in wanted}
    changed += [{"$patch": "delete", "type": name} for name in own_conditions(current) if name not in types]
    return changed
