"""What a valid pod spec is, for pods and for the templates of all workloads.

Source: kubernetes ``pkg/apis/core/validation/validation.go`` (ValidatePodSpec, ValidatePodCreate,
ValidatePodTemplateSpec), 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anynode.api import names
from anynode.api.formats import Quantity
from anynode.api.objects import NO_META, Object, annotations_of, meta
from anynode.schema import metadata
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
    too_long,
)
from anynode.schema.kinds import container_rules, security_rules
from anynode.schema.kinds.addresses import validate_address
from anynode.schema.kinds.amounts import validate_pod_resource_name, validate_requirements
from anynode.schema.kinds.claim_rules import validate_ephemeral
from anynode.schema.kinds.internal_form import internal
from anynode.schema.kinds.pod_defaults import aggregate
from anynode.schema.kinds.selection import validate_affinity, validate_tolerations, validate_topology_spread
from anynode.schema.kinds.volume_rules import validate_volumes

_SPEC, _ANNOTATIONS = FieldPath("spec"), FieldPath("metadata.annotations")
_MIRROR = "kubernetes.io/config.mirror"
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_SECCOMP_POD, _SECCOMP_CONTAINER = (
    "seccomp.security.alpha.kubernetes.io/pod",
    "container.seccomp.security.alpha.kubernetes.io/",
)
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_RESTARTS = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_MOST = 2**31 - 1


def validate_spec(spec: Object, path: FieldPath, pod: Object = NO_META, *, is_pod: bool = False) -> list[FieldError]:
    """Complaints about a defaulted pod spec. ``pod`` is the whole pod where there is one, for its name."""
    errors: list[FieldError] = []
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        errors.append(required(path.child("terminationGracePeriodSeconds")))
    volumes: Mapping[str, Object] = {}
    if spec.get("volumes"):
        volumes, wrong = validate_volumes(spec["volumes"], pod, path.child("volumes"), validate_ephemeral)
        errors += wrong
    claims = spec.get("resourceClaims") or ()
    if claims:
        errors += _validate_claims(claims, path.child("resourceClaims"))
    facts = container_rules.PodFacts(
        volumes=volumes,
        claims=frozenset(each.get("name") or "" for each in claims),
        grace_seconds=grace,
        restart_policy=spec.get("restartPolicy") or "",
        host_users=spec.get("hostUsers") is not False,
        os=(spec.get("os") or {}).get("name") if spec.get("os") is not None else None,
    )
    errors += _validate_all_containers(spec, facts, path)
    if spec.get("resources") is not None:
        errors += _validate_pod_resources(spec, path.child("resources"))
    if spec.get("hostNetwork"):
        errors += _validate_host_ports(spec, path.child("containers"), is_pod=is_pod)
    errors += _validate_policies(spec, path)
    for field, rule in _OPTIONAL:
        value = spec.get(field)
        if value:
            errors += rule(value, path.child(field))
    errors += _validate_rest(spec, path)
    return errors


def _validate_all_containers(spec: Object, facts: container_rules.PodFacts, path: FieldPath) -> list[FieldError]:
    containers, init = spec.get("containers") or (), spec.get("initContainers") or ()
    errors = container_rules.validate_containers(containers, facts, path.child("containers"))
    if init:
        errors += container_rules.validate_init_containers(init, containers, facts, path.child("initContainers"))
    if spec.get("ephemeralContainers"):
        others, where = [*containers, *init], path.child("ephemeralContainers")
        errors += container_rules.validate_ephemeral_containers(spec["ephemeralContainers"], others, facts, where)
    return errors


def _validate_claims(claims: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, claim in enumerate(claims):
        name, where = claim.get("name") or "", path.index(at)
        if not name:
            errors.append(required(where.child("name")))
        elif name in seen:
            errors.append(duplicate(where.child("name"), name))
        else:
            errors += metadata.validate_name(name, where.child("name"), metadata.label_name)
            seen.add(name)
        given = [field for field in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(field) is not None]
        shown = internal("PodResourceClaim", claim)
        if len(given) == 2:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid(where, shown, text))
        if not given:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid(where, shown, text))
        for field in given:
            errors += metadata.validate_name(claim[field], where.child(field))
    return errors


def _validate_pod_resources(spec: Object, path: FieldPath) -> list[FieldError]:
    resources = spec["resources"]
    if (spec.get("os") or {}).get("name") == "windows":
        return [forbidden(path, "may not be set for a windows pod")]
    errors: list[FieldError] = []
    if resources.get("claims") is not None:
        errors.append(forbidden(path.child("claims"), "claims may not be set for Resources at pod-level"))
    errors += validate_requirements(resources, path, (), validate_pod_resource_name)
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, wanted in sorted(aggregate(spec, "requests").items()):
        if name in requests and wanted > Quantity.parse(requests[name]):
            text = f"must be greater than or equal to aggregate container requests of {wanted}"
            errors.append(invalid(path.child("requests").key(name), requests[name], text))
    for name, most in sorted(aggregate(spec, "limits").items()):
        if name.startswith("hugepages-") and name in limits and most > Quantity.parse(limits[name]):
            text = f"must be greater than or equal to aggregate container limits of {most}"
            errors.append(invalid(path.child("limits").key(name), limits[name], text))
    for at, container in enumerate(spec.get("containers") or ()):
        for name, limit in sorted(((container.get("resources") or {}).get("limits") or {}).items()):
            if name in limits and Quantity.parse(limit) > Quantity.parse(limits[name]):
                text = f"must be less than or equal to pod limits of {limits[name]}"
                errors.append(invalid(path.child("containers").index(at).key(name).child("limits"), limit, text))
    return errors


def _validate_host_ports(spec: Object, path: FieldPath, *, is_pod: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, container in enumerate(spec.get("containers") or ()):
        for place, port in enumerate(container.get("ports") or ()):
            on_host, number = port.get("hostPort") or 0, port.get("containerPort") or 0
            if (is_pod or on_host) and on_host != number:
                where = path.index(at).child("ports").index(place).child("hostPort")
                text = "must match `containerPort` when `hostNetwork` is true"
                errors.append(invalid(where, on_host, text))
    return errors


def _validate_policies(spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for field, known in (("restartPolicy", _RESTARTS), ("dnsPolicy", _DNS_POLICIES)):
        value = spec.get(field)
        if value not in known:
            errors.append(not_supported(path.child(field), value, known) if value else required(path.child(field)))
    if spec.get("nodeSelector"):
        errors += metadata.validate_labels(spec["nodeSelector"], path.child("nodeSelector"))
    if spec.get("securityContext"):
        errors += security_rules.validate_pod_security_context(spec, path.child("securityContext"))
    elif spec.get("shareProcessNamespace") and spec.get("hostPID"):
        errors += security_rules.validate_pod_security_context(
            {**spec, "securityContext": {}}, path.child("securityContext")
        )
    if spec.get("affinity") is not None:
        errors += validate_affinity(spec["affinity"], path.child("affinity"))
    if spec.get("dnsConfig") is not None or spec.get("dnsPolicy") == "None":
        errors += _validate_dns_config(spec, path.child("dnsConfig"))
    return errors


def _validate_dns_config(spec: Object, path: FieldPath) -> list[FieldError]:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(path.child("nameservers"), text)]
    errors: list[FieldError] = []
    config = config or {}
    servers, searches = config.get("nameservers") or (), config.get("searches") or ()
    if len(servers) > 3:
        errors.append(invalid(path.child("nameservers"), servers, "must not have more than 3 nameservers"))
    for at, server in enumerate(servers):
        errors += validate_address(server, path.child("nameservers").index(at))
    if len(searches) > 32:
        errors.append(invalid(path.child("searches"), searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        text = "must not have more than 2048 characters (including spaces) in the search list"
        errors.append(invalid(path.child("searches"), searches, text))
    for at, search in enumerate(searches):
        if search != ".":
            errors += _validate_search(search.removesuffix("."), path.child("searches").index(at))
    for at, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(required(path.child("options").index(at), "must not be empty"))
    return errors


def _validate_search(search: str, path: FieldPath) -> list[FieldError]:
    """Complaints about a search domain, whose labels may begin with an underscore."""
    return [invalid(path, search, text) for text in names.dns1123_subdomain_with_underscores(search)]


def _validate_gates(gates: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, gate in enumerate(gates):
        name = gate.get("name") or ""
        errors += metadata.validate_label_key(name, path.index(at))
        if name in seen:
            errors.append(duplicate(path.index(at), name))
        seen.add(name)
    return errors


def _validate_readiness_gates(gates: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, gate in enumerate(gates):
        errors += metadata.validate_label_key(gate.get("conditionType") or "", path.index(at).child("conditionType"))
    return errors


def _validate_host_aliases(aliases: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, alias in enumerate(aliases):
        errors += validate_address(alias.get("ip") or "", path.index(at).child("ip"))
        for place, hostname in enumerate(alias.get("hostnames") or ()):
            errors += metadata.validate_name(hostname, path.index(at).child("hostnames").index(place))
    return errors


def _label(name: str, path: FieldPath) -> list[FieldError]:
    return metadata.validate_name(name, path, metadata.label_name)


def _validate_preemption(policy: str, path: FieldPath) -> list[FieldError]:
    known = ("PreemptLowerPriority", "Never")
    return [] if policy in known else [not_supported(path, policy, known)]


def _validate_overhead(overhead: Object, path: FieldPath) -> list[FieldError]:
    return validate_requirements({"limits": overhead}, path)


_OPTIONAL: Sequence[tuple[str, Callable[..., list[FieldError]]]] = (
    ("readinessGates", _validate_readiness_gates),
    ("schedulingGates", _validate_gates),
    ("topologySpreadConstraints", validate_topology_spread),
)
_NAMED: Sequence[tuple[str, Callable[..., list[FieldError]]]] = (
    ("serviceAccountName", metadata.validate_name),
    ("nodeName", metadata.validate_name),
)
_LATER: Sequence[tuple[str, Callable[..., list[FieldError]]]] = (
    ("hostname", _label),
    ("subdomain", _label),
    ("tolerations", validate_tolerations),
    ("hostAliases", _validate_host_aliases),
    ("priorityClassName", metadata.validate_name),
    ("runtimeClassName", metadata.validate_name),
    ("preemptionPolicy", _validate_preemption),
    ("overhead", _validate_overhead),
)


def _validate_rest(spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    if (spec.get("os") or {}).get("name") == "windows" or _mentions_windows(spec):
        errors += security_rules.validate_host_process(spec, path)
    errors += security_rules.validate_host_users(spec, path)
    if spec.get("hostnameOverride") is not None:
        errors += _validate_hostname_override(spec, path.child("hostnameOverride"))
    errors += _apply(_NAMED, spec, path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MOST:
        text = names.inclusive_range_error(1, _MOST)
        errors.append(invalid(path.child("activeDeadlineSeconds"), deadline, text))
    errors += _apply(_LATER, spec, path)
    if spec.get("os") is not None:
        errors += security_rules.validate_os(spec, path)
    return errors + _validate_file_keys(spec, path)


def _apply(
    rules: Sequence[tuple[str, Callable[..., list[FieldError]]]], spec: Object, path: FieldPath
) -> list[FieldError]:
    errors: list[FieldError] = []
    for field, rule in rules:
        value = spec.get(field)
        if value:
            errors += rule(value, path.child(field))
    return errors


def _mentions_windows(spec: Object) -> bool:
    if (spec.get("securityContext") or {}).get("windowsOptions"):
        return True
    return any((each.get("securityContext") or {}).get("windowsOptions") for each in spec.get("containers") or ())


def _validate_hostname_override(spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    name = spec["hostnameOverride"]
    if spec.get("setHostnameAsFQDN"):
        errors.append(forbidden(path, "may not be specified when setHostnameAsFQDN is true"))
    if spec.get("hostNetwork"):
        errors.append(forbidden(path, "may not be specified when hostNetwork is true"))
    if len(name) > 64:
        errors.append(too_long(path, 64))
    return errors + metadata.validate_name(name, path)


def _validate_file_keys(spec: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about ``fileKeyRef`` of environments, which read from emptyDir volumes only."""
    errors: list[FieldError] = []
    for kind in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(kind) or ()):
            for place, variable in enumerate(container.get("env") or ()):
                reference = (variable.get("valueFrom") or {}).get("fileKeyRef")
                if reference is None:
                    continue
                name = reference.get("volumeName") or ""
                where = path.child(kind).index(at).child("env").index(place)
                where = where.child("valueFrom", "fileKeyRef", "volumeName")
                volume = next((each for each in spec.get("volumes") or () if each.get("name") == name), None)
                if volume is None:
                    errors.append(not_found(where, name))
                elif volume.get("emptyDir") is None:
                    errors.append(invalid(where, name, "referenced volume must be of type emptyDir"))
    return errors


