"""Records of another cluster: services move to the new network, what names other processes stays behind."""

from __future__ import annotations

import orjson
import pytest

from anynode.api.objects import Object
from anynode.registry.adoption import adopted
from anynode.storage.types import Record, Revision


def record(key: str, value: bytes = b"{}") -> Record:
    return Record(f"/registry/{key}", value, Revision(3), Revision(7))


def service(**spec: object) -> Record:
    return record("services/shop/web", orjson.dumps({"kind": "Service", "spec": spec}))


def spec_of(found: Record) -> Object:
    spec: Object = orjson.loads(found.value)["spec"]
    return spec


@pytest.mark.parametrize(
    ("address", "moved"),
    [
        ("127.64.0.1", "127.80.64.1"),
        ("127.64.1.9", "127.80.65.9"),
        ("10.0.0.1", "10.0.0.1"),
        ("None", "None"),
        ("", ""),
    ],
)
def test_a_cluster_ip_keeps_its_place(address: str, moved: str) -> None:
    (found,) = adopted(
        [service(clusterIP=address, clusterIPs=[address], type="ClusterIP")],
        source_network="127.64.0.0/18",
        network="127.80.64.0/18",
    )
    assert spec_of(found) == {"clusterIP": moved, "clusterIPs": [moved], "type": "ClusterIP"}
    assert (found.create_revision, found.mod_revision) == (3, 7)


def test_what_finds_no_room_stays_to_be_refused() -> None:
    (found,) = adopted([service(clusterIP="127.64.9.9")], source_network="127.64.0.0/18", network="127.80.64.0/24")
    assert spec_of(found)["clusterIP"] == "127.64.9.9"


def test_the_same_network_changes_no_byte() -> None:
    given = [record("services/shop/web", b'{ "spec" : {} }'), record("pods/shop/web", b" odd ")]
    assert list(adopted(given, source_network="127.64.0.0/18", network="127.64.0.0/18")) == given
    assert list(adopted(given, source_network="", network="127.64.0.0/18")) == given


def test_leases_and_reservations_stay_behind() -> None:
    given = [
        record("coordination.k8s.io/leases/kube-node-lease/node-0"),
        record("masterleases/127.0.0.1"),
        record("networking.k8s.io/ipaddresses/127.64.0.1"),
        record("pods/shop/web"),
    ]
    assert [each.key for each in adopted(given, source_network="", network="127.64.0.0/18")] == [
        "/registry/pods/shop/web"
    ]
