"""Refusals in the API's words: one ``ApiError`` per reason, to and from the ``Status`` object on the wire.

Source: apimachinery ``pkg/api/errors/errors.go`` and ``pkg/apis/meta/v1/types.go`` (StatusReason, CauseType), 1.36.
Texts are upstream's, because clients print and sometimes parse them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from anynode.api.objects import Object
from anynode.api.resources import Resource

NAMESPACE_TERMINATING = "NamespaceTerminating"
"""The cause of a refused creation in a namespace that is being deleted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One entry of ``details.causes``; ``reason`` is a CauseType such as ``FieldValueInvalid``."""

    reason: str
    message: str
    field: str = ""

    def wire(self) -> Object:
        parts = {"reason": self.reason, "message": self.message, "field": self.field}
        return {key: value for key, value in parts.items() if value}


class ApiError(Exception):
    """A refusal with everything its ``Status`` object says; base of one class per reason.

    ``details`` given but empty is said as ``{}``, as upstream does for what its router refuses.
    """

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
        causes: Iterable[Cause] = (),
        retry_after_seconds: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = self.code if code is None else code
        self.status_reason = self.reason if reason is None else reason
        self.details: Object = dict(details or {})
        self._says_details = details is not None
        self.warnings: Sequence[str] = ()
        """Texts for ``Warning`` headers that go with the refusal."""
        self.headers: Mapping[str, str] = {}
        """Other headers that go with it."""
        self.causes = tuple(causes)
        self.retry_after_seconds = retry_after_seconds
        self.metadata: Object = dict(metadata or {})

    def status(self) -> Object:
        """The ``Status`` object, fields in upstream's order."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.status_reason:
            status["reason"] = self.status_reason
        details = dict(self.details)
        if self.causes:
            details["causes"] = [cause.wire() for cause in self.causes]
        if self.retry_after_seconds:
            details["retryAfterSeconds"] = self.retry_after_seconds
        if details or self._says_details:
            status["details"] = details
        status["code"] = self.status_code
        return status


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class Expired(ApiError):
    """410: the revision asked for is compacted; list again."""

    code, reason = 410, "Expired"


class RequestEntityTooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"


class ServerTimeout(ApiError):
    """500 with a hint to try again: the server could not finish in time."""

    code, reason = 500, "ServerTimeout"


class Timeout(ApiError):
    code, reason = 504, "Timeout"


_CLASSES: Mapping[tuple[int, str], type[ApiError]] = {
    (each.code, each.reason): each
    for each in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, AlreadyExists, Conflict,
        Expired, RequestEntityTooLarge, UnsupportedMediaType, Invalid, TooManyRequests, InternalError,
        ServiceUnavailable, ServerTimeout, Timeout,
    )
}  # fmt: skip
_BY_CODE: Mapping[int, type[ApiError]] = {
    400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 405: MethodNotAllowed, 406: NotAcceptable,
    409: Conflict, 410: Expired, 413: RequestEntityTooLarge, 415: UnsupportedMediaType, 422: Invalid,
    429: TooManyRequests, 503: ServiceUnavailable, 504: Timeout,
}  # fmt: skip


def is_passing(error: BaseException) -> bool:
    """Whether it only says that others changed or removed what is meant, and whoever asked will hear of it soon."""
    if isinstance(error, NotFound | AlreadyExists | Conflict):
        return True
    return isinstance(error, ApiError) and any(cause.reason == NAMESPACE_TERMINATING for cause in error.causes)


def from_status(status: Mapping[str, Any], code: int = 500) -> ApiError:
    """The error a ``Status`` object (or any body of a failed request with ``code``) means."""
    code = status.get("code") or code
    reason = status.get("reason") or ""
    details = dict(status.get("details") or {})
    causes = [
        Cause(reason=each.get("reason", ""), message=each.get("message", ""), field=each.get("field", ""))
        for each in details.pop("causes", None) or ()
    ]
    chosen = _CLASSES.get((code, reason)) or _BY_CODE.get(code, InternalError)
    return chosen(
        status.get("message") or f"the server answered {code}",
        code=code,
        reason=reason or chosen.reason,
        details={key: value for key, value in details.items() if key != "retryAfterSeconds"},
        causes=causes,
        retry_after_seconds=details.get("retryAfterSeconds"),
        metadata=status.get("metadata"),
    )


def _details(resource: Resource, name: str, **more: Any) -> Object:
    details = {"name": name, "group": resource.group, "kind": resource.plural, **more}
    return {key: value for key, value in details.items() if value}


def not_found(resource: Resource, name: str) -> NotFound:
    return NotFound(f'{resource.qualified} "{name}" not found', details=_details(resource, name))


def already_exists(resource: Resource, name: str) -> AlreadyExists:
    return AlreadyExists(f'{resource.qualified} "{name}" already exists', details=_details(resource, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: Resource, name: str, why: str = MODIFIED) -> Conflict:
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return Conflict(message, details=_details(resource, name))


def forbidden(resource: Resource, name: str, why: str, causes: Iterable[Cause] = ()) -> Forbidden:
    head = f'{resource.qualified} "{name}" is forbidden' if name else f"{resource.qualified} is forbidden"
    return Forbidden(f"{head}: {why}", details=_details(resource, name), causes=causes)


def invalid(kind: str, group: str, name: str, causes: Iterable[Cause]) -> Invalid:
    """422 for an object of ``kind``; each cause's message already is ``value: detail`` without the field."""
    causes = tuple(causes)
    texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
    said = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    qualified = f"{kind}.{group}" if group else kind
    details = {key: value for key, value in {"name": name, "group": group, "kind": kind}.items() if value}
    return Invalid(f'{qualified} "{name}" is invalid: {said}', details=details, causes=causes)
