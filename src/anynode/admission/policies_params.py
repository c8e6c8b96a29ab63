"""The parameters a policy's binding refers to: which objects, in which namespace, and what if there are none.

Source: apiserver ``pkg/admission/plugin/policy/generic/policy_dispatcher.go`` (CollectParams), 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from anynode.api.objects import Object, labels_of
from anynode.api.resources import GroupVersion, Resource
from anynode.schema.kinds.selection import matches_labels


class ConfigurationError(Exception):
    """A policy or binding that cannot be carried out; its failure policy says what that means."""


class ParamSource(Protocol):
    """Objects of any kind served."""

    def resource_of(self, api_version: str, kind: str) -> Resource | None:
        """The resource of a kind; None when it is not served."""
        ...

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None: ...

    def all_in(self, resource: Resource, namespace: str) -> Iterable[Object]:
        """The objects of a namespace, or of the cluster with an empty one."""
        ...


class Params:
    """Finds parameters."""

    def __init__(self, source: ParamSource) -> None:
        self._source = source

    def resource_of(self, kind: Object) -> Resource:
        """The resource of a ``paramKind``. Raises ``ConfigurationError``."""
        api_version, name = str(kind.get("apiVersion") or ""), str(kind.get("kind") or "")
        found = self._source.resource_of(api_version, name)
        if found is None:
            group, version = GroupVersion.parse(api_version)
            raise ConfigurationError(
                f"failed to find resource referenced by paramKind: '{group}/{version}, Kind={name}'"
            )
        return found

    def of(self, resource: Resource | None, reference: Object | None, namespace: str) -> Sequence[Object | None]:
        """The parameters to judge with, one after the other; None: without. Raises ``ConfigurationError``."""
        if resource is None or reference is None:
            return (None,)
        given = str(reference.get("namespace") or "")
        if resource.namespaced:
            namespace = given or namespace
            if not namespace:
                raise ConfigurationError(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        elif given:
            raise ConfigurationError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        else:
            namespace = ""
        found = self._found(resource, reference, namespace)
        if not found and reference.get("parameterNotFoundAction") == "Deny":
            raise ConfigurationError("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found

    def _found(self, resource: Resource, reference: Object, namespace: str) -> Sequence[Object]:
        name, selector = str(reference.get("name") or ""), reference.get("selector")
        if name:
            one = self._source.find(resource, namespace, name)
            return () if one is None else (one,)
        if selector is None:
            raise ConfigurationError("one of name or selector must be provided")
        everything = self._source.all_in(resource, namespace)
        return [each for each in everything if matches_labels(selector, labels_of(each))]
