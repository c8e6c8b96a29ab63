"""What a server serves, asked of the server itself: for controllers that work on every kind.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anynode.api.resources import Catalogue, Resource
from anynode.api.wire import ApiRequest
from anynode.client.api_client import ApiClient

_ACCEPT = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)


async def discover(client: ApiClient) -> Catalogue:
    """Every resource served, each in its group's preferred version that has it; raises ``ApiError``."""
    found: dict[tuple[str, str], Resource] = {}
    for path in ("/api", "/apis"):
        request = ApiRequest(method="GET", path=path, headers={"accept": _ACCEPT})
        answer = (await client.transport.send(request)).decoded()
        for resource in _resources(answer):
            found.setdefault((resource.group, resource.plural), resource)
    return Catalogue(found.values())


def _resources(answer: Mapping[str, Any]) -> Iterator[Resource]:
    for group in answer.get("items") or ():
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or ():
            for row in version.get("resources") or ():
                kind = row.get("responseKind") or {}
                yield Resource(
                    group=name,
                    version=version["version"],
                    plural=row["resource"],
                    kind=kind.get("kind") or "",
                    singular=row.get("singularResource") or "",
                    namespaced=row.get("scope") == "Namespaced",
                    verbs=tuple(row.get("verbs") or ()),
                )
