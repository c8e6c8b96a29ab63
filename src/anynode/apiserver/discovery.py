"""What is served, told in both forms: the legacy documents and aggregated discovery (apidiscovery.k8s.io/v2).

Rendered when asked for after a change of what is served. Source: apiserver ``pkg/endpoints/discovery``, 1.36.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence

import orjson

from anynode.api.errors import NotAcceptable
from anynode.api.objects import Object
from anynode.api.resources import GroupVersion, Resource
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.apiserver import negotiation
from anynode.registry import api_services
from anynode.registry.api_services import Priority

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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """One group version as discovery tells of it. ``rows``: the entries of its legacy document; ``aggregated``: those
    of the aggregated one. What another server serves has no document here."""

    group_version: GroupVersion
    priority: Priority
    aggregated: Sequence[Object]
    rows: Sequence[Object] | None = None
    fresh: bool = True


Versions = Callable[[], Iterable[ServedVersion]]


class Discovery:
    """The discovery documents by path (without a trailing slash)."""

    def __init__(
        self,
        resources: Iterable[Resource],
        stored: Iterable[tuple[str, str, str]],
        address: str,
        others: Sequence[Versions] = (),
    ) -> None:
        """``stored``: (group, version, plural) of what is stored; ``address``: host and port; ``others``: say what else
        is served now. ``changed`` tells that they would say something else."""
        self._stored = frozenset(stored)
        self._address = address
        self._others = others
        self._builtin = tuple(self._builtin_versions(resources))
        self._builtin_groups = frozenset(each.group_version.group for each in self._builtin)
        self._documents: dict[str, bytes] = {}
        self._aggregated: dict[str, bytes] = {}
        self._tags: dict[str, str] = {}
        self._current = False

    def is_builtin(self, group: str) -> bool:
        return group in self._builtin_groups

    def changed(self) -> None:
        """What is served has changed: the documents are made anew when next asked for."""
        self._current = False

    def _refresh(self) -> None:
        if self._current:
            return
        self._current = True
        groups: dict[str, list[ServedVersion]] = {}
        for each in (*self._builtin, *(version for others in self._others for version in others())):
            groups.setdefault(each.group_version.group, []).append(each)
        ordered = sorted(groups.items(), key=lambda entry: _group_order(*entry))
        for _, versions in ordered:
            versions.sort(key=lambda each: api_services.version_order(each.group_version.version, each.priority))
        self._documents = self._legacy(ordered)
        self._aggregated = {
            "/api": _aggregated([entry for entry in ordered if not entry[0]]),
            "/apis": _aggregated([entry for entry in ordered if entry[0]]),
        }
        self._tags = {path: _tag(body) for path, body in self._aggregated.items()}

    def _legacy(self, groups: Sequence[tuple[str, Sequence[ServedVersion]]]) -> dict[str, bytes]:
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]
        listed = [_group(name, versions) for name, versions in groups if name]
        documents = {
            "/api": orjson.dumps(
                {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses},
            ),
            "/apis": orjson.dumps({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}),
        }
        for group in listed:
            documents[f"/apis/{group['name']}"] = orjson.dumps({"kind": "APIGroup", "apiVersion": "v1", **group})
        for _, versions in groups:
            for each in versions:
                if each.rows is not None:
                    path = "apis" if each.group_version.group else "api"
                    documents[f"/{path}/{each.group_version}"] = orjson.dumps(_resource_list(each))
        return documents

    def paths(self) -> list[str]:
        """Every document's path."""
        self._refresh()
        return list(self._documents)

    def _builtin_versions(self, resources: Iterable[Resource]) -> Iterable[ServedVersion]:
        versions: dict[GroupVersion, list[Resource]] = {}
        for each in resources:
            versions.setdefault(each.group_version, []).append(each)
        for group_version, found in versions.items():
            yield ServedVersion(
                group_version=group_version,
                priority=api_services.priority_of(group_version),
                rows=[row for each in found for row in legacy_rows(each, self._hash(each))],
                aggregated=[aggregated_row(each) for each in found],
            )

    def _hash(self, row: Resource) -> str:
        return storage_hash(row) if (row.group, row.version, row.plural) in self._stored else ""

    def __contains__(self, path: str) -> bool:
        self._refresh()
        return path in self._documents

    def answer(self, request: ApiRequest, path: str) -> ApiResponse:
        """The document at ``path``, which is there."""
        self._refresh()
        body = self._documents[path]
        accept = request.headers.get("accept", "")
        if path in self._aggregated and "apidiscovery" in accept:
            chosen = _aggregated_wanted(accept)
            if chosen:
                return self._tagged(request, path)
        accepted = negotiation.accepted(accept, routed=is_routed(path))
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


def is_routed(path: str) -> bool:
    """Whether upstream's router answers for the path: it looks at the method and at what is accepted first. The
    groups and their list, like all that is no part of an API, are answered whatever the method."""
    return path in ("/api", "/version") or path.startswith("/api/") or (path[:6] == "/apis/" and path.count("/") == 3)


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


def _group_order(name: str, versions: Sequence[ServedVersion]) -> tuple[int, str]:
    """The most wanted group first; of equal ones as their first APIServices are called."""
    priority = max(each.priority.group for each in versions)
    return -priority, min(api_services.name_of(e.group_version) for e in versions if e.priority.group == priority)


def _group(name: str, versions: Sequence[ServedVersion]) -> Object:
    listed = [{"groupVersion": str(each.group_version), "version": each.group_version.version} for each in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resource_list(version: ServedVersion) -> Object:
    head: Object = {"kind": "APIResourceList"}
    if version.group_version.group:
        head["apiVersion"] = "v1"
    return {**head, "groupVersion": str(version.group_version), "resources": version.rows}


def legacy_rows(row: Resource, storage_hash: str) -> Iterable[Object]:
    """A resource and its subresources, each as an ``APIResource``."""
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
    if storage_hash:
        entry["storageVersionHash"] = storage_hash
    yield entry
    for sub in row.subresources:
        kind: Object = {"name": f"{row.plural}/{sub.name}", "singularName": "", "namespaced": row.namespaced}
        if sub.version:
            kind["group"] = sub.group
            kind["version"] = sub.version
        yield {**kind, "kind": sub.kind, "verbs": list(sub.verbs)}


def _aggregated(groups: Sequence[tuple[str, Sequence[ServedVersion]]]) -> bytes:
    items = []
    for name, versions in groups:
        listed = [
            {
                "version": each.group_version.version,
                "resources": each.aggregated,
                "freshness": "Current" if each.fresh else "Stale",
            }
            for each in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": listed})
    kind = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}}
    return orjson.dumps({**kind, "items": items})


def aggregated_row(row: Resource) -> Object:
    """A resource as ``APIResourceDiscovery``; a built-in kind's group and version are left to the reader."""
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


def storage_hash(row: Resource) -> str:
    """Changes when objects are stored in another version: of the one they are stored in now."""
    digest = hashlib.sha256(f"{row.group}/{row.version}/{row.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha512(body).hexdigest().upper()}"'
