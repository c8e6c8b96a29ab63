"""The paths of an OpenAPI document: what can be asked of each resource, with the marks that clients look for.

kubectl reads of an operation its ``x-kubernetes-group-version-kind``, ``x-kubernetes-action``, query parameters
(``fieldValidation``, ``dryRun``, ``fieldManager``, ``force``) and the media types of PATCH. Written for OpenAPI v3;
``as_v2`` turns an item into Swagger 2.0. Source: apiserver ``pkg/endpoints/installer.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from anynode.api.objects import Object
from anynode.api.resources import Resource, Subresource
from anynode.schema.types import META, Types

_COMPONENTS = "#/components/schemas/"
_BODIES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_STREAMS = (*_BODIES, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
_PATCHES = (
    "application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)  # fmt: skip
_TEXTS = {
    "allowWatchBookmarks": ("boolean", "Let the watch send BOOKMARK events."),
    "command": ("string", "The command to run, one parameter per argument."),
    "container": ("string", "The container to talk to; needed when the pod has several."),
    "continue": ("string", "Where the next page of a list begins: the value the last page gave."),
    "dryRun": ("string", "All: do everything but keep the result."),
    "fieldManager": ("string", "Who makes the change, at most 128 printable characters."),
    "fieldSelector": ("string", "Only objects whose fields match."),
    "fieldValidation": ("string", "For unknown and duplicate fields: Ignore, Warn (the default) or Strict."),
    "follow": ("boolean", "Go on sending what is logged."),
    "force": ("boolean", "Take over fields that other managers own; for apply only."),
    "gracePeriodSeconds": ("integer", "Seconds until the object is deleted for good; 0 means at once."),
    "insecureSkipTLSVerifyBackend": ("boolean", "Do not check the serving certificate of the kubelet."),
    "labelSelector": ("string", "Only objects whose labels match."),
    "limit": ("integer", "The most objects a page of a list may hold."),
    "limitBytes": ("integer", "The most bytes of the log to send."),
    "name": ("string", "The object's name."),
    "namespace": ("string", "The object's namespace."),
    "orphanDependents": ("boolean", "Deprecated: use propagationPolicy."),
    "path": ("string", "The path to ask for."),
    "ports": ("integer", "The ports to forward."),
    "pretty": ("string", "Print the answer for people."),
    "previous": ("boolean", "The log of the container that ran before."),
    "propagationPolicy": ("string", "What becomes of dependents: Orphan, Background or Foreground."),
    "resourceVersion": ("string", "The version a read or watch has to start from."),
    "resourceVersionMatch": ("string", "How resourceVersion is meant for a list: Exact or NotOlderThan."),
    "sendInitialEvents": ("boolean", "Begin the watch with what is there."),
    "sinceSeconds": ("integer", "Only what was logged in the last seconds."),
    "stderr": ("boolean", "Connect standard error."),
    "stdin": ("boolean", "Connect standard input."),
    "stdout": ("boolean", "Connect standard output."),
    "stream": ("string", "Which stream of the log: All, Stdout or Stderr."),
    "tailLines": ("integer", "Only the last lines of the log."),
    "timeoutSeconds": ("integer", "Seconds after which a list or watch ends."),
    "timestamps": ("boolean", "Begin every line of the log with its time."),
    "tty": ("boolean", "Give the command a terminal."),
    "watch": ("boolean", "Send changes instead of a list."),
}  # fmt: skip
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
_LIST = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
    "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
_DELETE_COLLECTION = (
    "continue", "dryRun", "fieldSelector", "gracePeriodSeconds", "labelSelector", "limit", "orphanDependents",
    "propagationPolicy", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds",
)  # fmt: skip
_CONNECT = {
    "attach": ("container", "stderr", "stdin", "stdout", "tty"),
    "exec": ("command", "container", "stderr", "stdin", "stdout", "tty"),
    "portforward": ("ports",),
    "proxy": ("path",),
}
_LOG = (
    "container", "follow", "insecureSkipTLSVerifyBackend", "limitBytes", "previous", "sinceSeconds", "stream",
    "tailLines", "timestamps",
)  # fmt: skip
_CONNECT_METHODS = {
    "get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete",
}  # fmt: skip


def paths(resources: Iterable[Resource], types: Types) -> dict[str, Object]:
    """Path -> path item (v3) of all these resources, which are of one group and version."""
    found: dict[str, Object] = {}
    for resource in resources:
        _Writer(resource, types).write(found)
    return {path: found[path] for path in sorted(found)}


def _parameter(name: str, place: str = "query") -> Object:
    kind, text = _TEXTS[name]
    found: Object = {"description": text, "in": place, "name": name, "schema": {"type": kind, "uniqueItems": True}}
    return {**found, "required": True} if place == "path" else found


def _parameters(names: Iterable[str]) -> list[Object]:
    return [_parameter(name) for name in names]


def parameters(names: Iterable[str]) -> list[Object]:
    """Query parameters by name."""
    return _parameters(names)


def path_parameters(names: Iterable[str]) -> list[Object]:
    return [_parameter(name, "path") for name in names]


def _content(schema: Object, media_types: Sequence[str]) -> Object:
    return {media_type: {"schema": schema} for media_type in media_types}


def _camel(text: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in text.replace("-", ".").split("."))


def group_word(group: str) -> str:
    """How operation ids name a group: ``rbac.authorization.k8s.io`` -> ``RbacAuthorization``."""
    return _camel(group.removesuffix(".k8s.io") or "core")


class _Writer:
    """Writes the path items of one resource."""

    def __init__(self, resource: Resource, types: Types) -> None:
        self._resource = resource
        self._types = types
        group = group_word(resource.group)
        self._prefix = group + _camel(resource.version)
        self._tag = f"{group[0].lower()}{group[1:]}_{resource.version}"

    def write(self, into: dict[str, Object]) -> None:
        resource = self._resource
        scope = "Namespaced" if resource.namespaced else ""
        collection = resource.path("{namespace}")
        self._put(into, collection, self._collection(scope))
        if resource.namespaced and "list" in resource.verbs:
            everywhere = self._operation("get", "list", f"list{self._prefix}{resource.kind}ForAllNamespaces")
            everywhere["parameters"] = _parameters(_LIST)
            everywhere["responses"] = self._answers(self._schema(resource.list_kind), _STREAMS, "200")
            self._put(into, resource.path(), {"get": everywhere})
        self._put(into, resource.path("{namespace}", "{name}"), self._single(f"{scope}{resource.kind}", None))
        for subresource in resource.subresources:
            name = f"{scope}{resource.kind}{_camel(subresource.name)}"
            path = resource.path("{namespace}", "{name}", subresource.name)
            if subresource.name in _CONNECT:
                self._put(into, path, self._connect(name, subresource))
                if subresource.name == "proxy":
                    self._put(into, path + "/{path}", self._connect(f"{name}WithPath", subresource))
            else:
                self._put(into, path, self._single(name, subresource))

    def _put(self, into: dict[str, Object], path: str, item: Object) -> None:
        if not item:
            return
        in_path = [name for name in ("name", "namespace", "path") if f"{{{name}}}" in path]
        item["parameters"] = [*(_parameter(name, "path") for name in in_path), _parameter("pretty")]
        into[path] = item

    def _schema(self, kind: str, group: str | None = None, version: str | None = None) -> Object:
        """A reference to the schema of ``kind``; of the resource's own group and version unless told."""
        group = self._resource.group if group is None else group
        version = self._resource.version if version is None else version
        name = self._types.of_kind(f"{group}/{version}" if group else version, kind)
        return {"$ref": _COMPONENTS + name} if name else {"type": "object"}

    def _operation(self, method: str, action: str, operation_id: str, body: Subresource | None = None) -> Object:
        resource = self._resource
        group, version, kind = resource.group, resource.version, resource.kind
        if body is not None:
            kind = body.kind
            group, version = (body.group, body.version) if body.version else (group, version)
        return {
            "description": f"{action} {kind}",
            "operationId": operation_id,
            "tags": [self._tag],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": version},
        }

    def _answers(self, schema: Object, media_types: Sequence[str], *codes: str) -> Object:
        names = {"200": "OK", "201": "Created", "202": "Accepted"}
        answers: Object = {
            code: {"content": _content(schema, media_types), "description": names[code]} for code in codes
        }
        return {**answers, "401": {"description": "Unauthorized"}}

    def _collection(self, scope: str) -> Object:
        resource, item = self._resource, {}
        schema = self._schema(resource.kind)
        if "list" in resource.verbs:
            found = self._operation("get", "list", f"list{self._prefix}{scope}{resource.kind}")
            found["parameters"] = _parameters(_LIST)
            found["responses"] = self._answers(self._schema(resource.list_kind), _STREAMS, "200")
            item["get"] = found
        if "create" in resource.verbs:
            found = self._operation("post", "post", f"create{self._prefix}{scope}{resource.kind}")
            found["parameters"] = _parameters(_WRITE)
            found["requestBody"] = {"content": _content(schema, ("*/*",)), "required": True}
            found["responses"] = self._answers(schema, _BODIES, "200", "201", "202")
            item["post"] = found
        if "deletecollection" in resource.verbs:
            name = f"delete{self._prefix}Collection{scope}{resource.kind}"
            item["delete"] = self._deletion("deletecollection", name, _DELETE_COLLECTION, ("200",))
        return item

    def _deletion(self, action: str, name: str, parameters: Sequence[str], codes: Sequence[str]) -> Object:
        found = self._operation("delete", action, name)
        found["parameters"] = _parameters(parameters)
        options = {"$ref": f"{_COMPONENTS}{META}DeleteOptions"}
        found["requestBody"] = {"content": _content(options, ("*/*",))}
        found["responses"] = self._answers({"$ref": f"{_COMPONENTS}{META}Status"}, _BODIES, *codes)
        return found

    def _single(self, name: str, subresource: Subresource | None) -> Object:
        """The path item of one object, or of a subresource of it that is an object itself."""
        resource, item = self._resource, {}
        verbs = resource.verbs if subresource is None else subresource.verbs
        own = subresource.version if subresource is not None else ""
        kind = subresource.kind if subresource is not None else resource.kind
        schema = self._schema(kind, subresource.group, own) if subresource is not None and own else self._schema(kind)
        if "get" in verbs:
            found = self._operation("get", "get", f"read{self._prefix}{name}", subresource)
            is_log = subresource is not None and subresource.name == "log"
            answer: Object = {"type": "string"} if is_log else schema
            if is_log:
                found["parameters"] = _parameters(_LOG)
            found["responses"] = self._answers(answer, ("text/plain", *_BODIES) if is_log else _BODIES, "200")
            item["get"] = found
        for verb, method, word in (("update", "put", "replace"), ("create", "post", "create")):
            if verb in verbs and not (verb == "create" and subresource is None):
                found = self._operation(method, method, f"{word}{self._prefix}{name}", subresource)
                found["parameters"] = _parameters(_WRITE)
                found["requestBody"] = {"content": _content(schema, ("*/*",)), "required": True}
                codes = ("200", "201") if verb == "update" else ("200", "201", "202")
                found["responses"] = self._answers(schema, _BODIES, *codes)
                item[method] = found
        if "patch" in verbs:
            item["patch"] = self._patch(name, subresource, schema)
        if "delete" in verbs and subresource is None:
            item["delete"] = self._deletion("delete", f"delete{self._prefix}{name}", _DELETE, ("200", "202"))
        return item

    def _patch(self, name: str, subresource: Subresource | None, schema: Object) -> Object:
        found = self._operation("patch", "patch", f"patch{self._prefix}{name}", subresource)
        found["parameters"] = _parameters((*_WRITE, "force"))
        patch = {"$ref": f"{_COMPONENTS}{META}Patch"}
        found["requestBody"] = {"content": _content(patch, _PATCHES), "required": True}
        found["responses"] = self._answers(schema, _BODIES, "200", "201")
        return found

    def _connect(self, name: str, subresource: Subresource) -> Object:
        item: Object = {}
        for verb in subresource.verbs:
            method = _CONNECT_METHODS.get(verb)
            if method is None:
                continue
            operation_id = f"connect{self._prefix}{method.capitalize()}{name}"
            found = self._operation(method, "connect", operation_id, subresource)
            found["parameters"] = _parameters(_CONNECT[subresource.name])
            found["responses"] = self._answers({"type": "string"}, ("*/*",), "200")
            item[method] = found
        return item


