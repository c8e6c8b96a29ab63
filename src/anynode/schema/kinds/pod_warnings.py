"""What is allowed in a pod and yet worth a word: deprecated fields, duplicates, values that surprise.

Source: kubernetes ``pkg/api/pod/warnings.go``, ``pkg/api/node/util.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anynode.api import names
from anynode.api.formats import Quantity
from anynode.api.objects import Object, annotations_of, meta, name_of
from anynode.schema.fields import FieldPath
from anynode.schema.kinds.addresses import address_warnings
from anynode.schema.kinds.security_rules import containers_with_paths

DEPRECATED_LABELS: Mapping[str, str] = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
_ANNOTATIONS: Mapping[str, str] = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_VOLUMES: Mapping[str, tuple[str, str]] = {
    "photonPersistentDisk": ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    "gitRepo": ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    "scaleIO": ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    "flocker": ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    "storageos": ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    "quobyte": ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    "glusterfs": ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    "cephfs": ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    "rbd": ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
}
_NEEDED, _WISHED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
_NO_POD = "a null labelSelector results in matching no pod"


def pod_warnings(pod: Object) -> list[str]:
    """Warnings of a new pod."""
    name = name_of(pod)
    warnings: list[str] = []
    wrong = names.dns1123_label(name) if not (name.isalnum() and name.islower()) else ()
    if wrong:
        warnings.append(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
            f"a DNS label is recommended: [{' '.join(wrong)}]"
        )
    return warnings + _spec_warnings(pod.get("spec") or {}, annotations_of(pod), FieldPath())


def template_warnings(template: Object | None, path: FieldPath) -> list[str]:
    """Warnings of a pod template at ``path``."""
    template = template or {}
    return _spec_warnings(template.get("spec") or {}, meta(template).get("annotations") or {}, path)


def name_warnings(obj: Object) -> list[str]:
    """The warning of a workload whose name makes no hostname."""
    wrong = names.dns1123_label(name_of(obj))
    if not wrong:
        return []
    return [
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
        f"a DNS label is recommended: [{' '.join(wrong)}]"
    ]


def label_warnings(labels: Mapping[str, str], path: FieldPath) -> list[str]:
    return [f"{path.key(key)}: {DEPRECATED_LABELS[key]}" for key in sorted(labels) if key in DEPRECATED_LABELS]


def _spec_warnings(spec: Object, annotations: Mapping[str, str], root: FieldPath) -> list[str]:
    path = root.child("spec")
    warnings = label_warnings(spec.get("nodeSelector") or {}, path.child("nodeSelector"))
    if spec.get("affinity"):
        warnings += _node_affinity_warnings(spec["affinity"].get("nodeAffinity") or {}, path)
    for at, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        where, key = path.child("topologySpreadConstraints").index(at), constraint.get("topologyKey") or ""
        if key in DEPRECATED_LABELS:
            warnings.append(f"{where.child('topologyKey')}: {key} is {DEPRECATED_LABELS[key]}")
        if constraint.get("labelSelector") is None:
            warnings.append(f"{where.child('labelSelector')}: {_NO_POD}")
    for key, text in _ANNOTATIONS.items():
        if key in annotations:
            warnings.append(f"{root.child('metadata', 'annotations').key(key)}: {text}")
    warnings += _volume_warnings(spec.get("volumes") or (), path.child("volumes"))
    warnings += _duplicate_warnings(spec, path)
    warnings += _container_warnings(spec, path)
    warnings += _port_warnings(spec, path)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        where = path.child("terminationGracePeriodSeconds")
        warnings.append(f"{where}: must be >= 0; negative values are invalid and will be treated as 1")
    if spec.get("affinity"):
        warnings += _pod_affinity_warnings(spec["affinity"], path.child("affinity"))
    for at, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        warnings += address_warnings(server, path.child("dnsConfig", "nameservers").index(at))
    for at, alias in enumerate(spec.get("hostAliases") or ()):
        warnings += address_warnings(alias.get("ip") or "", path.child("hostAliases").index(at).child("ip"))
    return warnings


def _node_affinity_warnings(affinity: Object, path: FieldPath) -> list[str]:
    warnings: list[str] = []
    base = path.child("affinity", "nodeAffinity")
    for at, term in enumerate((affinity.get(_NEEDED) or {}).get("nodeSelectorTerms") or ()):
        warnings += term_warnings(term, base.child(_NEEDED, "nodeSelectorTerms").index(at), check_values=False)
    for at, wished in enumerate(affinity.get(_WISHED) or ()):
        where = base.child(_WISHED).index(at).child("preference")
        warnings += term_warnings(wished.get("preference") or {}, where, check_values=True)
    return warnings


def term_warnings(term: Object, path: FieldPath, *, check_values: bool) -> list[str]:
    """Deprecated labels in a node selector term and, ``check_values``, values no label has."""
    warnings: list[str] = []
    for at, expression in enumerate(term.get("matchExpressions") or ()):
        key, where = expression.get("key") or "", path.child("matchExpressions").index(at)
        if key in DEPRECATED_LABELS:
            warnings.append(f"{where.child('key')}: {key} is {DEPRECATED_LABELS[key]}")
        if check_values:
            for place, value in enumerate(expression.get("values") or ()):
                wrong = names.label_value(value)
                if wrong:
                    at_value = where.child("values").index(place)
                    warnings.append(f"{at_value}: {value} is invalid, {', '.join(wrong)}")
    return warnings


def _volume_warnings(volumes: Sequence[Object], path: FieldPath) -> list[str]:
    warnings: list[str] = []
    for at, volume in enumerate(volumes):
        for kind, (shown, text) in _VOLUMES.items():
            if kind in volume and volume[kind] is not None:
                warnings.append(f"{path.index(at).child(shown)}: {text}")
        sources = (volume.get("projected") or {}).get("sources") or ()
        if volume.get("projected") is not None and any(not source for source in sources):
            warnings.append(f'volume "{volume.get("name")}" (Projected) has no sources provided')
    return warnings


def _duplicate_warnings(spec: Object, path: FieldPath) -> list[str]:
    warnings: list[str] = []
    seen: set[str] = set()
    for at, alias in enumerate(spec.get("hostAliases") or ()):
        address = alias.get("ip") or ""
        if address in seen:
            warnings.append(f'{path.child("hostAliases").index(at).child("ip")}: duplicate ip "{address}"')
        seen.add(address)
    seen = set()
    empty: list[str] = []
    for at, secret in enumerate(spec.get("imagePullSecrets") or ()):
        name, where = secret.get("name") or "", path.child("imagePullSecrets").index(at).child("name")
        if name in seen:
            warnings.append(f'{where}: duplicate name "{name}"')
        seen.add(name)
        if not name:
            empty.append(f'{where}: invalid empty name ""')
    return warnings + empty


def _container_warnings(spec: Object, path: FieldPath) -> list[str]:
    warnings: list[str] = []
    for container, where in containers_with_paths(spec, path):
        resources = container.get("resources")
        if resources:
            warnings += _fraction_warnings(resources, where.child("resources"))
        variables = container.get("env")
        if variables and len(variables) > 1:
            warnings += _env_warnings(variables, where.child("env"))
    return warnings


def _fraction_warnings(resources: Object, path: FieldPath) -> list[str]:
    warnings: list[str] = []
    for name in ("memory", "ephemeral-storage"):
        for kind in ("limits", "requests"):
            text = (resources.get(kind) or {}).get(name)
            if text is not None and Quantity.parse(text).milli_value() % 1000:
                where = path.child(kind).key(name)
                warnings.append(f'{where}: fractional byte value "{text}" is invalid, must be an integer')
    return warnings


def _env_warnings(variables: Sequence[Object], path: FieldPath) -> list[str]:
    warnings: list[str] = []
    seen: set[str] = set()
    for at, variable in enumerate(variables):
        name, value = variable.get("name") or "", variable.get("value") or ""
        if name not in seen:
            seen.add(name)
            continue
        reference = f"$({name})"
        if variable.get("valueFrom") is not None or value == reference or reference not in value:
            text = f'hides previous definition of "{name}", which may be dropped when using apply'
            warnings.append(f"{path.index(at)}: {text}")
    return warnings


def _port_warnings(spec: Object, path: FieldPath) -> list[str]:
    warnings: list[str] = []
    seen: dict[str, list[tuple[FieldPath, Object]]] = {}
    named: dict[str, FieldPath] = {}
    by_name: list[str] = []
    for container, base in containers_with_paths(spec, path):
        for at, port in enumerate(container.get("ports") or ()):
            where = base.child("ports").index(at)
            others = seen.setdefault(f"{port.get('containerPort') or 0}/{port.get('protocol') or ''}", [])
            warnings.extend(_overlap(port, other, where, place) for place, other in others)
            others.append((where, port))
            name = port.get("name")
            if name and name in named:
                text = f'duplicate port name "{name}" with {named[name]}, services and probes that select ports by name'
                by_name.append(f"{where}: {text} will use {named[name]}")
            elif name:
                named[name] = where
    return [each for each in warnings if each] + by_name


def _overlap(port: Object, other: Object, path: FieldPath, place: FieldPath) -> str:
    one, two = port.get("hostPort") or 0, other.get("hostPort") or 0
    ip, other_ip = port.get("hostIP") or "", other.get("hostIP") or ""
    if ip == other_ip and one == two:
        return f"{path}: duplicate port definition with {place}"
    if not one or not two:
        return f"{path}: overlapping port definition with {place}"
    if one == two and (not ip) != (not other_ip):
        return f"{path}: dangerously ambiguous port definition with {place}"
    return ""


def _pod_affinity_warnings(affinity: Object, path: FieldPath) -> list[str]:
    warnings: list[str] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        for at, term in enumerate(terms.get(_NEEDED) or ()):
            if term.get("labelSelector") is None:
                warnings.append(f"{path.child(kind, _NEEDED).index(at).child('labelSelector')}: {_NO_POD}")
        for at, wished in enumerate(terms.get(_WISHED) or ()):
            if (wished.get("podAffinityTerm") or {}).get("labelSelector") is None:
                where = path.child(kind, _WISHED).index(at).child("podAffinityTerm", "labelSelector")
                warnings.append(f"{where}: {_NO_POD}")
    return warnings
