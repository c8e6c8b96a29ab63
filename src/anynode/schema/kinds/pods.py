"""Pods and pod templates: what the server adds or keeps at each kind of write.

Source: kubernetes ``pkg/registry/core/pod/strategy.go``, ``pkg/registry/core/podtemplate/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from anynode.api.objects import Object, labels_of, meta
from anynode.schema.fields import FieldError, FieldPath
from anynode.schema.kinds import pod_rules, pod_updates, pod_warnings, strategy
from anynode.schema.kinds.pod_defaults import default_pod, default_template
from anynode.schema.kinds.qos import qos_class
from anynode.schema.rules import KindRules, SubresourceRules

_GATED = "Scheduling is blocked due to non-empty scheduling gates"


def prepare_create(pod: Object) -> Object:
    """The pod as it is first stored: pending, of generation 1, label keys of affinity and spreading worked in."""
    spec = pod.get("spec") or {}
    status: Object = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("schedulingGates"):
        gated = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": meta(pod).get("creationTimestamp"),
            "reason": "SchedulingGated",
            "message": _GATED,
        }
        status["conditions"] = [gated]
    labels = labels_of(pod)
    if spec.get("affinity"):
        spec = {**spec, "affinity": _with_label_keys(spec["affinity"], labels)}
    if spec.get("topologySpreadConstraints"):
        constraints = [_constraint_with_keys(each, labels) for each in spec["topologySpreadConstraints"]]
        spec = {**spec, "topologySpreadConstraints": constraints}
    spec = _with_app_armor(spec, meta(pod).get("annotations") or {})
    return {**strategy.with_generation(pod, 1), "spec": spec, "status": status}


def _with_label_keys(affinity: Object, labels: Mapping[str, str]) -> Object:
    changed = dict(affinity)
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind)
        if not terms:
            continue
        terms = dict(terms)
        needed, wished = (
            terms.get("requiredDuringSchedulingIgnoredDuringExecution"),
            terms.get("preferredDuringSchedulingIgnoredDuringExecution"),
        )
        if needed:
            filled = [_term_with_keys(term, labels) for term in needed]
            terms["requiredDuringSchedulingIgnoredDuringExecution"] = filled
        if wished:
            terms["preferredDuringSchedulingIgnoredDuringExecution"] = [
                {**each, "podAffinityTerm": _term_with_keys(each.get("podAffinityTerm") or {}, labels)}
                for each in wished
            ]
        changed[kind] = terms
    return changed


def _term_with_keys(term: Object, labels: Mapping[str, str]) -> Object:
    selector = term.get("labelSelector")
    if selector is None:
        return term
    filled = _selector_with_keys(selector, term.get("matchLabelKeys") or (), "In", labels)
    filled = _selector_with_keys(filled, term.get("mismatchLabelKeys") or (), "NotIn", labels)
    return term if filled is selector else {**term, "labelSelector": filled}


def _constraint_with_keys(constraint: Object, labels: Mapping[str, str]) -> Object:
    selector = constraint.get("labelSelector")
    if selector is None:
        return constraint
    filled = _selector_with_keys(selector, constraint.get("matchLabelKeys") or (), "In", labels)
    return constraint if filled is selector else {**constraint, "labelSelector": filled}


def _selector_with_keys(selector: Object, keys: Iterable[str], operator: str, labels: Mapping[str, str]) -> Object:
    added = [{"key": key, "operator": operator, "values": [labels[key]]} for key in keys if key in labels]
    if not added:
        return selector
    return {**selector, "matchExpressions": [*(selector.get("matchExpressions") or ()), *added]}


_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"


def app_armor_profile(annotation: str) -> Object | None:
    """The profile field an old annotation means; None when it means none."""
    if annotation == "unconfined":
        return {"type": "Unconfined"}
    if annotation == "runtime/default":
        return {"type": "RuntimeDefault"}
    if annotation.startswith("localhost/"):
        profile = annotation.removeprefix("localhost/").strip()
        return {"type": "Localhost", "localhostProfile": profile} if profile else None
    return None


def _with_app_armor(spec: Object, annotations: Mapping[str, str]) -> Object:
    if not any(key.startswith(_APP_ARMOR) for key in annotations):
        return spec
    if (spec.get("os") or {}).get("name") == "windows":
        return spec
    of_pod = (spec.get("securityContext") or {}).get("appArmorProfile")

    def filled(container: Object) -> Object:
        context = container.get("securityContext") or {}
        profile = app_armor_profile(annotations.get(_APP_ARMOR + (container.get("name") or ""), ""))
        if profile is None or profile == of_pod or context.get("appArmorProfile") is not None:
            return container
        return {**container, "securityContext": {**context, "appArmorProfile": profile}}

    kinds = [kind for kind in ("initContainers", "containers", "ephemeralContainers") if spec.get(kind)]
    return {**spec, **{kind: [filled(each) for each in spec[kind]] for kind in kinds}}


prepare_update = strategy.updated()


def prepare_status(new: Object, old: Object) -> Object:
    """Spec, owners and deletion stay; QoS class and observed generations survive a writer who knows nothing of them."""
    before = old.get("status") or {}
    status: Object = dict(new.get("status") or {})
    if not status.get("qosClass") and before.get("qosClass"):
        status["qosClass"] = before["qosClass"]
    if not status.get("observedGeneration") and before.get("observedGeneration"):
        status["observedGeneration"] = before["observedGeneration"]
    conditions = status.get("conditions")
    if conditions:
        status["conditions"] = _with_observed(conditions, before.get("conditions") or ())
    metadata, was = dict(meta(new)), meta(old)
    for field in ("ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        strategy.put(metadata, field, was.get(field))
    return {**new, "metadata": metadata, "spec": old.get("spec") or {}, "status": status}


def _with_observed(conditions: Sequence[Object], before: Sequence[Object]) -> list[Object]:
    known: dict[str, list[int]] = {}
    for each in before:
        known.setdefault(each.get("type") or "", []).append(each.get("observedGeneration") or 0)
    filled = []
    for each in conditions:
        generations = known.get(each.get("type") or "")
        generation = generations.pop(0) if generations else 0
        if generation and not each.get("observedGeneration"):
            each = {**each, "observedGeneration": generation}
        filled.append(each)
    return filled


def _for_status(new: Object, old: Object) -> Object:
    """``new``'s metadata as writes to a subresource leave it: all but managed fields and version are the old one's."""
    metadata = dict(meta(old))
    for field in ("managedFields", "resourceVersion"):
        strategy.put(metadata, field, meta(new).get(field))
    return metadata


def _counted(new: Object, old: Object) -> Object:
    generation = meta(old).get("generation") or 0
    return strategy.with_generation(new, generation + int(strategy.changed(new, old, ("spec",))))


def prepare_ephemeral_containers(new: Object, old: Object) -> Object:
    """Only ``spec.ephemeralContainers`` is taken from ``new``."""
    added = (new.get("spec") or {}).get("ephemeralContainers")
    spec = strategy.with_field(old.get("spec") or {}, "ephemeralContainers", added)
    return _counted({**old, "metadata": _for_status(new, old), "spec": spec}, old)


def prepare_resize(new: Object, old: Object) -> Object:
    """Only resources and resize policies are taken from ``new``."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    kinds = ("containers", "initContainers")
    if any(len(after.get(kind) or ()) != len(before.get(kind) or ()) for kind in kinds):
        return _counted(new, old)
    spec = dict(before)
    for kind in kinds:
        if before.get(kind):
            spec[kind] = _resized(after[kind], before[kind])
    strategy.put(spec, "resources", after.get("resources"))
    return _counted({**old, "metadata": _for_status(new, old), "spec": spec}, old)


