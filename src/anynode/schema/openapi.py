"""OpenAPI documents: the v3 root, one v3 document per group and version, and the v2 document, as JSON bytes.

A catalogue comes in; documents are built when first asked for and kept as bytes, the definitions they were made from
are let go. The hash in a document's address covers what the document is made from, so that the root costs nothing.
Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3, kube-openapi ``pkg/handler3``.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import orjson

from anynode.api.objects import Object
from anynode.api.resources import Catalogue, GroupVersion, Resource
from anynode.schema import openapi_paths, openapi_schemas, types
from anynode.schema.custom import openapi as custom_openapi
from anynode.schema.custom.openapi import Published
from anynode.schema.types import META

_EDITION = "kubernetes 1.36, anynode 1"
_INFO = {"title": "Kubernetes", "version": "v1.36.0"}
_NOTHING: Mapping[GroupVersion, str] = MappingProxyType({})
_SECURITY = {
    "BearerToken": {
        "description": "Bearer Token authentication",
        "in": "header",
        "name": "authorization",
        "type": "apiKey",
    }
}


class Document(NamedTuple):
    """One document; ``hash`` is the one in its address and serves as its ETag."""

    body: bytes
    hash: str


def _resources(group_version: GroupVersion, catalogue: Catalogue) -> list[Resource]:
    return [each for each in catalogue if each.group_version == group_version]


def _hash(resources: list[Resource]) -> str:
    return hashlib.sha512(f"{_EDITION} {resources!r}".encode()).hexdigest().upper()


@functools.lru_cache(maxsize=4)
def _hashes(catalogue: Catalogue) -> Mapping[GroupVersion, str]:
    versions = dict.fromkeys(each.group_version for each in catalogue)
    return {each: _hash(_resources(each, catalogue)) for each in versions}


def root(catalogue: Catalogue, more: Mapping[GroupVersion, str] = _NOTHING) -> bytes:
    """``/openapi/v3``: for each group and version the address of its document.

    ``more``: groups and versions served beside the catalogue -> the hash of their document.
    """
    paths: dict[str, Object] = {}
    for group_version, digest in {**_hashes(catalogue), **more}.items():
        prefix = f"apis/{group_version}" if group_version.group else f"api/{group_version.version}"
        paths[prefix] = {"serverRelativeURL": f"/openapi/v3/{prefix}?hash={digest}"}
    return orjson.dumps({"paths": {path: paths[path] for path in sorted(paths)}})


def custom_document(parts: Sequence[Published]) -> Document:
    """The v3 document of the custom resources of one group and version."""
    return Document(custom_openapi.document(parts), custom_openapi.hash_of(parts))


@functools.lru_cache(maxsize=64)
def document(group_version: GroupVersion, catalogue: Catalogue) -> Document | None:
    """The v3 document of one group and version; None when nothing of it is served."""
    resources = _resources(group_version, catalogue)
    if not resources:
        return None
    table = types.builtin()
    paths = openapi_paths.paths(resources, table)
    names = openapi_paths.references(paths) | {META + "APIResourceList", META + "WatchEvent"}
    version = group_version.version
    prefix = f"/apis/{group_version}/" if group_version.group else f"/api/{group_version.version}/"
    listing: Object = {
        "description": "get available resources",
        "operationId": f"get{openapi_paths.group_word(group_version.group)}{version.capitalize()}APIResources",
        "responses": {
            "200": {
                "content": {
                    "application/json": {"schema": {"$ref": f"#/components/schemas/{META}APIResourceList"}},
                },
                "description": "OK",
            },
            "401": {"description": "Unauthorized"},
        },
    }
    body = orjson.dumps(
        {
            "openapi": "3.0.0",
            "info": _INFO,
            "paths": {prefix: {"get": listing}, **paths},
            "components": {"schemas": openapi_schemas.schemas(sorted(names), table), "securitySchemes": _SECURITY},
        }
    )
    return Document(body, _hash(resources))


def v2(catalogue: Catalogue, parts: Sequence[Published] = ()) -> Document:
    """``/openapi/v2`` as JSON: all groups in one document, custom resources (``parts``) included."""
    return _made_v2(catalogue, parts) if parts else _v2(catalogue)


@functools.lru_cache(maxsize=2)
def _v2(catalogue: Catalogue) -> Document:
    return _made_v2(catalogue, ())


def _made_v2(catalogue: Catalogue, parts: Sequence[Published]) -> Document:
    table = types.builtin()
    paths = openapi_paths.paths(catalogue, table)
    names = sorted(openapi_paths.references(paths))
    more_paths, more = custom_openapi.v2_parts(parts)
    body = orjson.dumps(
        {
            "swagger": "2.0",
            "info": _INFO,
            "paths": {**{path: openapi_paths.as_v2(item) for path, item in paths.items()}, **more_paths},
            "definitions": {**openapi_schemas.schemas(names, table, v2=True), **more},
            "securityDefinitions": _SECURITY,
            "security": [{"BearerToken": []}],
        }
    )
    own = _hash(list(catalogue.resources))
    return Document(body, custom_openapi.joined_hash(own, parts) if parts else own)
