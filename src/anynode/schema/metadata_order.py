"""What is wrong with an object, metadata included, in the order and as often as upstream says it.

Upstream judges the metadata of an update for every kind alike and then again among the kind's own rules, of which some
look at the new object alone first or last. Only where something is wrong with metadata does the order matter. Source:
apiserver ``pkg/registry/rest/{create,update}.go``, kubernetes ``pkg/apis/*/validation`` and
``pkg/registry/*/*/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anynode.api.objects import Object, meta
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, invalid
from anynode.schema.rules import KindRules

DEFAULT = "U*"
MAIN: Mapping[str, str] = {
    **dict.fromkeys(("ConfigMap", "Secret", "IngressClass"), "UIAV"),
    **dict.fromkeys(("ResourceClaim", "DeviceClass"), "AU*"),
    **dict.fromkeys(("ServiceAccount", "Endpoints", "PersistentVolumeClaim", "Pod", "ControllerRevision"), "UA*"),
    "Ingress": "UA*",
    **dict.fromkeys(("Node", "Namespace", "Job", "StorageClass", "CSIStorageCapacity", "IPAddress"), "AVUI"),
    "RuntimeClass": "aVuI",
    **dict.fromkeys(("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ResourceClaimTemplate"), "AVUI"),
    **dict.fromkeys(("EndpointSlice", "CSINode", "LimitRange"), "A*"),
    "PersistentVolume": "AVAI",
    "VolumeAttributesClass": "UIAV",
    "CertificateSigningRequest": "A*U",
    **dict.fromkeys(("FlowSchema", "PriorityLevelConfiguration"), "A*"),
    **dict.fromkeys(("PodDisruptionBudget", "Event"), "*"),
    "Lease": "u*",
    **dict.fromkeys(("CustomResourceDefinition", "APIService"), "u*"),
}
"""Kind -> the parts: ``U`` metadata as a change, ``A`` metadata alone, ``u`` and ``a`` the same without names of
finalizers, ``*`` the kind's own rules, of which ``V`` are those for the object alone and ``I`` the others."""
STATUS: Mapping[str, str] = {
    "StatefulSet": "*U",
    "CertificateSigningRequest": "A*U",
    "PodDisruptionBudget": "*",
    "CronJob": "*",
    "Lease": "u*",
    **dict.fromkeys(("CustomResourceDefinition", "APIService"), "u*"),
}
"""Of ``/status`` and of other endpoints for a part, such as ``approval``."""
JUDGED_APART = frozenset({"PodDisruptionBudget", "Event", "CustomResourceDefinition"})
"""Kinds whose own rules leave metadata alone, or judge it along with the rest: of a new object they come first, and
metadata only when those hold."""
JUDGED = "VUI"
"""Of events.k8s.io."""
_LENIENT = frozenset({
    "Lease", "PodDisruptionBudget", "Event", "RuntimeClass", "CustomResourceDefinition", "APIService",
})  # fmt: skip
"""Kinds that take finalizers by any name."""
_OWN_FINALIZERS = frozenset({"orphan", "foregroundDeletion", "kubernetes"})


CUSTOM = "u*"
"""Of custom resources, whatever their kind is called, and of what defines them."""


def of_create(
    obj: Object, kind: str, *, namespaced: bool, rule: metadata.NameRule | None, order: str = DEFAULT
) -> list[FieldError]:
    """What is wrong with the metadata of a new object."""
    found = metadata.validate_create(obj, namespaced=namespaced, valid_name=rule)
    return found if kind in _LENIENT or order == CUSTOM else [*found, *finalizer_errors(obj)]


def of_update(
    new: Object,
    old: Object,
    rules: KindRules,
    own: Callable[[Object, Object], Sequence[FieldError]],
    order: str,
    *,
    namespaced: bool,
) -> Sequence[FieldError]:
    """All that is wrong with ``new`` as a change of ``old``; ``own``: what the endpoint's own rules say."""
    changed = metadata.validate_update(new, old)
    finalizers = meta(new).get("finalizers")
    prefixed = meta(new).get("generateName", "") != meta(old).get("generateName", "")
    if not changed and not prefixed and not (finalizers and _are_odd(finalizers)):
        return own(new, old)
    named = finalizer_errors(new)
    said = list(own(new, old))
    alone = [] if "V" not in order else list(rules.validate(new))
    if order.endswith("I"):  # what holds for the object alone comes first
        first, rest = (alone, said[len(alone) :]) if said[: len(alone)] == alone else (said, [])
    else:
        first, rest = (alone, said[: len(said) - len(alone)]) if said[len(said) - len(alone) :] == alone else (said, [])
    by_name = metadata.validate_create(new, namespaced=namespaced, valid_name=rules.valid_name)
    parts: Mapping[str, Sequence[FieldError]] = {
        "U": [*changed, *named],
        "u": changed,
        "A": [*by_name, *named],
        "a": by_name,
        "*": said,
        "V": first,
        "I": rest,
    }
    common = metadata.validate_create(new, namespaced=namespaced, valid_name=metadata.path_segment_name)
    return [*common, *changed, *(error for part in order for error in parts[part])]


def _are_odd(finalizers: Sequence[str]) -> bool:
    return any("/" not in each and each not in _OWN_FINALIZERS for each in finalizers) or bool(
        metadata.validate_finalizers(finalizers, FieldPath("metadata.finalizers"))
    )


def finalizer_errors(obj: Object) -> list[FieldError]:
    """Complaints about finalizers that belong to nobody."""
    path = FieldPath("metadata.finalizers")
    return [
        invalid(path.index(index), each, "name is neither a standard finalizer name nor is it fully qualified")
        for index, each in enumerate(meta(obj).get("finalizers") or ())
        if "/" not in each and each not in _OWN_FINALIZERS
    ]
