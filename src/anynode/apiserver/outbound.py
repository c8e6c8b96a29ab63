"""The server's own calls: to admission and conversion webhooks, and where the services of aggregated APIs are.

``Outbound.post_json`` posts to a URL or a service; ``resolve`` finds an endpoint of a service from the server's own
caches. Every failure is ``CallFailed`` with the text upstream's client would give. Source: apiserver
``pkg/util/{webhook/client,proxy/proxy}.go``, client-go ``rest/request.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import collections
import random
import ssl
import urllib.parse
from collections.abc import Callable, Mapping, Sequence

import orjson

from anynode.admission.webhooks_client import DEFAULT_PORT, CallFailed, ClientConfig
from anynode.aio.clock import Clock
from anynode.aio.http_client import HttpAnswer, HttpClient, Origin
from anynode.aio.tls import client_context
from anynode.api import resources
from anynode.api.formats import format_duration
from anynode.api.objects import Object, ObjectKey, get_path
from anynode.api.resources import Resource
from anynode.registry.items import CacheEvent
from anynode.registry.watch_cache import ResourceCache

MOST_ANSWER_BYTES = 16 * 1024 * 1024
MOST_CONTEXTS = 200
MOST_TEXT_BYTES = 2048
SERVICE_NAME = "kubernetes.io/service-name"

Lookup = Callable[[Resource, ObjectKey], Object | None]


class SlicesByService:
    """The EndpointSlices of each service, kept as the cache changes."""

    def __init__(self, cache: ResourceCache) -> None:
        self._cache = cache
        self._keys: dict[tuple[str, str], dict[str, None]] | None = None

    def of(self, namespace: str, service: str) -> Sequence[Object]:
        """Every slice of a service, by name."""
        if self._keys is None:
            self._keys = {}
            for item in self._cache.scan():
                self._put(item.key, item.object)
            self._cache.listeners.append(self._changed)
        items = self._cache.items
        return [items[key].object for key in sorted(self._keys.get((namespace, service), ())) if key in items]

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            if event.previous is not None:
                self._remove(event.item.key, event.previous.object)
            if event.deleted:
                self._remove(event.item.key, event.item.object)
            else:
                self._put(event.item.key, event.item.object)

    def _put(self, key: str, obj: Object) -> None:
        assert self._keys is not None
        self._keys.setdefault(_service_of(obj), {})[key] = None

    def _remove(self, key: str, obj: Object) -> None:
        assert self._keys is not None
        service = _service_of(obj)
        keys = self._keys.get(service)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del self._keys[service]


def _service_of(obj: Object) -> tuple[str, str]:
    metadata = obj.get("metadata") or {}
    return metadata.get("namespace") or "", (metadata.get("labels") or {}).get(SERVICE_NAME) or ""


class Outbound:
    """Calls to webhooks. ``close`` when the server stops."""

    def __init__(self, *, clock: Clock, random: random.Random, lookup: Lookup, slices: SlicesByService) -> None:
        self._client = HttpClient(clock=clock, connect_seconds=30.0)
        self._random = random
        self._lookup = lookup
        self._slices = slices
        self._contexts: collections.OrderedDict[bytes, ssl.SSLContext] = collections.OrderedDict()

    async def close(self) -> None:
        await self._client.close()

    # --- services

    def resolve(self, service: str, namespace: str, port: int) -> tuple[str, int]:
        """An address and port that serves a service's port now. Raises ``CallFailed``."""
        found = self._lookup(resources.known("services"), ObjectKey(namespace, service))
        if found is None:
            raise CallFailed(f'service "{service}" not found')
        spec = found.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return str(spec.get("externalName") or ""), port
        wanted = next((each for each in spec.get("ports") or () if each.get("port") == port), None)
        if wanted is None:
            raise CallFailed(f'no service port {port} found for service "{service}"')
        slices = list(self._slices.of(namespace, service))
        self._random.shuffle(slices)
        family = (spec.get("ipFamilies") or ("IPv4",))[0]
        slices.sort(key=lambda each: each.get("addressType") != family)
        for endpoint_slice in slices:
            address = self._ready(endpoint_slice, wanted.get("name") or "")
            if address is not None:
                return address
        raise CallFailed(f'no endpoints available for service "{service}"')

    def _ready(self, endpoint_slice: Object, port_name: str) -> tuple[str, int] | None:
        """A ready endpoint of a slice that has the port."""
        for port in endpoint_slice.get("ports") or ():
            if (port.get("name") or "") != port_name or port.get("port") is None:
                continue
            ready = [
                each
                for each in endpoint_slice.get("endpoints") or ()
                if get_path(each, "conditions", "ready", default=True) is not False and each.get("addresses")
            ]
            if ready:
                return str(self._random.choice(ready)["addresses"][0]), int(port["port"])
        return None

    # --- calls

    async def post_json(self, config: ClientConfig, body: bytes, timeout_seconds: float) -> bytes:
        """The body of the answer to a POST of ``body``. Raises ``CallFailed``."""
        url, path = _address(config, timeout_seconds)
        try:
            origin = self._origin(config)
            async with asyncio.timeout(timeout_seconds):
                answer = await self._asked(origin, path, body)
        except TimeoutError as error:
            raise CallFailed(f'Post "{url}": context deadline exceeded') from error
        except (ConnectionError, ValueError) as error:
            raise CallFailed(f'Post "{url}": {_go_text(error)}') from error
        except CallFailed as error:
            raise CallFailed(f'Post "{url}": {error}') from error
        if not 200 <= answer.status <= 206:
            raise CallFailed(refusal(answer))
        return answer.body

    async def _asked(self, origin: Origin, path: str, body: bytes) -> HttpAnswer:
        headers = {"content-type": "application/json", "accept": "application/json, */*", "accept-encoding": "identity"}
        opened = await self._client.open(origin, "POST", path, headers, body)
        parts: list[bytes] = []
        size = 0
        try:
            while data := await opened.read():
                size += len(data)
                if size > MOST_ANSWER_BYTES:
                    raise ValueError(f"the answer is longer than {MOST_ANSWER_BYTES} bytes")
                parts.append(data)
        finally:
            await opened.close()
        return HttpAnswer(status=opened.status, headers=opened.headers, pairs=opened.pairs, body=b"".join(parts))

    def _origin(self, config: ClientConfig) -> Origin:
        if config.service:
            name = f"{config.service}.{config.namespace}.svc"
            host, port = self.resolve(config.service, config.namespace, config.port)
            return Origin(host=host, port=port, tls=self._context(config.ca_bundle), server_name=name)
        parts = urllib.parse.urlsplit(config.url)
        if not parts.hostname:
            raise CallFailed("http: no Host in request URL")
        tls = None if parts.scheme == "http" else self._context(config.ca_bundle)
        return Origin(host=parts.hostname, port=parts.port or (443 if tls else 80), tls=tls)

    def _context(self, ca_bundle: bytes) -> ssl.SSLContext:
        """The context that trusts a bundle; one per bundle, so that connections are kept."""
        context = self._contexts.get(ca_bundle)
        if context is None:
            try:
                context = client_context(ca=ca_bundle or None)
            except (ssl.SSLError, UnicodeDecodeError) as error:
                raise CallFailed("unable to load root certificates: unable to parse bytes as PEM block") from error
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a bundle may be the server's own certificate
            self._contexts[ca_bundle] = context
            if len(self._contexts) > MOST_CONTEXTS:
                self._contexts.popitem(last=False)
        else:
            self._contexts.move_to_end(ca_bundle)
        return context


