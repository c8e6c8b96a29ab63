"""How often a rule may run and what all rules of a schema may cost together.

Source: apiextensions-apiserver ``pkg/apis/apiextensions/validation/{cel_validation,validation}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses

from anynode.cel import types
from anynode.cel.cost import MOST
from anynode.cel.escaping import escape
from anynode.schema.custom.cel_types import declared
from anynode.schema.custom.structural import Structural

MOST_RULE_COST = 10_000_000
_LISTED_FROM = 1_000_000
_LISTED = 4
_ADVICE = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)


def times(cost: int, count: int) -> int:
    return min(cost * count, MOST)


def cost_error(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{what} exceeds budget by factor of {shown} {_ADVICE}"


class Total:
    """The cost of all expressions so far, and where the dearest of them stand."""

    def __init__(self) -> None:
        self.cost = 0
        self._dear: list[tuple[int, str]] = []

    def observe(self, path: str, cost: int) -> None:
        self.cost = min(self.cost + cost, MOST)
        if cost >= _LISTED_FROM:
            self._dear = sorted([*self._dear, (cost, path)], key=lambda each: -each[0])[:_LISTED]

    def expensive(self) -> list[str]:
        return [path for _, path in self._dear]


@dataclasses.dataclass(slots=True, kw_only=True)
class CelContext:
    """One node on the way down: how many values of it an object can have (None: no bound), and their CEL type.

    Types are made only from the first rule downward, and a type seen inside its parent's is that of the parent.
    """

    node: Structural
    total: Total
    cardinality: int | None
    parent: CelContext | None = None
    step: str = ""
    is_root: bool = False
    in_scope: bool = False
    _declared: types.Type | None = None
    _made: bool = False

    @classmethod
    def root(cls, node: Structural) -> CelContext:
        return cls(node=node, total=Total(), cardinality=1, is_root=True, in_scope=bool(node.rules))

    def child(self, node: Structural | None, step: str) -> CelContext | None:
        """``step``: a property's name, ``[]`` for items, ``{}`` for additional properties."""
        if node is None:
            return None
        most = _most_elements(self.node)
        bound = None if self.cardinality is None or most is None else times(self.cardinality, most)
        return CelContext(
            node=node,
            total=self.total,
            cardinality=bound,
            parent=self,
            step=step,
            in_scope=self.in_scope or bool(node.rules),
        )

    def declared(self) -> types.Type | None:
        """The type rules see; None where CEL sees nothing."""
        if not self.in_scope:
            return None
        if not self._made:
            self._made = True
            self._declared = self._from_parent()
            if self._declared is None:
                self._declared = declared(self.node, root=self.is_root or self.node.embedded)
        return self._declared

    def _from_parent(self) -> types.Type | None:
        outer = None if self.parent is None else self.parent.declared()
        if outer is None:
            return None
        if self.step in ("[]", "{}"):
            return outer.parameters[-1] if outer.parameters else None
        name = escape(self.step)
        return outer.field(name) if name is not None and isinstance(outer, types.ObjectType) else None


def _most_elements(node: Structural) -> int | None:
    if node.type == "object" and node.open:
        most = node.raw.get("maxProperties")
    elif node.type == "array":
        most = node.raw.get("maxItems")
    else:
        return 1
    return None if most is None else max(most, 0)
