"""The objects a pod names: what a node that runs it must be able to read. Pure.

In: a Pod or a PersistentVolume. Out: (plural, namespace, name) triples. Source: kubernetes ``pkg/api/v1/pod/util.go``,
``pkg/api/v1/persistentvolume/util.go`` and ``dynamic-resource-allocation/resourceclaim``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from anynode.api import objects
from anynode.api.objects import Object

MIRROR = "kubernetes.io/config.mirror"
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
SECRET, CONFIG_MAP, CLAIM = "secrets", "configmaps", "persistentvolumeclaims"
ACCOUNT, RESOURCE_CLAIM = "serviceaccounts", "resourceclaims"
_SECRET_SOURCES = {
    "cephfs": "secretRef", "cinder": "secretRef", "flexVolume": "secretRef", "rbd": "secretRef",
    "scaleIO": "secretRef", "iscsi": "secretRef", "storageos": "secretRef", "csi": "nodePublishSecretRef",
}  # fmt: skip
_VOLUME_SECRETS = {
    "cephfs": ("secretRef",),
    "cinder": ("secretRef",),
    "flexVolume": ("secretRef",),
    "rbd": ("secretRef",),
    "scaleIO": ("secretRef",),
    "iscsi": ("secretRef",),
    "storageos": ("secretRef",),
    "csi": ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"),
}
"""What a node may see of a persistent volume's secrets; those of its controllers are not for it."""
_CLAIM_NAMESPACE = frozenset({"cephfs", "flexVolume", "rbd", "scaleIO", "iscsi"})
"""Where a secret without a namespace lies beside the claim."""


class Named(NamedTuple):
    """One object, by the plural of its kind."""

    plural: str
    namespace: str
    name: str


def secret_names(spec: Mapping[str, Any]) -> Iterator[str]:
    """The secrets a pod's spec names; possibly repeated."""
    for reference in spec.get("imagePullSecrets") or ():
        yield reference.get("name") or ""
    yield from _environment(spec, "secretRef", "secretKeyRef")
    for volume in spec.get("volumes") or ():
        if azure := volume.get("azureFile"):
            yield azure.get("secretName") or ""
        if secret := volume.get("secret"):
            yield secret.get("secretName") or ""
        for source in _projected(volume):
            yield (source.get("secret") or {}).get("name") or ""
        for kind, reference in _SECRET_SOURCES.items():
            yield ((volume.get(kind) or {}).get(reference) or {}).get("name") or ""


def config_map_names(spec: Mapping[str, Any]) -> Iterator[str]:
    """The config maps a pod's spec names; possibly repeated."""
    yield from _environment(spec, "configMapRef", "configMapKeyRef")
    for volume in spec.get("volumes") or ():
        yield (volume.get("configMap") or {}).get("name") or ""
        for source in _projected(volume):
            yield (source.get("configMap") or {}).get("name") or ""


def _environment(spec: Mapping[str, Any], whole: str, key: str) -> Iterator[str]:
    for kind in CONTAINERS:
        for container in spec.get(kind) or ():
            for source in container.get("envFrom") or ():
                yield (source.get(whole) or {}).get("name") or ""
            for variable in container.get("env") or ():
                yield ((variable.get("valueFrom") or {}).get(key) or {}).get("name") or ""


def _projected(volume: Mapping[str, Any]) -> list[Object]:
    return (volume.get("projected") or {}).get("sources") or []


def of_pod(pod: Object) -> frozenset[Named]:
    """Everything the pod's node may read for it. A mirror pod, which the node itself made, gives it nothing."""
    metadata, spec = objects.meta(pod), pod.get("spec") or {}
    if MIRROR in (metadata.get("annotations") or {}):
        return frozenset()
    namespace = metadata.get("namespace") or ""
    named = [(SECRET, each) for each in secret_names(spec)]
    named += [(CONFIG_MAP, each) for each in config_map_names(spec)]
    named += [(CLAIM, each) for each in _claims(pod, spec)]
    named += [(RESOURCE_CLAIM, each) for each in _resource_claims(pod, spec)]
    named.append((ACCOUNT, spec.get("serviceAccountName") or ""))
    return frozenset(Named(plural, namespace, name) for plural, name in named if name)


def _claims(pod: Object, spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        claim = volume.get("persistentVolumeClaim")
        if claim is not None:
            yield claim.get("claimName") or ""
        elif volume.get("ephemeral") is not None:
            yield f"{objects.name_of(pod)}-{volume.get('name', '')}"


def _resource_claims(pod: Object, spec: Mapping[str, Any]) -> Iterator[str]:
    status = pod.get("status") or {}
    generated = {
        each.get("name"): each.get("resourceClaimName") or "" for each in status.get("resourceClaimStatuses") or ()
    }
    for claim in spec.get("resourceClaims") or ():
        yield claim.get("resourceClaimName") or generated.get(claim.get("name"), "")
    yield (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName") or ""


def of_volume(volume: Object) -> frozenset[Named]:
    """The secrets of a persistent volume that the node which mounts it may read."""
    spec = volume.get("spec") or {}
    home = (spec.get("claimRef") or {}).get("namespace") or ""
    found = []
    if azure := spec.get("azureFile"):
        found.append((azure.get("secretNamespace") or home, azure.get("secretName") or ""))
    for kind, references in _VOLUME_SECRETS.items():
        source = spec.get(kind) or {}
        for reference in references:
            secret = source.get(reference) or {}
            namespace = secret.get("namespace") or (home if kind in _CLAIM_NAMESPACE else "")
            found.append((namespace, secret.get("name") or ""))
    return frozenset(Named(SECRET, namespace, name) for namespace, name in found if name)


def api_reference(pod: Object) -> str:
    """The first kind of API object the pod refers to, in upstream's words; empty when it refers to none.

    Raises ``ValueError`` for a volume of an unknown type.
    """
    spec = pod.get("spec") or {}
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    if any(secret_names(spec)):
        return "secrets"
    if any(config_map_names(spec)):
        return "configmaps"
    if spec.get("resourceClaims"):
        return "resourceclaims"
    return next(filter(None, (_volume_reference(each) for each in spec.get("volumes") or ())), "")


_HARMLESS = (
    "awsElasticBlockStore", "azureDisk", "cephfs", "cinder", "downwardAPI", "emptyDir", "fc", "flexVolume", "flocker",
    "gcePersistentDisk", "gitRepo", "hostPath", "image", "iscsi", "nfs", "photonPersistentDisk", "portworxVolume",
    "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume",
)  # fmt: skip
_REFERRING = {
    "configMap": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
_PROJECTED = {
    "configMap": "configmaps (via projected volumes)",
    "secret": "secrets (via projected volumes)",
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}


def _volume_reference(volume: Object) -> str:
    if any(volume.get(kind) is not None for kind in _HARMLESS):
        return ""
    for kind, said in _REFERRING.items():
        if volume.get(kind) is not None:
            return said
    if volume.get("projected") is None:
        raise ValueError(f'unknown volume type for volume  "{volume.get("name", "")}"')
    for source in _projected(volume):
        for kind, said in _PROJECTED.items():
            if source.get(kind) is not None:
                return said
        if source.get("downwardAPI") is None:
            raise ValueError(f'unknown source for projected volume "{volume.get("name", "")}"')
    return ""
