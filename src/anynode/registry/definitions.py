"""What the server says of a CustomResourceDefinition: its accepted names and conditions. Pure.

In: definitions as they are stored, and the time as conditions tell it. Out: the definition with the next status, or the
same object where nothing is to be said. Source: apiextensions-apiserver ``pkg/controller/{status,establish,apiapproval,
nonstructuralschema}`` and ``pkg/apihelpers``, 1.36.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from anynode.api.objects import Object, annotations_of, get_path, meta

GROUP = "apiextensions.k8s.io"
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
APPROVED = "api-approved.kubernetes.io"
ESTABLISHED, NAMES_ACCEPTED, TERMINATING = "Established", "NamesAccepted", "Terminating"
NON_STRUCTURAL, APPROVAL = "NonStructuralSchema", "KubernetesAPIApprovalPolicyConformant"
OVERLAPPING = frozenset({("apiregistration.k8s.io", "apiservices"), (GROUP, "customresourcedefinitions")})
"""Built-in resources that lie where a definition of the same name would put its objects."""
_POLICY = "see https://github.com/kubernetes/enhancements/pull/1111"
_KUBE_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")
_STAGES = {"alpha": 0, "beta": 1, None: 2}


def version_rank(version: str) -> tuple[Any, ...]:
    """Sorts versions, the preferred one first: v10, v2, v1, v11beta2, v1alpha1, then other words by name."""
    found = _KUBE_VERSION.fullmatch(version)
    if found is None:
        return (1, version)
    major, stage, minor = found.groups()
    return (0, -_STAGES[stage], -int(major), -int(minor or 0))


def versions_of(crd: Object) -> Sequence[Object]:
    found: Sequence[Object] = get_path(crd, "spec", "versions") or ()
    return found


def served_versions(crd: Object) -> list[str]:
    """The names of the versions that are served, in the definition's order."""
    return [each["name"] for each in versions_of(crd) if each.get("served")]


def storage_version(crd: Object) -> str:
    return next((str(each["name"]) for each in versions_of(crd) if each.get("storage")), "")


def condition(crd: Object, kind: str) -> Object | None:
    conditions = get_path(crd, "status", "conditions") or ()
    return next((each for each in conditions if each.get("type") == kind), None)


def is_true(crd: Object, kind: str) -> bool:
    found = condition(crd, kind)
    return found is not None and found.get("status") == "True"


def is_requestable(crd: Object) -> bool:
    """Whether requests for the definition's objects are answered."""
    return is_true(crd, NAMES_ACCEPTED) or is_true(crd, ESTABLISHED)


def with_condition(crd: Object, kind: str, status: str, reason: str, message: str, now: str) -> Object:
    """The definition with one condition said; the time of its last transition kept where its status stays."""
    old = condition(crd, kind)
    time = now
    if old is not None and old.get("status") == status and old.get("lastTransitionTime"):
        time = old["lastTransitionTime"]
    said = {"type": kind, "status": status, "lastTransitionTime": time, "reason": reason, "message": message}
    before: Sequence[Object] = get_path(crd, "status", "conditions") or ()
    after = [said if each is old else each for each in before]
    return _with_status(crd, conditions=after if old is not None else [*before, said])


def _with_status(crd: Object, **changed: Any) -> Object:
    return {**crd, "status": {**(crd.get("status") or {}), **changed}}


# --- names


def named(crd: Object, others: Iterable[Object], now: str) -> Object:
    """The definition with the names it may have beside ``others``: all definitions of its group, itself included."""
    wanted = get_path(crd, "spec", "names") or {}
    accepted = get_path(crd, "status", "acceptedNames") or {}
    if _same_names(wanted, accepted):
        return crd
    resources, kinds = _taken(others)
    names, conflicts = dict(accepted), list[tuple[str, str]]()
    for field, word, taken in (
        ("plural", "Plural", resources), ("singular", "Singular", resources), ("shortNames", "ShortNames", resources),
        ("kind", "Kind", kinds), ("listKind", "ListKind", kinds),
    ):  # fmt: skip
        trouble = _conflict(wanted.get(field), accepted.get(field), taken)
        if trouble:
            conflicts.append((f"{word}Conflict", trouble))
        else:
            names[field] = wanted.get(field)
    names["categories"] = wanted.get("categories")
    names = {field: value for field, value in names.items() if value or field in ("plural", "kind")}
    reason, message = conflicts[-1] if conflicts else ("NoConflicts", "no conflicts found")
    status = "False" if conflicts else "True"
    old = condition(crd, NAMES_ACCEPTED) or {}
    said = (old.get("status"), old.get("reason"), old.get("message"))
    if _same_names(names, accepted) and said == (status, reason, message):
        return crd
    found = _with_status(crd, acceptedNames=names)
    found = with_condition(found, NAMES_ACCEPTED, status, reason, message, now)
    return _installing(found, accepted=not conflicts, now=now)


