"""What a valid volume of a pod is, and the sources that volumes of pods and persistent volumes share.

Source: kubernetes ``pkg/apis/core/validation/validation.go`` (ValidateVolumes, validateVolumeSource), 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from anynode.api.formats import Quantity
from anynode.api.objects import Object, name_of
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from anynode.schema.kinds.references import validate_field_ref, validate_resource_ref
from anynode.schema.metadata import (
    label_name,
    subdomain_name,
    validate_annotations,
    validate_labels,
    validate_name,
)

SourceRule = Callable[[Object, FieldPath], list[FieldError]]

ONE_TYPE = "may not specify more than 1 volume type"
_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_VOLUME_FIELDS = frozenset((
    "metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid",
))  # fmt: skip
_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_CONFLICT = "conflicting duplicate paths"


def validate_no_backsteps(target: str, path: FieldPath) -> list[FieldError]:
    return [invalid(path, target, "must not contain '..'")] if ".." in target.split("/") else []


def validate_descending_path(target: str, path: FieldPath) -> list[FieldError]:
    errors = [invalid(path, target, "must be a relative path")] if target.startswith("/") else []
    return errors + validate_no_backsteps(target, path)


def validate_non_reserved_path(target: str, path: FieldPath) -> list[FieldError]:
    errors = validate_descending_path(target, path)
    if target.startswith("..") and not target.startswith("../"):
        errors.append(invalid(path, target, "must not start with '..'"))
    return errors


def _validate_mode(source: Object, field: str, path: FieldPath) -> list[FieldError]:
    mode = source.get(field)
    return [] if mode is None or 0 <= mode <= 0o777 else [invalid(path.child(field), mode, _MODE)]


def needing(*fields: str) -> SourceRule:
    """A rule for a source of which these fields must be there."""

    def rule(source: Object, path: FieldPath) -> list[FieldError]:
        return [required(path.child(field)) for field in fields if not source.get(field)]

    return rule


def validate_host_path(source: Object, path: FieldPath) -> list[FieldError]:
    target, kind = source.get("path"), source.get("type")
    if not target:
        return [required(path.child("path"))]
    errors = validate_no_backsteps(target, path.child("path"))
    if kind is not None and kind not in _HOST_PATH_TYPES:
        errors.append(not_supported(path.child("type"), kind, _HOST_PATH_TYPES))
    return errors


def _validate_git_repo(source: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("repository")(source, path)
    return errors + validate_descending_path(source.get("directory") or "", path.child("directory"))


def validate_disk(name_field: str) -> SourceRule:
    def rule(source: Object, path: FieldPath) -> list[FieldError]:
        errors = needing(name_field)(source, path)
        partition = source.get("partition") or 0
        if not 0 <= partition <= 255:
            errors.append(invalid(path.child("partition"), partition, "must be between 1 and 255, inclusive"))
        return errors

    return rule


def _validate_key_to_path(item: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("key", "path")(item, path)
    errors += validate_non_reserved_path(item.get("path") or "", path.child("path"))
    return errors + _validate_mode(item, "mode", path)


def _keyed(name_field: str) -> SourceRule:
    """A rule for a secret or config map volume."""

    def rule(source: Object, path: FieldPath) -> list[FieldError]:
        errors = needing(name_field)(source, path) + _validate_mode(source, "defaultMode", path)
        for at, item in enumerate(source.get("items") or ()):
            errors += _validate_key_to_path(item, path.child("items").index(at))
        return errors

    return rule


def validate_nfs(source: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("server", "path")(source, path)
    target = source.get("path") or ""
    if not target.startswith("/"):
        errors.append(invalid(path.child("path"), target, "must be an absolute path"))
    return errors


_ISCSI_NAMES = {
    "iqn": re.compile(r"iqn\.[0-9]{4}-[0-9]{2}\.([0-9A-Za-z.-]+)(:[^,;*&$|\t\n\f\r ]+)\Z"),
    "eui": re.compile(r"\Aeui.[0-9A-Za-z]{16}\Z"),
    "naa": re.compile(r"\Anaa.[0-9A-Za-z]{32}\Z"),
}


def validate_iscsi(source: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("targetPortal", "iqn")(source, path)
    iqn, lun = source.get("iqn"), source.get("lun") or 0
    if iqn and not iqn.startswith(("iqn", "eui", "naa")):
        text = "must be valid format starting with iqn, eui, or naa"
        errors.append(invalid(path.child("iqn"), iqn, text))
    elif iqn and not _is_iscsi_name(iqn):
        errors.append(invalid(path.child("iqn"), iqn, "must be valid format"))
    if not 0 <= lun <= 255:
        errors.append(invalid(path.child("lun"), lun, "must be between 0 and 255, inclusive"))
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        errors.append(required(path.child("secretRef")))
    initiator = source.get("initiatorName")
    if initiator is not None and not _is_iscsi_name(initiator):
        errors.append(invalid(path.child("initiatorname"), initiator, "must be valid format"))
    return errors


def _is_iscsi_name(name: str) -> bool:
    pattern = _ISCSI_NAMES.get(name[:3])
    return pattern is not None and pattern.search(name) is not None


def validate_fc(source: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    names, ids, lun = source.get("targetWWNs"), source.get("wwids"), source.get("lun")
    where = path.child("targetWWNs")
    if not names and not ids:
        errors.append(required(where, "must specify either targetWWNs or wwids, but not both"))
    if names and ids:
        errors.append(invalid(where, names, "targetWWNs and wwids can not be specified simultaneously"))
    if names and lun is None:
        errors.append(required(path.child("lun"), "lun is required if targetWWNs is specified"))
    if names and lun is not None and not 0 <= lun <= 255:
        errors.append(invalid(path.child("lun"), lun, "must be between 0 and 255, inclusive"))
    return errors


def validate_flocker(source: Object, path: FieldPath) -> list[FieldError]:
    name, uuid = source.get("datasetName") or "", source.get("datasetUUID") or ""
    errors: list[FieldError] = []
    if not name and not uuid:
        errors.append(required(path, "one of datasetName and datasetUUID is required"))
    if name and uuid:
        text = "datasetName and datasetUUID can not be specified simultaneously"
        errors.append(invalid(path, "resource", text))
    if "/" in name:
        errors.append(invalid(path.child("datasetName"), name, "must not contain '/'"))
    return errors


def validate_flex(source: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("driver")(source, path)
    for key in sorted(source.get("options") or ()):
        namespace = f".{key.partition('/')[0].lower()}"
        if namespace.endswith((".kubernetes.io", ".k8s.io")):
            text = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(invalid(path.child("options").key(key), key, text))
    return errors


def validate_quobyte(source: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    registry = source.get("registry") or ""
    text = "must be a host:port pair or multiple pairs separated by commas"
    if not registry:
        errors.append(required(path.child("registry"), text))
    elif len(source.get("tenant") or "") >= 65:
        tenant = "must be a UUID and may not exceed a length of 64 characters"
        errors.append(required(path.child("tenant"), tenant))
    else:
        bad = (pair for pair in registry.split(",") if pair.count(":") != 1 and not pair.startswith("["))
        errors.extend(invalid(path.child("registry"), registry, text) for _ in bad)
    return errors + needing("volume")(source, path)


def validate_azure_disk(source: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("diskName", "diskURI")(source, path)
    uri, kind, caching = source.get("diskURI") or "", source.get("kind"), source.get("cachingMode")
    if caching is not None and caching not in ("None", "ReadOnly", "ReadWrite"):
        errors.append(not_supported(path.child("cachingMode"), caching, ("None", "ReadOnly", "ReadWrite")))
    if kind is not None and kind not in ("Dedicated", "Managed", "Shared"):
        errors.append(not_supported(path.child("kind"), kind, ("Dedicated", "Managed", "Shared")))
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        known = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
        errors.append(not_supported(path.child("diskURI"), uri, (known,)))
    if kind not in (None, "Managed") and not uri.startswith("https://"):
        known = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        errors.append(not_supported(path.child("diskURI"), uri, (known,)))
    return errors


def validate_storage_os(source: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    name, namespace, secret = source.get("volumeName"), source.get("volumeNamespace"), source.get("secretRef")
    if not name:
        errors.append(required(path.child("volumeName")))
    else:
        errors += validate_name(name, path.child("volumeName"), label_name)
    if namespace:
        errors += validate_name(namespace, path.child("volumeNamespace"), label_name)
    if secret is not None and not secret.get("name"):
        errors.append(required(path.child("secretRef", "name")))
    return errors


def _validate_cinder(source: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("volumeID")(source, path)
    secret = source.get("secretRef")
    if secret is not None and not secret.get("name"):
        errors.append(required(path.child("secretRef", "name")))
    return errors


def validate_csi_driver(driver: str, path: FieldPath) -> list[FieldError]:
    if not driver:
        return [required(path)]
    errors = [too_long(path, 63)] if len(driver) > 63 else []
    return errors + [invalid(path, driver, text) for text in subdomain_name(driver.lower())]


def _validate_csi(source: Object, path: FieldPath) -> list[FieldError]:
    errors = validate_csi_driver(source.get("driver") or "", path.child("driver"))
    secret = source.get("nodePublishSecretRef")
    if secret is not None:
        name = secret.get("name")
        if not name:
            errors.append(required(path.child("nodePublishSecretRef", "name")))
        else:
            errors += validate_name(name, path.child("name"))
    return errors


def _validate_downward_file(file: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("path")(file, path)
    errors += validate_non_reserved_path(file.get("path") or "", path.child("path"))
    field, resource = file.get("fieldRef"), file.get("resourceFieldRef")
    if field is not None:
        errors += validate_field_ref(field, _VOLUME_FIELDS, path.child("fieldRef"))
        if resource is not None:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid(path, "resource", text))
    elif resource is not None:
        errors += validate_resource_ref(resource, path.child("resourceFieldRef"), in_volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + _validate_mode(file, "mode", path)


def _validate_downward(source: Object, path: FieldPath) -> list[FieldError]:
    errors = _validate_mode(source, "defaultMode", path)
    for file in source.get("items") or ():
        errors += _validate_downward_file(file, path)
    return errors


def _validate_projected(source: Object, path: FieldPath) -> list[FieldError]:
    errors = _validate_mode(source, "defaultMode", path)
    paths: set[str] = set()
    for at, projection in enumerate(source.get("sources") or ()):
        where = path.child("sources").index(at)
        given = [kind for kind in _PROJECTIONS if projection.get(kind) is not None]
        for kind in given:
            errors += _PROJECTIONS[kind](projection[kind], where.child(kind), path, paths)
        if len(given) > 1:
            errors.append(forbidden(where, "may not specify more than 1 volume type per source"))
    return errors


def _taken(target: str, shown: str, paths: set[str], volume: FieldPath) -> list[FieldError]:
    if target in paths:
        return [invalid(volume, shown, _CONFLICT)]
    paths.add(target)
    return []


def _project_keys(source: Object, path: FieldPath, volume: FieldPath, paths: set[str]) -> list[FieldError]:
    errors = needing("name")(source, path)
    for at, item in enumerate(source.get("items") or ()):
        errors += _validate_key_to_path(item, path.child("items").index(at))
        if item.get("path"):
            errors += _taken(item["path"], source.get("name") or "", paths, volume)
    return errors


def _project_downward(source: Object, path: FieldPath, volume: FieldPath, paths: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    for file in source.get("items") or ():
        errors += _validate_downward_file(file, path)
        if file.get("path"):
            errors += _taken(file["path"], file["path"], paths, volume)
    return errors


def _project_token(source: Object, path: FieldPath, volume: FieldPath, _paths: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    seconds, where = source.get("expirationSeconds") or 0, path.child("expirationSeconds")
    if seconds < 600:
        errors.append(invalid(where, seconds, "may not specify a duration less than 10 minutes"))
    if seconds > 1 << 32:
        errors.append(invalid(where, seconds, "may not specify a duration larger than 2^32 seconds"))
    target = source.get("path")
    if not target:
        return [*errors, required(volume.child("path"))]
    return errors + validate_non_reserved_path(target, volume.child("path"))


def _project_trust_bundle(source: Object, path: FieldPath, volume: FieldPath, paths: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    name, signer = source.get("name"), source.get("signerName")
    if name is not None and signer is not None:
        errors.append(invalid(path, source, "only one of name and signerName may be used"))
    elif name is None and signer is None:
        errors.append(required(path, "either name or signerName must be specified"))
    elif name == "":
        errors.append(required(path.child("name"), "must be a valid object name"))
    elif signer == "":
        errors.append(required(path.child("signerName"), "must be a valid signer name"))
    target = source.get("path") or ""
    if not target:
        errors.append(required(path.child("path")))
    errors += validate_non_reserved_path(target, path.child("path"))
    return errors + _taken(target, target, paths, volume)


_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")


def _project_certificate(source: Object, path: FieldPath, volume: FieldPath, paths: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    if source.get("keyType") not in _KEY_TYPES:
        errors.append(not_supported(path.child("keyType"), source.get("keyType") or "", _KEY_TYPES))
    seconds = source.get("maxExpirationSeconds")
    if seconds is not None and seconds < 3600:
        text = "if provided, maxExpirationSeconds must be >= 3600"
        errors.append(invalid(path.child("maxExpirationSeconds"), seconds, text))
    given = [field for field in ("credentialBundlePath", "keyPath", "certificateChainPath") if source.get(field)]
    for field in given:
        errors += validate_non_reserved_path(source[field], path.child(field))
        errors += _taken(source[field], source[field], paths, volume)
    if not given:
        text = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        errors.append(required(path, text))
    return errors


_PROJECTIONS: Mapping[str, Callable[[Object, FieldPath, FieldPath, set[str]], list[FieldError]]] = {
    "secret": _project_keys,
    "configMap": _project_keys,
    "downwardAPI": _project_downward,
    "serviceAccountToken": _project_token,
    "clusterTrustBundle": _project_trust_bundle,
    "podCertificate": _project_certificate,
}

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


_NOT_IN_TEMPLATES = (
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields",
)  # fmt: skip


def validate_template_metadata(metadata: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about the metadata of a claim made from a pod: labels and annotations only."""
    errors = validate_annotations(metadata.get("annotations"), path.child("annotations"))
    errors += validate_labels(metadata.get("labels"), path.child("labels"))
    given = (
        each for each in _NOT_IN_TEMPLATES if metadata.get(each) or (each.startswith("deletionG") and each in metadata)
    )
    return errors + [forbidden(path.child("uID" if each == "uid" else each), "cannot be set") for each in given]


