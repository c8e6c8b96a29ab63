"""Type checking of ValidatingAdmissionPolicies: what their expressions get wrong about the kinds they name.

Pure. In: a policy, the kinds its rules name and their CEL types. Out: ``status.typeChecking.expressionWarnings``; a
policy with warnings works as one without. Source: apiserver
``pkg/admission/plugin/policy/validating/typechecking.go``, ``pkg/cel/common/schemas.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anynode.api.objects import Object
from anynode.api.resources import GroupVersion, Resource
from anynode.cel import types as cel
from anynode.cel.environment import Environment
from anynode.cel.errors import CelError, CelIssues
from anynode.cel.escaping import unescape
from anynode.cel.types import ObjectType, Type
from anynode.schema import admission_expressions as expressions
from anynode.schema.types import Field, Types

MOST_TYPES = 10
TypeOf = Callable[[str, str], Type | None]
"""(apiVersion, kind) -> the type of its objects; None where it is not known."""
ResourceAt = Callable[[str, str, str], Resource | None]
"""(group, version, plural) -> the resource served."""
_PLAIN: Mapping[str, Type] = {
    "s": cel.STRING, "b": cel.BOOL, "y": cel.BYTES, "i": cel.INT, "l": cel.INT, "u": cel.INT, "U": cel.INT,
    "d": cel.DOUBLE, "t": cel.TIMESTAMP, "T": cel.TIMESTAMP, "D": cel.STRING,
}  # fmt: skip


def builtin_type(types: Types, api_version: str, kind: str) -> Type | None:
    """The CEL type of a built-in kind's objects."""
    name = types.of_kind(api_version, kind)
    return _message(types, name, kind) if name else None


def _message(types: Types, name: str, path: str) -> ObjectType:
    """A message as an object type; its fields are made when they are asked for, since messages may hold themselves."""

    def field(escaped: str) -> Type | None:
        said = unescape(escaped)
        found = types[name].fields.get(said) if said is not None else None
        return None if found is None else _field(types, found, f"{path}.{escaped}")

    return ObjectType(path, field)


def _field(types: Types, field: Field, path: str) -> Type:
    one: Type = _message(types, field.target, path) if field.kind == "m" else _PLAIN.get(field.kind, cel.DYN)
    if field.shape == "l":
        return cel.list_of(one)
    if field.shape == "m":
        return cel.map_of(cel.STRING, one)
    return cel.map_of(cel.STRING, cel.list_of(one)) if field.shape == "M" else one


def warnings(policy: Object, at: ResourceAt, type_of: TypeOf) -> Sequence[Object]:
    """The expression warnings of a policy, empty when all is well."""
    spec = policy.get("spec") or {}
    kinds = [(kind, type_) for kind in kinds_of(spec, at) if (type_ := type_of(*_named(kind))) is not None]
    found: list[Object] = []
    for position, validation in enumerate(spec.get("validations") or ()):
        for name in ("expression", "messageExpression"):
            text = validation.get(name) or ""
            said = _checked(spec, text, kinds, type_of) if text else ""
            if said:
                found.append({"fieldRef": f"spec.validations[{position}].{name}", "warning": said})
    return found


def kinds_of(spec: Object, at: ResourceAt) -> Sequence[tuple[str, str, str]]:
    """(group, version, kind) of what the rules name without wildcards, sorted; few are enough."""
    found: set[tuple[str, str, str]] = set()
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
        if any("*" in each for each in (*groups, *versions)):
            continue
        plurals = [each for each in rule.get("resources") or () if "*" not in each and "/" not in each]
        for group in sorted(groups):
            for version in sorted(versions):
                for plural in sorted(plurals):
                    resource = at(group, version, plural)
                    if resource is not None:
                        found.add((group, version, resource.kind))
                    if len(found) == MOST_TYPES:
                        return sorted(found)
    return sorted(found)


def _named(kind: tuple[str, str, str]) -> tuple[str, str]:
    return str(GroupVersion(kind[0], kind[1])), kind[2]


def _checked(spec: Object, text: str, kinds: Sequence[tuple[tuple[str, str, str], Type]], type_of: TypeOf) -> str:
    """What is wrong with an expression, kind by kind."""
    said = []
    for (group, version, kind), found in kinds:
        environment = _environment(spec, found, type_of)
        try:
            environment.compile(text)
        except CelIssues as error:
            said.append(f"{group}/{version}, Kind={kind}: {error}\n")
        except CelError:
            continue  # well typed, but not to be run: that is validation's to say
    return "\n".join(said)


def _environment(spec: Object, found: Type, type_of: TypeOf) -> Environment:
    variables: dict[str, Type] = {
        "namespaceObject": expressions.namespace_type(),
        "request": expressions.request_type(),
        "object": found,
        "oldObject": found,
        "authorizer": cel.AUTHORIZER,
    }
    kind = spec.get("paramKind")
    if kind is not None:
        variables["params"] = type_of(kind.get("apiVersion") or "", kind.get("kind") or "") or cel.DYN
    base = Environment.kubernetes(variables)
    types: dict[str, Type] = {}
    for variable in spec.get("variables") or ():
        try:
            made = expressions.composed(base, types).compile(variable.get("expression") or "").result_type
        except CelError:
            made = cel.DYN
        types[variable.get("name") or ""] = made
    return expressions.composed(base, types)