def _installing(crd: Object, *, accepted: bool, now: str) -> Object:
    """Established is first said to be false: requests are answered before it is said to be true."""
    if is_true(crd, ESTABLISHED):
        return crd
    if accepted:
        return with_condition(crd, ESTABLISHED, "False", "Installing", "the initial names have been accepted", now)
    if condition(crd, ESTABLISHED) is not None:
        return crd
    return with_condition(crd, ESTABLISHED, "False", "NotAccepted", "not all names are accepted", now)


def _same_names(names: Object, others: Object) -> bool:
    fields = {*names, *others}
    return all((names.get(field) or None) == (others.get(field) or None) for field in fields)


def _taken(definitions: Iterable[Object]) -> tuple[set[str], set[str]]:
    resources: set[str] = set()
    kinds: set[str] = set()
    for each in definitions:
        names = get_path(each, "status", "acceptedNames") or {}
        resources.update((names.get("plural") or "", names.get("singular") or "", *(names.get("shortNames") or ())))
        kinds.update((names.get("kind") or "", names.get("listKind") or ""))
    return resources, kinds


def _conflict(wanted: Any, accepted: Any, taken: set[str]) -> str:
    """Why a name, or a list of them, cannot be had; empty: it can."""
    if isinstance(wanted, list) or isinstance(accepted, list):
        own = set(accepted or ())
        found = [_conflict(each, "", taken) for each in wanted or () if each not in own]
        found = [each for each in dict.fromkeys(found) if each]
        return found[0] if len(found) == 1 else f"[{', '.join(found)}]" if found else ""
    if (wanted or "") == (accepted or "") or (wanted or "") not in taken:
        return ""
    return f"{orjson.dumps(wanted or '').decode()} is already in use"


# --- other conditions


def established(crd: Object, now: str, *, bundle_ok: bool) -> Object:
    """The definition once requests for its objects are answered."""
    if not is_true(crd, NAMES_ACCEPTED) or is_true(crd, ESTABLISHED):
        return crd
    if not bundle_ok:
        message = "The conversion webhook CABundle is invalid"
        old = condition(crd, ESTABLISHED) or {}
        if old.get("reason") == "InvalidCABundle" and old.get("message") == message:
            return crd
        return with_condition(crd, ESTABLISHED, "False", "InvalidCABundle", message, now)
    return with_condition(crd, ESTABLISHED, "True", "InitialNamesAccepted", "the initial names have been accepted", now)


def is_protected(group: str) -> bool:
    return f".{group}".endswith((".k8s.io", ".kubernetes.io"))


def approved(crd: Object, now: str) -> Object:
    """The definition with the word on whether its group, where it is the community's own, approved of it."""
    if not is_protected(str(get_path(crd, "spec", "group") or "")):
        return crd
    annotation = annotations_of(crd).get(APPROVED) or ""
    quoted = orjson.dumps(annotation).decode()
    url = urllib.parse.urlsplit(annotation)
    if not annotation:
        status, reason = "False", "MissingAnnotation"
        message = f'protected groups must have approval annotation "{APPROVED}", {_POLICY}'
    elif annotation.startswith("unapproved"):
        status, reason, message = "False", "UnapprovedAnnotation", f"not approved: {quoted}"
    elif url.scheme and url.netloc:
        status, reason, message = "True", "ApprovedAnnotation", f"approved in {annotation}"
    else:
        status, reason = "False", "InvalidAnnotation"
        message = (
            f'protected groups must have approval annotation "{APPROVED}" with either a URL or a reason starting '
            f'with "unapproved", {_POLICY}'
        )
    return _said(crd, APPROVAL, status, reason, message, now)


def structural(crd: Object, now: str) -> Object:
    """The definition with what is wrong with its schemas, where it was stored before that was refused."""
    if get_path(crd, "spec", "preserveUnknownFields"):
        message = "spec.preserveUnknownFields: Invalid value: true: must be false"
        return _said(crd, NON_STRUCTURAL, "True", "Violations", message, now)
    if condition(crd, NON_STRUCTURAL) is None:
        return crd
    kept = [each for each in crd["status"]["conditions"] if each.get("type") != NON_STRUCTURAL]
    return _with_status(crd, conditions=kept)


def _said(crd: Object, kind: str, status: str, reason: str, message: str, now: str) -> Object:
    old = condition(crd, kind) or {}
    if (old.get("status"), old.get("reason"), old.get("message")) == (status, reason, message):
        return crd
    return with_condition(crd, kind, status, reason, message, now)


def next_status(crd: Object, others: Iterable[Object], now: str, *, bundle_ok: bool) -> Object:
    """The definition with the next status to write; the same object when there is nothing more to say."""
    found = named(crd, others, now)
    if found is crd:
        found = structural(crd, now)
    if found is crd:
        found = approved(crd, now)
    if found is crd:
        found = established(crd, now, bundle_ok=bundle_ok)
    return found


# --- deletion


def needs_cleanup(crd: Object) -> bool:
    """Whether the definition waits for its objects to be deleted."""
    return bool(meta(crd).get("deletionTimestamp")) and FINALIZER in (meta(crd).get("finalizers") or ())


def without_finalizer(crd: Object) -> Object:
    kept = [each for each in meta(crd).get("finalizers") or () if each != FINALIZER]
    return {**crd, "metadata": {**meta(crd), "finalizers": kept}}
