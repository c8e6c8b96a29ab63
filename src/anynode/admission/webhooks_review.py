"""AdmissionReview: the request a webhook is sent, and what its answer says.

Pure but for the uid, which comes in. Source: apiserver ``pkg/admission/plugin/webhook/{request,errors}``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anynode.admission.chain import Attributes, kind_of
from anynode.api.errors import ApiError
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.schema.typed import json_kind

GROUP = "admission.k8s.io"
VERSIONS = ("v1", "v1beta1")


class BadAnswer(Exception):
    """The webhook answered, but not with a review; ``undecodable``: not even with an object of that kind."""

    def __init__(self, message: str, *, undecodable: bool = False) -> None:
        super().__init__(message)
        self.undecodable = undecodable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A webhook's verdict. ``patch`` is the text of a JSON patch, empty without one."""

    allowed: bool
    patch: bytes = b""
    patch_type: str = ""
    result: Object | None = None
    warnings: Sequence[str] = ()
    audit: Mapping[str, str] = dataclasses.field(default_factory=dict)


def version_of(hook: Object) -> str:
    """The first version of AdmissionReview both sides know; empty: none."""
    return next((each for each in hook.get("admissionReviewVersions") or () if each in VERSIONS), "")


def request_of(attributes: Attributes, resource: Resource) -> Object:
    """What is told of a write, seen as one of ``resource``: an AdmissionRequest without uid and objects."""
    group, version, kind = kind_of(resource, attributes.subresource)
    asked = attributes.resource
    asked_group, asked_version, asked_kind = attributes.kind
    user = attributes.user
    info: Object = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    request: Object = {
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "requestKind": {"group": asked_group, "version": asked_version, "kind": asked_kind},
        "requestResource": {"group": asked.group, "version": asked.version, "resource": asked.plural},
        "operation": attributes.operation,
        "userInfo": info,
        "dryRun": attributes.dry_run,
    }
    if attributes.subresource:
        request["subResource"] = request["requestSubResource"] = attributes.subresource
    if attributes.request_name:
        request["name"] = attributes.request_name
    if attributes.request_namespace:
        request["namespace"] = attributes.request_namespace
    if attributes.options is not None:
        request["options"] = attributes.options(attributes.operation)
    return request


def review(version: str, uid: str, request: Object, obj: Object | None, old: Object | None) -> bytes:
    """The body that is posted."""
    options = request.get("options")
    whole = {"uid": uid, **request, "object": obj, "oldObject": old, "options": options}
    return orjson.dumps({"kind": "AdmissionReview", "apiVersion": f"{GROUP}/{version}", "request": whole})


def answer_of(body: bytes, version: str, uid: str, *, mutating: bool) -> Answer:
    """What a webhook's answer says; raises ``BadAnswer`` in upstream's words."""
    parsed = _parsed(body, version)
    response = parsed.get("response")
    if response is None:
        raise BadAnswer("webhook response was absent")
    response = _typed(response)
    if version == "v1":
        _check_v1(parsed, response, uid, mutating=mutating)
    kind = str(response.get("patchType") or "")
    patch: bytes = response["patch"]
    if version != "v1":
        patch = patch if mutating else b""
        kind = "JSONPatch" if patch else ""
    return Answer(
        allowed=bool(response.get("allowed")),
        patch=patch,
        patch_type=kind,
        result=response.get("status"),
        warnings=response.get("warnings") or (),
        audit=response.get("auditAnnotations") or {},
    )


def _parsed(body: bytes, version: str) -> Object:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        said = "unexpected end of JSON input" if not body.strip() else _syntax_error(body)
        raise BadAnswer(f"couldn't get version/kind; json parse error: {said}", undecodable=True) from error
    if not isinstance(parsed, dict):
        into = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        said = f"json: cannot unmarshal {json_kind(parsed)} into Go value of type {into}"
        raise BadAnswer(f"couldn't get version/kind; json parse error: {said}", undecodable=True)
    kind, api_version = parsed.get("kind") or "", parsed.get("apiVersion") or ""
    for field in ("apiVersion", "kind"):
        value = parsed.get(field)
        if value is not None and not isinstance(value, str):
            said = f"json: cannot unmarshal {json_kind(value)} into Go struct field .{field} of type string"
            raise BadAnswer(f"couldn't get version/kind; json parse error: {said}", undecodable=True)
    if kind and api_version and (kind != "AdmissionReview" or not api_version.startswith(f"{GROUP}/")):
        said = f'no kind "{kind}" is registered for version "{api_version}" in scheme "pkg/runtime/scheme.go:110"'
        raise BadAnswer(said, undecodable=True)
    return parsed


def _syntax_error(body: bytes) -> str:
    first = body.lstrip()[:1].decode("latin-1")
    if first not in '{["tfn-0123456789':
        return f"invalid character '{first}' looking for beginning of value"
    return "unexpected end of JSON input"


