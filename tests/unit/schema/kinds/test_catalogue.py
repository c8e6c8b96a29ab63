"""What holds for every kind: rules change nothing in place, defaults are stable, and answers are quick to get."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from anynode.schema import types
from anynode.schema.decode import check_fields
from anynode.schema.kinds.catalogue import rules_of

METADATA = {"name": "a", "namespace": "d", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
TEMPLATE = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {
        "containers": [{
            "name": "c", "image": "i:1", "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        }],
        "volumes": [{"name": "v", "configMap": {"name": "c"}}, {"name": "e"}],
    },
}  # fmt: skip
SELECTED: dict[str, Any] = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
JOB = {"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
SERVICE = {"service": {"name": "s", "port": {"number": 80}}}
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("v1", "Namespace", {}),
    ("v1", "ConfigMap", {"data": {"a": "b"}}),
    ("v1", "Secret", {"data": {"a": "Yg=="}}),
    ("v1", "ServiceAccount", {}),
    ("v1", "Service", {"spec": {"ports": [{"port": 80}], "clusterIP": "None"}}),
    ("v1", "Endpoints", {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
    ("v1", "Event", {"involvedObject": {"namespace": "d"}}),
    ("v1", "Pod", {"spec": TEMPLATE["spec"]}),
    ("v1", "PodTemplate", {"template": TEMPLATE}),
    ("v1", "Node", {"status": {"capacity": {"cpu": "1"}}}),
    ("v1", "ReplicationController", {"spec": {"selector": {"a": "b"}, "template": TEMPLATE}}),
    ("v1", "LimitRange", {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}}),
    ("v1", "ResourceQuota", {"spec": {"hard": {"pods": "3"}}}),
    (
        "v1",
        "PersistentVolumeClaim",
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}},
    ),
    (
        "v1",
        "PersistentVolume",
        {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}, "hostPath": {"path": "/x"}}},
    ),
    ("apps/v1", "Deployment", {"spec": SELECTED}),
    ("apps/v1", "ReplicaSet", {"spec": SELECTED}),
    ("apps/v1", "DaemonSet", {"spec": SELECTED}),
    ("apps/v1", "StatefulSet", {"spec": {**SELECTED, "serviceName": "s"}}),
    ("apps/v1", "ControllerRevision", {"revision": 1, "data": {"a": 1}}),
    ("batch/v1", "Job", {"spec": JOB}),
    ("batch/v1", "CronJob", {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": JOB}}}),
    ("coordination.k8s.io/v1", "Lease", {"spec": {"holderIdentity": "me"}}),
    ("discovery.k8s.io/v1", "EndpointSlice", {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
    ("autoscaling/v2", "HorizontalPodAutoscaler", {"spec": {"scaleTargetRef": TARGET, "maxReplicas": 2}}),
    ("networking.k8s.io/v1", "Ingress", {"spec": {"defaultBackend": SERVICE}}),
    ("networking.k8s.io/v1", "IngressClass", {"spec": {"controller": "a.b/c"}}),
    ("networking.k8s.io/v1", "NetworkPolicy", {"spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}}),
    ("networking.k8s.io/v1", "ServiceCIDR", {"spec": {"cidrs": ["10.5.0.0/24"]}}),
    ("policy/v1", "PodDisruptionBudget", {"spec": {"minAvailable": "50%"}}),
    ("scheduling.k8s.io/v1", "PriorityClass", {"value": 10}),
    ("node.k8s.io/v1", "RuntimeClass", {"handler": "runc"}),
    ("storage.k8s.io/v1", "StorageClass", {"provisioner": "a.b/c"}),
    ("storage.k8s.io/v1", "CSIDriver", {}),
    ("storage.k8s.io/v1", "CSINode", {"spec": {"drivers": [{"name": "a.b", "nodeID": "n"}]}}),
    ("storage.k8s.io/v1", "CSIStorageCapacity", {"storageClassName": "s", "capacity": "1Gi"}),
    (
        "storage.k8s.io/v1",
        "VolumeAttachment",
        {"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
    ),
    ("rbac.authorization.k8s.io/v1", "Role", {"rules": [{"apiGroups": [""], "resources": ["x"], "verbs": ["*"]}]}),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", {"roleRef": {"kind": "ClusterRole", "name": "view"}}),
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", {"spec": {"priorityLevelConfiguration": {"name": "x"}}}),
    (
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}},
    ),
]
TYPES = types.builtin()
PEM = base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n").decode()
DEVICES = {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}
BODIES += [
    ("resource.k8s.io/v1", "ResourceClaim", {"spec": {"devices": DEVICES}}),
    ("resource.k8s.io/v1", "ResourceClaimTemplate", {"spec": {"spec": {"devices": DEVICES}}}),
    ("resource.k8s.io/v1", "DeviceClass", {"spec": {"selectors": [{"cel": {"expression": "true"}}]}}),
    (
        "resource.k8s.io/v1",
        "ResourceSlice",
        {"spec": {"driver": "a.b", "pool": {"name": "p", "resourceSliceCount": 1}, "allNodes": True}},
    ),
    (
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        {"spec": {"request": PEM, "usages": ["client auth"], "signerName": "a.b/c"}},
    ),
]


@pytest.mark.parametrize(("version", "kind", "body"), BODIES, ids=[kind for _, kind, _ in BODIES])
def test_good_objects_pass_untouched(version: str, kind: str, body: dict[str, Any]) -> None:
    rules = rules_of(version.rpartition("/")[0], kind)
    given = {"apiVersion": version, "kind": kind, "metadata": METADATA, **body}
    given, _ = check_fields(given, TYPES.of_kind(version, kind), TYPES)
    before = copy.deepcopy(given)

    whole = rules.default(given)
    assert given == before
    assert rules.default(whole) == whole

    made = rules.prepare_create(whole)
    stored = copy.deepcopy(made)
    assert list(rules.validate(made)) == []
    assert rules.default(made) == made

    changed = {**made, "metadata": {**made["metadata"], "labels": {"x": "y"}}}
    updated = rules.prepare_update(changed, made)
    assert list(rules.validate_update(updated, made)) == []
    rules.warnings(made)
    assert made == stored


STATELESS = {
    "ConfigMap", "Secret", "ServiceAccount", "Endpoints", "Event", "PodTemplate", "LimitRange", "ControllerRevision",
    "Lease", "EndpointSlice", "IngressClass", "NetworkPolicy", "PriorityClass", "RuntimeClass", "StorageClass",
    "CSIDriver", "CSINode", "CSIStorageCapacity", "Role", "ClusterRoleBinding", "ResourceClaimTemplate", "DeviceClass",
    "ResourceSlice",
}  # fmt: skip
WITH_STATUS = [each for each in BODIES if each[1] not in STATELESS]


@pytest.mark.parametrize(("version", "kind", "body"), WITH_STATUS, ids=[kind for _, kind, _ in WITH_STATUS])
def test_only_nodes_come_with_a_status(version: str, kind: str, body: dict[str, Any]) -> None:
    rules = rules_of(version.rpartition("/")[0], kind)
    conditions = [{"type": "Ready", "status": "True"}]
    given = {"apiVersion": version, "kind": kind, "metadata": METADATA, **body, "status": {"conditions": conditions}}
    made = rules.prepare_create(rules.default(given))
    assert ("conditions" in made["status"]) == (kind == "Node")


@pytest.mark.parametrize(("version", "kind", "body"), WITH_STATUS, ids=[kind for _, kind, _ in WITH_STATUS])
def test_each_endpoint_writes_its_own_part(version: str, kind: str, body: dict[str, Any]) -> None:
    rules = rules_of(version.rpartition("/")[0], kind)
    old = rules.prepare_create(rules.default({"metadata": METADATA, "apiVersion": version, "kind": kind, **body}))
    new = {**old, "spec": {**old.get("spec", {}), "mark": 1}, "status": {**old["status"], "mark": 1}}

    updated = rules.prepare_update(new, old)
    assert ("mark" in updated["spec"], "mark" in updated["status"]) == (kind != "CertificateSigningRequest", False)

    reported = rules.prepare_status(new, old)
    assert ("mark" in reported.get("spec", {}), "mark" in reported["status"]) == (False, True)
    assert reported["metadata"].get("generation") == old["metadata"].get("generation")


def test_unknown_kinds_have_no_rules() -> None:
    rules = rules_of("example.com", "Thing")
    thing = {"kind": "Thing"}
    assert rules.default(thing) is thing
    assert list(rules.validate(thing)) == []
