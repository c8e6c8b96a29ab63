"""Make ``src/anynode/schema/data/types.txt``, the type table that the server reads lazily.

In go ``tools/data/wire-facts.json`` (message -> JSON name -> field number, wire type, Go type, pointer, omitempty,
inline; taken from the ``go-proto`` struct tags of Kubernetes 1.36) and the OpenAPI definitions of the PyPI package
``kubernetes-validate`` (required fields and the patch, list and map markers). Out comes one line per type:
``name <tab> group/version/kind or - <tab> A (atomic) or - <tab> JSON list of fields``, each field being
``[name, number or path of numbers, kind, shape, flags, target, markers?]``; see ``anynode.schema.types``.

Run it from the root of the tree: ``python tools/gen_types.py``.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
from typing import Any

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    META + "Time": "t",
    META + "MicroTime": "T",
    META + "Duration": "D",
    "metav1.Time": "t",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "I",
    META + "FieldsV1": "F",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "R",
}
EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
SPECIAL |= {EXTENSIONS + name: "J" for name in ("JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool")}
SPECIAL |= {EXTENSIONS + "JSONSchemaPropsOrStringArray": "J"}
PRIMITIVES = {
    "string": "s", "bool": "b", "[]byte": "y", "int32": "i", "int64": "l", "uint32": "u", "uint64": "U", "float64": "d",
}  # fmt: skip
# Named Go types that are no message: (kind, shape, element type).
NAMED = {
    "io.k8s.api.core.v1.ResourceList": ("q", "m", ""),
    META + "Verbs": ("s", "l", ""),
    EXTENSIONS + "JSONSchemaDefinitions": ("m", "m", EXTENSIONS + "JSONSchemaProps"),
    EXTENSIONS + "JSONSchemaDependencies": ("J", "m", "v1.JSONSchemaPropsOrStringArray"),
    EXTENSIONS + "ValidationRules": ("m", "l", EXTENSIONS + "ValidationRule"),
}
RENAMED = {"metav1.ListMeta": META + "ListMeta", "metav1.ObjectMeta": META + "ObjectMeta"}
RENAMED |= {
    f"io.k8s.api.admissionregistration.{version}.{name}": f"io.k8s.api.admissionregistration.v1.{name}"
    for version in ("v1alpha1", "v1beta1")
    for name in ("RuleWithOperations", "MatchCondition")
}
OMITZERO = {(META + "ObjectMeta", "creationTimestamp")}
# Markers ``+default`` of upstream's types: no zero value, or on a field that may be left out.
CORE = "io.k8s.api.core.v1."
DEFAULTS = {
    (CORE + "AzureDiskVolumeSource", "cachingMode"): "ReadWrite",
    (CORE + "AzureDiskVolumeSource", "fsType"): "ext4",
    (CORE + "AzureDiskVolumeSource", "kind"): "Shared",
    (CORE + "ContainerPort", "protocol"): "TCP",
    (CORE + "ISCSIPersistentVolumeSource", "iscsiInterface"): "default",
    (CORE + "ISCSIVolumeSource", "iscsiInterface"): "default",
    (CORE + "RBDPersistentVolumeSource", "keyring"): "/etc/ceph/keyring",
    (CORE + "RBDPersistentVolumeSource", "pool"): "rbd",
    (CORE + "RBDPersistentVolumeSource", "user"): "admin",
    (CORE + "RBDVolumeSource", "keyring"): "/etc/ceph/keyring",
    (CORE + "RBDVolumeSource", "pool"): "rbd",
    (CORE + "RBDVolumeSource", "user"): "admin",
    (CORE + "ReplicationControllerSpec", "replicas"): 1,
    (CORE + "ScaleIOPersistentVolumeSource", "fsType"): "xfs",
    (CORE + "ScaleIOPersistentVolumeSource", "storageMode"): "ThinProvisioned",
    (CORE + "ScaleIOVolumeSource", "fsType"): "xfs",
    (CORE + "ScaleIOVolumeSource", "storageMode"): "ThinProvisioned",
    (CORE + "ServicePort", "protocol"): "TCP",
    ("io.k8s.api.autoscaling.v1.ScaleSpec", "replicas"): 0,
    (CORE + "ReplicationControllerSpec", "minReadySeconds"): 0,
    (CORE + "AzureDiskVolumeSource", "readOnly"): False,
    (CORE + "FileKeySelector", "optional"): False,
    (CORE + "GRPCAction", "service"): "",
    **{
        (CORE + name, "name"): ""
        for name in (
            "LocalObjectReference",
            "ConfigMapEnvSource",
            "ConfigMapKeySelector",
            "ConfigMapProjection",
            "ConfigMapVolumeSource",
            "SecretEnvSource",
            "SecretKeySelector",
            "SecretProjection",
        )
    },
    ("io.k8s.api.resource.v1.DeviceToleration", "operator"): "Equal",
    ("io.k8s.api.resource.v1beta1.DeviceToleration", "operator"): "Equal",
    ("io.k8s.api.resource.v1beta2.DeviceToleration", "operator"): "Equal",
}
MARKERS = {
    "x-kubernetes-list-type": "lt", "x-kubernetes-list-map-keys": "mk", "x-kubernetes-patch-strategy": "ps",
    "x-kubernetes-patch-merge-key": "pk", "x-kubernetes-map-type": "mt",
}  # fmt: skip

OPTIONS = [META + name for name in ("ListOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "GetOptions")]

Facts = dict[str, dict[str, dict[str, Any]]]


def definitions() -> dict[str, Any]:
    """The OpenAPI definitions of 1.36 by name."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("kubernetes-validate is not installed")
    root = pathlib.Path(spec.submodule_search_locations[0])
    text = (root / "kubernetes-json-schema" / "v1.36.0-local" / "_definitions.json").read_text()
    found: dict[str, Any] = json.loads(text)["$defs"]
    return found