_FIELDS: Mapping[str, tuple[type, str]] = {
    "uid": (str, "string"),
    "allowed": (bool, "bool"),
    "status": (dict, "v1.Status"),
    "patch": (str, "[]uint8"),
    "patchType": (str, "v1.PatchType"),
    "auditAnnotations": (dict, "map[string]string"),
    "warnings": (list, "[]string"),
}


def _typed(response: Any) -> Object:
    """The response's fields, its patch decoded."""
    if not isinstance(response, dict):
        raise _mistyped(response, "AdmissionReview.response", "v1.AdmissionResponse")
    for name, (kind, go_type) in _FIELDS.items():
        value = response.get(name)
        if value is not None and not isinstance(value, kind):
            raise _mistyped(value, f"AdmissionResponse.response.{name}", go_type)
    for value in (*(response.get("warnings") or ()), *(response.get("auditAnnotations") or {}).values()):
        if not isinstance(value, str):
            raise _mistyped(value, "AdmissionResponse.response", "string")
    _check_status(response.get("status") or {})
    try:
        patch = base64.b64decode(response.get("patch") or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadAnswer("illegal base64 data at input byte 0", undecodable=True) from error
    return {**response, "patch": patch}


_STATUS: Mapping[str, tuple[type, str]] = {
    "message": (str, "string"),
    "reason": (str, "v1.StatusReason"),
    "status": (str, "string"),
    "details": (dict, "v1.StatusDetails"),
    "metadata": (dict, "v1.ListMeta"),
}
_DETAILS: Mapping[str, tuple[type, str]] = {
    "name": (str, "string"),
    "group": (str, "string"),
    "kind": (str, "string"),
    "uid": (str, "types.UID"),
    "causes": (list, "[]v1.StatusCause"),
}


def _check_status(status: Object) -> None:
    """Raise ``BadAnswer`` for a Status no typed client could read."""
    _check_types(status, _STATUS, "Status.response.status")
    _check_number(status, "code", "Status.response.status.code")
    details = status.get("details") or {}
    _check_types(details, _DETAILS, "StatusDetails.response.status.details")
    _check_number(details, "retryAfterSeconds", "StatusDetails.response.status.details.retryAfterSeconds")
    for cause in details.get("causes") or ():
        where = "StatusCause.response.status.details.causes"
        if not isinstance(cause, dict):
            raise _mistyped(cause, where, "v1.StatusCause")
        _check_types(cause, dict.fromkeys(("reason", "message", "field"), (str, "string")), where)


def _check_types(found: Object, known: Mapping[str, tuple[type, str]], where: str) -> None:
    for name, (kind, go_type) in known.items():
        value = found.get(name)
        if value is not None and not isinstance(value, kind):
            raise _mistyped(value, f"{where}.{name}", go_type)


def _check_number(found: Object, name: str, where: str) -> None:
    value = found.get(name) or 0
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**31) <= value < 2**31:
        raise _mistyped(value, where, "int32")


def _mistyped(value: Any, field: str, go_type: str) -> BadAnswer:
    said = f"json: cannot unmarshal {json_kind(value)} into Go struct field {field} of type {go_type}"
    return BadAnswer(said, undecodable=True)


def _check_v1(parsed: Object, response: Object, uid: str, *, mutating: bool) -> None:
    answered = response.get("uid") or ""
    if answered != uid:
        raise BadAnswer(f'expected response.uid="{uid}", got "{answered}"')
    api_version, kind = parsed.get("apiVersion") or "", parsed.get("kind") or ""
    if api_version != f"{GROUP}/v1" or kind != "AdmissionReview":
        found = f"{api_version if '/' in api_version or not api_version else '/' + api_version}, Kind={kind}"
        found = found if api_version else f"/, Kind={kind}"
        raise BadAnswer(f"expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {found}")
    patch, kind = response["patch"], response.get("patchType")
    if not mutating:
        if patch:
            raise BadAnswer("validating webhook may not return response.patch")
        if kind is not None:
            raise BadAnswer("validating webhook may not return response.patchType")
        return
    if patch and kind is None:
        raise BadAnswer("webhook returned response.patch but not response.patchType")
    if not patch and kind is not None:
        raise BadAnswer("webhook returned response.patchType but not response.patch")
    if kind == "":
        raise BadAnswer('webhook returned invalid response.patchType of ""')


def refusal(name: str, result: Object | None) -> ApiError:
    """A webhook's denial as the client is told it."""
    status = result or {}
    code = status.get("code") or 0
    code = code if code < 1000 else 500  # nothing else fits into a status line
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    denied = f'admission webhook "{name}" denied the request'
    said = f"{denied}: {message or reason}" if message or reason else f"{denied} without explanation"
    return ApiError(
        said,
        code=code if code >= 400 else 400,
        reason=reason,
        details=status.get("details"),
        metadata=status.get("metadata") or {},
    )
