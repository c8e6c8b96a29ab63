"""Estimates cel-go v0.26 gave: its paths share memory when they grow from one, and what it refuses depends on it."""

from __future__ import annotations

import pytest

from anynode.cel import types
from anynode.cel.call_estimates import Path
from anynode.cel.environment import Environment, sizes_of
from anynode.cel.types import ObjectType, Type

ITEM = ObjectType("self.@idx", {"s": types.STRING.sized(44), "t": types.list_of(types.STRING.sized(12), 2)})


def nested(depth: int) -> ObjectType:
    fields: dict[str, Type] = {"lo": types.list_of(ITEM, 6), "l": types.list_of(types.STRING.sized(28), 5)}
    if depth:
        fields["n"] = nested(depth - 1)
    return ObjectType(f"self{depth}", fields)


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("self.lo.all(o, o.s == 'x' && o.t.all(u, u == o.s))", 2169),
        ("self.lo.all(i, o, o.t.exists(j, u, u.contains(o.s)))", 4527),
        ("self.n.n.lo.all(o, o.s == 'x' && o.t.all(u, u == o.s))", 2171),
        ("self.n.n.lo.all(i, o, o.t.exists(j, u, u.contains(o.s)))", 2**64 - 1),
        ("self.n.n.n.n.lo.all(i, o, o.t.exists(j, u, u.contains(o.s)))", 4531),
    ],
)
def test_estimates_of_nested_loops(text: str, most: int) -> None:
    root = nested(6)
    program = Environment.kubernetes({"self": root}).compile(text)
    assert program.estimate(sizes_of(root)).max == most


def test_without_sizes_everything_is_unbounded() -> None:
    program = Environment.kubernetes({"x": types.list_of(types.STRING)}).compile("x.all(y, y == 'a')")
    assert (program.estimate().min, program.estimate().max) == (2, 2**64 - 1)


def test_libraries_may_be_priced_at_one() -> None:
    text = "isIP(x) || x.matches('a')"
    strict, loose = (
        Environment.kubernetes({"x": types.STRING}, strict_cost=strict).compile("isIP(x)").estimate()
        for strict in (True, False)
    )
    assert (strict.max, loose.max) == (1844674407370955264 + 1, 2)
    assert Environment.kubernetes({"x": types.STRING}).compile(text).estimate().min == 1


def test_paths_share_their_memory() -> None:
    path = Path.of("a").then("b").then("c")
    one = path.then("x")
    other = path.then("y")
    assert one.read() == other.read() == ("a", "b", "c", "y")
    assert (other.then("p").read()[-1], other.then("q").read()[-1]) == ("p", "q")
