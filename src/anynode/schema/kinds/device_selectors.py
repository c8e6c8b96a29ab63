"""CEL expressions that select devices: what is wrong with one before any device is seen.

Pure. Source: kubernetes ``staging/src/k8s.io/dynamic-resource-allocation/cel/compile.go``,
``pkg/apis/resource/validation/validation.go`` (``validateCELSelector``), 1.36.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from anynode.cel import types
from anynode.cel.environment import Environment, Sizer, sizes_of
from anynode.cel.errors import CelIssues, CelProgramError
from anynode.schema.fields import FieldError, FieldPath, forbidden, invalid, too_long

_MOST_BYTES = 10 * 1024
_MOST_COST = 1_000_000
_MOST_DOMAIN, _MOST_NAME, _MOST_VALUE, _MOST_ENTRIES = 63, 32, 64, 32


@functools.cache
def _environment() -> tuple[Environment, Sizer]:
    domain, name = types.STRING.sized(_MOST_DOMAIN), types.STRING.sized(_MOST_NAME)

    def by_domain(value: types.Type) -> types.Type:
        return types.map_of(domain, types.map_of(name, value, _MOST_ENTRIES), _MOST_ENTRIES)

    device = types.ObjectType(
        "kubernetes.DRADevice",
        {
            "driver": types.STRING.sized(_MOST_DOMAIN),
            "allowMultipleAllocations": types.BOOL.sized(1),
            "attributes": by_domain(types.Type(types.Kind.DYN, "google.protobuf.Any", max_size=_MOST_VALUE)),
            "capacity": by_domain(types.QUANTITY),
        },
    )
    declared = sizes_of(device)

    def size(path: Sequence[str], of: types.Type) -> int | None:
        """Every attribute of a domain has the same bound, whatever its name."""
        if len(path) == 4 and path[:2] == ("device", "attributes") and path[2] == "@values" and path[3] != "@keys":
            return _MOST_VALUE
        return declared(path, of) if path[0] == "device" else None

    return Environment.kubernetes({}).extended({"device": device}, bindings=True), size


@functools.lru_cache(maxsize=1024)
def _trouble(expression: str) -> tuple[str, bool]:
    """What is wrong with an expression, and whether it would cost too much."""
    environment, sizer = _environment()
    try:
        program = environment.compile(expression)
    except CelIssues as error:
        return f"compilation failed: {error}", False
    except CelProgramError as error:
        return f"program instantiation failed: {error}", False
    if program.result_type != types.BOOL and not types.is_dyn(program.result_type):
        return f"must evaluate to bool or the unknown type, not {program.result_type}", False
    most = program.estimate(sizer).max
    return "", most > _MOST_COST


def validate_expression(expression: str, path: FieldPath) -> list[FieldError]:
    if len(expression.encode()) > _MOST_BYTES:
        return [too_long(path, _MOST_BYTES)]
    wrong, costly = _trouble(expression)
    if wrong:
        return [invalid(path, expression, wrong)]
    return [forbidden(path, "too complex, exceeds cost limit")] if costly else []
