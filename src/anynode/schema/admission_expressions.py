"""The CEL of admission: what expressions of policies and webhooks may name, and how they are found wrong.

Pure. ``environment`` gives what a kind of expression is compiled against, ``compiled`` a program or an
``ExpressionError`` whose text is upstream's detail. Source: apiserver ``pkg/admission/plugin/cel``,
1.36.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from anynode.cel import types as cel
from anynode.cel.environment import Environment, Program
from anynode.cel.errors import CelError, CelIssues
from anynode.cel.types import ObjectType, Type
from anynode.schema.fields import FieldError, FieldPath, invalid

VARIABLES = "kubernetes.variables"
OBJECT = Type(cel.Kind.STRUCT, "Object")
JSON_PATCHES = cel.list_of(Type(cel.Kind.STRUCT, "JSONPatch"))
BOOLEAN: Sequence[Type] = (cel.BOOL,)
MESSAGE: Sequence[Type] = (cel.STRING,)
ANNOTATION: Sequence[Type] = (cel.STRING, cel.NULL)
ANYTHING: Sequence[Type] = ()
_GO_NAMES: Mapping[cel.Kind, str] = {
    cel.Kind.NULL: "null_type",
    cel.Kind.TIMESTAMP: "google.protobuf.Timestamp",
    cel.Kind.DURATION: "google.protobuf.Duration",
}


class ExpressionError(Exception):
    """An expression that does not compile; the text is upstream's, without the place."""


@functools.cache
def request_type() -> ObjectType:
    """The ``request`` variable: an AdmissionRequest without its objects."""
    kind = _object("kubernetes.GroupVersionKind", group=cel.STRING, version=cel.STRING, kind=cel.STRING)
    resource = _object("kubernetes.GroupVersionResource", group=cel.STRING, version=cel.STRING, resource=cel.STRING)
    texts = cel.list_of(cel.STRING)
    user = _object(
        "kubernetes.UserInfo",
        username=cel.STRING,
        uid=cel.STRING,
        groups=texts,
        extra=cel.map_of(cel.STRING, texts),
    )
    return _object(
        "kubernetes.AdmissionRequest",
        kind=kind,
        resource=resource,
        subResource=cel.STRING,
        requestKind=kind,
        requestResource=resource,
        requestSubResource=cel.STRING,
        name=cel.STRING,
        namespace=cel.STRING,
        operation=cel.STRING,
        userInfo=user,
        dryRun=cel.BOOL,
        options=cel.DYN,
    )


@functools.cache
def namespace_type() -> ObjectType:
    """The ``namespaceObject`` variable."""
    texts, labels = cel.list_of(cel.STRING), cel.map_of(cel.STRING, cel.STRING)
    condition = _object(
        "kubernetes.NamespaceCondition",
        status=cel.STRING,
        type=cel.STRING,
        lastTransitionTime=cel.TIMESTAMP,
        message=cel.STRING,
        reason=cel.STRING,
    )
    metadata = _object(
        "kubernetes.NamespaceMetadata",
        name=cel.STRING,
        generateName=cel.STRING,
        namespace=cel.STRING,
        labels=labels,
        annotations=labels,
        UID=cel.STRING,
        creationTimestamp=cel.TIMESTAMP,
        deletionGracePeriodSeconds=cel.INT,
        deletionTimestamp=cel.TIMESTAMP,
        generation=cel.INT,
        resourceVersion=cel.STRING,
        finalizers=texts,
    )
    return _object(
        "kubernetes.Namespace",
        metadata=metadata,
        spec=_object("kubernetes.NamespaceSpec", finalizers=texts),
        status=_object("kubernetes.NamespaceStatus", conditions=cel.list_of(condition), phase=cel.STRING),
    )


def _object(name: str, /, **fields: Type) -> ObjectType:
    return ObjectType(name, fields, open_fields=True)


@functools.cache
def environment(*, params: bool, authorizer: bool, patch: bool = False) -> Environment:
    """What an expression may name: with ``params``, with an ``authorizer``, with ``Object{}`` and ``JSONPatch{}``."""
    variables: dict[str, Type] = {
        "object": cel.DYN,
        "oldObject": cel.DYN,
        "namespaceObject": namespace_type(),
        "request": request_type(),
    }
    if params:
        variables["params"] = cel.DYN
    if authorizer:
        variables["authorizer"] = cel.AUTHORIZER
        variables["authorizer.requestResource"] = cel.RESOURCE_CHECK
    base = Environment.kubernetes(variables)
    return base.extended({}, mutation=True) if patch else base


def composed(base: Environment, variables: Mapping[str, Type]) -> Environment:
    """``base`` with ``variables.<name>`` of these types."""
    fields = {name: variable_type(found) for name, found in variables.items()}
    return base.extended({"variables": ObjectType(VARIABLES, fields, open_fields=True)})


def variable_type(found: Type) -> Type:
    """A variable's type as later expressions see it: plain types stay, all others are dynamic."""
    if found.kind in (cel.Kind.LIST, cel.Kind.MAP):
        parts = [variable_type(each) for each in found.parameters]
        return cel.list_of(parts[0]) if len(parts) == 1 else cel.map_of(parts[0], parts[1])
    return found if found.kind in _KEPT else cel.DYN


_KEPT = frozenset({
    cel.Kind.BOOL, cel.Kind.BYTES, cel.Kind.DOUBLE, cel.Kind.DURATION, cel.Kind.INT, cel.Kind.NULL, cel.Kind.STRING,
    cel.Kind.TIMESTAMP, cel.Kind.UINT,
})  # fmt: skip


def compiled(base: Environment, text: str, returns: Sequence[Type]) -> Program:
    """The program of an expression whose result is one of ``returns`` (none: anything). Raises ``ExpressionError``."""
    try:
        program = base.compile(text)
    except CelIssues as error:
        raise ExpressionError(f"compilation failed: {error}") from error
    except CelError as error:
        raise ExpressionError(f"program instantiation failed: {error}") from error
    if returns and program.result_type not in returns:
        wanted = [go_name(each) for each in returns]
        said = wanted[0] if len(wanted) == 1 else f"one of [{' '.join(wanted)}]"
        raise ExpressionError(f"must evaluate to {said} but got {go_name(program.result_type)}")
    return program


def go_name(of: Type) -> str:
    """A type as cel-go's ``String`` prints it."""
    name = _GO_NAMES.get(of.kind, of.name)
    if not of.parameters:
        return name
    return f"{name}({', '.join(go_name(each) for each in of.parameters)})"


def complaints(
    base: Environment, text: str, returns: Sequence[Type], path: FieldPath, *, shown: str | None = None
) -> list[FieldError]:
    """What is wrong with the expression at ``path``; ``shown``: as it was written, where blanks were cut off."""
    try:
        compiled(base, text, returns)
    except ExpressionError as error:
        return [invalid(path, text if shown is None else shown, str(error))]
    return []
