"""The paths of a custom resource in the OpenAPI documents, with the marks that clients look for.

Written for version 3, as upstream's builder for custom resources writes them: no protobuf, no strategic merge patch,
and no answer 201 to a patch. Source: apiextensions-apiserver ``pkg/controller/openapi/builder/builder.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.schema import openapi_paths
from anynode.schema.custom.openapi_schema import V3, model_name
from anynode.schema.types import META

_BODIES = ("application/json", "application/yaml")
_PATCHES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
_ANSWERS = {"200": "OK", "201": "Created", "202": "Accepted"}
_SCALE = "io.k8s.api.autoscaling.v1.Scale"
_LIST = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
    "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")


def routes(resource: Resource) -> dict[str, Object]:
    """Path -> path item (version 3)."""
    writer = _Routes(resource)
    collection = resource.path("{namespace}")
    one = resource.path("{namespace}", "{name}")
    found = {collection: writer.collection(), one: writer.single()}
    if resource.namespaced:
        found[resource.path()] = writer.everywhere()
    for subresource in resource.subresources:
        found[f"{one}/{subresource.name}"] = writer.subresource(subresource.name)
    return {path: found[path] for path in sorted(found)}


class _Routes:
    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        group = openapi_paths.group_word(resource.group)
        self._tag = f"{group[0].lower()}{group[1:]}_{resource.version}"
        self._prefix = f"{group}{resource.version[:1].upper()}{resource.version[1:]}"
        self._scope = "Namespaced" if resource.namespaced else ""
        self._own = f"{V3}{model_name(resource.group, resource.version, resource.kind)}"

    def _operation(
        self,
        action: str,
        description: str,
        operation_id: str,
        answer: str,
        *codes: str,
        parameters: Sequence[str] = (),
        body: str = "",
        takes: Sequence[str] = _BODIES,
        required: bool = True,
    ) -> Object:
        resource = self._resource
        found: Object = {"tags": [self._tag], "description": description, "operationId": operation_id}
        if parameters:
            found["parameters"] = openapi_paths.parameters(parameters)
        if body:
            content = {each: {"schema": {"$ref": body}} for each in takes}
            found["requestBody"] = {"content": content, **({"required": True} if required else {})}
        answers: Object = {
            code: {
                "description": _ANSWERS[code],
                "content": {each: {"schema": {"$ref": answer}} for each in _BODIES},
            }
            for code in codes
        }
        found["responses"] = {**answers, "401": {"description": "Unauthorized"}}
        found["x-kubernetes-action"] = action
        found["x-kubernetes-group-version-kind"] = {
            "group": resource.group,
            "version": resource.version,
            "kind": resource.kind,
        }
        return found

    def _list(self, suffix: str, parameters: Sequence[str]) -> Object:
        resource = self._resource
        name = f"list{self._prefix}{suffix}"
        answer = f"{V3}{model_name(resource.group, resource.version, resource.list_kind)}"
        text = f"list objects of kind {resource.kind}"
        return self._operation("list", text, name, answer, "200", parameters=parameters)

    def _with_path(self, item: Object, *names: str) -> Object:
        in_path = [name for name in names if name != "namespace" or self._resource.namespaced]
        own = openapi_paths.path_parameters(in_path)
        return {**item, "parameters": [*own, *openapi_paths.parameters(("pretty",))]}

    def everywhere(self) -> Object:
        names = sorted((*_LIST, "pretty"))
        item = self._list(f"{self._resource.kind}ForAllNamespaces", ())
        return {"get": item, "parameters": openapi_paths.parameters(names)}

    def collection(self) -> Object:
        kind, own = self._resource.kind, self._own
        status = f"{V3}{META}Status"
        item = {
            "get": self._list(f"{self._scope}{kind}", _LIST),
            "post": self._operation(
                "post", f"create {_article(kind)} {kind}", f"create{self._prefix}{self._scope}{kind}", own,
                "200", "201", "202", parameters=_WRITE, body=own,
            ),
            "delete": self._operation(
                "deletecollection", f"delete collection of {kind}",
                f"delete{self._prefix}Collection{self._scope}{kind}", status, "200", parameters=_LIST,
            ),
        }  # fmt: skip
        return self._with_path(item, "namespace")

    def single(self) -> Object:
        kind = self._resource.kind
        item = self._changes("", self._own)
        item["delete"] = self._operation(
            "delete", f"delete {_article(kind)} {kind}", f"delete{self._prefix}{self._scope}{kind}",
            f"{V3}{META}Status", "200", "202", parameters=_DELETE, body=f"{V3}{META}DeleteOptions", required=False,
        )  # fmt: skip
        return self._with_path(item, "name", "namespace")

    def subresource(self, name: str) -> Object:
        return self._with_path(
            self._changes(name, f"{V3}{_SCALE}" if name == "scale" else self._own), "name", "namespace"
        )

    def _changes(self, subresource: str, own: str) -> Object:
        """Reading, replacing and patching one object, or a subresource of it."""
        kind, of = self._resource.kind, f" {subresource} of" if subresource else ""
        name = f"{self._prefix}{self._scope}{kind}{subresource.capitalize()}"
        return {
            "get": self._operation(
                "get", f"read{of} the specified {kind}", f"read{name}", own, "200", parameters=("resourceVersion",)
            ),
            "put": self._operation(
                "put", f"replace{of} the specified {kind}", f"replace{name}", own, "200", "201",
                parameters=_WRITE, body=own,
            ),
            "patch": self._operation(
                "patch", f"partially update{of} the specified {kind}", f"patch{name}", own, "200",
                parameters=(*_WRITE, "force"), body=f"{V3}{META}Patch", takes=_PATCHES,
            ),
        }  # fmt: skip


def _article(kind: str) -> str:
    return "an" if kind[:1].lower() in "aeiou" else "a"
