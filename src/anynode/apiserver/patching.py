"""The four kinds of patch: each becomes a function from the object there is to the object asked for.

The function is pure and may be called again when another writer was faster. Source: apiserver
``pkg/endpoints/handlers/patch.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from anynode.aio.clock import Clock
from anynode.api import errors, patches
from anynode.api.go_text import go_value
from anynode.api.objects import Object, meta
from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest
from anynode.apiserver import negotiation
from anynode.apiserver.bodies import Bodies, no_such_kind, report
from anynode.apiserver.requestinfo import RequestInfo, is_true
from anynode.registry.deletion import timestamp
from anynode.registry.store import NAMESPACE_MISMATCH, Write
from anynode.schema import decode, fields, managed_fields, strategic, unstructured
from anynode.schema.go_order import in_go_order

JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH = negotiation.PATCHES

Change = Callable[[Object | None], Object]


class Patcher:
    """Prepares patches."""

    def __init__(self, bodies: Bodies, clock: Clock) -> None:
        self._bodies = bodies
        self._clock = clock

    def media_types(self, resource: Resource) -> tuple[str, ...]:
        """The kinds of patch this resource takes."""
        known = self._bodies.types.of_kind(resource.api_version, resource.kind)
        return negotiation.PATCHES if known else (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)

    def prepared(
        self,
        api_version: str,
        kind: str,
        info: RequestInfo,
        request: ApiRequest,
        media: str,
        write: Write,
        validation: str,
    ) -> Change:
        """What the patch does to an object of this kind; raises ``BadRequest`` for one that cannot be read."""
        if media == APPLY_PATCH:
            return self._apply(api_version, kind, info, request, write, validation)
        if request.argument("force"):
            found = fields.forbidden(fields.FieldPath("force"), "may not be specified for non-apply patch")
            raise errors.invalid("PatchOptions", "meta.k8s.io", "", [found.cause()])
        patch, doubled = self._read(request, media)
        patched = self._patch(api_version, kind, media, patch)
        name = self._bodies.types.of_kind(api_version, kind)
        said: list[str] = []

        def change(live: Object | None) -> Object:
            if live is None:
                raise errors.NotFound("there is nothing to patch")
            result = patched(live)
            if not isinstance(result, dict):
                raise _invalid(_json(result), "expected an object")
            try:
                checked, unknown = self._checked(result, api_version, kind, live)
            except decode.DecodeError as error:
                why = str(error)
                if media == STRATEGIC_PATCH and name:
                    why = unstructured.conversion_error(result, name, self._bodies.types, why)
                raise _invalid(self._shown(media, patch, live, patched, name), why) from error
            complaints = [*doubled, *unknown]
            if complaints and validation == "Strict":
                said_wrong = f"strict decoding error: {', '.join(complaints)}"
                raise _invalid(self._shown(media, patch, live, patched, name), said_wrong)
            if complaints and complaints != said:
                said[:] = complaints
                report(complaints, validation, write.warnings, "")
            return _named(checked, info)

        return change

    def _checked(self, result: Object, api_version: str, kind: str, live: Object) -> tuple[Object, Sequence[str]]:
        said_version, said_kind = result.get("apiVersion"), result.get("kind")
        if (said_version == api_version and said_kind == kind) or (api_version, kind) in self._bodies.custom:
            return self._bodies.try_checked(result, api_version, kind, known=live)
        if isinstance(said_version, str) and isinstance(said_kind, str):
            if self._bodies.types.of_kind(said_version, said_kind):
                self._bodies.try_checked(result, said_version, said_kind)
            raise decode.DecodeError(no_such_kind(said_version, said_kind))
        return self._bodies.try_checked({**result, "apiVersion": api_version, "kind": kind}, api_version, kind)

    def _shown(self, media: str, patch: Any, live: Object, patched: Callable[[Object], Any], name: str) -> str:
        """What upstream shows of a patch that made no object: the outcome, with sorted keys where it was taken
        apart, or the patch."""
        if media == STRATEGIC_PATCH:
            return go_value(patch)
        result = patched(in_go_order(live, name, self._bodies.types) if name else _all_sorted(live))
        return _json(_sorted_along(patch if media == MERGE_PATCH else _pointed(patch), result))

    def _read(self, request: ApiRequest, media: str) -> tuple[Any, Sequence[str]]:
        if request.obj is not None:
            return request.obj, ()
        try:
            if media == JSON_PATCH:
                return decode.decode_json_patch(request.body)
            return decode.decode_patch_document(request.body, strategic=media == STRATEGIC_PATCH)
        except decode.DecodeError as error:
            raise errors.BadRequest(str(error)) from error

    def _patch(self, api_version: str, kind: str, media: str, patch: Any) -> Callable[[Object], Any]:
        if media == JSON_PATCH:
            return lambda live: _json_patched(live, patch)
        if media == MERGE_PATCH:
            return lambda live: _merged(live, patch)
        name = self._bodies.types.of_kind(api_version, kind)
        return lambda live: self._strategic(live, patch, name)

    def _strategic(self, live: Object, patch: Any, name: str) -> Object:
        try:
            return strategic.merge(live, patch, name, self._bodies.types)
        except strategic.StrategicError as error:
            reason = {400: "BadRequest", 422: "Invalid"}.get(error.code, "")
            raise errors.ApiError(str(error), code=error.code, reason=reason) from error

    # --- server-side apply

    def _apply(
        self, api_version: str, kind: str, info: RequestInfo, request: ApiRequest, write: Write, validation: str
    ) -> Change:
        manager = request.argument("fieldManager")
        if not manager:
            found = fields.required(fields.FieldPath("fieldManager"), "is required for apply patch")
            raise errors.invalid("PatchOptions", "meta.k8s.io", "", [found.cause()])
        config, doubled = self._read_config(request)
        write.applied = True
        name, types = self._bodies.owned_type(api_version, kind)
        force = is_true(request.argument("force"))
        what = f'{kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind}: '
        told: list[bool] = []

        def change(live: Object | None) -> Object:
            result = managed_fields.apply(
                live,
                config,
                manager=manager,
                force=force,
                subresource=info.subresource,
                api_version=api_version,
                kind=kind,
                time=timestamp(self._clock.now()),
                type_name=name,
                types=types,
            )
            if doubled and not told:
                told.append(True)
                _report_doubled(doubled, validation, write)
            try:
                checked, _ = self._bodies.try_checked(result, api_version, kind, keep_nulls=True)
            except decode.DecodeError as error:
                known = self._bodies.types.of_kind(api_version, kind)
                if not known:
                    raise errors.BadRequest(f"{what}{error}") from error
                why = unstructured.conversion_error(result, known, self._bodies.types, str(error))
                raise _unconverted(config, api_version, kind, why) from error
            return _named(checked, info)

        return change

    def _read_config(self, request: ApiRequest) -> tuple[Object, Sequence[str]]:
        if request.obj is not None:
            return request.obj, ()
        try:
            return decode.decode_yaml(request.body)
        except decode.DecodeError as error:
            raise errors.BadRequest(f"error decoding YAML: error converting YAML to JSON: {error}") from error


def _report_doubled(doubled: Sequence[str], validation: str, write: Write) -> None:
    if validation == "Strict":
        said = f"error converting YAML to JSON: {decode.strict_text(doubled)}"
        raise errors.BadRequest(f"error strict decoding YAML: {said}")
    report(doubled, validation, write.warnings, "")


def _json_patched(live: Object, operations: Any) -> Any:
    try:
        return patches.json_patch(live, operations)
    except patches.TooManyOperations as error:
        raise errors.RequestEntityTooLarge(str(error)) from error
    except patches.BadPatch as error:
        raise errors.BadRequest(str(error)) from error
    except patches.PatchError as error:
        # Upstream keeps to itself what was wrong.
        said = "the server rejected our request due to an error in our request"
        raise errors.Invalid(said, details={}) from error


def _merged(live: Object, patch: Any) -> Any:
    try:
        return patches.merge_patch(live, patch)
    except patches.PatchError as error:
        raise errors.BadRequest(str(error)) from error


def _unconverted(config: Object, api_version: str, kind: str, why: str) -> errors.ApiError:
    group, _, version = api_version.rpartition("/")
    shown, given = f"{group}/{version}, Kind={kind}", meta(config)
    where = f"{given.get('namespace') or ''}/{given.get('name') or ''}"
    said = f"failed to convert new object ({where}; {shown}) to proper version: unable to convert unstructured object"
    return errors.ApiError(f"{said} to {shown}: {why}", code=500, reason="")


def _invalid(value: str, why: str) -> errors.Invalid:
    return errors.invalid("", "", "", [fields.invalid(fields.FieldPath("patch"), value, why).cause()])


def _json(value: Any) -> str:
    if isinstance(value, dict):
        value = dict(sorted(value.items()))
    return orjson.dumps(value).decode()


def _sorted_along(patch: Any, result: Any) -> Any:
    """``result`` with sorted keys where the patch has an object, as upstream shows what it merged."""
    if isinstance(patch, list):
        return _all_sorted(result)
    if not isinstance(patch, dict) or not isinstance(result, dict | list):
        return result
    if isinstance(result, list):
        return [_sorted_along(patch.get(str(at)), each) for at, each in enumerate(result)]
    return {key: _sorted_along(patch.get(key), result[key]) for key in sorted(result)}


def _all_sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _all_sorted(value[key]) for key in sorted(value)}
    return [_all_sorted(each) for each in value] if isinstance(value, list) else value


def _pointed(operations: Any) -> Object:
    """The objects and lists a JSON Patch goes through, as nested objects."""
    tree: Object = {}
    for operation in operations:
        for pointer in (operation.get("path"), operation.get("from")):
            below = tree
            for step in (pointer or "").split("/")[1:-1]:
                below = below.setdefault(step.replace("~1", "/").replace("~0", "~"), {})
    return tree


def _named(obj: Object, info: RequestInfo) -> Object:
    """``obj``, which a patch may not rename."""
    said, namespace = meta(obj).get("name") or "", meta(obj).get("namespace")
    if namespace and info.namespace and namespace != info.namespace:
        raise errors.BadRequest(NAMESPACE_MISMATCH)
    if not said:
        raise errors.BadRequest(
            f"the name of the object ({info.name} based on URL) was undeterminable: name must be provided"
        )
    if said != info.name:
        raise errors.BadRequest(f"the name of the object ({said}) does not match the name on the URL ({info.name})")
    return obj
