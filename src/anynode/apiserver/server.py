"""``ApiServer.handle``: every request's way through the filters to its handler, and every error's way back.

In: an ``ApiRequest`` from a listener or from this process. Out: an ``ApiResponse``; refusals are ``Status`` bodies, and
so is what nobody expected, logged here and nowhere else. Source: apiserver ``pkg/server/config.go`` (handler chain) and
``pkg/endpoints/installer.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson

from anynode.api import errors
from anynode.api.formats import parse_duration
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver import impersonation, long_lists, negotiation, requestinfo
from anynode.apiserver.audit import Auditor, Trail
from anynode.apiserver.authorization import Authorizer, attributes_of
from anynode.apiserver.bodies import quoted_warning
from anynode.apiserver.deadlines import Deadlines
from anynode.apiserver.discovery import VERSION, Discovery, is_routed
from anynode.apiserver.flow_control import FlowControl, too_many
from anynode.apiserver.forms import ListForm
from anynode.apiserver.health import TEXT, Health, not_found_page
from anynode.apiserver.identity import Authenticator
from anynode.apiserver.impersonation import Impersonation
from anynode.apiserver.metrics import Metrics
from anynode.apiserver.negotiation import Accepted
from anynode.apiserver.oidc_provider import KeysWanted
from anynode.apiserver.read import Reader, list_options
from anynode.apiserver.requestinfo import BadPath, RequestInfo
from anynode.apiserver.served import CustomRoutes, Route, Served
from anynode.apiserver.write import Writer, Written
from anynode.registry.items import Item
from anynode.registry.store import Deletion
from anynode.schema.protobuf_writing import encode_protobuf
from anynode.schema.types import Types
from anynode.security.rbac import Attributes

logger = logging.getLogger(__name__)

IN_PROCESS = "anynode-in-process"
"""A request with this header is answered with the decoded object instead of bytes."""
PERHAPS_STALE = frozenset({401, 403, 404, 409, 422})
"""What a server may say because another one's write has not reached it yet."""
OUTDATED = {"endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}
"""Resources whose use is warned of."""
UNWRITABLE = frozenset({
    "Recursion limit reached", "Integer exceeds 64-bit range", "str is not valid UTF-8: surrogates not allowed",
})  # fmt: skip
"""What orjson says, as a plain ``TypeError``, of data that JSON cannot hold."""
MOST_WARNED, MOST_WARNED_EACH = 4096, 256
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
READS = frozenset({"get", "list", "watch"})
MANY_SEATS = frozenset({"list", "watch"})
"""Requests that may take more than one seat."""
LONG_RUNNING = frozenset({"attach", "exec", "proxy", "log", "portforward"})

Handler = Callable[[ApiRequest, RequestInfo, User], Awaitable[ApiResponse]]
Delegate = Callable[[ApiRequest, str, User], Awaitable[ApiResponse | None]]
"""(request, path, user) -> the answer of the aggregated API server the path belongs to; None: there is none."""
Find = Callable[[str, str, str], Served | None]
"""(group, version, plural) -> a resource that is served and was not asked for since it is."""


def no_such_resource() -> errors.NotFound:
    return errors.NotFound("the server could not find the requested resource", details={})


def method_not_allowed() -> errors.MethodNotAllowed:
    return errors.MethodNotAllowed("the server does not allow this method on the requested resource", details={})


def _timeout_seconds(request: ApiRequest) -> float:
    """How long the request wants to be given; 0: it does not say. Raises ``BadRequest`` for what is no duration."""
    text = request.argument("timeout")
    if not text:
        return 0.0
    try:
        return parse_duration(text) / 1e9
    except ValueError as error:
        raise errors.BadRequest(f"invalid timeout specified in the request URL - {error}") from error


class ApiServer:
    """The API. Handlers of subresources and of what is not stored are handed in by the composition."""

    def __init__(
        self,
        *,
        served: Mapping[tuple[str, str, str], Served],
        unstored: Mapping[tuple[str, str, str], tuple[Resource, Handler]],
        subresources: Mapping[tuple[str, str], Mapping[str, Route]],
        paths: Mapping[str, Callable[[ApiRequest], Awaitable[ApiResponse]]],
        reader: Reader,
        writer: Writer,
        authenticator: Authenticator,
        authorizer: Authorizer,
        discovery: Discovery,
        health: Health,
        metrics: Metrics,
        types: Types,
        random: random.Random,
        flows: FlowControl,
        deadlines: Deadlines,
        auditor: Auditor | None = None,
        find_custom: Find = lambda _group, _version, _plural: None,
        delegate: Delegate | None = None,
    ) -> None:
        """``subresources``: (qualified resource, subresource) -> verb -> route; ``paths``: prefix -> document.

        ``auditor``: who is told of every request; ``delegate``: answers what belongs to an aggregated API server, or
        None."""
        self._served = served
        self._unstored = unstored
        self._subresources = subresources
        self._paths = paths
        self._types = types
        self._reader = reader
        self._writer = writer
        self.authenticator = authenticator
        self.authorizer = authorizer
        self._impersonation = Impersonation(authorizer)
        self._discovery = discovery
        self._health = health
        self._metrics = metrics
        self._random = random
        self._find_custom = find_custom
        self._delegate = delegate
        self._flows = flows
        self._deadlines = deadlines
        self._auditor = auditor
        self._routes: Mapping[str, Route] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    def find(self, group: str, version: str, plural: str) -> Served | None:
        return self._served.get((group, version, plural)) or self._find_custom(group, version, plural)

    async def handle(self, request: ApiRequest) -> ApiResponse:
        """The answer to any request; never raises but for cancellation."""
        audit_id = self._audit_id(request)
        if self._auditor is None:
            return await self._told(request, audit_id, None)
        await self._auditor.log.room()
        trail = self._auditor.trail(request, audit_id)
        return trail.answered(await self._told(request, audit_id, trail))

    def _in_protobuf(self, request: ApiRequest, response: ApiResponse) -> ApiResponse:
        """A response that is one plain object, for who would rather have it as protobuf."""
        prefers = negotiation.prefers_protobuf(request.headers.get("accept", ""))
        if not prefers or IN_PROCESS in request.headers or not isinstance(response.obj, dict):
            return response
        if self._types.of_kind(str(response.obj.get("apiVersion")), str(response.obj.get("kind"))):
            response.body = encode_protobuf(response.obj, self._types)
            response.obj, response.content_type = None, negotiation.PROTOBUF
        return response

    async def _told(self, request: ApiRequest, audit_id: str, trail: Trail | None) -> ApiResponse:
        try:
            if self._reader.shared:
                response = await self._answer_currently(request, trail)
            else:
                response = await self._answer(request, trail)
        except errors.ApiError as error:
            return self._in_protobuf(request, self._refused(audit_id, error))
        except Exception as error:  # the one place where the unexpected becomes a Status
            if isinstance(error, RecursionError) or str(error) in UNWRITABLE:
                logger.info("request goes too deep", extra={"path": request.path, "why": str(error)})
                return self._in_protobuf(request, self._refused(audit_id, errors.BadRequest("exceeded max depth")))
            logger.error("request failed unexpectedly", extra={"path": request.path}, exc_info=error)
            said = f"Internal error occurred: {type(error).__name__}"
            refusal = errors.InternalError(said, details={"causes": [{"message": said}]})
            return self._in_protobuf(request, self._refused(audit_id, refusal))
        response.headers = {"audit-id": audit_id, **response.headers}
        return response if response.obj is None else self._in_protobuf(request, response)

    def _refused(self, audit_id: str, error: errors.ApiError) -> ApiResponse:
        headers: dict[str, str] = {"audit-id": audit_id, **error.headers}
        if error.retry_after_seconds:
            headers["retry-after"] = str(error.retry_after_seconds)
        if error.status_code == 401:
            headers["www-authenticate"] = 'Bearer realm="kubernetes-master"'
        headers.update(warned(error.warnings))
        self._metrics.refused(error.status_code)
        return ApiResponse(status=error.status_code, headers=headers, obj=error.status())

    def _audit_id(self, request: ApiRequest) -> str:
        given = request.headers.get("audit-id")
        if given:
            return given
        bits = f"{self._random.getrandbits(128):032x}"
        return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"

    async def _answer_currently(self, request: ApiRequest, trail: Trail | None) -> ApiResponse:
        """The answer where other servers write too: a refusal made on an older state is thought over on the newest."""
        before = self._reader.revision
        try:
            return await self._answer(request, trail)
        except errors.ApiError as error:
            if error.status_code not in PERHAPS_STALE:
                raise
            await self._reader.catch_up()
            if self._reader.revision == before:
                raise
        return await self._answer(request, trail)

    async def _answer(self, request: ApiRequest, trail: Trail | None) -> ApiResponse:
        """Who asks, for what, as whom; then the seat, the rights and the work."""
        try:
            try:
                user = self.authenticator.authenticate(request)
            except KeysWanted as wanted:
                user = await self._with_keys(request, wanted)
        except errors.Unauthorized:
            if trail is not None:
                trail.unauthenticated(_parsed_or_none(request))
            raise
        info = _parsed(request)
        if trail is not None:
            trail.begin(user, info)
            info.notes = trail.notes
        if impersonation.is_asked(request):
            user = self._impersonated(request, info, user, trail)
        if info.verb == "watch" or info.subresource in LONG_RUNNING:
            return await self._seated(request, info, user, trail)
        running = self._deadlines.enter(_timeout_seconds(request) if request.query else 0.0)
        try:
            response = await self._seated(request, info, user, trail)
        except asyncio.CancelledError:
            if running.overdue:
                await self._deadlines.overdue(running, cancelled=True)
            raise
        finally:
            self._deadlines.leave(running)
        if running.overdue:
            await self._deadlines.overdue(running, cancelled=False)
        return response

    async def _with_keys(self, request: ApiRequest, wanted: KeysWanted) -> User:
        """The user once the keys of his token's issuer are here."""
        await wanted.provider.fetch()
        try:
            return self.authenticator.authenticate(request)
        except KeysWanted:
            raise errors.Unauthorized("Unauthorized") from wanted

    async def _seated(self, request: ApiRequest, info: RequestInfo, user: User, trail: Trail | None) -> ApiResponse:
        """The answer once there is a seat for the request; what runs long takes none."""
        if info.subresource in LONG_RUNNING:
            return await self._permitted(request, info, user, trail)
        flows = self._flows
        place = flows.place(user, info)
        level, width = place.level, 1
        if info.verb in MANY_SEATS:
            width = flows.width(place, info, request, self.find)
            if info.verb == "watch" and flows.is_watched_out():
                self._metrics.refused(429)
                return too_many(1, place.headers)
        if not level.take(width):
            retry_seconds = await flows.wait(place, width)
            if retry_seconds:
                self._metrics.refused(429)
                return too_many(retry_seconds, place.headers)
        try:
            response = await self._permitted(request, info, user, trail)
        except errors.ApiError as error:
            error.headers = {**place.headers, **error.headers}
            raise
        finally:
            level.release(width)
        headers = response.headers
        response.headers = {**place.headers, **headers} if headers else place.headers
        return response

    def _permitted(
        self, request: ApiRequest, info: RequestInfo, user: User, trail: Trail | None
    ) -> Awaitable[ApiResponse]:
        """The answer to who may ask; raises ``Forbidden``."""
        if trail is not None:
            trail.decided(self.authorizer.decision(user, _attributes(info)))
        if not info.is_resource:
            return self._document(request, info, user)
        self.authorizer.permit(info, user)
        return self._routed(request, info, user)

    def _impersonated(self, request: ApiRequest, info: RequestInfo, user: User, trail: Trail | None) -> User:
        wanted = impersonation.wanted_user(request)
        if wanted is None:
            return user
        acting = self._impersonation.impersonated(wanted, user, _attributes(info))
        if trail is not None:
            trail.impersonated(acting)
        return acting

    async def _routed(self, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        served = self._served.get((info.group, info.version, info.plural))
        if served is None:
            served = self._find_custom(info.group, info.version, info.plural)
            if served is None:
                return await self._not_stored(request, info, user)
        began, code = self._metrics.now(), 500
        try:
            response = await self._stored(served, request, info, user)
            code = response.status
            return response
        except errors.ApiError as error:
            code = error.status_code
            raise
        finally:
            self._metrics.count(request, info, served.resource, code, began)

    def _stored(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> Awaitable[ApiResponse]:
        resource = served.resource
        if served.custom is not None:
            return self._custom(served, served.custom, request, info, user)
        if request.method == "HEAD" and info.subresource != "proxy":
            raise method_not_allowed()
        if info.subresource:
            routes = self._subresources.get((resource.qualified, info.subresource))
            if routes is None:
                raise no_such_resource()
            route = routes.get(info.verb)
            if route is None:
                raise method_not_allowed()
            self._check_scope(resource, info)
            return route(served, request, info, user)
        if info.verb not in resource.verbs:
            raise method_not_allowed()
        self._check_scope(resource, info)
        outdated = OUTDATED.get(resource.qualified)
        if outdated is None:
            return self._routes[info.verb](served, request, info, user)
        return self._warning(outdated, self._routes[info.verb](served, request, info, user))

    async def _custom(
        self, served: Served, routes: CustomRoutes, request: ApiRequest, info: RequestInfo, user: User
    ) -> ApiResponse:
        """A custom resource's routes know no paths: only scope, subresource and verb."""
        resource = served.resource
        if bool(info.namespace) != resource.namespaced and not (resource.namespaced and info.verb in ("list", "watch")):
            return not_found_page()
        own = routes.get(info.subresource) if info.subresource else self._routes
        if own is None:
            raise errors.not_found(resource, info.name)
        route = own.get(info.verb)
        if route is None:
            details = {"group": resource.group, "kind": resource.plural}
            said = f'{info.verb} is not supported on resources of kind "{resource.qualified}"'
            raise errors.MethodNotAllowed(said, details=details)
        if not info.name and info.verb in ("update", "patch"):
            raise errors.BadRequest("name must be provided")
        if not served.outdated:
            return await route(served, request, info, user)
        return await self._warning(served.outdated, route(served, request, info, user))

    async def _warning(self, text: str, answer: Awaitable[ApiResponse]) -> ApiResponse:
        """``answer`` with one warning before its own, be it a refusal."""
        try:
            response = await answer
        except errors.ApiError as error:
            error.warnings = (text, *error.warnings)
            raise
        said = (quoted_warning(text), response.headers.get("warning"))
        response.headers = {**response.headers, "warning": ", ".join(each for each in said if each)}
        return response

    async def _not_stored(self, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        found = self._unstored.get((info.group, info.version, info.plural))
        if found is None:
            delegated = None if self._delegate is None else await self._delegate(request, info.path, user)
            if delegated is None and info.group and not self._discovery.is_builtin(info.group):
                return not_found_page()
            if delegated is None:
                raise no_such_resource()
            return delegated
        resource, handler = found
        if info.verb not in resource.verbs or (info.name and info.verb == "create"):
            raise method_not_allowed()
        if bool(info.namespace) != resource.namespaced:
            raise no_such_resource()  # rights in a namespace must not reach what belongs to the cluster
        if info.verb in READS:
            negotiation.accepted(request.headers.get("accept", ""), binary=True)
        return await handler(request, info, user)

    def _check_scope(self, resource: Resource, info: RequestInfo) -> None:
        """Refuse what no route of the kind's scope takes."""
        if resource.namespaced:
            if not info.namespace and info.verb not in ("list", "watch"):
                raise no_such_resource() if info.name else method_not_allowed()
        elif info.namespace:
            if resource.plural != "namespaces":
                raise no_such_resource()
            info.namespace = ""  # authorization looked at it; as a key a namespace has only its name
        if info.verb == "create" and info.name and not info.subresource:
            raise method_not_allowed()
        if info.verb in ("update", "patch") and not info.name:
            raise method_not_allowed()

    # --- documents

    async def _document(self, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        path = info.path.rstrip("/") or "/"
        self.authorizer.require(user, Attributes(verb=info.verb, path=info.path))
        health = self._health.answer(request, path)
        if health is not None:
            return health
        known = self._find_document(path)
        large = next((made for prefix, made in self._paths.items() if f"{path}/".startswith(f"{prefix}/")), None)
        if known is None and large is None:
            delegated = None if self._delegate is None else await self._delegate(request, info.path, user)
            if delegated is not None:
                return delegated
            prefix, group = (*path.split("/"), "", "")[1:3]
            if prefix == "api" or (prefix == "apis" and self._discovery.is_builtin(group)):
                raise no_such_resource()
            return not_found_page()
        if large is not None:
            return await large(request)
        if request.method != "GET" and is_routed(path):
            raise method_not_allowed()
        assert known is not None
        return known(request)

    def _find_document(self, path: str) -> Callable[[ApiRequest], ApiResponse] | None:
        if path == "/version":
            return _version
        if path == "/metrics":
            return lambda _: ApiResponse(
                content_type="text/plain; version=0.0.4; charset=utf-8", body=self._metrics.text()
            )
        if path == "/":
            return lambda _: ApiResponse(body=orjson.dumps({"paths": self._all_paths()}, option=orjson.OPT_INDENT_2))
        if path in self._discovery:
            return lambda request: self._discovered(request, path)
        return None

    def _discovered(self, request: ApiRequest, path: str) -> ApiResponse:
        response = self._discovery.answer(request, path)
        accept = request.headers.get("accept", "")
        if negotiation.YAML not in accept or response.content_type != negotiation.JSON:
            return response
        return _in_media(response, negotiation.accepted(accept, routed=False))

    def _all_paths(self) -> list[str]:
        own = ["/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"]
        others = [*own, *self._paths]
        return sorted([*self._discovery.paths(), *others])

    # --- reads

    def _accepted(self, served: Served, request: ApiRequest, *, watchable: bool = False) -> Accepted:
        header = request.headers.get("accept", "")
        return negotiation.accepted(header, watchable=watchable, binary=served.forms.binary)

    async def _get(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        accepted = self._accepted(served, request)
        item = await self._reader.item(served, info, request)
        return self.object_response(served, item, request, accepted)

    async def _list(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        accepted = self._accepted(served, request, watchable=True)
        form = served.forms.of(accepted, request.argument("includeObject"))
        listing = await self._reader.list(served, info, list_options(request))
        if accepted.target == "PartialObjectMetadata":
            what = f"*{_go_type(served.resource)}List" if served.custom is None else "*unstructured.UnstructuredList"
            raise errors.NotAcceptable(
                f"you requested PartialObjectMetadata, but the requested object is a list ({what})"
            )
        return self._list_response(served, listing.items, listing.metadata, form, request, accepted)

    def _list_response(
        self,
        served: Served,
        items: Sequence[Item],
        metadata: Mapping[str, object],
        form: ListForm,
        request: ApiRequest,
        accepted: Accepted,
    ) -> ApiResponse:
        if IN_PROCESS in request.headers and not accepted.target:
            resource = served.resource
            obj: Object = {
                "kind": resource.list_kind,
                "apiVersion": resource.api_version,
                "metadata": metadata,
                "items": [served.forms.served(item) for item in items],
            }
            return ApiResponse(obj=obj)
        in_yaml = accepted.media_type == negotiation.YAML
        if len(items) > (long_lists.SHORT_YAML if in_yaml else long_lists.SHORT):
            stream = long_lists.LongList(form, items, metadata, in_yaml=in_yaml)
            return ApiResponse(stream=stream, content_type=accepted.media_type)
        return _in_media(ApiResponse(body=form.join(items, metadata)), accepted)

    async def _watch(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        accepted = self._accepted(served, request, watchable=True)
        form = served.forms.of(accepted, request.argument("includeObject"))
        options = list_options(request, watch=True)
        timeout = 1800 * (1 + self._random.random())
        response = await self._reader.watch(served, info, options, form, timeout)
        if accepted.media_type == negotiation.PROTOBUF:
            response.headers = {**response.headers, "content-type": f"{negotiation.PROTOBUF};stream=watch"}
        return response

    # --- writes

    async def _create(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        accepted = self._accepted(served, request)
        written = await self._writer.create(served, info, request, user)
        return self.written_response(served, written, request, accepted)

    async def _update(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        accepted = self._accepted(served, request)
        written = await self._writer.update(served, info, request, user)
        return self.written_response(served, written, request, accepted)

    async def _patch(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        accepted = self._accepted(served, request)
        written = await self._writer.patch(served, info, request, user)
        return self.written_response(served, written, request, accepted)

    async def _delete(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        accepted = self._accepted(served, request)
        deletion, write, options = await self._writer.delete(served, info, request, user)
        status = 200
        if not deletion.gone and options.orphan_dependents is False:
            status = 202
        headers = warned(write.warnings)
        if deletion.gone and not served.kind.returns_deleted:
            return ApiResponse(headers=headers, obj=deleted_status(served.resource, deletion))
        response = self.object_response(served, deletion.item, request, accepted)
        response.status = status
        response.headers = {**response.headers, **headers}
        return response

    async def _delete_collection(
        self, served: Served, request: ApiRequest, info: RequestInfo, user: User
    ) -> ApiResponse:
        accepted = self._accepted(served, request)
        form = served.forms.of(accepted, request.argument("includeObject"))
        items, metadata = await self._writer.delete_collection(served, info, request, user)
        return self._list_response(served, items, metadata, form, request, accepted)

    # --- answers

    def object_response(
        self, served: Served, item: Item, request: ApiRequest, accepted: Accepted, status: int = 200
    ) -> ApiResponse:
        """One object in the form agreed on."""
        if IN_PROCESS in request.headers:
            return ApiResponse(status=status, obj=served.forms.served(item))
        if accepted.media_type == negotiation.PROTOBUF and accepted.target != "PartialObjectMetadataList":
            body = served.forms.of(accepted).item(item)
            return ApiResponse(status=status, body=body, content_type=negotiation.PROTOBUF)
        if not accepted.target:
            return _in_media(ApiResponse(status=status, body=served.forms.whole.item(item) + b"\n"), accepted)
        if accepted.target == "PartialObjectMetadataList":
            raise errors.NotAcceptable(
                "you requested PartialObjectMetadataList, but the requested object is not a list "
                f"(*{_go_type(served.resource)})"
            )
        form = served.forms.of(accepted, request.argument("includeObject"))
        return _in_media(ApiResponse(status=status, body=form.first_event(item) + b"\n"), accepted)

    def written_response(
        self, served: Served, written: Written, request: ApiRequest, accepted: Accepted
    ) -> ApiResponse:
        response = self.object_response(served, written.item, request, accepted, written.status)
        if written.warnings:
            response.headers = {**response.headers, **warned(written.warnings)}
        return response


def deleted_status(resource: Resource, deletion: Deletion) -> Object:
    """What a deletion that is done is answered with, where the object itself is not."""
    details: Object = {"name": deletion.item.name}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    details["uid"] = deletion.item.peek()["metadata"].get("uid", "")
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _go_type(resource: Resource) -> str:
    """The internal Go type, as upstream names it here."""
    return f"{resource.group.partition('.')[0] or 'core'}.{resource.kind}"


def _attributes(info: RequestInfo) -> Attributes:
    return attributes_of(info) if info.is_resource else Attributes(verb=info.verb, path=info.path)


def _parsed(request: ApiRequest) -> RequestInfo:
    """What is asked for; raises ``ApiError`` for a path no resource can have."""
    try:
        return requestinfo.parse(request)
    except BadPath:
        if request.path.endswith(("//status", "//scale", "//binding")):
            raise errors.BadRequest("name must be provided") from None
        raise no_such_resource() from None


def _parsed_or_none(request: ApiRequest) -> RequestInfo | None:
    try:
        return requestinfo.parse(request)
    except BadPath:
        return None


def warned(warnings: Sequence[str]) -> dict[str, str]:
    if not warnings:
        return {}
    said = ", ".join(quoted_warning(text) for text in shortened(warnings))
    return {"warning": said} if said else {}


def shortened(warnings: Sequence[str]) -> Sequence[str]:
    """The warnings that fit into headers: above ``MOST_WARNED`` characters in all, only beginnings, and not of all.

    Texts with control characters are in no header, as upstream.
    """
    texts = [text for text in dict.fromkeys(warnings) if text]
    if sum(map(len, texts)) > MOST_WARNED:
        kept: list[str] = []
        whole = written = 0
        for text in texts:
            whole += len(text)
            if written >= MOST_WARNED and whole - len(text) > MOST_WARNED:
                break
            kept.append(text[:MOST_WARNED_EACH])
            written += len(kept[-1])
        texts = kept
    return [text for text in texts if _CONTROL.search(text) is None]


def _version(request: ApiRequest) -> ApiResponse:
    negotiation.check_produced(request.headers.get("accept", ""), negotiation.JSON)
    return ApiResponse(body=orjson.dumps(VERSION, option=orjson.OPT_INDENT_2))


def _in_media(response: ApiResponse, accepted: Accepted) -> ApiResponse:
    """The response in the media type agreed on; what is no JSON is that already."""
    if accepted.media_type == negotiation.PROTOBUF:
        response.content_type = negotiation.PROTOBUF
    if accepted.media_type == negotiation.YAML:
        body = long_lists.in_yaml(orjson.loads(response.encoded()))
        return ApiResponse(status=response.status, headers=response.headers, content_type=negotiation.YAML, body=body)
    return response


__all__ = ["IN_PROCESS", "TEXT", "ApiServer", "Handler", "Route"]
