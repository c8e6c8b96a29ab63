"""Who may ask a node: certificates of the cluster's authority, or bearer tokens reviewed by the API server.

The listener has verified the certificate; here it becomes a user. Without an authorizer only members of
``system:masters`` are let in, so a user's certificate is no way around RBAC. Reviews are cached as the kubelet caches
them. Source: kubelet ``pkg/kubelet/server/auth.go``, apiserver ``authentication/request/x509``, 1.36.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID

from anynode.aio.clock import Clock
from anynode.aio.http_message import HttpRequest
from anynode.api.errors import ApiError
from anynode.api.objects import Object, ObjectKey, get_path
from anynode.api.resources import known
from anynode.api.wire import User
from anynode.client.api_client import ApiClient
from anynode.kubelet_api.replies import Refused

MASTERS = "system:masters"
TOKEN_SECONDS = 120.0
ALLOWED_SECONDS = 300.0
DENIED_SECONDS = 30.0
MOST_CACHED = 4096

V = TypeVar("V")

Review = Callable[[str, Object], Awaitable[Object]]
"""``(plural, review) -> review with its status``: creates a TokenReview or SubjectAccessReview. Raises ``ApiError`` or
``ConnectionError``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeAction:
    """What is asked of the node, in RBAC's terms; each subresource alone would do."""

    verb: str
    subresources: tuple[str, ...]


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {
    "stats": "stats",
    "metrics": "metrics",
    "logs": "log",
    "pods": "pods",
    "runningpods": "pods",
    "healthz": "healthz",
}


def action_of(method: str, path: str) -> NodeAction:
    """The fine-grained subresource first, ``proxy`` as the way of old."""
    found = _SUBRESOURCES.get(path.strip("/").split("/", 1)[0])
    return NodeAction(verb=_VERBS.get(method, "get"), subresources=(found, "proxy") if found else ("proxy",))


@functools.lru_cache(maxsize=256)
def user_of_certificate(der: bytes) -> User:
    """Common name -> user, organisations -> groups."""
    subject = x509.load_der_x509_certificate(der).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return User(name=str(names[0].value) if names else "", groups=tuple(str(group.value) for group in groups))


class Authenticator:
    """Lets requests in or raises ``Refused``. Without ``review`` only certificates of ``system:masters`` get in."""

    def __init__(self, *, node: str, clock: Clock, review: Review | None = None, anonymous: bool = False) -> None:
        """``anonymous`` lets everybody do everything: for tests on a loopback listener without TLS."""
        self._node = node
        self._review = review
        self._anonymous = anonymous
        self._users: ExpiringCache[User | None] = ExpiringCache(clock)
        self._decisions: ExpiringCache[bool] = ExpiringCache(clock)

    async def admit(self, request: HttpRequest) -> None:
        """Return when the request may be served; raises ``Refused`` (401, 403)."""
        if self._anonymous:
            return
        user = await self._user(request)
        if user is None:
            raise Refused(401, "Unauthorized")
        if MASTERS in user.groups:
            return
        action = action_of(request.method, request.path)
        for subresource in action.subresources:
            if await self._may(user, action.verb, subresource):
                return
        message = (
            f"Forbidden (user={user.name}, verb={action.verb}, resource=nodes, "
            f"subresource(s)=[{' '.join(action.subresources)}])"
        )
        raise Refused(403, message)

    async def _user(self, request: HttpRequest) -> User | None:
        if request.client_cert is not None:
            return user_of_certificate(request.client_cert)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token or self._review is None:
            return None
        key = hashlib.sha256(token.encode()).digest()
        if (known := self._users.get(key)) is not None:
            return known
        answer = await self._review(
            "tokenreviews",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token.strip()}},
        )
        status = answer.get("status") or {}
        if not status.get("authenticated"):
            return None
        user = _user_of(status.get("user") or {})
        self._users.put(key, user, TOKEN_SECONDS)
        return user

    async def _may(self, user: User, verb: str, subresource: str) -> bool:
        if self._review is None:
            return False
        key = (user.name, user.groups, verb, subresource)
        known = self._decisions.get(key)
        if known is not None:
            return known
        attributes = {
            "verb": verb,
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node,
            "version": "v1",
        }
        spec: Object = {"user": user.name, "groups": list(user.groups), "resourceAttributes": attributes}
        if user.uid:
            spec["uid"] = user.uid
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra.items()}
        answer = await self._review(
            "subjectaccessreviews",
            {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec},
        )
        allowed = bool((answer.get("status") or {}).get("allowed"))
        self._decisions.put(key, allowed, ALLOWED_SECONDS if allowed else DENIED_SECONDS)
        return allowed


def _user_of(user: Object) -> User:
    extra = {key: tuple(values) for key, values in (user.get("extra") or {}).items()}
    groups = tuple(user.get("groups") or ())
    return User(name=user.get("username", ""), uid=user.get("uid", ""), groups=groups, extra=extra)


async def published_client_ca(client: ApiClient) -> bytes | None:
    """The authority (PEM) whose client certificates the API server takes, its own among them; None when it does not
    say, or not to us."""
    key = ObjectKey("kube-system", "extension-apiserver-authentication")
    try:
        trust = await client.get(known("configmaps"), key)
    except ApiError:
        return None
    text = get_path(trust, "data", "client-ca-file", default="")
    return text.encode() if text else None


class ExpiringCache(Generic[V]):
    """At most ``MOST_CACHED`` values, each for its own time; the oldest make room."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: collections.OrderedDict[Hashable, tuple[float, V]] = collections.OrderedDict()

    def get(self, key: Hashable) -> V | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock.monotonic():
            return None
        return entry[1]

    def put(self, key: Hashable, value: V, seconds: float) -> None:
        self._entries[key] = (self._clock.monotonic() + seconds, value)
        self._entries.move_to_end(key)
        if len(self._entries) > MOST_CACHED:
            self._entries.popitem(last=False)
