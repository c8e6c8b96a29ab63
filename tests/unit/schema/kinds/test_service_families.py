from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.service_families import with_families

ONE, BOTH = ("IPv4",), ("IPv4", "IPv6")


def families(spec: dict[str, Any], before: dict[str, Any] | None = None, served: tuple[str, ...] = ONE) -> Any:
    """(policy, families) or what is wrong."""
    found, errors = with_families({"type": "ClusterIP", **spec}, before or {}, served)
    return [f"{each.field}: {each.message}" for each in errors] or (found["ipFamilyPolicy"], found["ipFamilies"])


@pytest.mark.parametrize(
    ("spec", "served", "wanted"),
    [
        ({}, ONE, ("SingleStack", ["IPv4"])),
        ({"ipFamilyPolicy": "PreferDualStack"}, ONE, ("PreferDualStack", ["IPv4"])),
        ({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}, BOTH, ("PreferDualStack", ["IPv6", "IPv4"])),
        ({"ipFamilyPolicy": "RequireDualStack"}, BOTH, ("RequireDualStack", ["IPv4", "IPv6"])),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, ONE, ("RequireDualStack", ["IPv4", "IPv6"])),
        ({"clusterIP": "None", "ipFamilies": ["IPv6"]}, ONE, ("RequireDualStack", ["IPv6", "IPv4"])),
        ({"clusterIP": "None", "selector": {"a": "b"}}, ONE, ("SingleStack", ["IPv4"])),
        ({"clusterIPs": ["fd00::1"]}, BOTH, ("SingleStack", ["IPv6"])),
    ],
)
def test_families_of_a_new_service(spec: dict[str, Any], served: tuple[str, ...], wanted: Any) -> None:
    assert families(spec, served=served) == wanted


def test_a_new_service_that_asks_too_much() -> None:
    [said] = families({"clusterIPs": ["fd00::1"]})
    assert said == 'spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster'
    [said] = families({"ipFamilies": ["IPv4", "IPv6"]}, served=BOTH)
    assert "when multiple IP families are specified" in said


def test_a_changed_service_keeps_its_policy_and_says_when_it_gives_up_a_family() -> None:
    both = {"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "ipFamilies": list(BOTH)}
    assert families({"ipFamilies": list(BOTH)}, both, BOTH) == ("PreferDualStack", list(BOTH))
    assert families({**both, "ipFamilyPolicy": "SingleStack"}, both, BOTH) == ("SingleStack", ["IPv4"])
    [said] = families({"ipFamilies": ["IPv4"]}, both, BOTH)
    assert "must be 'SingleStack' to release the secondary IP family" in said


def test_a_second_family_of_the_cluster_changes_no_service_by_itself() -> None:
    one = {"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"]}
    assert families(dict(one), one, BOTH) == ("PreferDualStack", ["IPv4"])
