"""What the server serves, as values: one ``Resource`` per (group, version, plural), read from the fact table.

Source: ``data/resources.json``, taken from the discovery documents of a real kube-apiserver 1.36.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class GroupVersion(NamedTuple):
    """``("", "v1")`` is the core group."""

    group: str
    version: str

    def __str__(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @classmethod
    def parse(cls, api_version: str) -> GroupVersion:
        group, slash, version = api_version.rpartition("/")
        return cls(group, version) if slash else cls("", api_version)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subresource:
    """One subresource; ``kind``/``group``/``version`` are those of its body (``autoscaling/v1 Scale`` for scale)."""

    name: str
    verbs: tuple[str, ...]
    kind: str
    group: str = ""
    version: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One served resource. ``verbs`` are the API's words: get, list, watch, create, update, patch, delete, ..."""

    group: str
    version: str
    plural: str
    kind: str
    singular: str = ""
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    listed_as: str = ""
    """The kind of lists, where it is not the kind with ``List`` behind it."""

    @property
    def group_version(self) -> GroupVersion:
        return GroupVersion(self.group, self.version)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """``deployments.apps``, ``pods``: how upstream names a resource in messages."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def list_kind(self) -> str:
        return self.listed_as or f"{self.kind}List"

    def subresource(self, name: str) -> Subresource | None:
        return next((each for each in self.subresources if each.name == name), None)

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, of one object, or of a subresource of it. ``name`` must be URL-safe."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace and self.namespaced:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


class Catalogue:
    """The resources known at one moment, found by path, by kind or by name. Never changes; ``with_added`` copies."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.resources = tuple(resources)
        self._by_path = {(each.group, each.version, each.plural): each for each in self.resources}
        self._by_kind = {(each.group, each.version, each.kind): each for each in reversed(self.resources)}

    def __iter__(self) -> Iterator[Resource]:
        return iter(self.resources)

    def at(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_path.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource whose objects say ``apiVersion`` and ``kind``."""
        parsed = GroupVersion.parse(api_version)
        return self._by_kind.get((parsed.group, parsed.version, kind))

    def with_added(self, resources: Iterable[Resource]) -> Catalogue:
        return Catalogue((*self.resources, *resources))


@functools.cache
def builtin() -> Catalogue:
    """Every GA resource of Kubernetes 1.36, in the order of its discovery document."""
    text = importlib.resources.files("anynode.api").joinpath("data/resources.json").read_text()
    facts = json.loads(text)["resources"]
    return Catalogue(
        _resource(GroupVersion.parse(group_version), row) for group_version, rows in facts.items() for row in rows
    )


@functools.cache
def columns() -> Mapping[str, tuple[Mapping[str, Any], ...]]:
    """``"apps/v1/deployments"`` -> Table column definitions (name, type, format, description?, priority)."""
    text = importlib.resources.files("anynode.api").joinpath("data/resources.json").read_text()
    return {key: tuple(rows) for key, rows in json.loads(text)["columns"].items()}


def _resource(group_version: GroupVersion, row: Mapping[str, Any]) -> Resource:
    return Resource(
        group=group_version.group,
        version=group_version.version,
        plural=row["resource"],
        kind=row["kind"],
        singular=row.get("singularResource", ""),
        namespaced=row["scope"] == "Namespaced",
        short_names=tuple(row.get("shortNames", ())),
        categories=tuple(row.get("categories", ())),
        verbs=tuple(row["verbs"]),
        subresources=tuple(
            Subresource(
                name=each["subresource"],
                verbs=tuple(each["verbs"]),
                kind=each["kind"],
                group=each.get("group", ""),
                version=each.get("version", ""),
            )
            for each in row.get("subresources", ())
        ),
    )


def known(plural: str, group: str = "", version: str = "v1") -> Resource:
    """The built-in resource; raises ``KeyError`` when there is none. ``known("deployments", "apps")``."""
    found = builtin().at(group, version, plural)
    if found is None:
        raise KeyError(f"{plural}.{version}.{group}")
    return found
