"""Request bodies -> typed objects: media type, version and kind, unknown and doubled fields, in upstream's words.

Source: apiserver ``pkg/endpoints/handlers/{create,update,rest}.go``, ``pkg/util/..``, apimachinery
``pkg/runtime/serializer``, 1.36.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import orjson

from anynode.api import errors
from anynode.api.objects import Object
from anynode.api.resources import Catalogue, GroupVersion, Resource
from anynode.api.wire import ApiRequest
from anynode.apiserver import negotiation
from anynode.schema import decode, fields, managed_fields
from anynode.schema.custom.custom_type import CustomType
from anynode.schema.managed_fields import OwnedType
from anynode.schema.types import Types

_SCHEME = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"


def field_validation(request: ApiRequest, options: str) -> str:
    """Ignore, Warn or Strict; raises ``Invalid`` for another word. ``options`` is the kind it belongs to."""
    word = request.argument("fieldValidation") or "Warn"
    if word not in ("Ignore", "Warn", "Strict"):
        found = fields.not_supported(fields.FieldPath("fieldValidation"), word, ("", "Ignore", "Strict", "Warn"))
        raise errors.invalid(options, "meta.k8s.io", "", [found.cause()])
    return word


def report(complaints: Sequence[str], validation: str, warnings: list[str], what: str) -> None:
    """Refuse, note or ignore doubled and unknown fields. ``what`` begins the refusal's sentence."""
    if not complaints or validation == "Ignore":
        return
    if validation == "Strict":
        doubled = [each for each in complaints if each.startswith("line ")]
        if doubled:  # the YAML library's own way to say several things
            complaints = [
                "\n  ".join(["yaml: unmarshal errors:", *doubled]),
                *(e for e in complaints if e not in doubled),
            ]
        raise errors.BadRequest(f"{what}strict decoding error: {', '.join(complaints)}")
    warnings.extend(complaints)


def no_such_kind(api_version: str, kind: str) -> str:
    return f'no kind "{kind}" is registered for version "{api_version}" in scheme "{_SCHEME}"'


_UNSERVED = {"Scale": "autoscaling", "TokenRequest": "authentication.k8s.io", "Eviction": "policy"}


