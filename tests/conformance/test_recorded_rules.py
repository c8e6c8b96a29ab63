"""The rules of built-in kinds against what a real kube-apiserver answered.

Each recorded case is played on a table of objects: bodies go through default, prepare and validate of their kind. Put
aside is what other parts do: typed decoding, admission's refusals, allocation of addresses, managed fields.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from anynode.api import errors, resources
from anynode.api.objects import Object, meta
from anynode.api.patches import PatchError, json_patch, merge_patch
from anynode.schema import fields, metadata, strategic, types
from anynode.schema.decode import DecodeError, check_fields
from anynode.schema.kinds.catalogue import rules_of

RECORDED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "golden"
AREAS = ("defaulting", "validation", "update", "roundtrip", "subresources")
FLOORS = {"core": 1.0, "pods": 1.0, "workloads": 0.96, "cluster": 0.87, "net-policy-storage": 1.0}

UID = "00000000-0000-0000-0000-000000000001"
TIME = "2026-01-01T00:00:00Z"
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)(?:/namespaces/(?P<ns>\$\{ns\}))?"
    r"(?:/(?P<plural>[^/?]+)(?:/(?P<name>[^/?]+))?(?:/(?P<sub>[^/?]+))?)?(?:\?.*)?"
)
NOT_HERE = {"bindings", "scale", "binding", "eviction", "log", "proxy", "token", "nothing", "approval"}
ALLOCATED = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort")
PROTECTION = {"persistentvolumeclaims": "pvc", "persistentvolumes": "pv", "volumeattributesclasses": "vac"}
NOT_SERVED = {"admissionregistration.k8s.io", "apiregistration.k8s.io"}
NOT_EXECUTE = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
TOKEN_SOURCES = [
    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {
        "downwardAPI": {
            "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
        }
    },
    {"configMap": {"name": "openshift-service-ca.crt", "items": [{"key": "service-ca.crt", "path": "service-ca.crt"}]}},
]


class Elsewhere(Exception):
    """The step asks for something the rules alone do not answer."""


class Table:
    """Objects by path, written by the rules alone."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.warnings: Sequence[str] = ()
        self.types = types.builtin()

    def step(self, step: Mapping[str, Any]) -> Object | None:
        """The object the step leaves, or the Status that refuses it; None for a step that is not compared."""
        method = next(key for key in step if key.isupper())
        match = PATH.fullmatch(step[method])
        if match is None or method not in ("POST", "PUT", "PATCH"):
            raise Elsewhere
        group, version, plural = match["group"] or "", match["version"], match["plural"]
        name, sub = match["name"] or "", match["sub"] or ""
        if plural is None or (plural in ("status", "finalize") and match["ns"]):
            group, plural, name, sub = "", "namespaces", "golden", plural or ""
        resource = resources.builtin().at(group, version, plural)
        if resource is None or group in NOT_SERVED or {sub, plural} & NOT_HERE or "fieldValidation" in step[method]:
            raise Elsewhere
        content_type = step.get("headers", {}).get("Content-Type", "")
        if "apply" in content_type:
            raise Elsewhere
        body = fill(step.get("body", {}))
        try:
            if method == "POST":
                if sub:
                    raise Elsewhere
                return self.create(resource, body)
            return self.change(resource, name.replace("${ns}", "golden"), sub, body, content_type, method)
        except errors.ApiError as error:
            return error.status()
        except (DecodeError, PatchError) as error:
            raise Elsewhere from error

    def typed(self, resource: resources.Resource, body: Object) -> Object:
        self.warnings = ()
        type_name = self.types.of_kind(str(resource.group_version), resource.kind)
        return check_fields(body, type_name, self.types)[0]

    def create(self, resource: resources.Resource, body: Object) -> Object:
        rules = rules_of(resource.group, resource.kind)
        given = {"apiVersion": str(resource.group_version), "kind": resource.kind, **body}
        if given["kind"] != resource.kind or given["apiVersion"] != str(resource.group_version):
            raise Elsewhere
        obj = rules.default(self.typed(resource, given))
        found = {**meta(obj), "uid": UID, "creationTimestamp": TIME}
        if resource.namespaced:
            if found.get("namespace", "golden") != "golden":
                raise Elsewhere
            found["namespace"] = "golden"
        if not found.get("name") and found.get("generateName"):
            found["name"] = found["generateName"] + "abcde"
        obj = {**obj, "metadata": found}
        obj = rules.prepare_create(admitted(resource, rules.default(obj)))
        wrong = [*rules.validate(obj)]
        wrong = metadata.validate_create(obj, namespaced=resource.namespaced, valid_name=rules.valid_name) + wrong
        self.refuse(resource, obj, wrong)
        self.warnings = rules.warnings(obj)
        obj = allocated(resource, obj)
        self.objects[resource.group, resource.plural, meta(obj)["name"]] = obj
        return obj

    def change(
        self, resource: resources.Resource, name: str, sub: str, body: Any, content_type: str, method: str
    ) -> Object:
        rules = rules_of(resource.group, resource.kind)
        old = self.objects.get((resource.group, resource.plural, name))
        if old is None:
            raise Elsewhere
        if method == "PUT" and not rules.allow_unconditional_update and "resourceVersion" not in meta(body):
            raise Elsewhere
        if method == "PUT":
            new = {"apiVersion": str(resource.group_version), "kind": resource.kind, **body}
        elif "json-patch" in content_type:
            new = json_patch(old, body)
        elif "strategic" in content_type:
            new = strategic.merge(old, body, self.types.of_kind(str(resource.group_version), resource.kind), self.types)
        else:
            new = merge_patch(old, body)
        if meta(new).get("resourceVersion"):
            raise Elsewhere
        before = meta(old)
        kept = {field: before[field] for field in ("uid", "creationTimestamp", "generation") if field in before}
        kept["namespace"] = before.get("namespace", "")
        new = self.typed(resource, new)
        new = rules.default({**new, "metadata": {**meta(new), **kept, "resourceVersion": "1"}})
        new = {**new, "metadata": {key: value for key, value in meta(new).items() if value != ""}}
        if resource.plural == "pods" and not sub:
            new = with_tolerations(new)
        if not sub:
            new = rules.prepare_update(new, old)
            wrong = rules.validate_update(new, old)
        elif sub == "status":
            new = rules.prepare_status(new, old)
            wrong = rules.validate_status(new, old)
        else:
            new = rules.subresources[sub].prepare(new, old)
            wrong = rules.subresources[sub].validate(new, old)
        changed = metadata.validate_update(new, old)
        self.refuse(resource, new, [*changed, *changed, *wrong])
        self.warnings = rules.update_warnings(new, old) if not sub else ()
        new = allocated(resource, new)
        self.objects[resource.group, resource.plural, name] = new
        return new

    def refuse(self, resource: resources.Resource, obj: Object, wrong: Sequence[fields.FieldError]) -> None:
        if wrong:
            said = rules_of(resource.group, resource.kind).refused_as
            group = resource.group if said is None else said
            raise errors.invalid(resource.kind, group, meta(obj).get("name", ""), fields.causes(wrong))


