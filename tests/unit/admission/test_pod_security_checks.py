"""Each rule of the Pod Security Standards, told in upstream's words, and the versions that changed them."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.admission.pod_security_checks import NEWEST, Level, violations
from anynode.api.objects import Object

CONTEXT = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def spec(*contexts: Object, **more: Any) -> Object:
    containers = [{"name": "abc"[index], "securityContext": each} for index, each in enumerate(contexts)]
    return {"containers": containers or [{"name": "a"}], **more}


def container(**more: Any) -> Object:
    return {"containers": [{"name": "a", **more}]}


@pytest.mark.parametrize(
    ("given", "reason", "detail"),
    [
        (
            spec({"appArmorProfile": {"type": "Unconfined"}}, securityContext={"appArmorProfile": {"type": "Odd"}}),
            "forbidden AppArmor profiles",
            'pod and container "a" must not set AppArmor profile type to "Odd", "Unconfined"',
        ),
        (
            spec({"capabilities": {"add": ["NET_RAW", "CHOWN"]}}, {"capabilities": {"add": ["SYS_TIME"]}}),
            "non-default capabilities",
            'containers "a", "b" must not include "NET_RAW", "SYS_TIME" in securityContext.capabilities.add',
        ),
        (spec(hostIPC=True, hostNetwork=True), "host namespaces", "hostNetwork=true, hostIPC=true"),
        (
            spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {"path": "/"}}]),
            "hostPath volumes",
            'volumes "v", "w"',
        ),
        (
            container(ports=[{"containerPort": 1, "hostPort": 90}, {"containerPort": 2, "hostPort": 8080}]),
            "hostPort",
            'container "a" uses hostPorts 8080, 90',
        ),
        (
            container(livenessProbe={"httpGet": {"host": "h"}}, lifecycle={"preStop": {"tcpSocket": {"host": "g"}}}),
            "probe or lifecycle host",
            'container "a" uses probe or lifecycle hosts "g", "h"',
        ),
        (spec({"privileged": True}), "privileged", 'container "a" must not set securityContext.privileged=true'),
        (
            spec({"procMount": "Unmasked"}),
            "procMount",
            'container "a" must not set securityContext.procMount to "Unmasked"',
        ),
        (
            spec({"seLinuxOptions": {"type": "x", "user": "u"}}, securityContext={"seLinuxOptions": {"role": "r"}}),
            "seLinuxOptions",
            'pod and container "a" set forbidden securityContext.seLinuxOptions: type "x"; user may not be set; '
            "role may not be set",
        ),
        (
            spec({"seccompProfile": {"type": "Unconfined"}}),
            "seccompProfile",
            'container "a" must not set securityContext.seccompProfile.type to "Unconfined"',
        ),
        (
            spec(securityContext={"sysctls": [{"name": "kernel.x"}, {"name": "net.ipv4.tcp_rmem"}, {"name": "vm.y"}]}),
            "forbidden sysctls",
            "kernel.x, vm.y",
        ),
        (
            spec(securityContext={"windowsOptions": {"hostProcess": True}}),
            "hostProcess",
            "pod must not set securityContext.windowsOptions.hostProcess=true",
        ),
    ],
)
def test_baseline(given: Object, reason: str, detail: str) -> None:
    assert violations("baseline", NEWEST, {}, given) == [(reason, detail)]
    assert violations("privileged", NEWEST, {}, given) == []


def test_app_armor_by_annotation() -> None:
    prefix = "container.apparmor.security.beta.kubernetes.io/"
    annotations = {prefix + "a": "unconfined", prefix + "b": "localhost/x", prefix + "c": "runtime/default"}
    assert violations("baseline", NEWEST, annotations, spec()) == [
        ("forbidden AppArmor profile", f'annotation must not set AppArmor profile type to "{prefix}a="unconfined""')
    ]


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        (
            {"capabilities": {"drop": ["ALL"], "add": ["CHOWN", "NET_BIND_SERVICE"]}},
            "unrestricted capabilities",
            'container "a" must not include "CHOWN" in securityContext.capabilities.add',
        ),
        (
            {"runAsNonRoot": False},
            "runAsNonRoot != true",
            'container "a" must not set securityContext.runAsNonRoot=false',
        ),
        ({"runAsUser": 0}, "runAsUser=0", 'container "a" must not set runAsUser=0'),
        (
            {"seccompProfile": {"type": "Unconfined"}},
            "seccompProfile",
            'container "a" must not set securityContext.seccompProfile.type to "Unconfined"',
        ),
    ],
)
def test_restricted(change: Object, reason: str, detail: str) -> None:
    assert violations("restricted", NEWEST, {}, spec(CONTEXT | change)) == [(reason, detail)]


def test_restricted_volumes_replace_the_rule_on_host_paths() -> None:
    volumes = [{"name": "v", "hostPath": {}}, {"name": "w", "nfs": {}}, {"name": "x", "emptyDir": {}}]
    assert violations("restricted", NEWEST, {}, spec(CONTEXT, volumes=volumes)) == [
        ("restricted volume types", 'volumes "v", "w" use restricted volume types "hostPath", "nfs"')
    ]


@pytest.mark.parametrize(
    ("level", "minor", "given", "allowed"),
    [
        ("restricted", 7, spec({"runAsNonRoot": True}), True),
        ("restricted", 8, spec({"runAsNonRoot": True}), False),
        ("restricted", 22, spec(CONTEXT | {"runAsUser": 0}), True),
        ("restricted", 23, spec(CONTEXT | {"runAsUser": 0}), False),
        ("restricted", 34, spec(CONTEXT | {"runAsNonRoot": None}, hostUsers=False), False),
        ("restricted", 35, spec(CONTEXT | {"runAsNonRoot": None}, hostUsers=False), True),
        ("baseline", 35, spec({"procMount": "Unmasked"}, hostUsers=False), True),
        ("restricted", 35, spec(CONTEXT | {"procMount": "Unmasked"}, hostUsers=False), False),
        ("baseline", 30, spec({"seLinuxOptions": {"type": "container_engine_t"}}), False),
        ("baseline", 31, spec({"seLinuxOptions": {"type": "container_engine_t"}}), True),
        ("baseline", 26, spec(securityContext={"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports"}]}), False),
        ("baseline", 27, spec(securityContext={"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports"}]}), True),
        ("baseline", 33, container(startupProbe={"httpGet": {"host": "h"}}), True),
        ("baseline", 18, spec({"seccompProfile": {"type": "Unconfined"}}), True),
        ("baseline", 99, spec({"seccompProfile": {"type": "Unconfined"}}), False),
        ("restricted", 24, spec({"runAsNonRoot": True}, os={"name": "windows"}), False),
        ("restricted", 25, spec({"runAsNonRoot": True}, os={"name": "windows"}), True),
    ],
)
def test_versions(level: Level, minor: int, given: Object, allowed: bool) -> None:
    assert (not violations(level, minor, {}, given)) is allowed


def test_seccomp_by_annotation_before_the_field_was() -> None:
    annotations = {
        "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
        "container.seccomp.security.alpha.kubernetes.io/a": "docker/default",
    }
    said = 'forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined"'
    assert violations("baseline", 18, annotations, spec()) == [("seccompProfile", said)]
    assert violations("baseline", 19, annotations, spec()) == []
