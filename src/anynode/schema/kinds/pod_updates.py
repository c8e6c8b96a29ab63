"""What may change in a pod that exists, by each of its endpoints.

Source: kubernetes ``pkg/apis/core/validation/validation.go`` (ValidatePodUpdate, ValidatePodStatusUpdate,
ValidatePodEphemeralContainersUpdate, ValidatePodResize), 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anynode.api import names
from anynode.api.objects import Object, annotations_of
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, duplicate, forbidden, invalid, required
from anynode.schema.kinds.addresses import dual_stack, validate_address
from anynode.schema.kinds.internal_form import difference
from anynode.schema.kinds.pod_rules import APP_ARMOR, validate_annotations, validate_pod
from anynode.schema.kinds.qos import qos_class
from anynode.schema.kinds.selection import validate_tolerations
from anynode.schema.kinds.strategy import same_value, with_field

_SPEC, _STATUS, _ANNOTATIONS = FieldPath("spec"), FieldPath("status"), FieldPath("metadata.annotations")
_MIRROR = "kubernetes.io/config.mirror"
_MOST = 2**31 - 1
_UPDATABLE = ",".join((
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
))  # fmt: skip
_CONTAINERS = ("containers", "initContainers")


def _validate_annotation_changes(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    after, before = annotations_of(new), annotations_of(old)
    for key in sorted(before):
        if after.get(key) == before[key]:
            continue
        if key.startswith(APP_ARMOR):
            errors.append(forbidden(_ANNOTATIONS.key(key), "may not remove or update AppArmor annotations"))
        elif key == _MIRROR:
            errors.append(forbidden(_ANNOTATIONS.key(key), "may not remove or update mirror pod annotation"))
    for key in sorted(after.keys() - before.keys()):
        if key.startswith(APP_ARMOR):
            errors.append(forbidden(_ANNOTATIONS.key(key), "may not add AppArmor annotations"))
        elif key == _MIRROR:
            errors.append(forbidden(_ANNOTATIONS.key(key), "may not add mirror pod annotation"))
    return errors + validate_annotations(new)


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """Complaints about ``new`` as a change of ``old`` through the main endpoint."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    errors: list[FieldError] = []
    if after is not before and after != before:
        errors += validate_pod(new)
    else:
        errors += validate_annotations(new)
    if annotations_of(new) != annotations_of(old):
        errors += _validate_annotation_changes(new, old)
    for kind in _CONTAINERS:
        wrong, stop = _validate_container_changes(after.get(kind) or (), before.get(kind) or (), _SPEC.child(kind))
        errors += wrong
        if stop:
            return errors
    wrong, stop = _validate_deadline(after, before)
    errors += wrong
    if stop:
        return errors
    errors += _validate_added_tolerations(after.get("tolerations") or (), before.get("tolerations") or ())
    errors += _validate_removed_gates(after.get("schedulingGates") or (), before.get("schedulingGates") or ())
    if after == before:
        return errors
    return errors + _validate_the_rest(after, before)


def _validate_container_changes(
    new: Sequence[Object], old: Sequence[Object], path: FieldPath
) -> tuple[list[FieldError], bool]:
    if len(new) != len(old):
        return [forbidden(path, "pod updates may not add or remove containers")], True
    errors: list[FieldError] = []
    for at, container in enumerate(new):
        image, where = container.get("image") or "", path.index(at).child("image")
        if not image:
            errors.append(required(where))
        if image != image.strip():
            errors.append(invalid(where, image, "must not have leading or trailing whitespace"))
    return errors, False


def _validate_deadline(after: Object, before: Object) -> tuple[list[FieldError], bool]:
    new, old, where = (
        after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"), _SPEC.child("activeDeadlineSeconds")
    )  # fmt: skip
    if new is None:
        if old is None:
            return [], False
        return [invalid(where, None, "must not update from a positive integer to nil value")], False
    if not 0 <= new <= _MOST:
        return [invalid(where, new, names.inclusive_range_error(0, _MOST))], True
    if old is not None and old < new:
        return [invalid(where, new, "must be less than or equal to previous value")], True
    return [], False


def _without_seconds(toleration: Object) -> Object:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds" and value}


def _validate_added_tolerations(new: Sequence[Object], old: Sequence[Object]) -> list[FieldError]:
    if new == old:
        return []
    kept = [_without_seconds(each) for each in new]
    path = _SPEC.child("tolerations")
    if any(_without_seconds(each) not in kept for each in old):
        return [forbidden(path, "existing toleration can not be modified except its tolerationSeconds")]
    return validate_tolerations(new, path)


