"""Replication controllers and the kinds of apps/v1: defaults and strategies.

Source: kubernetes ``pkg/apis/apps/v1/defaults.go``, ``pkg/registry/apps/*/strategy.go``,
``pkg/registry/core/replicationcontroller/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.formats import Quantity
from anynode.api.objects import Object, meta
from anynode.schema import metadata
from anynode.schema.fields import FieldPath
from anynode.schema.kinds import pod_warnings, strategy, workload_rules
from anynode.schema.kinds.pod_defaults import default_template
from anynode.schema.kinds.volume_claims import default_claim_template
from anynode.schema.rules import KindRules

_DAEMON_COUNTS = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


def _set_default(spec: Object, field: str, value: object) -> None:
    if spec.get(field) is None:
        spec[field] = value


def _with_counts(obj: Object, *counts: str) -> Object:
    """``status`` with the numbers that are always printed."""
    status = obj.get("status") or {}
    return {**dict.fromkeys(counts, 0), **status}


def default_deployment(deployment: Object) -> Object:
    spec = dict(deployment.get("spec") or {})
    spec["template"] = default_template(spec.get("template"))
    _set_default(spec, "replicas", 1)
    found = dict(spec.get("strategy") or {})
    if not found.get("type"):
        found["type"] = "RollingUpdate"
    if found["type"] == "RollingUpdate":
        rolling = dict(found.get("rollingUpdate") or {})
        _set_default(rolling, "maxUnavailable", "25%")
        _set_default(rolling, "maxSurge", "25%")
        found["rollingUpdate"] = rolling
    spec["strategy"] = found
    _set_default(spec, "revisionHistoryLimit", 10)
    _set_default(spec, "progressDeadlineSeconds", 600)
    return {**deployment, "spec": spec, "status": deployment.get("status") or {}}


def default_replica_set(replica_set: Object) -> Object:
    spec = dict(replica_set.get("spec") or {})
    spec["template"] = default_template(spec.get("template"))
    _set_default(spec, "replicas", 1)
    return {**replica_set, "spec": spec, "status": _with_counts(replica_set, "replicas")}


def default_daemon_set(daemon_set: Object) -> Object:
    spec = dict(daemon_set.get("spec") or {})
    spec["template"] = default_template(spec.get("template"))
    found = dict(spec.get("updateStrategy") or {})
    if not found.get("type"):
        found["type"] = "RollingUpdate"
    if found["type"] == "RollingUpdate":
        rolling = dict(found.get("rollingUpdate") or {})
        _set_default(rolling, "maxUnavailable", 1)
        _set_default(rolling, "maxSurge", 0)
        found["rollingUpdate"] = rolling
    spec["updateStrategy"] = found
    _set_default(spec, "revisionHistoryLimit", 10)
    filled = {**daemon_set, "spec": spec, "status": _with_counts(daemon_set, *_DAEMON_COUNTS)}
    if _TEMPLATE_GENERATION in (meta(filled).get("annotations") or {}):
        return filled
    return _with_template_generation(filled, 0)


def _template_generation(daemon_set: Object) -> int:
    """How often the template changed: a number the server keeps in an annotation."""
    text = (meta(daemon_set).get("annotations") or {}).get(_TEMPLATE_GENERATION, "")
    return int(text) if text.isdecimal() else 0


def _with_template_generation(daemon_set: Object, generation: int) -> Object:
    metadata = meta(daemon_set)
    annotations = {**(metadata.get("annotations") or {}), _TEMPLATE_GENERATION: str(generation)}
    return {**daemon_set, "metadata": {**metadata, "annotations": annotations}}


def _create_daemon_set(daemon_set: Object) -> Object:
    prepared = strategy.created(status=dict.fromkeys(_DAEMON_COUNTS, 0))(daemon_set)
    return _with_template_generation(prepared, max(_template_generation(prepared), 1))


def _update_daemon_set(new: Object, old: Object) -> Object:
    after, before = ((each.get("spec") or {}).get("template") for each in (new, old))
    generation = _template_generation(old) + int(after != before)
    return _with_template_generation(strategy.updated()(new, old), generation)


def _report_daemon_set(new: Object, old: Object) -> Object:
    return _with_template_generation(strategy.status_only()(new, old), _template_generation(old))


def default_stateful_set(stateful_set: Object) -> Object:
    spec = dict(stateful_set.get("spec") or {})
    spec["template"] = default_template(spec.get("template"))
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    found = dict(spec.get("updateStrategy") or {})
    if not found.get("type"):
        found["type"] = "RollingUpdate"
        found.setdefault("rollingUpdate", {})
    if found["type"] == "RollingUpdate" and found.get("rollingUpdate") is not None:
        rolling = dict(found["rollingUpdate"])
        _set_default(rolling, "partition", 0)
        found["rollingUpdate"] = rolling
    spec["updateStrategy"] = found
    policy = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    spec["persistentVolumeClaimRetentionPolicy"] = {
        **policy,
        "whenDeleted": policy.get("whenDeleted") or "Retain",
        "whenScaled": policy.get("whenScaled") or "Retain",
    }
    _set_default(spec, "replicas", 1)
    _set_default(spec, "revisionHistoryLimit", 10)
    if spec.get("volumeClaimTemplates"):
        spec["volumeClaimTemplates"] = [default_claim_template(each) for each in spec["volumeClaimTemplates"]]
    status = _with_counts(stateful_set, "replicas", "availableReplicas")
    return {**stateful_set, "spec": spec, "status": status}


def default_replication_controller(controller: Object) -> Object:
    spec = dict(controller.get("spec") or {})
    _set_default(spec, "replicas", 1)
    template = spec.get("template")
    if template is not None:
        spec["template"] = default_template(template)
        labels = meta(template).get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = labels
            if not meta(controller).get("labels"):
                controller = {**controller, "metadata": {**meta(controller), "labels": labels}}
    return {**controller, "spec": spec, "status": _with_counts(controller, "replicas")}


def _warnings(obj: Object) -> Sequence[str]:
    return pod_warnings.name_warnings(obj) + _template_warnings(obj)


def _template_warnings(obj: Object) -> list[str]:
    template = (obj.get("spec") or {}).get("template")
    return pod_warnings.template_warnings(template, FieldPath("spec.template"))


def _update_warnings(new: Object, old: Object) -> Sequence[str]:
    same = meta(new).get("generation") == meta(old).get("generation")
    return () if same else _template_warnings(new)


def _stateful_warnings(stateful_set: Object, below: str) -> list[str]:
    """``below``: what upstream says of a claim's path behind its index."""
    spec = stateful_set.get("spec") or {}
    found: list[str] = []
    for at, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        asked = (claim.get("spec") or {}).get("resources") or {}
        for side in ("requests", "limits"):
            amount = (asked.get(side) or {}).get("storage")
            if amount is not None and Quantity.parse(amount).milli_value() % 1000:
                where = f"spec.volumeClaimTemplates[{at}]{below}.resources.{side}[storage]"
                found.append(f'{where}: fractional byte value "{amount}" is invalid, must be an integer')
    if (spec.get("revisionHistoryLimit") or 0) < 0:
        text = "a negative value retains all historical revisions; a value >= 0 is recommended"
        found.append(f"spec.revisionHistoryLimit: {text}")
    return found


