"""Subresources that are no streams: status and its like, scale, binding, eviction, token, finalize.

Each entry of ``routes`` is (qualified resource, subresource) -> verb -> route. Source: kubernetes
``pkg/registry/<group>/<kind>/storage/storage.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping

import orjson

from anynode.aio.clock import Clock
from anynode.api import errors
from anynode.api.objects import Object, get_path, meta, uid_of
from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver import negotiation
from anynode.apiserver.bodies import Bodies, field_validation
from anynode.apiserver.read import Reader
from anynode.apiserver.requestinfo import RequestInfo
from anynode.apiserver.served import Served
from anynode.apiserver.server import ApiServer, Route, warned
from anynode.apiserver.write import Writer, check_name, in_namespace, key_of
from anynode.registry import deletion, pods, scale
from anynode.registry.store import Operation, ResourceStore, UpdateRules, Write, admit_all, check_nothing
from anynode.schema import fields, managed_fields, scale_ownership
from anynode.security.tokens import Bound, Ref, TokenIssuer

Routes = Mapping[tuple[str, str], Mapping[str, Route]]
MIN_TOKEN_SECONDS, MOST_TOKEN_SECONDS = 600, 1 << 32
_OLDER_EVICTION = b"policy/v1beta1"
_SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
_SCALED = frozenset({
    "deployments.apps", "replicasets.apps", "statefulsets.apps", "replicationcontrollers",
})  # fmt: skip


@dataclasses.dataclass(slots=True)
class Subresources:
    """Builds the routes. ``server`` is set once the server exists: it renders the answers."""

    reader: Reader
    writer: Writer
    bodies: Bodies
    clock: Clock
    tokens: TokenIssuer | None
    budgets: ResourceStore | None
    server: ApiServer | None = None

    def routes(self, served: Iterable[Served]) -> Routes:
        """Every route that the served resources have."""
        found: dict[tuple[str, str], Mapping[str, Route]] = {}
        for each in served:
            resource = each.resource
            for sub in resource.subresources:
                routes = self._routes_of(each, sub.name)
                if routes:
                    kept = {verb: route for verb, route in routes.items() if verb in sub.verbs}
                    found[resource.qualified, sub.name] = kept
        return found

    def _routes_of(self, served: Served, name: str) -> Mapping[str, Route]:
        qualified = served.resource.qualified
        if name == "scale" and qualified in _SCALED:
            return {"get": self._get_scale, "update": self._update_scale, "patch": self._patch_scale}
        if (qualified, name) == ("pods", "binding"):
            return {"create": self._bind}
        if (qualified, name) == ("pods", "eviction"):
            return {"create": self._evict}
        if (qualified, name) == ("serviceaccounts", "token") and self.tokens is not None:
            return {"create": self._token}
        rules = self._update_rules(served, name)
        return {} if rules is None else self.object_routes(rules)

    def _update_rules(self, served: Served, name: str) -> UpdateRules | None:
        own = served.kind.rules.subresources.get(name)
        if own is not None:
            order = served.store.status_rules.order
            return UpdateRules(prepare=own.prepare, validate=own.validate, order=order)
        return served.store.status_rules if name == "status" else None

    def object_routes(self, rules: UpdateRules) -> Mapping[str, Route]:
        """Routes of a subresource whose body is the object itself."""

        async def get(served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
            accepted = negotiation.accepted(request.headers.get("accept", ""))
            item = await self.reader.item(served, info, request)
            return self._server.object_response(served, item, request, accepted)

        async def update(served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
            accepted = negotiation.accepted(request.headers.get("accept", ""))
            written = await self.writer.update(served, info, request, user, rules=rules)
            return self._server.written_response(served, written, request, accepted)

        async def patch(served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
            accepted = negotiation.accepted(request.headers.get("accept", ""))
            written = await self.writer.patch(served, info, request, user, rules=rules)
            return self._server.written_response(served, written, request, accepted)

        return {"get": get, "update": update, "patch": patch}

    @property
    def _server(self) -> ApiServer:
        assert self.server is not None
        return self.server

    # --- scale

    async def _get_scale(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        item = await self.reader.item(served, info, request)
        return ApiResponse(obj=scale.of(item.peek()))

    async def _update_scale(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        write = self.writer.write_of(served, info, request, user, "UpdateOptions")
        validation = field_validation(request, "UpdateOptions")
        obj = self.bodies.typed(request, "autoscaling/v1", "Scale", validation=validation, warnings=write.warnings)
        obj = in_namespace(obj, info.namespace, served.resource)
        check_name(obj, info.name)
        rules = self._scale_rules(served)
        _admit_as_scale(write, served.resource)
        item, _ = await served.store.update(
            key_of(info), lambda old: scale.applied(old, obj, served.resource), write, rules=rules
        )
        return ApiResponse(obj=scale.of(item.peek()), headers=warned(write.warnings))

    async def _patch_scale(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        write = self.writer.write_of(served, info, request, user, "PatchOptions")
        change = self.writer.scale_change(served, info, request, write)

        def changed(old: Object | None) -> Object:
            if old is None:
                raise errors.not_found(served.resource, info.name)
            if not write.applied:
                return scale.applied(old, change(scale.of(old)), served.resource)
            entries, version = meta(old).get("managedFields") or [], served.resource.api_version
            live = managed_fields.with_entries(scale.of(old), scale_ownership.of_scale(entries, version))
            result = change(live)
            owners = scale_ownership.of_object(entries, meta(result).get("managedFields") or [], version)
            new = scale.applied(old, managed_fields.with_entries(result, []), served.resource)
            return managed_fields.with_entries(new, owners)

        _admit_as_scale(write, served.resource)
        item, _ = await served.store.update(key_of(info), changed, write, rules=self._scale_rules(served))
        return ApiResponse(obj=scale.of(item.peek()), headers=warned(write.warnings))

    def _scale_rules(self, served: Served) -> UpdateRules:
        main = served.store.main_rules
        return UpdateRules(prepare=main.prepare, validate=main.validate)

    # --- pods

    async def _bind(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        write = self.writer.write_of(served, info, request, user, "CreateOptions")
        validation = field_validation(request, "CreateOptions")
        obj = self.bodies.typed(request, "v1", "Binding", validation=validation, warnings=write.warnings)
        obj = in_namespace(obj, info.namespace, served.resource)
        pods.check_binding(obj, info.name)
        obj = await _admitted(write, obj)
        await pods.bind(served.store, key_of(info), obj, write, self._now())
        return ApiResponse(status=201, obj=_SUCCESS)

    async def bind_named(self, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        """``POST .../bindings``: the body names the pod."""
        served = self._server.find("", "v1", "pods")
        assert served is not None
        obj = self.bodies.typed(request, "v1", "Binding", validation="Warn", warnings=[])
        if not meta(obj).get("name"):
            raise errors.BadRequest("Name parameter required.")
        target = dataclasses.replace(info, plural="pods", subresource="binding", name=str(meta(obj).get("name") or ""))
        return await self._bind(served, request, target, user)

    async def _evict(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        write = self.writer.write_of(served, info, request, user, "CreateOptions")
        validation = field_validation(request, "CreateOptions")
        request = _as_current_eviction(request)
        obj = self.bodies.typed(request, "policy/v1", "Eviction", validation=validation, warnings=write.warnings)
        if (meta(obj).get("name") or "") != info.name:
            raise errors.BadRequest("name in URL does not match name in Eviction object")
        options = deletion.validate_options(obj.get("deleteOptions") or {})
        write.dry_run = write.dry_run or options.dry_run
        options = dataclasses.replace(options, dry_run=write.dry_run)
        assert self.budgets is not None
        obj = await _admitted(write, obj)
        await pods.evict(served.store, self.budgets, key_of(info), options, write, self._now())
        return ApiResponse(status=201, obj=_SUCCESS)

    def _now(self) -> str:
        return deletion.timestamp(self.clock.now())

    # --- tokens

    async def _token(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        assert self.tokens is not None
        write = self.writer.write_of(served, info, request, user, "CreateOptions")
        validation = field_validation(request, "CreateOptions")
        obj = self.bodies.typed(
            request, "authentication.k8s.io/v1", "TokenRequest", validation=validation, warnings=write.warnings
        )
        in_namespace(obj, info.namespace, served.resource)  # only to refuse another one
        spec: Object = dict(obj.get("spec") or {})
        if spec.get("expirationSeconds") is None:
            spec["expirationSeconds"] = 3600
        obj = self.bodies.owned({**obj, "spec": spec}, write.manager, "token", self._now())
        obj = await _admitted(write, obj)
        spec = obj.get("spec") or {}
        account = served.store.get(key_of(info)).object
        named = meta(obj).get("name") or info.name
        if named != info.name:
            path = fields.FieldPath("metadata.name")
            found = fields.invalid(path, named, "must match the service account name if specified")
            raise errors.invalid("TokenRequest", "authentication.k8s.io", info.name, [found.cause()])
        self._check_account(obj, info, account)
        seconds = spec["expirationSeconds"]
        self._check_seconds(seconds)
        audiences = spec.get("audiences") or list(self.tokens.audiences)
        bound, reference = self._bound(spec.get("boundObjectRef"), info)
        token, expiry = self.tokens.issue(info.namespace, info.name, uid_of(account), audiences, seconds, bound)
        return ApiResponse(
            status=201, obj=self._token_answer(obj, info, account, audiences, seconds, reference, token, expiry)
        )

    def _check_account(self, obj: Object, info: RequestInfo, account: Object) -> None:
        """Refuse a request that means a service account of another time."""
        uid = meta(obj).get("uid") or ""
        if uid and uid != uid_of(account):
            why = f"the UID in the token request ({uid}) does not match the UID of the service account"
            said = f'Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "{info.name}": {why}'
            details = {"name": info.name, "group": "authentication.k8s.io", "kind": "TokenRequest"}
            raise errors.Conflict(f"{said} ({uid_of(account)})", details=details)

    def _check_seconds(self, seconds: int) -> None:
        path = fields.FieldPath("spec.expirationSeconds")
        why = ""
        if seconds < MIN_TOKEN_SECONDS:
            why = "may not specify a duration less than 10 minutes"
        elif seconds > MOST_TOKEN_SECONDS:
            why = "may not specify a duration larger than 2^32 seconds"
        if why:
            raise errors.invalid(
                "TokenRequest", "authentication.k8s.io", "", [fields.invalid(path, seconds, why).cause()]
            )

    def _bound(self, reference: Object | None, info: RequestInfo) -> tuple[Bound, Object | None]:
        """What the token is bound to, and the reference."""
        if not reference:
            return Bound(), None
        kind, version, name = (
            reference.get("kind") or "",
            reference.get("apiVersion") or "",
            reference.get("name") or "",
        )
        plural = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(kind)
        if plural is None or version != "v1":
            raise errors.BadRequest(f"cannot bind token to object of type {_go_kind(version, kind)}")
        found = self._server.find("", "v1", plural)
        assert found is not None
        obj = found.store.get(name if plural == "nodes" else f"{info.namespace}/{name}").object
        uid = uid_of(obj)
        if kind == "Pod" and get_path(obj, "spec", "serviceAccountName", default="") != info.name:
            raise errors.BadRequest(
                f'cannot bind token for serviceaccount "{info.name}" to pod running with different serviceaccount name.'
            )
        wanted = reference.get("uid")
        if wanted and wanted != uid:
            why = (
                f"the UID in the bound object reference ({wanted}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            said = f'Operation cannot be fulfilled on {kind} "{name}": {why}'
            raise errors.Conflict(said, details={"name": name, "kind": kind})
        ref = Ref(name, uid)
        if kind == "Secret":
            return Bound(secret=ref), reference
        if kind == "Node":
            return Bound(node=ref), reference
        node_name = get_path(obj, "spec", "nodeName", default="")
        nodes = self._server.find("", "v1", "nodes")
        node = nodes.store.find(node_name) if nodes is not None and node_name else None
        named = Ref(node_name, uid_of(node.object) if node else "") if node_name else None
        return Bound(pod=ref, node=named), reference

    def _token_answer(
        self,
        obj: Object,
        info: RequestInfo,
        account: Object,
        audiences: list[str],
        seconds: int,
        reference: Object | None,
        token: str,
        expiry: datetime.datetime,
    ) -> Object:
        metadata: Object = {
            "name": info.name,
            "namespace": info.namespace,
            "uid": uid_of(account),
            "creationTimestamp": self._now(),
        }
        if meta(obj).get("managedFields"):
            metadata["managedFields"] = meta(obj)["managedFields"]
        spec: Object = {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference}
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": metadata,
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": deletion.timestamp(expiry)},
        }


def _as_current_eviction(request: ApiRequest) -> ApiRequest:
    """The request with an ``Eviction`` of the older version, which has the same fields, said in the current one."""
    if _OLDER_EVICTION not in request.body:
        return request
    try:
        obj = orjson.loads(request.body)
    except ValueError:
        return request
    if not isinstance(obj, dict) or obj.get("apiVersion") != _OLDER_EVICTION.decode():
        return request
    return dataclasses.replace(request, body=orjson.dumps({**obj, "apiVersion": "policy/v1"}))


async def _admitted(write: Write, obj: Object) -> Object:
    """The body of a request that is not what it writes; what it writes is then not admitted once more."""
    admitted = await write.admit("CREATE", obj, None)
    assert admitted is not None
    await write.check("CREATE", admitted, None)
    write.admit, write.check = admit_all, check_nothing
    return admitted


def _admit_as_scale(write: Write, resource: Resource) -> None:
    """Admission sees the Scale, not the object it belongs to."""
    admit, check = write.admit, write.check

    async def admit_scale(operation: Operation, new: Object | None, old: Object | None) -> Object | None:
        assert new is not None
        before = scale.of(new)
        after = await admit(operation, before, None if old is None else scale.of(old))
        return new if after is None or after == before else scale.applied(new, after, resource)

    async def check_scale(operation: Operation, new: Object | None, old: Object | None) -> None:
        await check(operation, scale.of(new or {}), None if old is None else scale.of(old))

    write.admit, write.check = admit_scale, check_scale


def _go_kind(version: str, kind: str) -> str:
    group, _, plain = version.rpartition("/")
    return f"{group}/{plain}, Kind={kind}"