class Bodies:
    """Reads the bodies of writes."""

    def __init__(self, types: Types, catalogue: Catalogue) -> None:
        self.types = types
        self._catalogue = catalogue
        self.custom: dict[tuple[str, str], CustomType] = {}
        """(apiVersion, kind) -> the type of a custom resource that is served now."""

    def whatever(self, request: ApiRequest) -> Object | None:
        """The body as a value whatever it is, for who only tells of it. Raises ``ApiError``."""
        if request.obj is not None:
            return request.obj
        if not request.body:
            return None
        try:  # most are JSON, patches of every kind, too
            found = orjson.loads(request.body)
        except ValueError:
            return self._parsed(request, "")[0]
        return found if isinstance(found, dict) else {"patch": found}

    def typed(
        self, request: ApiRequest, api_version: str, kind: str, *, validation: str, warnings: list[str]
    ) -> Object:
        """The body as an object of this kind, unknown fields dropped. Raises ``BadRequest`` and its like."""
        custom = self.custom.get((api_version, kind)) if self.custom else None
        if custom is not None:
            return self._custom(custom, request, validation, warnings)
        obj, complaints = self._parsed(request, kind)
        obj = self._of_kind(obj, api_version, kind)
        what = f'{kind} in version "{GroupVersion.parse(api_version).version}" cannot be handled as a {kind}: '
        checked, unknown = self.checked(obj, api_version, kind, what, body=request.body)
        report(decode.in_document_order(request.body, [*complaints, *unknown]), validation, warnings, what)
        return checked

    def _custom(self, custom: CustomType, request: ApiRequest, validation: str, warnings: list[str]) -> Object:
        """The body as a custom resource; of which kind it says it is, its rules will judge."""
        resource = custom.resource
        obj, complaints = self._parsed(request, resource.kind)
        said_version, said_kind = obj.get("apiVersion"), obj.get("kind")
        if request.obj is not None:  # a client in this process may leave to the URL what it says already
            said_version, said_kind = said_version or resource.api_version, said_kind or resource.kind
            obj = {**obj, "apiVersion": said_version, "kind": said_kind}
        if not said_kind or not isinstance(said_kind, str):
            raise errors.BadRequest(_without_kind(request, obj, resource, validation))
        if said_version != resource.api_version:
            raise errors.BadRequest(
                f"the API version in the data ({said_version or ''}) does not match the expected API version "
                f"({resource.api_version})"
            )
        what = f'{said_kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
        try:
            checked, unknown = custom.checked(obj)
        except decode.DecodeError as error:
            raise errors.BadRequest(f"{what}{error}") from error
        report([*complaints, *unknown], validation, warnings, what)
        return checked

    def checked(
        self, obj: Object, api_version: str, kind: str, what: str, body: bytes = b""
    ) -> tuple[Object, Sequence[str]]:
        """``obj`` as Go's round trip through the type makes it, and its unknown fields.

        ``body``, where it is JSON, lets a refusal name a number as it was written.
        """
        try:
            return self.try_checked(obj, api_version, kind, body=body if body[:1] == b"{" else b"")
        except decode.DecodeError as error:
            raise errors.BadRequest(f"{what}{error}") from error

    def try_checked(
        self,
        obj: Object,
        api_version: str,
        kind: str,
        *,
        body: bytes = b"",
        known: Object | None = None,
        keep_nulls: bool = False,
    ) -> tuple[Object, Sequence[str]]:
        """The same; raises ``DecodeError``. What ``known``, checked before, has in common is not looked at again.

        ``keep_nulls``: of a custom resource, what is null and may not be stays.
        """
        name = self.types.of_kind(api_version, kind)
        if name:
            return decode.check_fields(obj, name, self.types, body or None, known)
        custom = self.custom.get((api_version, kind))
        return (obj, ()) if custom is None else custom.checked(obj, keep_nulls=keep_nulls)

    def owned_type(self, api_version: str, kind: str) -> tuple[str, Types | OwnedType]:
        """What field ownership asks of a kind: its type's name and the types, or a type of its own."""
        custom = self.custom.get((api_version, kind))
        return (self.types.of_kind(api_version, kind), self.types) if custom is None else ("", custom.owned_type)

    def owned(self, obj: Object, manager: str, subresource: str, time: str) -> Object:
        """An object that is answered and not stored, with the field ownership upstream gives it all the same."""
        name = self.types.of_kind(obj["apiVersion"], obj["kind"])
        entries = managed_fields.updated(
            None,
            obj,
            manager=manager,
            subresource=subresource,
            api_version=obj["apiVersion"],
            time=time,
            type_name=name,
            types=self.types,
        )
        return managed_fields.with_entries(obj, entries)

    def _parsed(self, request: ApiRequest, kind: str) -> tuple[Object, Sequence[str]]:
        if request.obj is not None:
            return request.obj, ()
        media = negotiation.content_type(request.headers.get("content-type", ""))
        body = request.body
        try:
            if media == negotiation.PROTOBUF:
                return decode.decode_protobuf(body, self.types), ()
            parsed, complaints = decode.decode_yaml(body) if media == negotiation.YAML else decode.decode_json(body)
        except decode.DecodeError as error:
            what = f"the object provided is unrecognized (must be of type {kind}): "
            raise errors.BadRequest(f"{what}{error} ({decode.summary(body)})") from error
        return parsed, complaints

    def _of_kind(self, obj: Object, api_version: str, kind: str) -> Object:
        """``obj`` with both set; raises ``BadRequest`` when it says it is something else."""
        said_version, said_kind = obj.get("apiVersion"), obj.get("kind")
        if said_version == api_version and said_kind == kind:
            return obj
        said_version, said_kind = said_version or api_version, said_kind or kind
        if said_kind != kind or not isinstance(said_version, str):
            raise errors.BadRequest(self._stranger(str(said_version), str(said_kind), kind))
        if said_version != api_version:
            if not self._known(said_version, kind):
                raise errors.BadRequest(self._stranger(said_version, said_kind, kind))
            raise errors.BadRequest(
                f"the API version in the data ({said_version}) does not match the expected API version ({api_version})"
            )
        return {**obj, "apiVersion": api_version, "kind": kind}

    def _known(self, api_version: str, kind: str) -> bool:
        group = GroupVersion.parse(api_version).group
        return bool(self.types.of_kind(api_version, kind)) or any(
            each.group == group and each.kind == kind and group for each in self._catalogue
        )

    def _stranger(self, api_version: str, said: str, kind: str) -> str:
        version = GroupVersion.parse(api_version).version
        head = f'{said} in version "{version}" cannot be handled as a {kind}: '
        if self.types.of_kind(api_version, said):
            return f"{head}converting ({version}.{said}) to ({self._package_of(kind)}.{kind}): unknown conversion"
        return f"{head}{no_such_kind(api_version, said)}"

    def _package_of(self, kind: str) -> str:
        """The Go package upstream keeps the kind's internal type in."""
        group = next((each.group for each in self._catalogue if each.kind == kind), _UNSERVED.get(kind, ""))
        return group.partition(".")[0] or "core"


def _without_kind(request: ApiRequest, obj: Object, resource: Resource, validation: str) -> str:
    """What a custom resource is refused with that does not say what it is."""
    body, kind = request.body, resource.kind
    if validation != "Ignore":
        missing = f"Object 'Kind' is missing in '{body.decode(errors='replace')}'"
        return f"the object provided is unrecognized (must be of type {kind}): {missing} ({decode.summary(body)})"
    if negotiation.content_type(request.headers.get("content-type", "")) == negotiation.YAML:
        body = orjson.dumps(obj, option=orjson.OPT_SORT_KEYS) if obj else b"null"
    missing = f"Object 'Kind' is missing in '{body.decode(errors='replace')}'"
    return f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {missing}'


def quoted_warning(text: str) -> str:
    """One value of a ``Warning`` header."""
    return f"299 - {json.dumps(text, ensure_ascii=False)}"