def _address(config: ClientConfig, timeout_seconds: float) -> tuple[str, str]:
    """The URL as errors tell it, and what stands in the request line."""
    timeout = f"timeout={format_duration(round(timeout_seconds * 1e9))}"
    if config.service:
        port = config.port or DEFAULT_PORT
        path = config.path if config.path.startswith("/") else f"/{config.path}"
        target = f"{path}?{timeout}"
        return f"https://{config.service}.{config.namespace}.svc:{port}{target}", target
    parts = urllib.parse.urlsplit(config.url)
    target = f"{parts.path or '/'}?{timeout}"
    return f"{parts.scheme}://{parts.netloc}{target}", target


def _go_text(error: Exception) -> str:
    """A transport's failure as Go's client says it."""
    text = str(error)
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_certificate_trouble(cause)}"
    if isinstance(cause, ssl.SSLError) and (cause.reason or "") in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return "http: server gave HTTP response to HTTPS client"
    return "EOF" if text.startswith("connection lost") else text


def _certificate_trouble(error: ssl.SSLCertVerificationError) -> str:
    text = error.verify_message
    if "expired" in text:
        return "certificate has expired or is not yet valid"
    if "Hostname mismatch" in text or "not valid for" in text:
        return f"certificate is not valid: {text}"
    return "certificate signed by unknown authority"


_STATUS_TEXTS: Mapping[int, str] = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


def refusal(answer: HttpAnswer) -> str:
    """What an answer other than success comes to: a Status's own message, or the words for its code."""
    said = _status_message(answer.body)
    if said:
        return said
    text = answer.body[:MOST_TEXT_BYTES].decode("utf-8", "replace").strip() if _is_text(answer.headers) else "unknown"
    if answer.status in (403, 415):
        return text
    if answer.status == 406:
        return text or "the server was unable to respond with a content type that the client supports"
    if answer.status in _STATUS_TEXTS:
        return _STATUS_TEXTS[answer.status]
    if answer.status >= 500:
        quoted = orjson.dumps(text).decode()
        return f"an error on the server ({quoted}) has prevented the request from succeeding"
    return f"the server responded with the status code {answer.status} but did not return more information"


def _status_message(body: bytes) -> str:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if isinstance(found, dict) and found.get("kind") == "Status" and found.get("status") == "Failure":
        return str(found.get("message") or "")
    return ""


def _is_text(headers: Mapping[str, str]) -> bool:
    content_type = headers.get("content-type", "")
    return not content_type or content_type.startswith("text/")
