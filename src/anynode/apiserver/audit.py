"""The audit trail of one request: its events, stage by stage, as much of it as the policy wants.

In: request, user, target, decision, answer. Out: ``audit.k8s.io/v1`` Events as JSON lines. At level Metadata nothing of
a body but the object's name is told, so no secret can get in. Source: apiserver ``pkg/audit/{request,types}.go`` and
``pkg/endpoints/filters/audit.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from anynode.aio.clock import Clock
from anynode.api import errors
from anynode.api.formats import format_micro_time
from anynode.api.objects import Object, meta
from anynode.api.wire import ApiRequest, ApiResponse, User, WatchEvent, WatchSink, WatchSource
from anynode.apiserver.audit_log import AuditLog
from anynode.apiserver.audit_policy import SILENT, AuditPolicy, Level, Verdict
from anynode.apiserver.requestinfo import RequestInfo
from anynode.security.rbac import Decision

DECISION, REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"
NOBODY = User(name="")
LONG_RUNNING = frozenset({"attach", "exec", "proxy", "log", "portforward"})
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
Decode = Callable[[ApiRequest], Any]
"""A request's body as a value, None where it has none; raises ``ApiError`` for one that cannot be read."""


class Auditor:
    """Opens a trail for every request."""

    def __init__(self, policy: AuditPolicy, log: AuditLog, clock: Clock, decode: Decode) -> None:
        self.policy = policy
        self.log = log
        self.clock = clock
        self.decode = decode

    def trail(self, request: ApiRequest, audit_id: str) -> Trail:
        return Trail(self, request, audit_id)

    def now(self) -> str:
        return format_micro_time(self.clock.now())


class Trail:
    """What is told of one request. ``notes`` are the event's annotations: whoever handles the request adds."""

    def __init__(self, auditor: Auditor, request: ApiRequest, audit_id: str) -> None:
        self._auditor = auditor
        self._request = request
        self._audit_id = audit_id
        self._received = auditor.now()
        self._user = NOBODY
        self._info: RequestInfo | None = None
        self._verdict: Verdict = SILENT
        self._acting: User | None = None
        self.notes: dict[str, str] = {}

    def begin(self, user: User, info: RequestInfo) -> None:
        """The user is known, and what he wants."""
        self._user, self._info = user, info
        self._verdict = self._auditor.policy.verdict(user, info)
        self._tell("RequestReceived")

    def impersonated(self, user: User) -> None:
        self._acting = user

    def decided(self, decision: Decision) -> None:
        """What authorization said."""
        self.notes[DECISION] = "allow" if decision.allowed else "forbid"
        self.notes[REASON] = decision.reason

    def answered(self, response: ApiResponse) -> ApiResponse:
        """The answer, told now or, where it goes on, when it has ended."""
        status: Object = {"metadata": {}, "code": response.status}
        if response.watch is not None:
            self._tell("ResponseStarted", status)
            response.watch = _Told(response.watch, lambda: self._tell("ResponseComplete", status))
            return response
        if response.status >= 400:
            status = _status_of(response, status)
        if self._info is not None and (self._info.verb == "watch" or self._info.subresource in LONG_RUNNING):
            self._tell("ResponseStarted", status)
        self._tell("ResponseComplete", status, response)
        return response

    def unauthenticated(self, info: RequestInfo | None) -> None:
        """Nobody was found behind the credentials: the policy is asked for a user without a name."""
        if info is not None:
            self._info = info
            self._verdict = self._auditor.policy.verdict(NOBODY, info)

    # --- events

    def _tell(self, stage: str, status: Object | None = None, response: ApiResponse | None = None) -> None:
        verdict, info = self._verdict, self._info
        if verdict.level is Level.NONE or stage in verdict.omit_stages or info is None:
            return
        request = self._request
        event: Object = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": verdict.level.word,
            "auditID": self._audit_id,
            "stage": stage,
            "requestURI": request.target,
            "verb": info.verb,
            "user": _user(self._user),
        }
        if self._acting is not None:
            event["impersonatedUser"] = _user(self._acting)
        event["sourceIPs"] = _sources(request)
        if agent := request.headers.get("user-agent"):
            event["userAgent"] = agent
        if info.is_resource:
            event["objectRef"] = _reference(info)
        if status is not None:
            event["responseStatus"] = status
        if stage != "RequestReceived":
            self._tell_bodies(event, response)
        event["requestReceivedTimestamp"] = self._received
        event["stageTimestamp"] = self._auditor.now()
        if self.notes:
            event["annotations"] = dict(self.notes)
        self._auditor.log.write(orjson.dumps(event) + b"\n")

    def _tell_bodies(self, event: Object, response: ApiResponse | None) -> None:
        level = self._verdict.level
        if self._info is None or not self._info.is_resource:
            return
        if self._info.verb in WRITES and self.notes.get(DECISION) == "allow":
            try:
                sent = self._auditor.decode(self._request)
            except errors.ApiError:
                sent = None
            if sent is not None:
                _complete(event["objectRef"], sent)
                if level >= Level.REQUEST:
                    event["requestObject"] = self._shown(sent)
        if level >= Level.REQUEST_RESPONSE and response is not None:
            answer = _decoded(response)
            if answer is not None:
                event["responseObject"] = self._shown(answer)

    def _shown(self, obj: Any) -> Any:
        if not self._verdict.omit_managed_fields or not isinstance(obj, dict):
            return obj
        obj = _without_managed_fields(obj)
        items = obj.get("items")
        if isinstance(items, list):
            obj = {**obj, "items": [_without_managed_fields(each) for each in items]}
        return obj