def _validate_removed_gates(new: Sequence[Object], old: Sequence[Object]) -> list[FieldError]:
    known = {each.get("name") for each in old}
    errors: list[FieldError] = []
    for at, gate in enumerate(new):
        if gate.get("name") not in known:
            text = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            errors.append(forbidden(_SPEC.child("schedulingGates").index(at).child("name"), text))
    return errors


def _with_images(spec: Object, before: Object) -> Object:
    """``spec`` with the images of ``before``."""
    for kind in _CONTAINERS:
        if spec.get(kind):
            pairs = zip(spec[kind], before[kind], strict=True)
            spec = {**spec, kind: [with_field(one, "image", other.get("image")) for one, other in pairs]}
    return spec


def _validate_the_rest(after: Object, before: Object) -> list[FieldError]:
    """Complaints about changes beside those a pod may see; what may change is put back before comparing."""
    errors: list[FieldError] = []
    spec = _with_images(after, before)
    for field in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        spec = with_field(spec, field, before.get(field))
    grace = before.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        spec = {**spec, "terminationGracePeriodSeconds": grace}
    if before.get("schedulingGates"):
        spec, errors = _with_gated_changes(spec, before)
    if spec != before:
        text = f"pod updates may not change fields other than {_UPDATABLE}\n{difference('PodSpec', before, spec)}"
        errors.append(forbidden(_SPEC, text))
    return errors


def _with_gated_changes(spec: Object, before: Object) -> tuple[Object, list[FieldError]]:
    """While a pod is gated its node selector and node affinity may get narrower."""
    errors: list[FieldError] = []
    new, old = spec.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if new != old:
        if any(new.get(key) != value for key, value in old.items()):
            text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            errors.append(invalid(_SPEC.child("nodeSelector"), dict(sorted(new.items())), text))
        spec = with_field(spec, "nodeSelector", before.get("nodeSelector"))
    affinity, was = spec.get("affinity"), before.get("affinity")
    node, node_was = (affinity or {}).get("nodeAffinity"), (was or {}).get("nodeAffinity")
    if not same_value(node, node_was):
        errors += _validate_node_affinity(node or {}, node_was or {})
        changed = with_field(affinity or {}, "nodeAffinity", node_was)
        spec = with_field(spec, "affinity", changed or (was if was is not None else None))
    return spec, errors


_NEEDED = "requiredDuringSchedulingIgnoredDuringExecution"


def _validate_node_affinity(new: Object, old: Object) -> list[FieldError]:
    terms = (new.get(_NEEDED) or {}).get("nodeSelectorTerms") or []
    were = (old.get(_NEEDED) or {}).get("nodeSelectorTerms") or []
    path = _SPEC.child("affinity", "nodeAffinity", _NEEDED, "nodeSelectorTerms")
    if not were:
        return []
    if len(terms) != len(were):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [invalid(path, terms, text)]
    text = "only additions are allowed (no mutations or deletions)"
    return [
        invalid(path.index(at), term, text)
        for at, (term, was) in enumerate(zip(terms, were, strict=True))
        if not _only_added(term, was)
    ]


def _only_added(term: Object, was: Object) -> bool:
    fields = ("matchExpressions", "matchFields")
    if not any(was.get(field) for field in fields) and any(term.get(field) for field in fields):
        return False
    return all((term.get(field) or [])[: len(was.get(field) or [])] == (was.get(field) or []) for field in fields)


def validate_status(new: Object, old: Object) -> list[FieldError]:
    """Complaints about a write to ``/status``; the spec is the old one by then."""
    after, before = new.get("status") or {}, old.get("status") or {}
    errors: list[FieldError] = []
    if annotations_of(new) or annotations_of(old):
        errors += _validate_annotation_changes(new, old)
    errors += _validate_conditions(after.get("conditions") or ())
    errors += _validate_nomination(after, before, old.get("spec") or {})
    if (after.get("observedGeneration") or 0) < 0:
        where = _STATUS.child("observedGeneration")
        errors.append(invalid(where, after["observedGeneration"], "must be a non-negative integer"))
    if (after.get("qosClass") or "") != (before.get("qosClass") or ""):
        errors.append(invalid(_STATUS.child("qosClass"), after.get("qosClass") or "", metadata.IMMUTABLE))
    for field, rule in _TRANSITIONS.items():
        if before.get(field):
            errors += rule(after.get(field) or (), before[field], old.get("spec") or {}, _STATUS.child(field))
    if after.get("resourceClaimStatuses"):
        errors += _validate_claim_statuses(new, _STATUS.child("resourceClaimStatuses"))
    if after.get("podIPs"):
        errors += _validate_ips(after["podIPs"], before.get("podIPs") or (), _STATUS.child("podIPs"))
    if after.get("hostIPs"):
        errors += _validate_host_ips(after, before, _STATUS.child("hostIPs"))
    return errors


