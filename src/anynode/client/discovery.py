"""What a server serves, asked of the server itself: for those who work on every kind.

In: a client. Out: each resource once, in its group's preferred version that has it, and which group versions could not
be asked for theirs. One request per prefix where the server has aggregated discovery (1.27 and later), else one per
group and version. Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api.
"""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """What is served; ``failures`` says of group versions whose server is away what went wrong."""

    resources: Catalogue
    failures: Mapping[GroupVersion, str] = dataclasses.field(default_factory=dict)

    @property
    def failure(self) -> str:
        """All failures in the words of client-go, empty without any."""
        listed = sorted(f"{version}: {why}" for version, why in self.failures.items())
        return f"unable to retrieve the complete list of server APIs: {', '.join(listed)}" if listed else ""


async def look(client: ApiClient) -> Served:
    """Every resource served; raises ``ApiError`` when not even the groups can be read."""
    found: dict[tuple[str, str], Resource] = {}
    failures: dict[GroupVersion, str] = {}
    for path in ("/api", "/apis"):
        answer = await _read(client, path)
        if answer.get("kind") == AGGREGATED:
            resources: Iterable[Resource] = _resources(answer, failures)
        else:
            resources = await _one_by_one(client, path, answer, failures)
        for resource in resources:
            found.setdefault((resource.group, resource.plural), resource)
    return Served(Catalogue(found.values()), failures)


async def discover(client: ApiClient, *, ignore_stale: bool = False) -> Catalogue:
    """Every resource served; raises ``ApiError``.

    A group whose server is away raises ``StaleGroup`` (its objects may be there still), or is left out.
    """
    served = await look(client)
    if served.failures and not ignore_stale:
        raise StaleGroup(served.failure)
    return served.resources


async def _read(client: ApiClient, path: str) -> Object:
    request = ApiRequest(method="GET", path=path, headers={"accept": _ACCEPT})
    answer: Object = (await client.transport.send(request)).decoded()
    return answer


def _resources(answer: Mapping[str, Any], failures: dict[GroupVersion, str]) -> Iterator[Resource]:
    for group in answer.get("items") or ():
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or ():
            if version.get("freshness") == "Stale":
                at = GroupVersion(name, version["version"])
                failures[at] = f"stale GroupVersion discovery: {at}"
                continue
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


async def _one_by_one(
    client: ApiClient, path: str, answer: Mapping[str, Any], failures: dict[GroupVersion, str]
) -> list[Resource]:
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
        except ApiError as error:
            failures[version] = error.message
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