class _Told:
    """A watch whose end is told."""

    def __init__(self, source: WatchSource, tell: Callable[[], None]) -> None:
        self._source = source
        self._tell: Callable[[], None] | None = tell

    def start(self, sink: WatchSink) -> None:
        self._source.start(_ToldSink(sink, self._ended))

    def stop(self) -> None:
        self._source.stop()
        self._ended()

    def _ended(self) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()


class _ToldSink:
    def __init__(self, sink: WatchSink, ended: Callable[[], None]) -> None:
        self._sink = sink
        self._ended = ended

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        return self._sink.deliver(events)

    def end(self) -> None:
        self._ended()
        self._sink.end()


def _without_managed_fields(obj: Any) -> Any:
    if not isinstance(obj, dict) or "managedFields" not in meta(obj):
        return obj
    return {**obj, "metadata": {key: value for key, value in meta(obj).items() if key != "managedFields"}}


def _decoded(response: ApiResponse) -> Any:
    if not response.content_type.startswith("application/json"):
        return None
    try:
        return response.decoded()
    except ValueError:
        return None


def _status_of(response: ApiResponse, plain: Object) -> Object:
    """The bounded part of a refusal."""
    said = _decoded(response)
    if not isinstance(said, dict) or said.get("kind") != "Status":
        return plain
    kept = {field: said[field] for field in ("status", "message", "reason", "details", "code") if field in said}
    return {"metadata": {}, **kept}


def _user(user: User) -> Object:
    told: Object = {"username": user.name} if user.name else {}
    if user.uid:
        told["uid"] = user.uid
    if user.groups:
        told["groups"] = list(user.groups)
    if user.extra:
        told["extra"] = {key: list(values) for key, values in user.extra.items()}
    return told


def _sources(request: ApiRequest) -> list[str]:
    """The client's address, behind those that proxies on the way say they had it from."""
    found = [part.strip() for part in request.headers.get("x-forwarded-for", "").split(",") if part.strip()]
    peer = request.peer.rpartition(":")[0].strip("[]") or request.peer
    return [*found, peer] if peer and peer not in found[-1:] else found


def _reference(info: RequestInfo) -> Object:
    parts = {
        "resource": info.plural,
        "namespace": info.namespace,
        "name": info.name,
        "apiGroup": info.group,
        "apiVersion": info.version,
        "subresource": info.subresource,
    }
    return {key: value for key, value in parts.items() if value}


def _complete(reference: Object, sent: Any) -> None:
    """A creation's target has its name in the body."""
    metadata = meta(sent) if isinstance(sent, dict) else {}
    for field in ("name", "namespace", "uid", "resourceVersion"):
        if metadata.get(field) and field not in reference:
            reference[field] = metadata[field]