def _validate_conditions(conditions: Sequence[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, condition in enumerate(conditions):
        if (condition.get("observedGeneration") or 0) < 0:
            where = _STATUS.child("conditions").index(at).child("observedGeneration")
            errors.append(invalid(where, condition["observedGeneration"], "must be a non-negative integer"))
        kind = condition.get("type") or ""
        if kind not in ("PodScheduled", "Ready", "Initialized", "ContainersReady"):
            errors += metadata.validate_label_key(kind, _STATUS.child("conditions").index(at).child("Type"))
    return errors


def _validate_nomination(after: Object, before: Object, spec: Object) -> list[FieldError]:
    name, was = after.get("nominatedNodeName") or "", before.get("nominatedNodeName") or ""
    if not name or name == was:
        return []
    path = _STATUS.child("nominatedNodeName")
    errors = metadata.validate_name(name, path)
    if spec.get("nodeName"):
        errors.append(forbidden(path, "may not be set on pods that are already bound to a node"))
    return errors


def _restarts(container: Object, spec: Object, exit_code: int) -> bool:
    """Whether a container that ended with ``exit_code`` may run again, by its own rules or the pod's."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        listed = exit_code in (codes.get("values") or ())
        if listed == (codes.get("operator") == "In"):
            return True
    policy = container.get("restartPolicy") or spec.get("restartPolicy")
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _revived(new: Sequence[Object], name: str) -> bool:
    found = (status for status in new if status.get("name") == name)
    return any((status.get("state") or {}).get("terminated") is None for status in found)


def _validate_transitions(kind: str) -> Callable[..., list[FieldError]]:
    """A rule: an ended container of ``kind`` stays ended unless it may be restarted."""

    def rule(new: Sequence[Object], old: Sequence[Object], spec: Object, path: FieldPath) -> list[FieldError]:
        errors: list[FieldError] = []
        containers: Mapping[str, Object] = {each.get("name") or "": each for each in spec.get(kind) or ()}
        for at, status in enumerate(old):
            ended = (status.get("state") or {}).get("terminated")
            name = status.get("name") or ""
            if ended is None or not _revived(new, name):
                continue
            container = containers.get(name)
            if kind == "ephemeralContainers" or container is None:
                allowed = False
            else:
                allowed = _restarts(container, spec, ended.get("exitCode") or 0)
            if not allowed:
                text = "may not be transitioned to non-terminated state"
                errors.append(forbidden(path.index(at).child("state"), text))
        return errors

    return rule


_TRANSITIONS: Mapping[str, Callable[..., list[FieldError]]] = {
    "containerStatuses": _validate_transitions("containers"),
    "initContainerStatuses": _validate_transitions("initContainers"),
    "ephemeralContainerStatuses": _validate_transitions("ephemeralContainers"),
}


def _validate_claim_statuses(pod: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    known = {each.get("name") for each in (pod.get("spec") or {}).get("resourceClaims") or ()}
    seen: set[str] = set()
    for at, status in enumerate(pod["status"]["resourceClaimStatuses"]):
        name = status.get("name") or ""
        if name not in known:
            text = "must match the name of an entry in `spec.resourceClaims`"
            errors.append(invalid(path.index(at).child("name"), name, text))
        if name in seen:
            errors.append(duplicate(path.index(at).child("name"), name))
        seen.add(name)
        claim = status.get("resourceClaimName")
        if claim is not None:
            errors += metadata.validate_name(claim, path.index(at).child("resourceClaimName"))
    return errors


def _validate_ips(new: Sequence[Object], old: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    known = [each.get("ip") or "" for each in old]
    addresses = [each.get("ip") or "" for each in new]
    for at, address in enumerate(addresses):
        errors += validate_address(address, path.index(at), known)
    if len(addresses) > 1 and (len(addresses) > 2 or not dual_stack(addresses)):
        shown = [{"IP": address} for address in addresses]
        errors.append(invalid(path, shown, "may specify no more than one IP for each IP family"))
    return errors


def _validate_host_ips(after: Object, before: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    first = after["hostIPs"][0].get("ip") or ""
    if (after.get("hostIP") or "") != first:
        errors.append(invalid(path.index(0).child("ip"), first, "must be equal to `hostIP`"))
    return errors + _validate_ips(after["hostIPs"], before.get("hostIPs") or (), path)


def validate_ephemeral_containers(new: Object, old: Object) -> list[FieldError]:
    """Complaints about a write to ``/ephemeralcontainers``: containers may be added, never changed or removed."""
    if _MIRROR in annotations_of(old):
        return [forbidden(FieldPath(), "static pods do not support ephemeral containers")]
    errors = validate_pod(new)
    path = _SPEC.child("ephemeralContainers")
    after = {each.get("name"): each for each in (new.get("spec") or {}).get("ephemeralContainers") or ()}
    for container in (old.get("spec") or {}).get("ephemeralContainers") or ():
        name = container.get("name") or ""
        if name not in after:
            errors.append(forbidden(path, f'existing ephemeral containers "{name}" may not be removed\n'))
        elif after[name] != container:
            shown = difference("EphemeralContainer", container, after[name])
            errors.append(forbidden(path, f'existing ephemeral containers "{name}" may not be changed\n{shown}'))
    return errors


def validate_resize(new: Object, old: Object) -> list[FieldError]:
    """Complaints about a write to ``/resize``: only cpu and memory change, and the QoS class stays."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if _MIRROR in annotations_of(old):
        return [forbidden(FieldPath(), "static pods cannot be resized")]
    if (before.get("os") or {}).get("name") == "windows":
        return [forbidden(FieldPath(), "windows pods cannot be resized")]
    errors = list(validate_pod(new))
    qos = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos != qos_class(after):
        shown = (new.get("status") or {}).get("qosClass") or ""
        errors.append(invalid(_SPEC, shown, "Pod QOS Class may not change as a result of resizing"))
    if not _resizable(old):
        errors.append(forbidden(_SPEC, "Pod running on node without support for resize"))
    moved = _validate_order(after, before)
    if moved:
        return errors + moved
    for kind in ("initContainers", "containers"):
        for at, container in enumerate(before.get(kind) or ()):
            if kind == "initContainers" and container.get("restartPolicy") != "Always":
                continue
            errors += _validate_removed(after[kind][at], container, _SPEC.child(kind).index(at).child("resources"))
    errors += _validate_immutable_parts(after, before)
    if not errors and _resize_masked(after, before) != before:
        errors.append(forbidden(_SPEC, "only cpu and memory resources are mutable"))
    return errors


def _resizable(pod: Object) -> bool:
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if (status.get("state") or {}).get("running") is not None:
            return status.get("resources") is not None
    return True


def _validate_order(after: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for kind in _CONTAINERS:
        new, old = after.get(kind) or (), before.get(kind) or ()
        if len(new) != len(old):
            errors.append(forbidden(_SPEC.child(kind), f"{kind} may not be added or removed on resize"))
            continue
        for at, (one, other) in enumerate(zip(new, old, strict=True)):
            if one.get("name") != other.get("name"):
                where = _SPEC.child(kind).index(at).child("name")
                errors.append(forbidden(where, f"{kind} may not be renamed or reordered on resize"))
    return errors


def _validate_removed(container: Object, was: Object, path: FieldPath) -> list[FieldError]:
    new, old = container.get("resources") or {}, was.get("resources") or {}
    gone = (kind for kind in ("requests", "limits") if set(old.get(kind) or ()) - set(new.get(kind) or ()))
    return [forbidden(path.child(kind), f"resource {kind} cannot be removed") for kind in gone]


def _masked_container(container: Object, was: Object) -> Object:
    """``container`` with cpu and memory of ``was``."""
    resources = {}
    for kind in ("limits", "requests"):
        given = (container.get("resources") or {}).get(kind) or {}
        old = (was.get("resources") or {}).get(kind) or {}
        kept = {name: amount for name, amount in given.items() if name not in ("cpu", "memory")}
        kept |= {name: old[name] for name in ("cpu", "memory") if name in old}
        if kept:
            resources[kind] = kept
    return {**container, "resources": resources}


def _validate_immutable_parts(after: Object, before: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for one, other in zip(after.get("containers") or (), before.get("containers") or (), strict=True):
        if _masked_container(one, other) != {**other, "resources": other.get("resources") or {}}:
            errors.append(forbidden(_SPEC, "only cpu and memory resources are mutable"))
    pairs = zip(after.get("initContainers") or (), before.get("initContainers") or (), strict=True)
    for at, (one, other) in enumerate(pairs):
        if one.get("restartPolicy") != "Always":
            if one != other:
                errors.append(forbidden(_SPEC, "resources for non-sidecar init containers are immutable"))
        elif _masked_container(one, other) != {**other, "resources": other.get("resources") or {}}:
            text = "only cpu and memory resources for init or sidecar containers are mutable"
            errors.append(forbidden(_SPEC.child("initContainers").index(at), text))
    return errors


def _resize_masked(after: Object, before: Object) -> Object:
    spec = dict(after)
    for kind in _CONTAINERS:
        if before.get(kind):
            pairs = zip(after[kind], before[kind], strict=True)
            spec[kind] = [{**one, "resources": other.get("resources") or {}} for one, other in pairs]
    if before.get("resources") is not None:
        spec["resources"] = before["resources"]
    return spec
