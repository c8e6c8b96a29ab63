"""``CustomType``: one served version of a CustomResourceDefinition as rules, built once per generation of it.

In goes an established definition; out come the resource as it is served, its rules, how objects are read and defaulted,
whose fields are whose, its Table columns and its part of the OpenAPI documents. Source: apiextensions-apiserver
``pkg/apiserver/customresource_handler.go``, ``pkg/registry/customresource``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.objects import Object, meta
from anynode.api.resources import Resource, Subresource
from anynode.schema.custom import structure_rules
from anynode.schema.custom.columns import Columns
from anynode.schema.custom.custom_rules import CustomRules
from anynode.schema.custom.default_rules import pruned_defaults
from anynode.schema.custom.openapi import Published
from anynode.schema.custom.ownership import owned_type
from anynode.schema.custom.pruning import coerced, defaulted, pruned, read_metadata
from anynode.schema.custom.structural import Structural, structural
from anynode.schema.managed_fields import OwnedType
from anynode.schema.rules import KindRules

VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_READ_WRITE = ("get", "patch", "update")


class CustomType:
    """One version. Everything here is a value or a plain function of objects; nothing changes after ``build``."""

    def __init__(self, crd: Object, version: Object) -> None:
        spec = crd["spec"]
        self.group: str = spec["group"]
        self.version: str = version["name"]
        self.definition = version
        self.preserves = bool(spec.get("preserveUnknownFields"))
        raw = (version.get("schema") or {}).get("openAPIV3Schema")
        self.schema: Object | None = raw
        self._list_kind = str(_names(crd).get("listKind") or f"{_names(crd)['kind']}List")
        node = None if raw is None else structural(raw)
        self.node: Structural | None = node if node is None or self.preserves else pruned_defaults(node)
        self.resource = _resource(crd, version)
        self.selectable_fields: tuple[str, ...] = tuple(
            str(each["jsonPath"]).removeprefix(".") for each in version.get("selectableFields") or ()
        )
        """Field labels beside the name and namespace, as selectors write them: ``spec.a``."""
        self.columns = Columns(version.get("additionalPrinterColumns") or ())
        self.owned_type = owned_type(
            self.node,
            kind=self.resource.kind,
            preserves=self.preserves,
            status=self.resource.subresource("status") is not None,
            sibling=_Siblings(crd, version["name"]),
        )
        """What ``managed_fields`` takes in place of the type table (with an empty ``type_name``)."""
        self.judge = CustomRules(self.resource, version, self.node, raw)
        self.rules: KindRules = self.judge.kind_rules(self.defaulted)

    @staticmethod
    def build(crd: Object, version: str) -> CustomType:
        """The type of ``version``; raises ``KeyError`` when the definition has none, ``StructuralError`` for a schema
        that is not structural."""
        for each in crd["spec"].get("versions") or ():
            if each.get("name") == version:
                return CustomType(crd, each)
        raise KeyError(version)

    @property
    def published(self) -> Published:
        """What the OpenAPI documents tell of this version."""
        told = self.schema
        if self.node is None or structure_rules.validate(self.node, ""):
            told = None
        return Published(self.resource, self._list_kind, told, self.selectable_fields)

    def checked(self, obj: Object, *, lenient: bool = False, keep_nulls: bool = False) -> tuple[Object, Sequence[str]]:
        """``(obj as the server takes it, complaints such as 'unknown field "spec.x"')``: metadata read, fields the
        schema does not know dropped.

        Raises ``DecodeError`` for metadata that cannot be read; ``lenient``, for what is stored already, drops it.
        ``keep_nulls``: what is null and may not be stays, to be complained about.
        """
        unknown: list[str] = []
        metadata = None
        if "metadata" in obj:
            metadata, strangers = read_metadata(obj["metadata"], lenient=lenient)
            unknown.extend(f"metadata.{each}" for each in strangers)
        if not self.preserves:
            obj, strange = pruned(obj, self.node, whole=True, keep_nulls=keep_nulls)
            unknown.extend(strange)
        if self.node is not None and self.node.embeds:
            embedded: list[str] = []
            obj = coerced(obj, self.node, "", embedded, lenient=lenient)
            unknown.extend(sorted(embedded))
        if metadata is not None and metadata is not obj.get("metadata"):
            obj = {**obj, "metadata": metadata}
        return obj, [f'unknown field "{each}"' for each in unknown] if unknown else ()

    def defaulted(self, obj: Object) -> Object:
        """``obj`` with its schema's defaults; requests and stored objects alike."""
        found: Object = defaulted(obj, self.node)
        return found

    def restored(self, obj: Object) -> Object:
        """A stored object as it is served: pruned and defaulted by the schema of today."""
        found, _ = self.checked(obj, lenient=True)
        if not meta(found).get("generation"):
            found = {**found, "metadata": {**meta(found), "generation": 1}}
        return self.defaulted(found)


class _Siblings:
    """The other versions of a definition as server-side apply sees them, each made when first asked for."""

    def __init__(self, crd: Object, own: str) -> None:
        spec = crd["spec"]
        self._kind, self._preserves = str(_names(crd)["kind"]), bool(spec.get("preserveUnknownFields"))
        self._versions: dict[str, Object] = {
            f"{spec['group']}/{each['name']}": each for each in spec.get("versions") or () if each["name"] != own
        }
        self._made: dict[str, OwnedType] = {}

    def __call__(self, api_version: str) -> OwnedType | None:
        version, found = self._versions.get(api_version), self._made.get(api_version)
        if found is None and version is not None:
            raw = (version.get("schema") or {}).get("openAPIV3Schema")
            node = None if raw is None else structural(raw)
            found = owned_type(node, kind=self._kind, preserves=self._preserves, status=False)
            self._made[api_version] = found
        return found


def _names(crd: Object) -> Object:
    """The names the server has accepted, or those the definition asks for."""
    accepted: Object = (crd.get("status") or {}).get("acceptedNames") or {}
    wanted: Object = crd["spec"]["names"]
    return accepted if accepted.get("plural") else wanted


def _resource(crd: Object, version: Object) -> Resource:
    spec, subresources = crd["spec"], version.get("subresources") or {}
    names = _names(crd)
    group, kind = spec["group"], names["kind"]
    found: list[Subresource] = []
    if subresources.get("status") is not None:
        found.append(Subresource(name="status", verbs=_READ_WRITE, kind=kind))
    if subresources.get("scale") is not None:
        found.append(Subresource(name="scale", verbs=_READ_WRITE, kind="Scale", group="autoscaling", version="v1"))
    return Resource(
        group=group,
        version=version["name"],
        plural=names["plural"],
        kind=kind,
        singular=names.get("singular") or kind.lower(),
        namespaced=spec.get("scope") == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=VERBS,
        subresources=tuple(found),
    )
