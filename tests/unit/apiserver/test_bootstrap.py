"""What a server gives its own roles and bindings back when it starts again."""

from __future__ import annotations

import random

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, User
from anynode.apiserver.assembly import Assembly
from anynode.apiserver.bootstrap import completed_rights
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters", "system:authenticated"))
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def rule(*verbs: str) -> dict[str, list[str]]:
    return {"apiGroups": [""], "resources": ["pods"], "verbs": list(verbs)}


def test_missing_rules_and_subjects() -> None:
    role = {"metadata": {"name": "r"}, "rules": [rule("get")]}
    assert completed_rights(role, role) is None
    assert completed_rights({**role, "rules": [rule("*")]}, role) is None
    wanted = {**role, "rules": [rule("get", "list")]}
    assert completed_rights(role, wanted) == {**role, "rules": [rule("get"), rule("list")]}
    binding = {"metadata": {"name": "b"}, "roleRef": {}, "subjects": [{"name": "a"}]}
    more = {**binding, "subjects": [{"name": "b"}]}
    assert completed_rights(binding, more) == {**binding, "subjects": [{"name": "a"}, {"name": "b"}]}
    assert (
        completed_rights({**role, "aggregationRule": {}, "rules": []}, {**wanted, "aggregationRule": {"x": 1}}) is None
    )


async def test_a_second_start_mends_what_was_taken_away_unless_somebody_took_it_over() -> None:
    async with MemoryStorage() as storage:

        async def started(*changes: tuple[str, Object | None]) -> list[object]:
            async with Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly:
                found: list[object] = []
                for name, change in changes:
                    request = ApiRequest(
                        method="PATCH" if change else "GET",
                        path=f"{RBAC}/clusterroles/{name}",
                        user=ADMIN,
                        obj=change,
                        headers={"content-type": "application/merge-patch+json"},
                    )
                    found.append((await assembly.server.handle(request)).decoded()["rules"])
                return found

        before = await started(("system:discovery", None), ("system:basic-user", None))
        taken_over = {
            "rules": [],
            "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}},
        }
        await started(("system:discovery", {"rules": []}), ("system:basic-user", taken_over))
        mended, left = await started(("system:discovery", None), ("system:basic-user", None))
        assert len(before) == 2
        assert mended
        assert not left
