"""Aggregated API servers: requests for their group versions go to them, under the user's name, and their answers back.

In: the cache of APIServices. A request for a group version another server serves is handed on with the front proxy's
client certificate and the user in ``X-Remote-*`` headers; streams and upgrades pass through. While its server is away,
503. Source: kube-aggregator ``pkg/apiserver/handler_proxy.go``, client-go ``transport/round_trippers.go``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
import collections
import dataclasses
import re
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence

import orjson

from anynode.admission.webhooks_client import CallFailed
from anynode.aio import tls
from anynode.aio.clock import Clock
from anynode.aio.http_client import HttpClient, Origin
from anynode.api.objects import Object
from anynode.api.resources import GroupVersion
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver import proxying
from anynode.apiserver.outbound import Outbound
from anynode.registry import api_services
from anynode.registry.items import CacheEvent
from anynode.registry.watch_cache import ResourceCache

MOST_CONTEXTS = 200
MOST_DOCUMENT_BYTES = 16 * 1024 * 1024
AGGREGATOR = User(name="system:kube-aggregator", groups=("system:masters",))
_TEXT = "text/plain; charset=utf-8"
_PLAIN_KEY = re.compile(rb"[a-z0-9!#$&'*+\-.^_`|~]")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FrontProxy:
    """How this server shows aggregated ones that it is the front proxy: certificate and key (PEM)."""

    certificate: bytes
    key: bytes
    authority: bytes = b""
    """Who signed it, published in the cluster."""
    name: str = "front-proxy-client"

    def published(self) -> Mapping[str, str]:
        """What aggregated servers read to know it: who signs it, its name, and the headers it speaks in."""
        if not self.authority:
            return {}
        return {
            "requestheader-client-ca-file": self.authority.decode(),
            "requestheader-allowed-names": f'["{self.name}"]',
            "requestheader-username-headers": '["X-Remote-User"]',
            "requestheader-uid-headers": '["X-Remote-Uid"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
            "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        }


class Aggregation:
    """The aggregated API servers there are."""

    def __init__(
        self, cache: ResourceCache, *, clock: Clock, outbound: Outbound, credentials: FrontProxy | None
    ) -> None:
        self._outbound = outbound
        self._credentials = credentials
        self._client = HttpClient(clock=clock)
        self._contexts: collections.OrderedDict[tuple[bytes, bool], ssl.SSLContext] = collections.OrderedDict()
        self._cache = cache
        self._remote: dict[GroupVersion, Object] = {}
        self.listeners: list[Callable[[], None]] = []
        cache.listeners.append(self._changed)

    async def close(self) -> None:
        await self._client.close()

    def begin(self) -> None:
        """Look at everything that is stored."""
        for item in self._cache.scan():
            self._put(item.object)

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            service = event.item.object
            if event.deleted:
                self._remote.pop(api_services.group_version_of(service), None)
            else:
                self._put(service)
        for listener in self.listeners:
            listener()

    def _put(self, service: Object) -> None:
        group_version = api_services.group_version_of(service)
        if api_services.is_local(service):
            self._remote.pop(group_version, None)
        else:
            self._remote[group_version] = service

    def remote(self) -> Iterable[Object]:
        """The APIServices of other servers."""
        return tuple(self._remote.values())

    # --- handing on

    async def delegate(self, request: ApiRequest, path: str, user: User) -> ApiResponse | None:
        """The answer of the server that ``path`` belongs to; None: of none."""
        if not self._remote:
            return None
        parts = path.split("/", 4)
        if len(parts) < 4 or parts[1] != "apis":
            return None
        service = self._remote.get(GroupVersion(parts[2], parts[3]))
        if service is None:
            return None
        if not api_services.is_available(service):
            return _refused(503, "service unavailable")
        return await self.handed_on(request, service, user)

    async def handed_on(self, request: ApiRequest, service: Object, user: User) -> ApiResponse:
        """The answer of the APIService's server."""
        try:
            origin = self.origin(service)
        except CallFailed:
            return _refused(503, "service unavailable")
        except ValueError as error:
            return _refused(500, str(error))
        identity, content = remote_headers(user), request.body
        if request.obj is not None and not content:  # of a client in this process
            content = orjson.dumps(request.obj)
        try:
            if "upgrade" in request.headers.get("connection", "").lower():
                headers = _without_identity(proxying.upgrade_headers(request))
                answer, back = await self._client.upgrade(
                    origin, request.method, request.target, headers, request.body, identity
                )
                return proxying.upgraded(answer, back)
            headers = _without_identity(proxying.forwarded_headers(request))
            if request.obj is not None:
                headers.setdefault("content-type", "application/json")
            body = await self._client.open(origin, request.method, request.target, headers, content, identity)
        except ConnectionError as error:
            return _refused(503, f"error trying to reach service: {error}")
        named = {name.strip().lower() for name in body.headers.get("connection", "").split(",")}
        dropped = proxying.HOP_BY_HOP | named
        kept = {name: value for name, value in body.headers.items() if name not in dropped}
        content_type = kept.pop("content-type", "")
        return ApiResponse(status=body.status, headers=kept, content_type=content_type, stream=body)

    async def asked(self, service: Object, path: str, headers: Mapping[str, str], user: User) -> tuple[int, str, bytes]:
        """(status, content type, body) of a GET of this server's own. Raises ``CallFailed`` or ``ConnectionError``."""
        origin = self.origin(service)
        opened = await self._client.open(origin, "GET", path, headers, b"", remote_headers(user))
        try:
            return opened.status, opened.headers.get("content-type", ""), await opened.read_all(MOST_DOCUMENT_BYTES)
        finally:
            await opened.close()

    def address(self, service: Object) -> str:
        """Where the server is now, as messages tell it. Raises ``CallFailed``."""
        backend = service["spec"]["service"]
        host, port = self._outbound.resolve(backend["name"], backend["namespace"], int(backend.get("port") or 443))
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    def origin(self, service: Object) -> Origin:
        """Where the server is now. Raises ``CallFailed``, and ``ValueError`` for authorities that cannot be read."""
        spec = service["spec"]
        backend = spec["service"]
        host, port = self._outbound.resolve(backend["name"], backend["namespace"], int(backend.get("port") or 443))
        name = f"{backend['name']}.{backend['namespace']}.svc"
        return Origin(host=host, port=port, tls=self._context(spec), server_name=name)

    def _context(self, spec: Object) -> ssl.SSLContext:
        try:
            bundle = base64.b64decode(spec.get("caBundle") or "")
        except binascii.Error as error:
            raise ValueError("unable to load root certificates") from error
        slot = (bundle, bool(spec.get("insecureSkipTLSVerify")))
        context = self._contexts.get(slot)
        if context is not None:
            return context
        shown = self._credentials
        try:
            context = tls.client_context(
                ca=bundle or None,
                verify=not slot[1],
                certificate=None if shown is None else shown.certificate,
                key=None if shown is None else shown.key,
            )
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise ValueError("unable to load root certificates: unable to parse bytes as PEM block") from error
        self._contexts[slot] = context
        if len(self._contexts) > MOST_CONTEXTS:
            self._contexts.popitem(last=False)
        return context


def remote_headers(user: User) -> list[tuple[str, str]]:
    """Who asks, as the front proxy tells it."""
    headers = [("x-remote-user", user.name)]
    if user.uid:
        headers.append(("x-remote-uid", user.uid))
    headers.extend(("x-remote-group", group) for group in user.groups)
    for key, values in user.extra.items():
        headers.extend((f"x-remote-extra-{_escaped(key)}", value) for value in values)
    return headers


def _escaped(key: str) -> str:
    """A key of ``extra`` as it may stand in a header's name."""
    return "".join(
        chr(byte) if _PLAIN_KEY.fullmatch(bytes((byte,))) else f"%{byte:02X}" for byte in key.lower().encode()
    )


def _without_identity(headers: Mapping[str, str]) -> dict[str, str]:
    """What a client says of itself must not reach a server that believes the front proxy."""
    ours = ("x-remote-", "anynode-")
    return {name: value for name, value in headers.items() if not name.startswith(ours) and name != "host"}


def _refused(status: int, text: str) -> ApiResponse:
    headers = {"x-content-type-options": "nosniff"}
    return ApiResponse(status=status, headers=headers, content_type=_TEXT, body=f"{text}\n".encode())
