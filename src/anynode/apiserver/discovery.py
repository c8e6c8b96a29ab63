"""What is served, told in both forms: the legacy documents and aggregated discovery (apidiscovery.k8s.io/v2).

Rendered once per catalogue. Source: apiserver ``pkg/endpoints/discovery``, 1.36.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping

import orjson

from anynode.api.errors import NotAcceptable
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.apiserver import negotiation

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
GIT_VERSION = "v1.36.0"

VERSION: Object = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": f"{GIT_VERSION}+anynode",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "cpython",
    "platform": "linux/amd64",
}


class Discovery:
    """The discovery documents by path (without a trailing slash)."""

    def __init__(self, resources: Iterable[Resource], stored: Iterable[tuple[str, str, str]], address: str) -> None:
        """``stored``: (group, version, plural) of what is stored; ``address``: host and port."""
        self._resources = tuple(resources)
        self._stored = frozenset(stored)
        groups = self._groups()
        self._documents: dict[str, bytes] = {
            "/api": orjson.dumps(
                {
                    "kind": "APIVersions",
                    "versions": ["v1"],
                    "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
                }
            ),
            "/apis": orjson.dumps(
                {
                    "kind": "APIGroupList",
                    "apiVersion": "v1",
                    "groups": [_group(name, versions) for name, versions in groups.items() if name],
                }
            ),
        }
        for name, versions in groups.items():
            for version, rows in versions.items():
                path = f"/apis/{name}/{version}" if name else f"/api/{version}"
                self._documents[path] = orjson.dumps(self._resource_list(name, version, rows))
            if name:
                group = _group(name, versions)
                self._documents[f"/apis/{name}"] = orjson.dumps({"kind": "APIGroup", "apiVersion": "v1", **group})
        self._aggregated = {
            "/api": orjson.dumps(_aggregated({"": groups.get("", {})})),
            "/apis": orjson.dumps(_aggregated({name: versions for name, versions in groups.items() if name})),
        }
        self._tags = {path: _tag(body) for path, body in self._aggregated.items()}

    def paths(self) -> list[str]:
        """Every document's path."""
        return list(self._documents)

    def _groups(self) -> Mapping[str, Mapping[str, list[Resource]]]:
        """group -> version -> resources, in order of preference."""
        groups: dict[str, dict[str, list[Resource]]] = {}
        for each in self._resources:
            groups.setdefault(each.group, {}).setdefault(each.version, []).append(each)
        return groups

    def _resource_list(self, group: str, version: str, rows: Iterable[Resource]) -> Object:
        listed: list[Object] = []
        for row in rows:
            entry: Object = {
                "name": row.plural,
                "singularName": row.singular,
                "namespaced": row.namespaced,
                "kind": row.kind,
                "verbs": list(row.verbs),
            }
            if row.short_names:
                entry["shortNames"] = list(row.short_names)
            if row.categories:
                entry["categories"] = list(row.categories)
            if (row.group, row.version, row.plural) in self._stored:
                entry["storageVersionHash"] = _storage_hash(row)
            listed.append(entry)
            for sub in row.subresources:
                kind: Object = {"name": f"{row.plural}/{sub.name}", "singularName": "", "namespaced": row.namespaced}
                if sub.version:
                    kind["group"] = sub.group
                    kind["version"] = sub.version
                listed.append({**kind, "kind": sub.kind, "verbs": list(sub.verbs)})
        head: Object = {"kind": "APIResourceList"}
        if group:
            head["apiVersion"] = "v1"
        return {**head, "groupVersion": f"{group}/{version}" if group else version, "resources": listed}

    def __contains__(self, path: str) -> bool:
        return path in self._documents

    def answer(self, request: ApiRequest, path: str) -> ApiResponse:
        """The document at ``path``, which is there."""
        body = self._documents[path]
        accept = request.headers.get("accept", "")
        if path in self._aggregated and "apidiscovery" in accept:
            chosen = _aggregated_wanted(accept)
            if chosen:
                return self._tagged(request, path)
        accepted = negotiation.accepted(accept)
        if accepted.target:
            raise NotAcceptable(
                "only the following media types are accepted: application/json, application/yaml, "
                "application/vnd.kubernetes.protobuf"
            )
        return ApiResponse(body=body + b"\n")

    def _tagged(self, request: ApiRequest, path: str) -> ApiResponse:
        tag = self._tags[path]
        headers = {"etag": tag, "vary": "Accept", "cache-control": "public"}
        if request.headers.get("if-none-match") == tag:
            # Clients' caches take over this answer's headers, so it names the type of what they hold.
            return ApiResponse(status=304, headers=headers, content_type=AGGREGATED, body=b"")
        return ApiResponse(headers=headers, content_type=AGGREGATED, body=self._aggregated[path])


def _aggregated_wanted(accept: str) -> bool:
    """Whether the first form we can give is aggregated discovery v2."""
    for clause in accept.split(","):
        media, *rest = (part.strip() for part in clause.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        if media != negotiation.JSON:
            continue
        if not parameters.get("as"):
            return False
        if (
            parameters.get("as") == "APIGroupDiscoveryList"
            and parameters.get("g") == "apidiscovery.k8s.io"
            and parameters.get("v") == "v2"
        ):
            return True
    return False


def _group(name: str, versions: Mapping[str, list[Resource]]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _aggregated(groups: Mapping[str, Mapping[str, list[Resource]]]) -> Object:
    items = []
    for name, versions in groups.items():
        metadata = {"name": name} if name else {}
        listed = [
            {"version": version, "resources": [_aggregated_row(row) for row in rows], "freshness": "Current"}
            for version, rows in versions.items()
        ]
        items.append({"metadata": metadata, "versions": listed})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_row(row: Resource) -> Object:
    entry: Object = {
        "resource": row.plural,
        "responseKind": {"group": "", "version": "", "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    if row.subresources:
        entry["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": list(sub.verbs),
            }
            for sub in row.subresources
        ]
    return entry


def _storage_hash(row: Resource) -> str:
    digest = hashlib.sha256(f"{row.group}/{row.version}/{row.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha512(body).hexdigest().upper()}"'