def _default_revision(revision: Object) -> Object:
    return revision if revision.get("revision") is not None else {**revision, "revision": 0}


REPLICATION_CONTROLLER = KindRules(
    validate=workload_rules.validate_replication_controller,
    validate_update=lambda new, _old: workload_rules.validate_replication_controller(new),
    validate_status=workload_rules.validate_replica_set_status,
    warnings=_warnings,
    update_warnings=_update_warnings,
    default=default_replication_controller,
    prepare_create=strategy.created(status={"replicas": 0}),
    prepare_update=strategy.updated(),
    prepare_status=strategy.status_only(),
    field_labels=("status.replicas",),
)
DEPLOYMENT = KindRules(
    validate=workload_rules.validate_deployment,
    validate_update=workload_rules.validate_deployment_update,
    validate_status=workload_rules.validate_deployment_status,
    warnings=_warnings,
    update_warnings=_update_warnings,
    default=default_deployment,
    prepare_create=strategy.created(status={}),
    prepare_update=strategy.updated(counted=("spec", "annotations")),
    prepare_status=strategy.status_only(keep_metadata=("labels",)),
)
REPLICA_SET = KindRules(
    validate=workload_rules.validate_replica_set,
    validate_update=workload_rules.validate_replica_set_update,
    validate_status=workload_rules.validate_replica_set_status,
    warnings=_warnings,
    update_warnings=_update_warnings,
    default=default_replica_set,
    prepare_create=strategy.created(status={"replicas": 0}),
    prepare_update=strategy.updated(),
    prepare_status=strategy.status_only(),
)
_created_stateful_set = strategy.created(status={"replicas": 0, "availableReplicas": 0})
_updated_stateful_set = strategy.updated()


def _without_max_unavailable(stateful_set: Object) -> Object:
    """Without a field that upstream drops unless its feature is switched on, which by default it is not."""
    spec = stateful_set.get("spec") or {}
    update = spec.get("updateStrategy") or {}
    rolling = update.get("rollingUpdate") or {}
    if "maxUnavailable" not in rolling:
        return stateful_set
    kept = {**update, "rollingUpdate": strategy.without_fields(rolling, ("maxUnavailable",))}
    return {**stateful_set, "spec": {**spec, "updateStrategy": kept}}


def _create_stateful_set(stateful_set: Object) -> Object:
    return _without_max_unavailable(_created_stateful_set(stateful_set))


def _update_stateful_set(new: Object, old: Object) -> Object:
    return _updated_stateful_set(_without_max_unavailable(new), old)


DAEMON_SET = KindRules(
    validate=workload_rules.validate_daemon_set,
    validate_update=workload_rules.validate_daemon_set_update,
    validate_status=workload_rules.validate_daemon_set_status,
    warnings=_warnings,
    update_warnings=_update_warnings,
    default=default_daemon_set,
    prepare_create=_create_daemon_set,
    prepare_update=_update_daemon_set,
    prepare_status=_report_daemon_set,
)
STATEFUL_SET = KindRules(
    validate=workload_rules.validate_stateful_set,
    validate_update=workload_rules.validate_stateful_set_update,
    validate_status=workload_rules.validate_stateful_set_status,
    warnings=lambda obj: [*_warnings(obj), *_stateful_warnings(obj, "")],
    update_warnings=lambda new, old: [*_update_warnings(new, old), *_stateful_warnings(new, ".Spec")],
    valid_name=metadata.label_name,
    default=default_stateful_set,
    prepare_create=_create_stateful_set,
    prepare_update=_update_stateful_set,
    prepare_status=strategy.status_only(),
)

CONTROLLER_REVISION = KindRules(
    default=_default_revision,
    validate=workload_rules.validate_controller_revision,
    validate_update=workload_rules.validate_controller_revision_update,
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("", "ReplicationController", REPLICATION_CONTROLLER),
    ("apps", "Deployment", DEPLOYMENT),
    ("apps", "ReplicaSet", REPLICA_SET),
    ("apps", "DaemonSet", DAEMON_SET),
    ("apps", "StatefulSet", STATEFUL_SET),
    ("apps", "ControllerRevision", CONTROLLER_REVISION),
)