# Swagger 2.0


def as_v2(item: Object) -> Object:
    """A v3 path item as Swagger 2.0."""
    result: Object = {}
    for key, value in item.items():
        result[key] = [_parameter_v2(each) for each in value] if key == "parameters" else _operation_v2(value)
    return result


def _parameter_v2(parameter: Object) -> Object:
    flat = {key: value for key, value in parameter.items() if key != "schema"}
    return {**flat, **parameter["schema"]}


def _reference_v2(schema: Object) -> Object:
    if "$ref" in schema:
        return {"$ref": schema["$ref"].replace(_COMPONENTS, "#/definitions/")}
    return schema


def _operation_v2(operation: Object) -> Object:
    result: Object = {
        key: value for key, value in operation.items() if key not in ("parameters", "requestBody", "responses")
    }
    parameters = [_parameter_v2(each) for each in operation.get("parameters", ())]
    body = operation.get("requestBody")
    result["consumes"] = list(body["content"]) if body else ["*/*"]
    if body:
        schema = _reference_v2(next(iter(body["content"].values()))["schema"])
        required = {"required": True} if body.get("required") else {}
        parameters.insert(0, {"in": "body", "name": "body", "schema": schema, **required})
    if parameters:
        result["parameters"] = parameters
    result["schemes"] = ["https"]
    answers: Object = {}
    for code, answer in operation["responses"].items():
        answers[code] = {"description": answer["description"]}
        if "content" in answer:
            result["produces"] = list(answer["content"])
            answers[code]["schema"] = _reference_v2(next(iter(answer["content"].values()))["schema"])
    return {**result, "responses": answers}


def references(item: Any) -> set[str]:
    """The type names that a path item (v3) refers to."""
    if isinstance(item, dict):
        found: set[str] = set()
        for key, value in item.items():
            if key == "$ref" and isinstance(value, str):
                found.add(value.rpartition("/")[2])
            else:
                found |= references(value)
        return found
    if isinstance(item, list):
        return set().union(*(references(each) for each in item))
    return set()
