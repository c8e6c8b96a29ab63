"""What a server serves, asked of the server itself: for those who work on every kind.

In: a client. Out: each resource once, in its group's preferred version that has it. One request per prefix where the
server has aggregated discovery (1.27 and later), else one per group and version. Source:
https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anynode.api.errors import ApiError, NotFound
from anynode.api.objects import Object
from anynode.api.resources import Catalogue, GroupVersion, Resource
from anynode.api.wire import ApiRequest
from anynode.client.api_client import ApiClient

AGGREGATED = "APIGroupDiscoveryList"
_ACCEPT = ",".join(
    [
        *(f"application/json;g=apidiscovery.k8s.io;v={version};as={AGGREGATED}" for version in ("v2", "v2beta1")),
        "application/json",
    ]
)


async def discover(client: ApiClient, *, ignore_stale: bool = False) -> Catalogue:
    """Every resource served; raises ``ApiError``.

    A group whose server is away raises ``StaleGroup`` (its objects may be there still), or is left out.
    """
    found: dict[tuple[str, str], Resource] = {}
    for path in ("/api", "/apis"):
        answer = await _read(client, path)
        if answer.get("kind") == AGGREGATED:
            resources: Iterable[Resource] = _resources(answer, ignore_stale=ignore_stale)
        else:
            resources = await _one_by_one(client, path, answer)
        for resource in resources:
            found.setdefault((resource.group, resource.plural), resource)
    return Catalogue(found.values())


async def _read(client: ApiClient, path: str) -> Object:
    request = ApiRequest(method="GET", path=path, headers={"accept": _ACCEPT})
    answer: Object = (await client.transport.send(request)).decoded()
    return answer


def _resources(answer: Mapping[str, Any], *, ignore_stale: bool) -> Iterator[Resource]:
    for group in answer.get("items") or ():
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or ():
            if version.get("freshness") == "Stale" and not ignore_stale:
                raise StaleGroup(f"stale GroupVersion discovery: {name}/{version['version']}")
            for row in version.get("resources") or ():
                yield Resource(
                    group=name,
                    version=version["version"],
                    plural=row["resource"],
                    kind=(row.get("responseKind") or {}).get("kind") or "",
                    singular=row.get("singularResource") or "",
                    namespaced=row.get("scope") == "Namespaced",
                    verbs=tuple(row.get("verbs") or ()),
                )


async def _one_by_one(client: ApiClient, path: str, answer: Mapping[str, Any]) -> list[Resource]:
    """The resources of a server that tells of each group version apart."""
    versions = [GroupVersion("", each) for each in answer.get("versions") or ()]
    for group in answer.get("groups") or ():
        preferred = (group.get("preferredVersion") or {}).get("groupVersion")
        listed = [each["groupVersion"] for each in group.get("versions") or ()]
        ordered = sorted(listed, key=lambda each: each != preferred)
        versions.extend(GroupVersion.parse(each) for each in ordered)
    found: list[Resource] = []
    for version in versions:
        try:
            rows = (await _read(client, f"{path}/{version}")).get("resources") or ()
        except NotFound:
            continue
        found.extend(_row(version, row) for row in rows if "/" not in row["name"])
    return found


def _row(version: GroupVersion, row: Mapping[str, Any]) -> Resource:
    return Resource(
        group=row.get("group") or version.group,
        version=row.get("version") or version.version,
        plural=row["name"],
        kind=row["kind"],
        singular=row.get("singularName") or "",
        namespaced=bool(row.get("namespaced")),
        verbs=tuple(row.get("verbs") or ()),
    )


class StaleGroup(ApiError):
    """An aggregated API server is away: what it serves is not known now."""

    code, reason = 503, "ServiceUnavailable"
