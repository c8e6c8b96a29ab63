"""The four kinds of patch: each becomes a function from the object there is to the object asked for.

The function is pure and may be called again when another writer was faster. Source: apiserver
``pkg/endpoints/handlers/patch.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynode.api import errors, patches
from anynode.api.objects import Object, meta
from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest
from anynode.apiserver import negotiation
from anynode.apiserver.bodies import Bodies, report
from anynode.apiserver.requestinfo import RequestInfo, is_true
from anynode.apiserver.served import Served
from anynode.registry.store import Write
from anynode.schema import decode, strategic

JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH = negotiation.PATCHES

Change = Callable[[Object | None], Object]


class Patcher:
    """Prepares patches."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def media_types(self, resource: Resource) -> tuple[str, ...]:
        """The kinds of patch this resource takes."""
        return negotiation.PATCHES if self._bodies.types.of_kind(resource.api_version, resource.kind) else (
            JSON_PATCH, MERGE_PATCH, APPLY_PATCH,
        )  # fmt: skip

    def prepared(
        self, served: Served, info: RequestInfo, request: ApiRequest, media: str, write: Write, validation: str
    ) -> Change:
        """What the patch does to an object of ``served``; raises ``BadRequest`` for one that cannot be read."""
        resource = served.resource
        return self.prepared_for(resource.api_version, resource.kind, info, request, media, write, validation)

    def prepared_for(
        self,
        api_version: str,
        kind: str,
        info: RequestInfo,
        request: ApiRequest,
        media: str,
        write: Write,
        validation: str,
    ) -> Change:
        """What the patch does to an object of this kind."""
        patch, complaints = self._read(request, media)
        report(complaints, validation, write.warnings, "")
        said: list[str] = []
        patched = self._patch(api_version, kind, media, patch)
        what = f'{kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind}: '

        def change(live: Object | None) -> Object:
            assert live is not None
            result = patched(live)
            if not isinstance(result, dict):
                raise errors.BadRequest("the patched object is no JSON object")
            checked, unknown = self._bodies.checked(result, api_version, kind, what)
            if list(unknown) != said:
                said[:] = unknown
                report(unknown, validation, write.warnings, what)
            return _named(checked, info)

        return change

    def _read(self, request: ApiRequest, media: str) -> tuple[Any, Sequence[str]]:
        if request.obj is not None:
            return request.obj, ()
        try:
            if media == APPLY_PATCH:
                return decode.decode_yaml(request.body)
            return decode.decode_json(request.body)
        except decode.DecodeError as error:
            raise errors.BadRequest(f"error decoding patch: {error}") from error

    def _patch(self, api_version: str, kind: str, media: str, patch: Any) -> Callable[[Object], Any]:
        if media == JSON_PATCH:
            return lambda live: self._json_patched(live, patch)
        if media == MERGE_PATCH:
            return lambda live: self._merged(live, patch)
        name = self._bodies.types.of_kind(api_version, kind)
        return lambda live: self._strategic(live, patch, name)

    def _strategic(self, live: Object, patch: Any, name: str) -> Object:
        try:
            return strategic.merge(live, patch, name, self._bodies.types)
        except strategic.StrategicError as error:
            raise errors.BadRequest(str(error)) from error

    def _json_patched(self, live: Object, operations: Any) -> Any:
        try:
            return patches.json_patch(live, operations)
        except patches.TooManyOperations as error:
            raise errors.RequestEntityTooLarge(str(error)) from error
        except patches.PatchError as error:
            raise errors.ApiError(str(error), code=422, reason="Invalid") from error

    def _merged(self, live: Object, patch: Any) -> Any:
        try:
            return patches.merge_patch(live, patch)
        except patches.PatchError as error:
            raise errors.BadRequest(str(error)) from error


def _named(obj: Object, info: RequestInfo) -> Object:
    """``obj``, which a patch may not rename."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        obj = {**obj, "metadata": {"name": info.name}}
    if not meta(obj).get("name"):
        raise errors.BadRequest(
            f"the name of the object ({info.name} based on URL) was undeterminable: name must be provided"
        )
    return obj


def forced(request: ApiRequest) -> bool:
    """Whether an apply takes over fields of others."""
    return is_true(request.argument("force"))