def _resized(new: Sequence[Object], old: Sequence[Object]) -> list[Object]:
    if any(one.get("name") != other.get("name") for one, other in zip(new, old, strict=True)):
        return list(new)
    merged = []
    for one, other in zip(new, old, strict=True):
        container = {**other, "resources": one.get("resources") or {}}
        strategy.put(container, "resizePolicy", one.get("resizePolicy"))
        merged.append(container)
    return merged


POD = KindRules(
    default=default_pod,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    prepare_status=prepare_status,
    validate=pod_rules.validate_create,
    validate_update=pod_updates.validate_update,
    validate_status=pod_updates.validate_status,
    warnings=pod_warnings.pod_warnings,
    field_labels=(
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
    ),
    subresources={
        "ephemeralcontainers": SubresourceRules(
            prepare=prepare_ephemeral_containers, validate=pod_updates.validate_ephemeral_containers
        ),
        "resize": SubresourceRules(prepare=prepare_resize, validate=pod_updates.validate_resize),
    },
)  # fmt: skip


def default_pod_template(obj: Object) -> Object:
    return {**obj, "template": default_template(obj.get("template"))}


def _validate_pod_template(obj: Object) -> list[FieldError]:
    return pod_rules.validate_template(obj.get("template"), FieldPath("template"))


def _validate_pod_template_update(new: Object, _old: Object) -> list[FieldError]:
    return _validate_pod_template(new)


POD_TEMPLATE = KindRules(
    default=default_pod_template,
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=(), counted=("template",)),
    validate=_validate_pod_template,
    validate_update=_validate_pod_template_update,
    warnings=lambda obj: pod_warnings.template_warnings(obj.get("template"), FieldPath("template")),
)

RULES: Sequence[tuple[str, str, KindRules]] = (("", "Pod", POD), ("", "PodTemplate", POD_TEMPLATE))
