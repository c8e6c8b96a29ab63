"""What a pod's volume claims ask of its node. Pure over lookups.

In: a pod and its PersistentVolumeClaims, their volumes and classes as they are now. Out: a problem in kube-scheduler's
words, or which node terms must hold, and which claims must be told the node before their volume is made. Binding a
claim to a volume that exists already is left to whoever binds volumes: until then the pod waits.
Source: kube-scheduler ``framework/plugins/volumebinding``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from anynode.api.objects import Object, ObjectKey, annotations_of, get_path, is_deleting, name_of, namespace_of
from anynode.scheduler.pods import NodeTerm, node_terms

SELECTED_NODE = "volume.kubernetes.io/selected-node"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
OTHER_NODE = "node(s) didn't match PersistentVolume's node affinity"
NO_VOLUME = "node(s) didn't find available persistent volumes to bind"

Terms = tuple[NodeTerm, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Lookups:
    """How to find a claim by key, a volume and a storage class by name."""

    claim: Callable[[ObjectKey], Object | None]
    volume: Callable[[str], Object | None]
    storage_class: Callable[[str], Object | None]


@dataclasses.dataclass(slots=True)
class VolumeNeeds:
    """``problem``: no node will do. ``bound``, ``topologies``: one term of each must match. ``selected``: the node
    that was chosen before and is being waited for. ``unchosen``: claims to be told the node."""

    problem: str = ""
    bound: list[Terms] = dataclasses.field(default_factory=list)
    topologies: list[Terms] = dataclasses.field(default_factory=list)
    none_to_bind: bool = False
    selected: str = ""
    unchosen: list[ObjectKey] = dataclasses.field(default_factory=list)


def claims_of(pod: Object) -> list[tuple[str, bool]]:
    """The names of the claims a pod mounts, and whether the claim is made for the pod itself."""
    found = []
    for volume in get_path(pod, "spec", "volumes", default=()):
        if volume.get("persistentVolumeClaim"):
            found.append((volume["persistentVolumeClaim"].get("claimName") or "", False))
        elif volume.get("ephemeral"):
            found.append((f"{name_of(pod)}-{volume['name']}", True))
    return found


def needs_of(pod: Object, lookups: Lookups) -> VolumeNeeds:
    """What the pod's claims ask for now."""
    needs = VolumeNeeds()
    for name, own in claims_of(pod):
        key = ObjectKey(namespace_of(pod), name)
        claim = lookups.claim(key)
        if claim is None and own:
            needs.problem = f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        elif claim is None:
            needs.problem = f'persistentvolumeclaim "{name}" not found'
        elif is_deleting(claim):
            needs.problem = f'persistentvolumeclaim "{name}" is being deleted'
        elif get_path(claim, "status", "phase") == "Lost":
            volume = get_path(claim, "spec", "volumeName", default="")
            needs.problem = f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
        elif get_path(claim, "status", "phase") == "Bound":
            _add_bound(needs, claim, lookups)
        else:
            _add_unbound(needs, key, claim, lookups)
        if needs.problem:
            break
    return needs


def _add_bound(needs: VolumeNeeds, claim: Object, lookups: Lookups) -> None:
    volume = lookups.volume(get_path(claim, "spec", "volumeName", default=""))
    if volume is None:
        needs.problem = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
        return
    required = get_path(volume, "spec", "nodeAffinity", "required")
    if required is not None:
        needs.bound.append(node_terms(required.get("nodeSelectorTerms") or ()))


def _add_unbound(needs: VolumeNeeds, key: ObjectKey, claim: Object, lookups: Lookups) -> None:
    found = lookups.storage_class(get_path(claim, "spec", "storageClassName", default=""))
    late = found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"
    if found is None or not late or get_path(claim, "spec", "volumeName"):
        needs.problem = "pod has unbound immediate PersistentVolumeClaims"
        return
    selected = annotations_of(claim).get(SELECTED_NODE, "")
    if found.get("provisioner") == NO_PROVISIONER:
        needs.none_to_bind = True
    elif selected:
        needs.selected = selected
    else:
        needs.unchosen.append(key)
        topologies = found.get("allowedTopologies") or ()
        terms = [
            {
                "matchExpressions": [
                    {"key": each["key"], "operator": "In", "values": each.get("values") or []}
                    for each in topology.get("matchLabelExpressions") or ()
                ]
            }
            for topology in topologies
        ]
        if terms:
            needs.topologies.append(node_terms(terms))
