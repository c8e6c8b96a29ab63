"""The subresources of custom resources: status, whose body is the object, and scale, whose body is its Scale.

Source: apiextensions-apiserver ``pkg/registry/customresource/etcd.go``, apimachinery
``pkg/util/managedfields/scalehandler.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from anynode.aio.clock import Clock
from anynode.api import errors
from anynode.api.objects import Object, meta
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver.bodies import Bodies, field_validation
from anynode.apiserver.read import Reader
from anynode.apiserver.requestinfo import RequestInfo
from anynode.apiserver.served import CustomRoutes, Route, Served
from anynode.apiserver.subresources import Subresources
from anynode.apiserver.write import Writer, check_name, in_namespace, key_of
from anynode.registry import custom_scale
from anynode.registry.custom_scale import ScalePaths
from anynode.registry.deletion import timestamp
from anynode.registry.store import ResourceStore, Write
from anynode.schema import managed_fields, scale_ownership

Change = Callable[[Object], Object]
"""The Scale there is -> the Scale asked for."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CustomRouting:
    """Makes the routes of custom resources."""

    subresources: Subresources
    reader: Reader
    writer: Writer
    bodies: Bodies
    clock: Clock

    def routes(self, store: ResourceStore, *, status: bool, scale: ScalePaths | None) -> CustomRoutes:
        """The routes of one version, as far as its definition has the subresources."""
        found: dict[str, dict[str, Route]] = {}
        if status:
            found["status"] = dict(self.subresources.object_routes(store.status_rules))
        if scale is not None:
            found["scale"] = self._scale(scale)
        return found

    def _scale(self, paths: ScalePaths) -> dict[str, Route]:
        async def get(served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
            item = await self.reader.item(served, info, request)
            return ApiResponse(obj=custom_scale.of(item.peek(), paths))

        async def update(served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
            write = self.writer.write_of(served, info, request, user, "UpdateOptions")
            validation = field_validation(request, "UpdateOptions")
            obj = self.bodies.typed(request, "autoscaling/v1", "Scale", validation=validation, warnings=write.warnings)
            obj = in_namespace(obj, info.namespace, served.resource)
            check_name(obj, info.name)
            return await self._changed(served, info, write, paths, lambda _: obj)

        async def patch(served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
            write = self.writer.write_of(served, info, request, user, "PatchOptions")
            change = self.writer.scale_change(served, info, request, write)
            return await self._changed(served, info, write, paths, change)

        return {"get": get, "update": update, "patch": patch}

    async def _changed(
        self, served: Served, info: RequestInfo, write: Write, paths: ScalePaths, change: Change
    ) -> ApiResponse:
        version = served.resource.api_version
        by_apply = write.applied
        write.applied = True  # of the object: what follows settles it through its Scale

        def changed(old: Object | None) -> Object:
            if old is None:
                raise errors.not_found(served.resource, info.name)
            entries = meta(old).get("managedFields") or []
            live = custom_scale.to_change(old, paths)
            live = managed_fields.with_entries(live, scale_ownership.of_scale(entries, version, paths.owned))
            result = change(live)
            if not by_apply:
                result = self._owned(live, result, write)
            owners = meta(result).get("managedFields") or []
            new = custom_scale.applied(old, managed_fields.with_entries(result, []), paths)
            return managed_fields.with_entries(
                new, scale_ownership.of_object(entries, owners, version, paths.owned)
            )  # fmt: skip

        item, _ = await served.store.update(key_of(info), changed, write)
        return ApiResponse(obj=custom_scale.of(item.peek(), paths))

    def _owned(self, live: Object, new: Object, write: Write) -> Object:
        """The Scale with the owners it has after an update or a patch."""
        types = self.bodies.types
        entries = managed_fields.updated(
            live,
            new,
            manager=write.manager,
            subresource=write.subresource,
            api_version="autoscaling/v1",
            time=timestamp(self.clock.now()),
            type_name=types.of_kind("autoscaling/v1", "Scale"),
            types=types,
        )
        return managed_fields.with_entries(new, entries)
