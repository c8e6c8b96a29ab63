"""What discovery tells of custom resources: read from the definitions alone, before anybody asks for an object.

Source: apiextensions-apiserver ``pkg/apiserver/customresource_discovery_controller.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from anynode.api.objects import Object, get_path
from anynode.api.resources import GroupVersion, Resource, Subresource
from anynode.apiserver.discovery import ServedVersion, aggregated_row, legacy_rows, storage_hash
from anynode.registry import api_services, definitions
from anynode.schema.custom.openapi import Published

VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_ENDING = ("delete", "deletecollection", "get", "list", "watch")
_SUBRESOURCE_VERBS = ("get", "patch", "update")


def resource_of(crd: Object, version: str) -> Resource:
    """The resource a definition makes of one of its versions, by the names it was given."""
    names = get_path(crd, "status", "acceptedNames") or {}
    kind = str(names.get("kind") or "")
    return Resource(
        group=crd["spec"]["group"],
        version=version,
        plural=str(names.get("plural") or ""),
        kind=kind,
        singular=str(names.get("singular") or ""),
        namespaced=crd["spec"].get("scope") == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=_ENDING if definitions.is_true(crd, definitions.TERMINATING) else VERBS,
        subresources=tuple(_subresources(crd, version, kind)),
        listed_as=str(names.get("listKind") or ""),
    )


def _subresources(crd: Object, version: str, kind: str) -> Iterator[Subresource]:
    said = next((each for each in definitions.versions_of(crd) if each["name"] == version), {}).get("subresources")
    if not said:
        return
    if said.get("status") is not None:
        yield Subresource(name="status", verbs=_SUBRESOURCE_VERBS, kind=kind)
    if said.get("scale") is not None:
        yield Subresource(
            name="scale", verbs=_SUBRESOURCE_VERBS, kind="Scale", group="autoscaling", version="v1"
        )  # fmt: skip


def versions(crds: Iterable[Object]) -> Iterator[ServedVersion]:
    """Every group version that established definitions serve."""
    found: dict[GroupVersion, list[tuple[Object, Resource]]] = {}
    for crd in crds:
        if definitions.is_true(crd, definitions.ESTABLISHED):
            for version in definitions.served_versions(crd):
                slot = GroupVersion(crd["spec"]["group"], version)
                found.setdefault(slot, []).append((crd, resource_of(crd, version)))
    for group_version, entries in found.items():
        entries.sort(key=lambda entry: entry[1].plural)
        yield ServedVersion(
            group_version=group_version,
            priority=api_services.CUSTOM,
            rows=[row for crd, resource in entries for row in legacy_rows(resource, _hash(crd, resource))],
            aggregated=[_aggregated(resource) for _, resource in entries],
        )


def published(crds: Iterable[Object]) -> Mapping[GroupVersion, Sequence[Published]]:
    """What the OpenAPI documents tell of every group version that established definitions serve."""
    found: dict[GroupVersion, list[Published]] = {}
    for crd in crds:
        if not definitions.is_true(crd, definitions.ESTABLISHED):
            continue
        for said in definitions.versions_of(crd):
            if said.get("served"):
                resource = resource_of(crd, said["name"])
                schema = (said.get("schema") or {}).get("openAPIV3Schema")
                open_ended = bool(crd["spec"].get("preserveUnknownFields"))
                selectable = [str(each["jsonPath"]).removeprefix(".") for each in said.get("selectableFields") or ()]
                part = Published(resource, resource.list_kind, None if open_ended else schema, selectable)
                found.setdefault(resource.group_version, []).append(part)
    for parts in found.values():
        parts.sort(key=lambda part: part.resource.plural)
    return found


def _hash(crd: Object, resource: Resource) -> str:
    stored = definitions.storage_version(crd)
    if stored not in definitions.served_versions(crd):
        return ""
    return storage_hash(Resource(group=resource.group, version=stored, plural="", kind=crd["spec"]["names"]["kind"]))


def _aggregated(resource: Resource) -> Object:
    """The entry of a custom resource says everything of its kind."""
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    entry = {**aggregated_row(resource), "responseKind": kind}
    subresources: Sequence[Mapping[str, object]] = entry.get("subresources") or ()
    if subresources:
        entry["subresources"] = [
            {**each, "responseKind": kind} if each["subresource"] == "status" else each for each in subresources
        ]
    return entry