def validate_annotations(pod: Object, path: FieldPath = _ANNOTATIONS) -> list[FieldError]:
    """Complaints about annotations that mean something to a pod."""
    annotations = annotations_of(pod)
    if not annotations:
        return []
    spec = pod.get("spec") or {}
    errors: list[FieldError] = []
    if _MIRROR in annotations and not spec.get("nodeName"):
        text = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(invalid(path.key(_MIRROR), annotations[_MIRROR], text))
    cost = annotations.get(_DELETION_COST)
    if cost is not None and not _is_int32(cost):
        errors.append(invalid(path.key(_DELETION_COST), cost, "must be a 32bit integer"))
    for key, value in sorted(annotations.items()):
        if key == _SECCOMP_POD or key.startswith(_SECCOMP_CONTAINER):
            known = value in ("runtime/default", "docker/default", "unconfined") or value.startswith("localhost/")
            if not known:
                errors.append(invalid(path.child(key), value, "must be a valid seccomp profile"))
        elif key.startswith(APP_ARMOR):
            errors += _validate_app_armor_annotation(key, value, spec, path.key(key))
    return errors


def _is_int32(text: str) -> bool:
    digits = text.removeprefix("-")
    if not digits.isdigit() or not digits.isascii() or (digits[0] == "0" and text != "0"):
        return False
    return -(2**31) <= int(text) < 2**31


