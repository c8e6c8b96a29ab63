"""``authorizer`` in expressions: checks built step by step and asked of an object that is handed in.

The asked object answers ``(allowed, reason, error)`` for attributes. Source: apiserver
``pkg/cel/library/authz.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from anynode.api import names
from anynode.cel.errors import CelEvaluationError
from anynode.cel.operators import no_overload


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckAttributes:
    """What is asked: a path and verb, or a resource; ``service_account`` is (namespace, name) when it is asked for one.

    ``field_selector`` and ``label_selector`` are the texts as written, empty if none.
    """

    verb: str
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    service_account: tuple[str, str] | None = None


class Asked(Protocol):
    """Who decides: (allowed, reason, error text or None)."""

    def __call__(self, attributes: CheckAttributes, /) -> tuple[bool, str, str | None]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Authorizer:
    """Bind this to an ``AUTHORIZER`` variable; it asks ``asked`` on behalf of the request's user."""

    asked: Asked
    service_account: tuple[str, str] | None = None
    type_name = "kubernetes.authorization.Authorizer"


@dataclasses.dataclass(frozen=True, slots=True)
class PathCheck:
    authorizer: Authorizer
    path: str
    type_name = "kubernetes.authorization.PathCheck"


@dataclasses.dataclass(frozen=True, slots=True)
class GroupCheck:
    authorizer: Authorizer
    group: str
    type_name = "kubernetes.authorization.GroupCheck"


@dataclasses.dataclass(frozen=True, slots=True)
class ResourceCheck:
    authorizer: Authorizer
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    type_name = "kubernetes.authorization.ResourceCheck"


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str
    error: str | None
    type_name = "kubernetes.authorization.Decision"


def _of(value: Any, kind: type, *texts: Any) -> None:
    if type(value) is not kind or not all(type(each) is str for each in texts):
        raise no_overload()


def _path(authorizer: Any, path: Any) -> PathCheck:
    _of(authorizer, Authorizer, path)
    if not path.strip():
        raise CelEvaluationError("path must not be empty")
    return PathCheck(authorizer, path)


def _group(authorizer: Any, group: Any) -> GroupCheck:
    _of(authorizer, Authorizer, group)
    return GroupCheck(authorizer, group)


def _service_account(authorizer: Any, namespace: Any, name: Any) -> Authorizer:
    _of(authorizer, Authorizer, namespace, name)
    if names.dns1123_subdomain(name):
        raise CelEvaluationError("Invalid service account name")
    if names.dns1123_label(namespace):
        raise CelEvaluationError("Invalid service account namespace")
    return Authorizer(authorizer.asked, (namespace, name))


def _resource(check: Any, resource: Any) -> ResourceCheck:
    _of(check, GroupCheck, resource)
    if not resource.strip():
        raise CelEvaluationError("resource must not be empty")
    return ResourceCheck(check.authorizer, check.group, resource)


def _setting(field: str) -> Callable[[Any, Any], ResourceCheck]:
    def set_field(check: Any, value: Any) -> ResourceCheck:
        _of(check, ResourceCheck, value)
        changed: ResourceCheck = dataclasses.replace(check, **{field: value})
        return changed

    return set_field


def _check(check: Any, verb: Any) -> Decision:
    if type(verb) is not str:
        raise no_overload()
    if type(check) is PathCheck:
        attributes = CheckAttributes(verb=verb, path=check.path, service_account=check.authorizer.service_account)
    elif type(check) is ResourceCheck:
        attributes = CheckAttributes(
            verb=verb,
            group=check.group,
            resource=check.resource,
            subresource=check.subresource,
            namespace=check.namespace,
            name=check.name,
            field_selector=check.field_selector,
            label_selector=check.label_selector,
            service_account=check.authorizer.service_account,
        )
    else:
        raise no_overload()
    return Decision(*check.authorizer.asked(attributes))


def _decided(field: str) -> Callable[[Any], Any]:
    def read(decision: Any) -> Any:
        _of(decision, Decision)
        value = getattr(decision, field)
        return "" if value is None else value

    return read


def _errored(decision: Any) -> bool:
    _of(decision, Decision)
    return decision.error is not None


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "path": _path,
    "group": _group,
    "serviceAccount": _service_account,
    "resource": _resource,
    "subresource": _setting("subresource"),
    "namespace": _setting("namespace"),
    "name": _setting("name"),
    "fieldSelector": _setting("field_selector"),
    "labelSelector": _setting("label_selector"),
    "check": _check,
    "allowed": _decided("allowed"),
    "reason": _decided("reason"),
    "error": _decided("error"),
    "errored": _errored,
}
