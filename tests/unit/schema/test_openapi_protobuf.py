"""The protobuf form, read back field by field as gnostic reads it."""

from __future__ import annotations

from collections.abc import Iterator

from anynode.schema.openapi_protobuf import encode

DOCUMENT = {
    "swagger": "2.0",
    "info": {"title": "Kubernetes", "version": "v1.36.0"},
    "paths": {
        "/things/{name}": {
            "patch": {
                "operationId": "patchThing",
                "x-kubernetes-action": "patch",
                "consumes": ["a/b", "c/d"],
                "parameters": [
                    {"in": "query", "name": "dryRun", "type": "string", "uniqueItems": True},
                    {"in": "body", "name": "body", "required": True, "schema": {"type": "object"}},
                ],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/io.k8s.Thing"}}},
            },
            "parameters": [{"in": "path", "name": "name", "required": True, "type": "string", "uniqueItems": True}],
        }
    },
    "definitions": {
        "io.k8s.Thing": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "description": "d" * 200, "enum": ["a", "b"]},
                "list": {"type": "array", "items": {"$ref": "#/definitions/io.k8s.Other"}},
                "map": {"type": "object", "additionalProperties": {"type": "integer", "format": "int32"}},
                "any": {"additionalProperties": True, "default": {}},
            },
            "x-kubernetes-group-version-kind": [{"group": "", "kind": "Thing", "version": "v1"}],
        }
    },
}


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        size, at = varint(data, at)
        if key & 7 == 0:
            yield key >> 3, size
        else:
            yield key >> 3, data[at : at + size]
            at += size


def every(data: bytes, number: int) -> list[bytes]:
    return [value for found, value in fields(data) if found == number and isinstance(value, bytes)]


def named(data: bytes) -> dict[str, bytes]:
    return {every(each, 1)[0].decode(): every(each, 2)[0] for each in every(data, 1)}


def test_definitions_are_where_clients_look_for_them() -> None:
    document = encode(DOCUMENT)
    assert every(document, 1) == [b"2.0"]
    assert every(every(document, 2)[0], 2) == [b"v1.36.0"]
    thing = named(every(document, 9)[0])["io.k8s.Thing"]
    assert every(thing, 19) == [b"name"]
    assert every(every(thing, 22)[0], 1) == [b"object"]
    extension = every(thing, 31)[0]
    assert every(extension, 1) == [b"x-kubernetes-group-version-kind"]
    assert every(every(extension, 2)[0], 2) == [b'[{"group":"","kind":"Thing","version":"v1"}]']


def test_properties_of_every_shape() -> None:
    thing = named(every(encode(DOCUMENT), 9)[0])["io.k8s.Thing"]
    properties = named(every(thing, 25)[0])
    assert every(properties["name"], 4) == [b"d" * 200]
    assert [every(each, 2)[0] for each in every(properties["name"], 20)] == [b'"a"', b'"b"']
    assert every(every(every(properties["list"], 23)[0], 1)[0], 1) == [b"#/definitions/io.k8s.Other"]
    assert every(every(every(properties["map"], 21)[0], 1)[0], 2) == [b"int32"]
    assert list(fields(every(properties["any"], 21)[0])) == [(2, 1)]
    assert every(every(properties["any"], 5)[0], 2) == [b"{}"]


def test_paths_say_what_takes_a_dry_run() -> None:
    [entry] = every(every(encode(DOCUMENT), 8)[0], 2)
    assert every(entry, 1) == [b"/things/{name}"]
    item = every(entry, 2)[0]
    [in_path] = every(every(every(every(item, 9)[0], 1)[0], 2)[0], 4)
    assert list(fields(in_path)) == [(2, b"path"), (4, b"name"), (1, 1), (5, b"string"), (19, 1)]
    patch = every(item, 8)[0]
    assert every(patch, 5) == [b"patchThing"]
    assert every(patch, 7) == [b"a/b", b"c/d"]
    assert every(every(patch, 13)[0], 1) == [b"x-kubernetes-action"]
    query, body = (every(each, 1)[0] for each in every(patch, 8))
    assert list(fields(every(every(query, 2)[0], 3)[0])) == [(2, b"query"), (4, b"dryRun"), (6, b"string"), (20, 1)]
    assert every(every(body, 1)[0], 2) == [b"body"]
    response = every(every(named(every(patch, 9)[0])["200"], 1)[0], 2)[0]
    assert every(every(response, 1)[0], 1) == [b"#/definitions/io.k8s.Thing"]
