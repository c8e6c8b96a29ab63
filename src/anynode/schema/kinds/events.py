"""Events of the core group and of events.k8s.io, which are one kind in two forms.

Source: kubernetes ``pkg/apis/core/validation/events.go``, ``pkg/registry/core/event/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.objects import Object
from anynode.schema import metadata
from anynode.schema.kinds import core_rules, strategy
from anynode.schema.rules import KindRules

_CORE_ALWAYS: Object = {
    "involvedObject": {}, "source": {}, "firstTimestamp": None, "lastTimestamp": None, "eventTime": None,
    "reportingComponent": "", "reportingInstance": "",
}  # fmt: skip
_NEW_ALWAYS: Object = {
    "eventTime": None, "regarding": {}, "deprecatedSource": {}, "deprecatedFirstTimestamp": None,
    "deprecatedLastTimestamp": None,
}  # fmt: skip


def _default_core(event: Object) -> Object:
    return {**_CORE_ALWAYS, **event}


def _default_new(event: Object) -> Object:
    return {**_NEW_ALWAYS, **event}


CORE_EVENT = KindRules(
    default=_default_core,
    prepare_update=strategy.updated(keep=(), counted=()),
    validate=core_rules.validate_core_event,
    validate_update=lambda new, _old: core_rules.validate_core_event(new),
    valid_name=metadata.path_segment_name,
    allow_create_on_update=True,
    field_labels=(
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
        "reportingComponent", "source", "type",
    ),
)  # fmt: skip
NEW_EVENT = KindRules(
    default=_default_new,
    prepare_update=strategy.updated(keep=(), counted=()),
    validate=core_rules.validate_new_event,
    validate_update=core_rules.validate_new_event_update,
    allow_create_on_update=True,
    refused_as="",
    field_labels=(
        "regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion",
        "regarding.resourceVersion", "regarding.fieldPath", "reason", "reportingController", "type",
    ),
)  # fmt: skip

RULES: Sequence[tuple[str, str, KindRules]] = (("", "Event", CORE_EVENT), ("events.k8s.io", "Event", NEW_EVENT))