def fill(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("${ns}", "golden")
    if isinstance(value, list):
        return [fill(each) for each in value]
    if isinstance(value, dict):
        return {key: fill(each) for key, each in value.items()}
    return value


def admitted(resource: resources.Resource, obj: Object) -> Object:
    """What the built-in admission plugins of the recorded server add."""
    if resource.plural in PROTECTION:
        return {
            **obj,
            "metadata": {**meta(obj), "finalizers": [f"kubernetes.io/{PROTECTION[resource.plural]}-protection"]},
        }
    if resource.plural == "nodes":
        taints = [*obj["spec"].get("taints", ()), {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
        return {**obj, "spec": {**obj["spec"], "taints": taints}}
    if resource.plural != "pods":
        return obj
    spec = dict(obj["spec"])
    if spec.get("priorityClassName", "system-node-critical") != "system-node-critical" or "runtimeClassName" in spec:
        raise Elsewhere
    spec["priority"] = 2000001000 if "priorityClassName" in spec else 0
    spec["preemptionPolicy"] = "PreemptLowerPriority"
    if spec.get("serviceAccountName", "default") != "default":
        raise Elsewhere
    spec["serviceAccountName"] = spec["serviceAccount"] = "default"
    if spec.get("automountServiceAccountToken") is not False:
        mount = {
            "name": "kube-api-access-abcde",
            "readOnly": True,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        }
        for kind in ("initContainers", "containers"):
            if spec.get(kind):
                mounts = [[*each.get("volumeMounts", ()), mount] for each in spec[kind]]
                spec[kind] = [{**each, "volumeMounts": add} for each, add in zip(spec[kind], mounts, strict=True)]
        volume = {"name": "kube-api-access-abcde", "projected": {"sources": TOKEN_SOURCES, "defaultMode": 420}}
        spec["volumes"] = [*spec.get("volumes", ()), volume]
    return with_tolerations({**obj, "spec": spec})


def with_tolerations(obj: Object) -> Object:
    spec = obj["spec"]
    tolerations = list(spec.get("tolerations", ()))
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(each.get("key") == key for each in tolerations):
            tolerations.append({"key": key, **NOT_EXECUTE})
    return {**obj, "spec": {**spec, "tolerations": tolerations}}


def allocated(resource: resources.Resource, obj: Object) -> Object:
    """What the registry adds to a service once it is valid."""
    if resource.plural != "services":
        return obj
    spec = dict(obj["spec"])
    if spec["type"] != "ExternalName":
        if not spec.get("clusterIP"):
            spec["clusterIP"] = "10.96.0.9"
        spec["clusterIPs"] = [spec["clusterIP"]]
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        if spec["clusterIP"] == "None" and not spec.get("selector"):
            spec["ipFamilies"], spec["ipFamilyPolicy"] = ["IPv4", "IPv6"], "RequireDualStack"
        if any(each == "IPv6" for each in spec["ipFamilies"]) and spec.get("selector"):
            raise Elsewhere
        if spec["ipFamilyPolicy"] == "RequireDualStack" and spec["clusterIP"] != "None":
            raise Elsewhere
        if spec["ipFamilies"] == ["IPv6"]:
            raise Elsewhere
    wants = spec["type"] == "NodePort" or (
        spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    )
    if wants:
        spec["ports"] = [{**each, "nodePort": each.get("nodePort") or 30123} for each in spec.get("ports", ())]
    if spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
        spec["healthCheckNodePort"] = 30124
    return {**obj, "spec": spec}


VOLATILE = ("clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort")


def settled(value: Any, key: str = "") -> Any:
    """An answer with what differs from run to run put aside, as the recording has it."""
    if isinstance(value, dict):
        out = {}
        for name, each in value.items():
            if (
                name in ("uid", "resourceVersion", "managedFields", "creationTimestamp", "namespace")
                and key == "metadata"
            ):
                continue
            if name in VOLATILE and each not in (None, "", []):
                out[name] = f"<{name}>"
            else:
                out[name] = settled(each, name)
        return out
    if isinstance(value, list):
        return [settled(each, key) for each in value]
    if isinstance(value, str):
        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value):
            return "<time>"
        value = re.sub(r"kube-api-access-<random>", "kube-api-access-abcde", value)
        value = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>", value)
        value = value.replace("gen-abcde", "gen-<random>").replace("<ns>", "golden")
        return re.sub(r"(10\.96|127)\.\d+\.\d+\.\d+", "<ip>", value)
    return value


def differences(want: Any, got: Any, path: str = "") -> list[str]:
    if isinstance(want, dict) and isinstance(got, dict):
        rows: list[str] = []
        for key in sorted({*want, *got}):
            if key not in got:
                rows.append(f"{path}.{key}: missing, upstream has {json.dumps(want[key])}")
            elif key not in want:
                rows.append(f"{path}.{key}: extra {json.dumps(got[key])}")
            else:
                rows += differences(want[key], got[key], f"{path}.{key}")
        return rows
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        return [
            row for at, pair in enumerate(zip(want, got, strict=True)) for row in differences(*pair, f"{path}[{at}]")
        ]
    return [] if want == got else [f"{path}: {json.dumps(got)}, upstream has {json.dumps(want)}"]


def shown_warnings(warnings: Sequence[str]) -> str:
    return ", ".join(f"299 - {json.dumps(each)}" for each in warnings)


def play(case: Mapping[str, Any]) -> list[str] | None:
    """What differs; None when nothing in the case is for the rules to answer."""
    table = Table()
    answers = iter(case["answers"])
    rows: list[str] = []
    compared = 0
    for step in case["steps"]:
        silent = step.get("ignore") or "SLEEP" in step
        answer = None if silent else next(answers)
        if "SLEEP" in step:
            continue
        try:
            got = table.step(step)
        except Elsewhere:
            continue
        if answer is None or got is None or answer["code"] not in (200, 201, 422):
            continue
        compared += 1
        rows += differences(settled(answer["body"]), settled(got))
        rows += differences(answer.get("warning", ""), shown_warnings(table.warnings), ".warning")
    return rows if compared else None


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded answers are not beside the checkout")
@pytest.mark.parametrize("file", sorted(FLOORS))
def test_recorded_rules(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    tally: dict[str, list[int]] = {}
    told: list[str] = []
    for case in json.loads((RECORDED / f"objects-{file}.json").read_text()):
        if case["area"] not in AREAS:
            continue
        rows = play(case)
        if rows is None:
            continue
        count = tally.setdefault(case["area"], [0, 0])
        count[0] += not rows
        count[1] += 1
        if rows:
            told.append(f"  {case['area']}: {case['name']}")
            told.extend(f"      {row[:700]}" for row in rows[:6])
    same, total = sum(each[0] for each in tally.values()), sum(each[1] for each in tally.values())
    shares = ", ".join(f"{area} {each[0]}/{each[1]}" for area, each in tally.items())
    with capsys.disabled():
        print(f"\n{file}: {same} of {total} alike ({shares})")
    assert same / total >= FLOORS[file], "\n".join(told)
