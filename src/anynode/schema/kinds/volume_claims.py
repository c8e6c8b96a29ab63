"""Persistent volume claims and volumes: defaults and strategies.

Source: kubernetes ``pkg/apis/core/v1/defaults.go``, ``pkg/registry/core/persistentvolume{,claim}/strategy.go``, 1.36.
"""

from __future__ import annotations

from anynode.api.objects import Object
from anynode.schema.kinds import strategy
from anynode.schema.rules import KindRules


def default_claim_spec(spec: Object | None) -> Object:
    spec = spec or {}
    return spec if spec.get("volumeMode") is not None else {**spec, "volumeMode": "Filesystem"}


def default_claim(claim: Object) -> Object:
    spec = default_claim_spec(claim.get("spec"))
    if spec.get("resources") is None:
        spec = {**spec, "resources": {}}
    status = claim.get("status") or {}
    if not status.get("phase"):
        status = {**status, "phase": "Pending"}
    return {**claim, "spec": spec, "status": status}


def default_claim_template(claim: Object) -> Object:
    """A claim inside a stateful set: named as the claim it will become."""
    filled = default_claim(claim)
    return {**filled, "kind": "PersistentVolumeClaim", "apiVersion": "v1"}


def _with_data_source(claim: Object) -> Object:
    """``dataSource`` and ``dataSourceRef`` filled from one another, as long as they mean the same."""
    spec = claim.get("spec") or {}
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None:
        return {**claim, "spec": {**spec, "dataSourceRef": source}}
    if reference is not None and source is None and not reference.get("namespace"):
        return {**claim, "spec": {**spec, "dataSource": reference}}
    return claim


def _create_claim(claim: Object) -> Object:
    claim = strategy.with_generation(claim, 0)
    spec = claim.get("spec") or {}
    source = spec.get("dataSource")
    if source and not _known_source(source):
        claim = {**claim, "spec": strategy.without_fields(spec, ("dataSource",))}
    return _with_data_source({**claim, "status": {"phase": "Pending"}})


def _known_source(source: Object) -> bool:
    group = source.get("apiGroup") or ""
    kind = source.get("kind")
    return bool(source.get("name")) and (
        (kind == "PersistentVolumeClaim" and not group)
        or (kind == "VolumeSnapshot" and group == "snapshot.storage.k8s.io")
    )


def _update_claim(new: Object, old: Object) -> Object:
    return _with_data_source(strategy.updated(counted=())(new, old))


CLAIM = KindRules(
    default=default_claim,
    prepare_create=_create_claim,
    prepare_update=_update_claim,
    prepare_status=strategy.status_only(),
)
