"""What a deletion does to an object: remove it, mark it, or wait. Pure.

Source: apiserver ``pkg/registry/rest/delete.go``, ``pkg/registry/generic/registry/store.go`` and
``pkg/apis/meta/v1/validation/validation.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from anynode.api import errors
from anynode.api.objects import Object, meta
from anynode.api.resources import Resource
from anynode.schema import fields

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
GraceOf = Callable[[Object, int | None], int | None]
"""(object, seconds asked for) -> seconds granted; None: this kind knows no grace."""
Collection = Literal["dependents", "orphan", "unsupported"]
"""What becomes of dependents when a deletion does not say."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    grace_seconds: int | None = None
    propagation: str | None = None
    orphan_dependents: bool | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Marked:
    """The object is written as ``obj``; ``then_remove``: and removed right after."""

    obj: Object
    then_remove: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Remove:
    """The object goes now."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """It is being deleted already; nothing to do."""


Verdict = Marked | Remove | Pending


def validate_options(raw: Mapping[str, Any]) -> DeleteOptions:
    """Read ``DeleteOptions``; raises ``Invalid`` in upstream's words."""
    found: list[fields.FieldError] = []
    path = fields.FieldPath()
    propagation, orphan = raw.get("propagationPolicy"), raw.get("orphanDependents")
    if propagation is not None and orphan is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        found.append(fields.invalid(path.child("propagationPolicy"), propagation, detail))
    if propagation is not None and propagation not in ("Foreground", "Background", "Orphan"):
        choices = ("Foreground", "Background", "Orphan", "nil")
        found.append(fields.not_supported(path.child("propagationPolicy"), propagation, choices))
    dry_run = raw.get("dryRun") or ()
    found.extend(dry_run_errors(dry_run))
    if found:
        raise errors.invalid("DeleteOptions", "meta.k8s.io", "", fields.causes(found))
    preconditions = raw.get("preconditions") or {}
    grace = raw.get("gracePeriodSeconds")
    return DeleteOptions(
        grace_seconds=None if grace is None else (1 if grace < 0 else int(grace)),
        propagation=propagation,
        orphan_dependents=orphan,
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        dry_run=bool(dry_run),
    )


def dry_run_errors(values: Sequence[str]) -> Sequence[fields.FieldError]:
    """What is wrong with ``dryRun`` values."""
    if all(value == "All" for value in values):
        return ()
    return (fields.not_supported(fields.FieldPath("dryRun"), list(values), ("All",)),)


_MARKED_FIRST = frozenset(("Namespace", "CustomResourceDefinition"))
"""Kinds whose objects are marked before their deletion, and which say themselves what was not meant."""


def check_preconditions(obj: Object, revision: int, options: DeleteOptions, resource: Resource) -> None:
    """Raises ``Conflict`` when the object is not the one meant."""
    name, uid = meta(obj).get("name") or "", meta(obj).get("uid") or ""
    if resource.kind in _MARKED_FIRST:
        pairs = (("UID", options.uid, uid), ("ResourceVersion", options.resource_version, str(revision)))
        for field, wanted, found in pairs:
            if wanted is not None and wanted != found:
                said = f"Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {found}"
                raise errors.conflict(resource, name, said)
        return
    if options.uid is not None and options.uid != uid:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated"
        )
        raise _kind_conflict(resource, name, why)
    if options.resource_version is not None and options.resource_version != str(revision):
        why = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the ResourceVersion "
            f"in record ({revision}). The object might have been modified"
        )
        raise _kind_conflict(resource, name, why)


def _kind_conflict(resource: Resource, name: str, why: str) -> errors.Conflict:
    """As upstream: this one message names the kind where others name the resource."""
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {"name": name, "group": resource.group, "kind": resource.kind}
    return errors.Conflict(
        f'Operation cannot be fulfilled on {kind} "{name}": {why}',
        details={key: value for key, value in details.items() if value},
    )


def decide(
    obj: Object, options: DeleteOptions, now: datetime.datetime, *, grace_of: GraceOf | None, collection: Collection
) -> Verdict:
    """What a deletion of ``obj`` does at ``now``."""
    if grace_of is not None:
        verdict, marked = _graceful(obj, options, now, grace_of)
        if verdict is not None:
            return verdict
    else:
        marked = None
    finalizers = after_policy(obj, options, collection)
    if marked is None:
        return Marked(_mark(_with_finalizers(obj, finalizers), now), False) if finalizers else Remove()
    marked = _with_finalizers(marked, finalizers)
    return Marked(marked, not finalizers and not meta(marked).get("deletionGracePeriodSeconds"))