def go_name(target: str) -> str:
    """``io.k8s.api.core.v1.PullPolicy`` -> ``v1.PullPolicy``, as Go's messages name a type."""
    return ".".join(target.split(".")[-2:])


def kind_of(fact: dict[str, Any], facts: Facts) -> tuple[str, str, str]:
    """``(kind, shape, target)`` of a field's value."""
    target = RENAMED.get(fact["type"], fact["type"])
    shape = {"list": "l", "map": "m", "": ""}[fact.get("repeated", "")]
    if target in PRIMITIVES:
        return PRIMITIVES[target], shape, ""
    if target in SPECIAL:
        return SPECIAL[target], shape, go_name(target)
    if target in NAMED:
        kind, own_shape, element = NAMED[target]
        return kind, own_shape, element
    if target.endswith(".ExtraValue"):
        return "s", "M", go_name(target)
    if target in facts:
        return "m", shape, target
    if target.endswith((".CustomResourceSubresourceStatus", ".BasicSchedulingPolicy", ".StorageVersionSpec")):
        return "R", shape, go_name(target)
    return (
        ("i" if fact["wire"] == "varint" and not target.endswith("DeletionPropagation") else "s"),
        shape,
        go_name(target),
    )


def has_type_meta(name: str, schema: dict[str, Any]) -> bool:
    """Whether the type embeds ``TypeMeta``, which has no field number of its own."""
    return {"kind", "apiVersion"} <= schema.get("properties", {}).keys() or name in OPTIONS


def rows(
    name: str, facts: Facts, outer: dict[str, Any], path: tuple[int, ...] = (), owner: str = ""
) -> list[list[Any]]:
    """The fields of ``name``, those of inlined messages among them with the path of numbers that leads there."""
    required = set(outer.get("required", ()))
    properties = outer.get("properties", {})
    found: list[list[Any]] = []
    if not path and has_type_meta(name, outer):
        found = [[field, 0, "s", "", "o", ""] for field in ("kind", "apiVersion") if field not in facts[name]]
    for field, fact in facts[name].items():
        target = RENAMED.get(fact["type"], fact["type"])
        if fact.get("inline"):
            found.extend(rows(target, facts, outer, (*path, fact["number"]), owner or name))
            continue
        kind, shape, target = kind_of(fact, facts)
        flags = ("p" if fact.get("pointer") else "") + ("o" if fact.get("omitempty") else "")
        flags += ("z" if (name, field) in OMITZERO else "") + ("r" if field in required else "")
        schema = properties.get(field, {})
        markers = {short: schema[long] for long, short in MARKERS.items() if long in schema}
        default = DEFAULTS.get((owner or name, field))
        if default is not None:
            markers["df"] = default
        number: Any = [*path, fact["number"]] if path else fact["number"]
        found.append([field, number, kind, shape, flags, target, *([markers] if markers else [])])
    return found


def wanted(facts: Facts, schemas: dict[str, Any]) -> list[str]:
    """The messages the API speaks of, and all they hold."""
    todo = [*OPTIONS, *(name for name in schemas if name in facts)]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name not in facts or name in SPECIAL:
            continue
        seen.add(name)
        todo.extend(RENAMED.get(fact["type"], fact["type"]) for fact in facts[name].values())
    return sorted(seen)


def main() -> None:
    root = pathlib.Path(__file__).parent
    facts: Facts = json.loads((root / "data" / "wire-facts.json").read_text())
    schemas = definitions()
    lines = []
    for name in wanted(facts, schemas):
        schema = schemas.get(name, {})
        kinds = schema.get("x-kubernetes-group-version-kind", [])
        kind = "/".join((kinds[0]["group"], kinds[0]["version"], kinds[0]["kind"])) if len(kinds) == 1 else "-"
        atomic = "A" if schema.get("x-kubernetes-map-type") == "atomic" else "-"
        fields = json.dumps(rows(name, facts, schema), separators=(",", ":"))
        lines.append(f"{name}\t{kind}\t{atomic}\t{fields}")
    target = root.parent / "src" / "anynode" / "schema" / "data" / "types.txt"
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
