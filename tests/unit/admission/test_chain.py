"""The order of stations, and that a write meets only those it concerns."""

from __future__ import annotations

import pytest

from anynode.admission.chain import Attributes, Chain, Operation, Plugin
from anynode.api import resources
from anynode.api.errors import Forbidden
from anynode.api.objects import Object
from anynode.api.wire import User

PODS = resources.known("pods")
USER = User(name="u")


class Noting(Plugin):
    """Adds its name to the object and to the log of calls."""

    def __init__(
        self, name: str, calls: list[str], *, on: Operation = "CREATE", resources: frozenset[str] | None = None
    ) -> None:
        self.name = name
        self.operations = frozenset({on})
        self.resources = resources
        self._calls = calls

    async def admit(self, attributes: Attributes) -> Object | None:
        self._calls.append(f"admit {self.name}")
        return {**(attributes.obj or {}), self.name: len(attributes.obj or {})}

    async def validate(self, attributes: Attributes) -> None:
        self._calls.append(f"validate {self.name} {sorted(attributes.obj or {})}")
        if (attributes.obj or {}).get("refuse") == self.name:
            raise attributes.forbidden("no")


def create(obj: Object, subresource: str = "") -> Attributes:
    return Attributes(operation="CREATE", resource=PODS, subresource=subresource, namespace="ns", obj=obj, user=USER)


async def test_all_mutate_in_order_before_any_validates() -> None:
    calls: list[str] = []
    chain = Chain([Noting("a", calls), Noting("b", calls)])
    given: Object = {}
    assert await chain.admit(create(given)) == {"a": 0, "b": 1}
    assert given == {}
    assert calls == ["admit a", "admit b", "validate a ['a', 'b']", "validate b ['a', 'b']"]


async def test_only_concerned_plugins_are_called() -> None:
    calls: list[str] = []
    chain = Chain(
        [
            Noting("update", calls, on="UPDATE"),
            Noting("deployments", calls, resources=frozenset({"deployments.apps"})),
            Noting("status", calls, resources=frozenset({"pods/status"})),
            Noting("all", calls),
        ]
    )
    assert await chain.admit(create({})) == {"all": 0}
    assert await chain.admit(create({}, "status")) == {"status": 0, "all": 1}


async def test_a_refusal_ends_it_and_names_the_object_as_far_as_it_is_known() -> None:
    calls: list[str] = []
    chain = Chain([Noting("a", calls), Noting("b", calls)])
    for metadata, said in (({"name": "p"}, "p"), ({"generateName": "p-"}, "p-"), ({}, "Unknown")):
        calls.clear()
        with pytest.raises(Forbidden, match=f'pods "{said}" is forbidden: no'):
            await chain.admit(create({"metadata": metadata, "refuse": "a"}))
        assert not any(call.startswith("validate b") for call in calls)


async def test_nothing_stays_nothing() -> None:
    chain = Chain([])
    assert await chain.admit(Attributes(operation="DELETE", resource=PODS, name="p", user=USER)) is None