def _graceful(
    obj: Object, options: DeleteOptions, now: datetime.datetime, grace_of: GraceOf
) -> tuple[Verdict | None, Object | None]:
    """Either a final verdict, or the object marked for a graceful deletion, or neither (no grace applies)."""
    metadata = meta(obj)
    if metadata.get("deletionTimestamp"):
        left = metadata.get("deletionGracePeriodSeconds")
        if not left:
            return None, None
        if options.grace_seconds is None or options.grace_seconds >= left:
            return Pending(), None
        return None, _shortened(obj, options.grace_seconds, left, now)
    granted = grace_of(obj, options.grace_seconds)
    if granted is None:
        return None, None
    changed = {
        **metadata,
        "deletionTimestamp": timestamp(now + datetime.timedelta(seconds=granted)),
        "deletionGracePeriodSeconds": granted,
    }
    if metadata.get("generation"):
        changed["generation"] = metadata["generation"] + 1
    return None, {**obj, "metadata": changed}


def _shortened(obj: Object, seconds: int, left: int, now: datetime.datetime) -> Object:
    metadata = meta(obj)
    end = _parsed(metadata["deletionTimestamp"]) + datetime.timedelta(seconds=seconds - left)
    if end < now:
        end, seconds = now, 1 if seconds else 0
    changed = {**metadata, "deletionTimestamp": timestamp(end), "deletionGracePeriodSeconds": seconds}
    return {**obj, "metadata": changed}


def _mark(obj: Object, now: datetime.datetime) -> Object:
    """``obj`` as being deleted, waiting for its finalizers."""
    metadata = meta(obj)
    changed = {**metadata, "deletionGracePeriodSeconds": 0}
    stamp = metadata.get("deletionTimestamp")
    if not stamp:
        changed["deletionTimestamp"] = timestamp(now)
        if metadata.get("generation"):
            changed["generation"] = metadata["generation"] + 1
    elif _parsed(stamp) > now:
        changed["deletionTimestamp"] = timestamp(now)
    return {**obj, "metadata": changed}


def after_policy(obj: Object, options: DeleteOptions, collection: Collection) -> list[str]:
    """The finalizers after the propagation policy had its say."""
    before: list[str] = meta(obj).get("finalizers") or []
    if collection == "unsupported":
        return before
    orphan = _wants(obj, options, ORPHAN, "Orphan", collection == "orphan")
    foreground = _wants(obj, options, FOREGROUND, "Foreground", False)
    kept = [each for each in before if each not in (ORPHAN, FOREGROUND)]
    if orphan:
        kept.append(ORPHAN)
    if foreground:
        kept.append(FOREGROUND)
    return before if sorted(kept) == sorted(before) else kept


def _wants(obj: Object, options: DeleteOptions, finalizer: str, policy: str, default: bool) -> bool:
    if options.orphan_dependents is not None:
        return options.orphan_dependents and finalizer == ORPHAN
    if options.propagation is not None:
        return options.propagation == policy
    standing = meta(obj).get("finalizers") or ()
    if ORPHAN in standing or FOREGROUND in standing:
        return finalizer in standing
    return default


def _with_finalizers(obj: Object, finalizers: list[str]) -> Object:
    metadata = meta(obj)
    if (metadata.get("finalizers") or []) == finalizers:
        return obj
    changed = {key: value for key, value in metadata.items() if key != "finalizers"}
    if finalizers:
        changed["finalizers"] = finalizers
    return {**obj, "metadata": changed}


def is_finished(new: Object, old: Object) -> bool:
    """Whether an update leaves nothing to wait for: the old object was marked, the new one has no finalizers."""
    before = meta(old)
    if meta(new).get("finalizers"):
        return False
    return bool(before.get("deletionTimestamp") and not before.get("deletionGracePeriodSeconds"))


def timestamp(moment: datetime.datetime) -> str:
    """Seconds, as ``metav1.Time`` prints."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _parsed(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
