"""Requests made up from an OpenAPI v2 document: paths, parameters and bodies as it describes them, and worse.

Everything comes from the passed ``random.Random``: the same seed makes the same requests.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

NAMES = ("x", "a-1", "kubernetes", "default", "Bad Name", "x" * 260, "%2e%2e", "é", "0", "kube-system")
TEXTS = (
    "",
    "a",
    "x" * 300,
    "Always",
    "10%",
    "1.2.3.4",
    "::1",
    "a/b",
    "\u0000",
    "é\U0001f600",
    "None",
    "{{",
    "-1",
    "a=b",
)
QUERY_TEXTS = (*TEXTS, "0", "1", "99999999999999999999", "NotOlderThan", "Exact", "a in (b)", "metadata.name=x", "All")
NUMBERS = (0, 1, -1, 80, 2**31, 2**63, -(2**63) - 1, 1.5, 1e400)
ODD: tuple[Any, ...] = (None, True, 0, "s", [], {}, [None], {"a": None}, [[]], 1.5)
BODY_TYPES = (
    *("application/json",) * 9, "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain", "",
)  # fmt: skip
PATCH_TYPES = (
    "application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json",
    "application/apply-patch+yaml", "application/json",
)  # fmt: skip
ACCEPTS = (
    *("application/json",) * 12, "application/yaml", "application/vnd.kubernetes.protobuf", "*/*", "text/html",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
)  # fmt: skip
MOST_DEPTH = 6


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Requests:
    """Makes requests for the operations of one document."""

    def __init__(self, document: Mapping[str, Any], chance: random.Random) -> None:
        self._definitions: Mapping[str, Any] = document["definitions"]
        self._chance = chance
        self._operations = [
            (path, method, operation)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if method in ("get", "put", "post", "patch", "delete", "head", "options")
        ]

    def make(self, count: int) -> Iterator[Made]:
        for _ in range(count):
            yield self._request(*self._chance.choice(self._operations))

    def _request(self, path: str, method: str, operation: Mapping[str, Any]) -> Made:
        chance = self._chance
        filled = re.sub(r"{(\w+)}", lambda found: self._name(found[1]), path)
        query = "&".join(self._query(each) for each in operation.get("parameters", ()) if each["in"] == "query")
        headers = {"accept": chance.choice(ACCEPTS)}
        body = b""
        if method in ("put", "post", "patch", "delete"):
            headers["content-type"] = chance.choice(PATCH_TYPES if method == "patch" else BODY_TYPES)
            body = self._body(operation, headers["content-type"])
        if "watch" in query:
            query += "&timeoutSeconds=1"
        return Made(method=method.upper(), target=f"{filled}?{query}", headers=headers, body=body)

    def _name(self, parameter: str) -> str:
        if parameter == "namespace":
            return self._chance.choice(("default", "default", "default", "none", "Bad Name"))
        return self._chance.choice(NAMES)

    def _query(self, parameter: Mapping[str, Any]) -> str:
        if self._chance.random() > 0.15:
            return ""
        return f"{parameter['name']}={self._chance.choice(QUERY_TEXTS)}".replace("&", "%26")

    def _body(self, operation: Mapping[str, Any], media: str) -> bytes:
        chance = self._chance
        described = next((each for each in operation.get("parameters", ()) if each["in"] == "body"), None)
        if described is None or chance.random() < 0.05:
            return chance.choice((b"", b"{", b"null", b"[]", b"\xff\xfe", b"k8s\x00\x0a", b"a: &a [*a]", b"{}" * 3))
        kind = operation.get("x-kubernetes-group-version-kind")
        value = self.value(described.get("schema", {}), 0)
        if isinstance(value, dict) and kind:
            value.setdefault("metadata", {})
            if isinstance(value["metadata"], dict) and chance.random() < 0.8:
                value["metadata"] = {"name": "x", "labels": {"a": "b"}}
            if chance.random() < 0.9:
                group = f"{kind['group']}/" if kind["group"] else ""
                value |= {"apiVersion": f"{group}{kind['version']}", "kind": kind["kind"]}
        if media == "application/json-patch+json":
            operations = ("add", "replace", "remove", "test", "move", "copy", "odd")
            paths = ("/metadata/labels/a", "/spec", "/metadata", "", "/spec/x/0", "/-")
            value = [{"op": chance.choice(operations), "path": chance.choice(paths), "from": "/spec", "value": value}]
        return orjson.dumps(value, default=str)

    def value(self, schema: Mapping[str, Any], depth: int) -> Any:
        chance = self._chance
        if chance.random() < 0.04:
            return chance.choice(ODD)
        if "$ref" in schema:
            return self.value(self._definitions[schema["$ref"].rpartition("/")[2]], depth)
        if "properties" in schema:
            most = 0 if depth > MOST_DEPTH else chance.choice((1, 3, 6))
            names = chance.sample(sorted(schema["properties"]), min(most, len(schema["properties"])))
            found = {name: self.value(schema["properties"][name], depth + 1) for name in names}
            wanted = () if depth > MOST_DEPTH else schema.get("required", ())
            found |= {name: self.value(schema["properties"][name], depth + 1) for name in wanted if name not in found}
            if chance.random() < 0.03:
                found["unknown"] = 1
            return found
        kind = schema.get("type")
        if kind == "array":
            return [self.value(schema["items"], depth + 1) for _ in range(chance.choice((0, 1, 2)))]
        if kind == "object":
            inside = schema.get("additionalProperties")
            if not isinstance(inside, dict):
                return chance.choice(({}, {"a": 1}))
            return {chance.choice(TEXTS): self.value(inside, depth + 1) for _ in range(chance.choice((0, 1, 2)))}
        if kind in ("integer", "number"):
            number = chance.choice(NUMBERS)
            return number if isinstance(number, float) or -(2**63) <= number < 2**63 else str(number)
        return chance.choice((True, False)) if kind == "boolean" else chance.choice(TEXTS)
