"""What containers are given: environment, command line, volumes, and the refusals in upstream's words."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.unit.node.pods import container, pod

from anynode.api.objects import Object
from anynode.node import pod_plan
from anynode.node.pod_machine import Kind
from anynode.node.pod_plan import ConfigError, Lookups, MountError, Reference, TokenRequest
from anynode.provider import Volume

CONFIG: Object = {"data": {"a": "from map", "b": "$(X)"}, "binaryData": {"c": base64.b64encode(b"\0").decode()}}
SECRET: Object = {"data": {"s": base64.b64encode(b"hidden").decode()}}
SERVICE: Object = {
    "metadata": {"name": "my-svc", "namespace": "default"},
    "spec": {"clusterIP": "127.96.0.9", "ports": [{"name": "web", "port": 81}, {"port": 53, "protocol": "UDP"}]},
}


def lookups(**more: Any) -> Lookups:
    objects = {
        Reference("configmap", "m"): CONFIG,
        Reference("secret", "s"): SECRET,
        Reference("configmap", "none"): None,
        Reference("secret", "none"): None,
    }
    fields: dict[str, Any] = {"objects": objects, "pod_ip": "127.1.2.3", "host_ip": "127.0.0.1", **more}
    return Lookups(**fields)


def environment(
    *env: Object, source: tuple[Object, ...] = (), obj: Object | None = None, **more: Any
) -> dict[str, str]:
    spec = container("main", env=list(env), envFrom=list(source))
    return pod_plan.environment(obj or pod(spec), spec, lookups(**more))


def test_literals_refer_to_what_stands_before_them() -> None:
    found = environment(
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)-$(C)-$$(A)"},
        {"name": "C", "value": "3"},
        {"name": "A", "value": "2$(A)"},
    )
    assert found == {"A": "21", "B": "1-$(C)-$(A)", "C": "3"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "x"), ("$$(A)", "$(A)"), ("$$$(A)", "$x"), ("$(A", "$(A"), ("$A", "$A"), ("$", "$"),
        ("a$(A)b$(N)c", "axb$(N)c"), ("$$", "$"), ("$()", "$()"), ("no", "no"),
    ],
)  # fmt: skip
def test_expansion(text: str, expanded: str) -> None:
    assert pod_plan.expand(text, {"A": "x"}.get) == expanded


def test_sources_with_prefixes_and_own_values_on_top() -> None:
    sources = (
        {"configMapRef": {"name": "m"}},
        {"configMapRef": {"name": "m"}, "prefix": "P_"},
        {"secretRef": {"name": "s"}},
    )
    found = environment({"name": "a", "value": "own"}, source=sources)
    assert found == {"a": "own", "b": "$(X)", "P_a": "from map", "P_b": "$(X)", "s": "hidden"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"configMapKeyRef": {"name": "m", "key": "none"}}, "couldn't find key none in ConfigMap default/m"),
        ({"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found'),
        ({"secretKeyRef": {"name": "s", "key": "none"}}, "couldn't find key none in Secret default/s"),
        ({"fieldRef": {"fieldPath": "spec.containers"}}, "unsupported fieldPath: spec.containers"),
    ],
)
def test_what_is_missing_is_named(value: Object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        environment({"name": "A", "valueFrom": value})
    assert str(caught.value) == message
    for key in ("configMapKeyRef", "secretKeyRef"):
        if key in value:
            assert environment({"name": "A", "valueFrom": {key: {**value[key], "optional": True}}}) == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"), ("metadata.namespace", "default"), ("metadata.uid", "uid-1"),
        ("metadata.labels['app']", "web"), ("metadata.labels['none']", ""), ("metadata.annotations['n/ote']", "a\nb"),
        ("metadata.labels", 'app="web"\nz="1"'), ("spec.nodeName", "node-1"), ("spec.serviceAccountName", "robot"),
        ("status.podIP", "127.1.2.3"), ("status.podIPs", "127.1.2.3"), ("status.hostIP", "127.0.0.1"),
    ],
)  # fmt: skip
def test_fields(path: str, value: str) -> None:
    obj = pod(serviceAccountName="robot")
    obj["metadata"].update(labels={"z": "1", "app": "web"}, annotations={"n/ote": "a\nb"})
    assert environment({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}, obj=obj) == {"A": value}


@pytest.mark.parametrize(
    ("selector", "value"),
    [
        ({"resource": "limits.cpu"}, "2"), ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "limits.memory"}, "34603008"), ({"resource": "limits.memory", "divisor": "1Mi"}, "33"),
        ({"resource": "requests.cpu"}, "1"), ({"resource": "requests.memory"}, "0"),
        ({"resource": "limits.ephemeral-storage"}, "1024"),
        ({"resource": "limits.cpu", "containerName": "other", "divisor": "1m"}, "100"),
    ],
)  # fmt: skip
def test_resources(selector: Object, value: str) -> None:
    main = container("main", resources={"limits": {"cpu": "1500m", "memory": "33Mi"}, "requests": {"cpu": "250m"}})
    other = container("other", resources={"limits": {"cpu": "100m"}})
    found = pod_plan.resource_value(pod(main, other), main, selector, {"ephemeral-storage": "1Ki"})
    assert found == value


def test_services_become_variables() -> None:
    found = environment({"name": "MY_SVC_SERVICE_PORT", "value": "own"}, services=[SERVICE])
    assert found["MY_SVC_SERVICE_HOST"] == "127.96.0.9"
    assert found["MY_SVC_SERVICE_PORT"] == "own"
    assert found["MY_SVC_SERVICE_PORT_WEB"] == "81"
    assert found["MY_SVC_PORT"] == "tcp://127.96.0.9:81"
    assert found["MY_SVC_PORT_53_UDP_PROTO"] == "udp"
    assert found["MY_SVC_PORT_81_TCP_ADDR"] == "127.96.0.9"


def test_without_links_only_the_api_is_told() -> None:
    api: Object = {**SERVICE, "metadata": {"name": "kubernetes", "namespace": "default"}}
    headless: Object = {"metadata": {"name": "h", "namespace": "default"}, "spec": {"clusterIP": "None"}}
    found = pod_plan.service_variables([SERVICE, api, headless], "elsewhere", links=False)
    assert {name.split("_")[0] for name in found} == {"KUBERNETES"}


def test_command_and_args_are_expanded() -> None:
    spec = container("main", command=["echo", "$(A)"], args=["$$(A)"], env=[{"name": "A", "value": "x"}])
    plan = pod_plan.container_plan(pod(spec), spec, Kind.MAIN, 3, lookups())
    assert (plan.command, plan.args, plan.attempt) == (["echo", "x"], ["$(A)"], 3)


@pytest.mark.parametrize(
    ("mount", "found"),
    [
        ({"subPath": "a/b"}, "a/b"),
        ({"subPathExpr": "$(A)/$$(A)"}, "x/$(A)"),
        ({"subPathExpr": "$(N)/$(A)/$(EMPTY)"}, "missing value for EMPTY, N"),
        ({"subPathExpr": "$(ROOT)"}, "error SubPath `/` must not be an absolute path"),
        ({"subPathExpr": "$(UP)/$(A)"}, "unable to provision SubPath `../x`: must not contain '..'"),
    ],
)
def test_a_mount_leads_into_its_volume(mount: Object, found: str) -> None:
    values = {"A": "x", "EMPTY": "", "ROOT": "/", "UP": ".."}
    spec = container(
        "main",
        env=[{"name": name, "value": value} for name, value in values.items()],
        volumeMounts=[{"name": "v", "mountPath": "/v", **mount}],
    )
    try:
        shown = pod_plan.container_plan(pod(spec), spec, Kind.MAIN, 0, lookups()).mounts[0].sub_path
    except ConfigError as error:
        shown = str(error)
    assert shown == found


def volume(source: Object, **more: Any) -> Volume:
    (found,) = pod_plan.volumes(pod(volumes=[{"name": "v", **source}]), lookups(**more))
    return found


def files(found: Volume) -> dict[str, tuple[bytes, int]]:
    assert found.files is not None
    return {each.path: (each.content, each.mode) for each in found.files}


def test_volumes_of_files() -> None:
    assert files(volume({"configMap": {"name": "m"}})) == {
        "a": (b"from map", 0o644), "b": (b"$(X)", 0o644), "c": (b"\0", 0o644),
    }  # fmt: skip
    items = [{"key": "a", "path": "deep/a", "mode": 0o600}]
    assert files(volume({"configMap": {"name": "m", "items": items}})) == {"deep/a": (b"from map", 0o600)}
    assert files(volume({"secret": {"secretName": "s", "defaultMode": 0o400}})) == {"s": (b"hidden", 0o400)}
    assert files(volume({"secret": {"secretName": "none", "optional": True}})) == {}
    name = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}
    assert files(volume({"downwardAPI": {"items": [name]}})) == {"name": (b"p", 0o644)}


def test_a_projected_volume_joins_its_sources() -> None:
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "m", "items": [{"key": "a", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    request = TokenRequest("", 3607)
    obj = pod(volumes=[{"name": "v", "projected": {"sources": sources}}])
    assert pod_plan.token_requests(obj) == {request}
    found = files(volume({"projected": {"sources": sources}}, tokens={request: "abc"}))
    assert found == {"token": (b"abc", 0o600), "ca.crt": (b"from map", 0o644), "namespace": (b"default", 0o644)}


def test_other_volumes() -> None:
    assert volume({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}).size_limit_bytes == 1 << 20
    host = volume({"hostPath": {"path": "/srv", "type": "Directory"}})
    assert (host.host_path, host.host_path_type) == ("/srv", "Directory")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        (
            {"configMap": {"name": "m", "items": [{"key": "k", "path": "x"}]}},
            "configmap references non-existent config key: k",
        ),
        ({"nfs": {"server": "x", "path": "/"}}, "volumes of kind nfs are not offered by this node"),
    ],
)
def test_a_volume_that_cannot_be_made_says_why(source: Object, message: str) -> None:
    with pytest.raises(MountError) as caught:
        volume(source)
    assert (caught.value.volume, caught.value.message) == ("v", message)


def test_what_a_pod_refers_to() -> None:
    spec = container(
        "main",
        envFrom=[{"configMapRef": {"name": "a"}}],
        env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k"}}}],
    )
    volumes = [
        {"name": "v", "configMap": {"name": "c"}},
        {"name": "w", "projected": {"sources": [{"secret": {"name": "d"}}]}},
    ]
    obj = pod(spec, volumes=volumes)
    assert pod_plan.references(obj) == {Reference("configmap", "a"), Reference("secret", "b")}
    assert pod_plan.volume_references(obj) == {Reference("configmap", "c"), Reference("secret", "d")}
    assert pod_plan.shows_live_objects(obj)
    assert not pod_plan.shows_live_objects(pod(spec))


@pytest.mark.parametrize(
    ("spec", "name"),
    [({}, "p"), ({"hostname": "h"}, "h"), ({"hostname": "h", "hostnameOverride": "full.example"}, "full.example")],
)
def test_host_name(spec: dict[str, str], name: str) -> None:
    assert pod_plan.host_name(pod(**spec)) == name
