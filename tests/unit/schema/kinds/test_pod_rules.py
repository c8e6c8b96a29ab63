"""What is wrong with a pod: one bad thing at a time, in the words of a kube-apiserver."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

POD = rules_of("", "Pod")


def told(**spec: Any) -> list[str]:
    whole = {"containers": [{"name": "c", "image": "i:1"}], **spec}
    made = POD.default({"metadata": {"name": "p", "namespace": "d"}, "spec": whole})
    return [f"{each.field}: {each.message}" for each in POD.validate(made)]


def in_container(**given: Any) -> list[str]:
    found = told(containers=[{"name": "c", "image": "i:1", **given}])
    return [each.replace("spec.containers[0]", "c") for each in found]


def in_volume(**given: Any) -> list[str]:
    return [each.replace("spec.volumes[0]", "v") for each in told(volumes=[{"name": "v", **given}])]


SPREAD = {"topologyKey": "z", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": []}, ["spec.containers: Required value"]),
        ({"dnsPolicy": "Odd"}, ['spec.dnsPolicy: Unsupported value: "Odd": supported values: '
                                '"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"']),
        ({"restartPolicy": "Odd"}, ['spec.restartPolicy: Unsupported value: "Odd": supported values: "Always", '
                                    '"OnFailure", "Never"']),
        ({"activeDeadlineSeconds": 0}, ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and "
                                        "2147483647, inclusive"]),
        ({"tolerations": [{"operator": "Equal"}]}, ["spec.tolerations[0].operator: Invalid value: \"Equal\": operator "
            "must be Exists when `key` is empty, which means \"match all values and all keys\""]),
        ({"topologySpreadConstraints": [SPREAD, SPREAD]},
            ['spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: '
             '"{z, DoNotSchedule}"']),
        ({"hostAliases": [{"ip": "x"}]}, ['spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, '
                                          "(e.g. 10.9.8.7 or 2001:db8::ffff)"]),
        ({"volumes": [{"name": "a"}, {"name": "a"}]}, ['spec.volumes[1].name: Duplicate value: "a"']),
        ({"containers": [{"name": "c", "image": "i"}] * 2}, ['spec.containers[1].name: Duplicate value: "c"']),
    ],
)  # fmt: skip
def test_bad_pods(spec: dict[str, Any], expected: list[str]) -> None:
    assert told(**spec) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"image": ""}, ["c.image: Required value"]),
        ({"image": " i"}, ['c.image: Invalid value: " i": must not have leading or trailing whitespace']),
        ({"imagePullPolicy": "Odd"},
            ['c.imagePullPolicy: Unsupported value: "Odd": supported values: "Always", "IfNotPresent", "Never"']),
        ({"ports": [{"containerPort": 0}]}, ["c.ports[0].containerPort: Required value"]),
        ({"ports": [{"containerPort": 70000}]},
            ["c.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
        ({"ports": [{"containerPort": 1, "name": "x"}, {"containerPort": 2, "name": "x"}]},
            ['c.ports[1].name: Duplicate value: "x"']),
        ({"env": [{"name": ""}]}, ["c.env[0].name: Required value"]),
        ({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            ['c.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty']),
        ({"volumeMounts": [{"name": "none", "mountPath": "/x"}]},
            ['c.volumeMounts[0].name: Not found: "none"']),
        ({"livenessProbe": {}}, ["c.livenessProbe: Required value: must specify a handler type"]),
        ({"livenessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}},
            ["c.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]),
        ({"livenessProbe": {"exec": {"command": ["x"]}, "successThreshold": 2}},
            ["c.livenessProbe.successThreshold: Invalid value: 2: must be 1"]),
        ({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
            ['c.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
        ({"resources": {"limits": {"cpu": "-1"}}},
            ['c.resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
             'c.resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
        ({"terminationMessagePolicy": "Odd"}, ['c.terminationMessagePolicy: Unsupported value: "Odd": supported '
                                               'values: "File", "FallbackToLogsOnError"']),
        ({"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
            ["c.securityContext: Invalid value: "]),
    ],
)  # fmt: skip
def test_bad_containers(given: dict[str, Any], expected: list[str]) -> None:
    found = in_container(**given)
    assert len(found) == len(expected)
    for text, start in zip(found, expected, strict=True):
        assert text.startswith(start)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"emptyDir": {}, "hostPath": {"path": "/x"}},
            ["v.hostPath: Forbidden: may not specify more than 1 volume type"]),
        ({"hostPath": {"path": "/a/../b", "type": ""}},
            ['v.hostPath.path: Invalid value: "/a/../b": must not contain \'..\'']),
        ({"secret": {"secretName": ""}}, ["v.secret.secretName: Required value"]),
        ({"configMap": {"name": "c", "defaultMode": 512}},
            ["v.configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), "
             "both inclusive"]),
        ({"persistentVolumeClaim": {"claimName": ""}}, ["v.persistentVolumeClaim.claimName: Required value"]),
    ],
)  # fmt: skip
def test_bad_volumes(given: dict[str, Any], expected: list[str]) -> None:
    assert in_volume(**given) == expected


def test_host_ports_may_not_clash() -> None:
    port = {"containerPort": 80, "hostPort": 80, "protocol": "TCP"}
    found = told(
        containers=[{"name": name, "image": "i", "ports": [port]} for name in ("a", "b")],
    )
    assert found == ['spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//80"']


def test_a_sidecar_may_have_probes_an_init_container_not() -> None:
    init = {"name": "i", "image": "i:1", "readinessProbe": {"exec": {"command": ["x"]}}}
    assert told(initContainers=[init]) == [
        "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without "
        "restartPolicy=Always"
    ]
    assert told(initContainers=[{**init, "restartPolicy": "Always"}]) == []


def test_a_good_rich_pod_has_no_faults() -> None:
    assert told(
        nodeSelector={"a": "b"},
        tolerations=[{"operator": "Exists"}],
        volumes=[{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}],
        containers=[{
            "name": "c", "image": "i", "command": ["x"], "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "ports": [{"containerPort": 80, "name": "http"}], "readinessProbe": {"httpGet": {"port": "http"}},
            "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
        }],
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("annotations", "pod", "container", "expected"),
    [
        ({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}, {}, {"type": "RuntimeDefault"},
         ["spec.containers[0].securityContext.appArmorProfile.type: "
          "Forbidden: apparmor type in annotation and field must match"]),
        ({"container.apparmor.security.beta.kubernetes.io/c": "localhost/a"}, {},
         {"type": "Localhost", "localhostProfile": "b"},
         ["spec.containers[0].securityContext.appArmorProfile.localhostProfile: "
          "Forbidden: apparmor profile in annotation and field must match"]),
        ({"container.apparmor.security.beta.kubernetes.io/c": "runtime/default"}, {}, {"type": "RuntimeDefault"}, []),
        ({"container.apparmor.security.beta.kubernetes.io/c": "runtime/default"},
         {"os": {"name": "windows"}}, None, []),
        ({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"},
         {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, None,
         ["spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match"]),
        ({"seccomp.security.alpha.kubernetes.io/pod": "docker/default"},
         {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, None, []),
    ],
)  # fmt: skip
def test_old_annotations_must_mean_what_the_fields_say(
    annotations: dict[str, str], pod: dict[str, Any], container: dict[str, Any] | None, expected: list[str]
) -> None:
    context = {} if container is None else {"securityContext": {"appArmorProfile": container}}
    spec = {"containers": [{"name": "c", "image": "i:1", **context}], **pod}
    made = POD.default({"metadata": {"name": "p", "namespace": "d", "annotations": annotations}, "spec": spec})
    assert [f"{each.field}: {each.message}" for each in POD.validate(made)] == expected