def _validate_app_armor_annotation(key: str, value: str, spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    name = key.removeprefix(APP_ARMOR)
    if not any(each.get("name") == name for each, _ in security_rules.containers_with_paths(spec, _SPEC)):
        errors.append(invalid(path, name, "container not found"))
    if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
        errors.append(invalid(path, value, f'invalid AppArmor profile name: "{value}"'))
    return errors


def validate_pod(pod: Object) -> list[FieldError]:
    """Complaints that hold for a pod at any time: annotations, spec, images."""
    spec = pod.get("spec") or {}
    errors = validate_annotations(pod)
    errors += validate_spec(spec, _SPEC, pod, is_pod=True)
    if not spec.get("serviceAccountName"):
        errors += _validate_tokens(spec, _SPEC.child("volumes"))
    for kind in ("containers", "initContainers"):
        for at, container in enumerate(spec.get(kind) or ()):
            image = container.get("image") or ""
            if image != image.strip():
                errors += container_rules.validate_image_space(container, _SPEC.child(kind).index(at))
    return errors


def _validate_tokens(spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, volume in enumerate(spec.get("volumes") or ()):
        for place, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if source.get("serviceAccountToken") is not None:
                where = path.index(at).child("projected", "sources").index(place).child("serviceAccountToken")
                errors.append(forbidden(where, "must not be specified when serviceAccountName is not set"))
    return errors


def validate_create(pod: Object) -> list[FieldError]:
    spec = pod.get("spec") or {}
    errors = validate_pod(pod)
    if spec.get("ephemeralContainers"):
        errors.append(forbidden(_SPEC.child("ephemeralContainers"), "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        text = "cannot be set until all schedulingGates have been cleared"
        errors.append(forbidden(_SPEC.child("nodeName"), text))
    annotations = annotations_of(pod)
    return errors + security_rules.annotations_that_differ(annotations, spec, _SPEC) if annotations else errors


def validate_template(template: Object | None, path: FieldPath) -> list[FieldError]:
    """Complaints about a pod template of a workload."""
    template = template or {}
    metadata_, spec = meta(template), template.get("spec") or {}
    errors: list[FieldError] = []
    if metadata_.get("labels"):
        errors += metadata.validate_labels(metadata_["labels"], path.child("labels"))
    if metadata_.get("annotations"):
        errors += metadata.validate_annotations(metadata_["annotations"], path.child("annotations"))
        errors += validate_annotations(template, path.child("annotations"))
    errors += validate_spec(spec, path.child("spec"))
    if metadata_.get("annotations"):
        errors += security_rules.annotations_that_differ(metadata_["annotations"], spec, path.child("spec"))
    if spec.get("ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        errors.append(forbidden(path.child("spec", "ephemeralContainers"), text))
    return errors