def _validate_image(source: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("reference")(source, path)
    policy = source.get("pullPolicy")
    if policy not in ("Always", "IfNotPresent", "Never"):
        known = ("Always", "IfNotPresent", "Never")
        where = path.child("pullPolicy")
        errors.append(not_supported(where, policy, known) if policy else required(where))
    return errors


def _nothing(_source: Object, _path: FieldPath) -> list[FieldError]:
    return []


# the order in which upstream looks at the sources; where the path differs from the field, the path stands beside it
_SOURCES: Mapping[str, tuple[SourceRule, str]] = {
    "emptyDir": (_nothing, "emptyDir"),
    "hostPath": (validate_host_path, "hostPath"),
    "gitRepo": (_validate_git_repo, "gitRepo"),
    "gcePersistentDisk": (validate_disk("pdName"), "persistentDisk"),
    "awsElasticBlockStore": (validate_disk("volumeID"), "awsElasticBlockStore"),
    "secret": (_keyed("secretName"), "secret"),
    "nfs": (validate_nfs, "nfs"),
    "iscsi": (validate_iscsi, "iscsi"),
    "glusterfs": (needing("endpoints", "path"), "glusterfs"),
    "flocker": (validate_flocker, "flocker"),
    "persistentVolumeClaim": (needing("claimName"), "persistentVolumeClaim"),
    "rbd": (needing("monitors", "image"), "rbd"),
    "cinder": (_validate_cinder, "cinder"),
    "cephfs": (needing("monitors"), "cephfs"),
    "quobyte": (validate_quobyte, "quobyte"),
    "downwardAPI": (_validate_downward, "downwardAPI"),
    "fc": (validate_fc, "fc"),
    "flexVolume": (validate_flex, "flexVolume"),
    "configMap": (_keyed("name"), "configMap"),
    "azureFile": (needing("secretName", "shareName"), "azureFile"),
    "vsphereVolume": (needing("volumePath"), "vsphereVolume"),
    "photonPersistentDisk": (needing("pdID"), "photonPersistentDisk"),
    "portworxVolume": (needing("volumeID"), "portworxVolume"),
    "azureDisk": (validate_azure_disk, "azureDisk"),
    "storageos": (validate_storage_os, "storageos"),
    "projected": (_validate_projected, "projected"),
    "scaleIO": (needing("gateway", "system", "volumeName"), "scaleIO"),
    "csi": (_validate_csi, "csi"),
    "ephemeral": (_nothing, "ephemeral"),
    "image": (_validate_image, "image"),
}


def _validate_source(volume: Object, path: FieldPath, ephemeral: SourceRule) -> list[FieldError]:
    given = [kind for kind in _SOURCES if volume.get(kind) is not None] if len(volume) > 2 else list(volume)
    errors: list[FieldError] = []
    found = False
    for kind in given:
        if kind not in _SOURCES or volume[kind] is None:
            continue
        rule, name = _SOURCES[kind]
        if found:
            errors.append(forbidden(path.child("cephFS" if kind == "cephfs" else kind), ONE_TYPE))
            continue
        found = True
        source = volume[kind]
        if kind == "emptyDir":
            limit = source.get("sizeLimit")
            if limit is not None and Quantity.parse(limit).nano < 0:
                text = "SizeLimit field must be a valid resource quantity"
                errors.append(forbidden(path.child("emptyDir", "sizeLimit"), text))
        elif kind == "ephemeral":
            errors += ephemeral(source, path.child("ephemeral"))
        else:
            errors += rule(source, path.child(name))
    return errors if found else [required(path, "must specify a volume type")]


def validate_volumes(
    volumes: Sequence[Object], pod: Object, path: FieldPath, ephemeral: SourceRule
) -> tuple[dict[str, Object], list[FieldError]]:
    """The good volumes by name, and complaints. ``pod`` is only looked at for its name (it may be a template)."""
    errors: list[FieldError] = []
    found: dict[str, Object] = {}
    pod_name = name_of(pod)
    created = {f"{pod_name}-{each.get('name')}" for each in volumes if pod_name and each.get("ephemeral") is not None}
    for at, volume in enumerate(volumes):
        where, name = path.index(at), volume.get("name") or ""
        wrong = _validate_source(volume, where, ephemeral)
        if not name:
            wrong.append(required(where.child("name")))
        else:
            wrong.extend(invalid(where.child("name"), name, text) for text in label_name(name))
        if name in found:
            wrong.append(duplicate(where.child("name"), name))
        if wrong:
            errors += wrong
        else:
            found[name] = volume
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim and claim in created:
            text = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(invalid(where.child("persistentVolumeClaim", "claimName"), claim, text))
    return found, errors
