"""What custom resources add to the OpenAPI documents: a version 3 document per group and version, parts of version 2.

``document`` joins the definitions that share a group and version. Source: apiextensions-apiserver
``pkg/controller/{openapi,openapiv3}``, kube-openapi ``pkg/handler3``, 1.36.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.schema import openapi_paths, openapi_schemas, types
from anynode.schema.custom.openapi_routes import routes
from anynode.schema.custom.openapi_schema import V2, V3, model_name, published, reference
from anynode.schema.types import META

_EDITION = "anynode custom resources 1"
_INFO = {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}
_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_EMBEDDED = {
    "embeddedApiVersion": "apiVersion defines the versioned schema of this representation of an object. More info: "
    f"{_CONVENTIONS}#resources",
    "embeddedKind": "kind is a string value representing the type of this object. In CamelCase. More info: "
    f"{_CONVENTIONS}#types-kinds",
}


class Published(NamedTuple):
    """What is published of one served version of a definition."""

    resource: Resource
    list_kind: str
    schema: Object | None
    selectable: Sequence[str] = ()

    @property
    def hash(self) -> str:
        told = orjson.dumps([_EDITION, repr(self.resource), self.list_kind, self.schema, list(self.selectable)])
        return hashlib.sha512(told).hexdigest().upper()


def hash_of(parts: Iterable[Published]) -> str:
    """What names the document made of ``parts``: it changes when the document does."""
    return hashlib.sha512("".join(each.hash for each in parts).encode()).hexdigest().upper()


def joined_hash(own: str, parts: Iterable[Published]) -> str:
    """The hash of a document made of another one, whose hash is ``own``, and of ``parts``."""
    return hashlib.sha512(f"{own}{hash_of(parts)}".encode()).hexdigest().upper()


def document(parts: Sequence[Published]) -> bytes:
    """The version 3 document of one group and version, as JSON."""
    paths: dict[str, Object] = {}
    schemas: dict[str, Object] = {}
    for part in parts:
        paths.update(routes(part.resource))
        schemas.update(definitions(part, v2=False))
    names = openapi_paths.references(paths) | openapi_paths.references(schemas)
    known = openapi_schemas.schemas(sorted(names - schemas.keys()), types.builtin())
    everything = {**schemas, **known}
    return orjson.dumps(
        {
            "openapi": "3.0.0",
            "info": _INFO,
            "paths": {path: paths[path] for path in sorted(paths)},
            "components": {"schemas": {name: everything[name] for name in sorted(everything)}},
        }
    )


def v2_parts(parts: Iterable[Published]) -> tuple[dict[str, Object], dict[str, Object]]:
    """``(paths, definitions)`` that go into the version 2 document, those of Kubernetes' own types left out."""
    paths: dict[str, Object] = {}
    found: dict[str, Object] = {}
    for part in parts:
        paths.update({path: openapi_paths.as_v2(item) for path, item in routes(part.resource).items()})
        found.update(definitions(part, v2=True))
    return paths, found


def definitions(part: Published, *, v2: bool) -> dict[str, Object]:
    """Name -> schema of the kind and of its list."""
    resource, texts = part.resource, _texts()
    name = model_name(resource.group, resource.version, resource.kind)
    raw = part.schema
    own: Object = {"type": "object"} if raw is None else published(raw, texts, v2=v2)
    extra: Object = {"x-kubernetes-group-version-kind": [_kind(resource, resource.kind)]}
    listed: Object = {"x-kubernetes-group-version-kind": [_kind(resource, part.list_kind)]}
    if part.selectable:
        listed["x-kubernetes-selectable-fields"] = extra["x-kubernetes-selectable-fields"] = [
            {"fieldPath": each} for each in part.selectable
        ]
    return {
        name: {**own, **extra},
        model_name(resource.group, resource.version, part.list_kind): {**_list(part, name, v2=v2), **listed},
    }


def _kind(resource: Resource, kind: str) -> Object:
    return {"group": resource.group, "kind": kind, "version": resource.version}


def _list(part: Published, name: str, *, v2: bool) -> Object:
    texts, resource = _texts(), part.resource
    return {
        "description": f"{part.list_kind} is a list of {resource.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": texts["apiVersion"], "type": "string"},
            "items": {
                "description": f"List of {resource.plural}. More info: {_CONVENTIONS}",
                "type": "array",
                "items": {"$ref": f"{V2 if v2 else V3}{name}"},
            },
            "kind": {"description": texts["kind"], "type": "string"},
            "metadata": reference(f"{META}ListMeta", texts["listMetadata"], v2=v2),
        },
    }


@functools.cache
def _texts() -> Mapping[str, str]:
    """What Kubernetes says of the fields that every object has."""
    known: Mapping[str, Any] = openapi_schemas.definitions()
    one = known["io.k8s.api.core.v1.ConfigMap"]["properties"]
    several = known["io.k8s.api.core.v1.PodList"]["properties"]
    return {
        "apiVersion": one["apiVersion"]["description"],
        "kind": one["kind"]["description"],
        "metadata": one["metadata"]["description"],
        "listMetadata": several["metadata"]["description"],
        **_EMBEDDED,
    }
