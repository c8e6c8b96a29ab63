"""What a valid container is: ports, environment, mounts, probes, hooks.

Source: kubernetes ``pkg/apis/core/validation/validation.go`` (validateContainerCommon and what it calls), 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from anynode.api import names
from anynode.api.objects import Object
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
    too_many,
)
from anynode.schema.kinds.amounts import validate_requirements
from anynode.schema.kinds.references import validate_field_ref, validate_resource_ref
from anynode.schema.kinds.security_rules import validate_security_context
from anynode.schema.kinds.volume_rules import validate_descending_path, validate_no_backsteps
from anynode.schema.metadata import label_name, subdomain_name, validate_name, validate_nonnegative

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_ENV_FIELDS = frozenset((
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
))  # fmt: skip
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_ONE_HANDLER = "may not specify more than 1 handler type"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_ONLY_SIDECARS = "may not be set for init containers without restartPolicy=Always"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """What a container's rules need to know of its pod."""

    volumes: Mapping[str, Object]
    claims: Collection[str]
    grace_seconds: int | None
    restart_policy: str
    host_users: bool
    os: str | None


def validate_ports(ports: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, port in enumerate(ports):
        name, number, on_host = port.get("name"), port.get("containerPort") or 0, port.get("hostPort") or 0
        if name:
            wrong = names.port_name(name)
            if wrong:
                errors.extend(invalid(path.index(at).child("name"), name, text) for text in wrong)
            elif name in seen:
                errors.append(duplicate(path.index(at).child("name"), name))
            else:
                seen.add(name)
        if not number:
            errors.append(required(path.index(at).child("containerPort")))
        elif not 0 < number < 65536:
            errors.extend(
                invalid(path.index(at).child("containerPort"), number, text) for text in names.port_number(number)
            )
        if on_host and not 0 < on_host < 65536:
            errors.extend(
                invalid(path.index(at).child("hostPort"), on_host, text) for text in names.port_number(on_host)
            )
        protocol = port.get("protocol")
        if not protocol:
            errors.append(required(path.index(at).child("protocol")))
        elif protocol not in _PROTOCOLS:
            errors.append(not_supported(path.index(at).child("protocol"), protocol, _PROTOCOLS))
    return errors


def host_port_conflicts(containers: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, container in enumerate(containers):
        for place, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            taken = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if taken in seen:
                errors.append(duplicate(path.index(at).child("ports").index(place).child("hostPort"), taken))
            seen.add(taken)
    return errors


def validate_env(variables: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, variable in enumerate(variables):
        name = variable.get("name")
        if not name:
            errors.append(required(path.index(at).child("name")))
        elif not name.isidentifier() or not name.isascii():
            errors.extend(
                invalid(path.index(at).child("name"), name, text) for text in names.relaxed_env_var_name(name)
            )
        if variable.get("valueFrom") is not None:
            errors += _validate_value_from(variable, path.index(at).child("valueFrom"))
    return errors


def _validate_value_from(variable: Object, path: FieldPath) -> list[FieldError]:
    source = variable["valueFrom"]
    errors: list[FieldError] = []
    rules: Mapping[str, Callable[[Object, FieldPath], list[FieldError]]] = {
        "fieldRef": lambda each, where: validate_field_ref(each, _ENV_FIELDS, where),
        "resourceFieldRef": lambda each, where: validate_resource_ref(each, where, in_volume=False),
        "configMapKeyRef": _validate_key_ref,
        "secretKeyRef": _validate_key_ref,
        "fileKeyRef": _validate_file_ref,
    }
    count = 0
    for kind, rule in rules.items():
        if source.get(kind) is not None:
            count += 1
            errors += rule(source[kind], path.child(kind))
    if not count:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(invalid(path, "", text))
    elif variable.get("value"):
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _validate_key_ref(reference: Object, path: FieldPath) -> list[FieldError]:
    errors = validate_name(reference.get("name") or "", path.child("name"))
    key = reference.get("key")
    if not key:
        return [*errors, required(path.child("key"))]
    return errors + [invalid(path.child("key"), key, text) for text in names.config_map_key(key)]


def _validate_file_ref(reference: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    key, volume, file = reference.get("key"), reference.get("volumeName"), reference.get("path")
    if not key:
        errors.append(required(path.child("key")))
    else:
        errors.extend(invalid(path.child("key"), key, text) for text in names.relaxed_env_var_name(key))
    if not volume:
        errors.append(required(path.child("volumeName")))
    else:
        errors += validate_name(volume, path.child("volumeName"), label_name)
    if not file:
        errors.append(required(path.child("path")))
    else:
        errors += validate_no_backsteps(file, path.child("path"))
    return errors


def validate_env_from(sources: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, source in enumerate(sources):
        prefix = source.get("prefix")
        if prefix:
            wrong = names.relaxed_env_var_name(prefix)
            errors.extend(invalid(path.index(at).child("prefix"), prefix, text) for text in wrong)
        given = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in given:
            name, where = source[kind].get("name") or "", path.index(at).child(kind, "name")
            masked = f"{name[:-2]}a" if len(name) > 1 and name.endswith("-") else name
            errors += [invalid(where, name, text) for text in subdomain_name(masked)] if name else [required(where)]
        if not given:
            errors.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def validate_mounts(container: Object, facts: PodFacts, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    devices = {each.get("name") or "": each.get("devicePath") or "" for each in container.get("volumeDevices") or ()}
    seen: set[str] = set()
    for at, mount in enumerate(container.get("volumeMounts") or ()):
        name, where = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errors.append(required(path.index(at).child("name")))
        if name not in facts.volumes:
            errors.append(not_found(path.index(at).child("name"), name))
        if not where:
            errors.append(required(path.index(at).child("mountPath")))
        if where in seen:
            errors.append(invalid(path.index(at).child("mountPath"), where, "must be unique"))
        seen.add(where)
        if devices:
            errors += _validate_mount_devices(name, where, devices, path.index(at))
        errors += _validate_mount_details(mount, container, path, at)
    return errors


def _validate_mount_devices(name: str, where: str, devices: Mapping[str, str], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    if name in devices:
        errors.append(invalid(path.child("name"), name, "must not already exist in volumeDevices"))
    if where in devices.values():
        errors.append(invalid(path.child("mountPath"), where, "must not already exist as a path in volumeDevices"))
    return errors


def _validate_mount_details(mount: Object, container: Object, path: FieldPath, at: int) -> list[FieldError]:
    errors: list[FieldError] = []
    below, expression = mount.get("subPath"), mount.get("subPathExpr")
    if below:
        errors += validate_descending_path(below, path.child("subPath"))
    if expression:
        if below:
            text = "subPathExpr and subPath are mutually exclusive"
            errors.append(invalid(path.index(at).child("subPathExpr"), expression, text))
        errors += validate_descending_path(expression, path.child("subPathExpr"))
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        known, where = ("Bidirectional", "HostToContainer", "None"), path.child("mountPropagation")
        if propagation not in known:
            errors.append(not_supported(where, propagation, known))
        if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
            text = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(forbidden(where, text))
    recursive, where = mount.get("recursiveReadOnly"), path.child("recursiveReadOnly")
    if recursive in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            errors.append(forbidden(where, "may only be specified when readOnly is true"))
        if propagation not in (None, "None"):
            errors.append(forbidden(where, "may only be specified when mountPropagation is None or not specified"))
    elif recursive not in (None, "Disabled"):
        errors.append(not_supported(where, recursive, ("Disabled", "Enabled", "IfPossible")))
    return errors


def validate_devices(container: Object, facts: PodFacts, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    mounts = {each.get("name") or "": each.get("mountPath") or "" for each in container.get("volumeMounts") or ()}
    paths: set[str] = set()
    seen: set[str] = set()
    for at, device in enumerate(container.get("volumeDevices") or ()):
        name, where = device.get("name") or "", device.get("devicePath") or ""
        at_name, at_path = path.index(at).child("name"), path.index(at).child("devicePath")
        source = facts.volumes.get(name)
        if not name:
            errors.append(required(at_name))
        if name in seen:
            errors.append(invalid(at_name, name, "must be unique"))
        if source is not None and source.get("persistentVolumeClaim") is None and source.get("ephemeral") is None:
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid(at_name, name, text))
        if source is None:
            errors.append(not_found(at_name, name))
        if not where:
            errors.append(required(at_path))
        if where in paths:
            errors.append(invalid(at_path, where, "must be unique"))
        if where and validate_no_backsteps(where, at_path):
            errors.append(invalid(at_path, where, "can not contain backsteps ('..')"))
        else:
            paths.add(where)
        if name in mounts:
            errors.append(invalid(at_name, name, "must not already exist in volumeMounts"))
        if where in mounts.values():
            errors.append(invalid(at_path, where, "must not already exist as a path in volumeMounts"))
        if name:
            seen.add(name)
    return errors


def validate_port_or_name(port: Any, path: FieldPath) -> list[FieldError]:
    if isinstance(port, str):
        return [invalid(path, port, text) for text in names.port_name(port)]
    return [invalid(path, port or 0, text) for text in names.port_number(port or 0)]


def validate_handler(handler: Object, facts: PodFacts, path: FieldPath) -> list[FieldError]:
    """Complaints about what a probe or hook does; exactly one action must be given."""
    errors: list[FieldError] = []
    found = False
    for kind in ("exec", "httpGet", "tcpSocket", "grpc", "sleep"):
        action = handler.get(kind)
        if action is None:
            continue
        if found:
            errors.append(forbidden(path.child(kind), _ONE_HANDLER))
            continue
        found = True
        errors += _validate_action(kind, action, facts, path.child(kind))
    return errors if found else [required(path, "must specify a handler type")]


def _validate_action(kind: str, action: Object, facts: PodFacts, path: FieldPath) -> list[FieldError]:
    if kind == "exec":
        return [] if action.get("command") else [required(path.child("command"))]
    if kind == "httpGet":
        return _validate_http_get(action, path)
    if kind == "sleep":
        seconds, most = action.get("seconds") or 0, facts.grace_seconds
        if most is None or 0 <= seconds <= most:
            return []
        text = f"must be non-negative and less than terminationGracePeriodSeconds ({most})"
        return [invalid(path, seconds, text)]
    return validate_port_or_name(action.get("port"), path.child("port"))


def _validate_http_get(action: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    if not action.get("path"):
        errors.append(required(path.child("path")))
    errors += validate_port_or_name(action.get("port"), path.child("port"))
    if action.get("scheme") not in ("HTTP", "HTTPS"):
        errors.append(not_supported(path.child("scheme"), action.get("scheme") or "", ("HTTP", "HTTPS")))
    for header in action.get("httpHeaders") or ():
        name = header.get("name") or ""
        errors.extend(invalid(path.child("httpHeaders"), name, text) for text in names.http_header_name(name))
    return errors


def validate_probes(container: Object, facts: PodFacts, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for kind in _PROBES:
        probe = container.get(kind)
        if probe is None:
            continue
        where = path.child(kind)
        errors += _validate_probe(probe, facts, where)
        if kind == "readinessProbe":
            grace = probe.get("terminationGracePeriodSeconds")
            if grace is not None:
                text = "must not be set for readinessProbes"
                errors.append(invalid(where.child("terminationGracePeriodSeconds"), grace, text))
        elif probe.get("successThreshold") != 1:
            errors.append(invalid(where.child("successThreshold"), probe.get("successThreshold") or 0, "must be 1"))
    return errors


def _validate_probe(probe: Object, facts: PodFacts, path: FieldPath) -> list[FieldError]:
    errors = validate_handler(probe, facts, path)
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if (probe.get(field) or 0) < 0:
            errors += validate_nonnegative(probe[field], path.child(field))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errors.append(invalid(path.child("terminationGracePeriodSeconds"), grace, "must be greater than 0"))
    return errors


def validate_lifecycle(lifecycle: Object, facts: PodFacts, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for hook in ("postStart", "preStop"):
        if lifecycle.get(hook) is not None:
            errors += validate_handler(lifecycle[hook], facts, path.child(hook))
    signal, where = lifecycle.get("stopSignal"), path.child("stopSignal")
    if signal is not None:
        if facts.os is None:
            errors.append(forbidden(where, "may not be set for containers with empty `spec.os.name`"))
        elif facts.os == "windows" and signal not in ("SIGKILL", "SIGTERM"):
            errors.append(not_supported(where, signal, ("SIGKILL", "SIGTERM")))
        elif facts.os == "linux" and signal not in _SIGNALS:
            errors.append(not_supported(where, signal, _SIGNALS))
    return errors


_SIGNALS = tuple(sorted((
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO",
    "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP",
    "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM",
    "SIGWINCH", "SIGXCPU", "SIGXFSZ", "SIGRTMIN", "SIGRTMAX",
    *(f"SIGRTMIN+{count}" for count in range(1, 16)), *(f"SIGRTMAX-{count}" for count in range(1, 15)),
)))  # fmt: skip


def validate_pull_policy(policy: str | None, path: FieldPath) -> list[FieldError]:
    if policy in ("Always", "IfNotPresent", "Never"):
        return []
    return [not_supported(path, policy, ("Always", "IfNotPresent", "Never"))] if policy else [required(path)]


def _validate_resize_policy(policies: Sequence[Object], facts: PodFacts, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, policy in enumerate(policies):
        name, action = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in seen:
            errors.append(duplicate(path.index(at), name))
        seen.add(name)
        if name not in ("cpu", "memory"):
            errors.append(not_supported(path, name, ("cpu", "memory")) if name else required(path))
        if action not in ("NotRequired", "RestartContainer"):
            known = ("NotRequired", "RestartContainer")
            errors.append(not_supported(path, action, known) if action else required(path))
        if facts.restart_policy == "Never" and action != "NotRequired":
            text = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            errors.append(invalid(path, action, text))
    return errors


def validate_restart_policy(container: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about a container's own restart policy and its rules."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    errors: list[FieldError] = []
    if policy is None:
        if rules:
            text = "must specify restartPolicy when restart rules are used"
            errors.append(required(path.child("restartPolicy"), text))
    elif policy not in _RESTART_POLICIES:
        errors.append(not_supported(path.child("restartPolicy"), policy, _RESTART_POLICIES))
    if len(rules) > 20:
        errors.append(too_many(path.child("restartPolicyRules"), len(rules), 20))
    for at, rule in enumerate(rules):
        where, codes = path.child("restartPolicyRules").index(at), rule.get("exitCodes")
        if rule.get("action") not in ("Restart", "RestartAllContainers"):
            known = ("Restart", "RestartAllContainers")
            errors.append(not_supported(where.child("action"), rule.get("action") or "", known))
        if codes is None:
            errors.append(required(where.child("exitCodes"), "must be specified"))
            continue
        if codes.get("operator") not in ("In", "NotIn"):
            where_operator = where.child("exitCodes", "operator")
            errors.append(not_supported(where_operator, codes.get("operator") or "", ("In", "NotIn")))
        if len(codes.get("values") or ()) > 255:
            errors.append(too_many(where.child("exitCodes", "values"), len(codes["values"]), 255))
    return errors


def validate_common(container: Object, facts: PodFacts, path: FieldPath) -> list[FieldError]:
    """Complaints about what containers of every sort have."""
    errors: list[FieldError] = []
    name, get = container.get("name"), container.get
    if not name:
        errors.append(required(path.child("name")))
    else:
        errors.extend(invalid(path.child("name"), name, text) for text in label_name(name))
    if not get("image"):
        errors.append(required(path.child("image")))
    policy = get("terminationMessagePolicy")
    if policy not in ("File", "FallbackToLogsOnError"):
        where = path.child("terminationMessagePolicy")
        known = ("File", "FallbackToLogsOnError")
        errors.append(not_supported(where, policy, known) if policy else required(where))
    if get("ports"):
        errors += validate_ports(container["ports"], path.child("ports"))
    if get("env"):
        errors += validate_env(container["env"], path.child("env"))
    if get("envFrom"):
        errors += validate_env_from(container["envFrom"], path.child("envFrom"))
    if get("volumeMounts"):
        errors += validate_mounts(container, facts, path.child("volumeMounts"))
    if get("volumeDevices"):
        errors += validate_devices(container, facts, path.child("volumeDevices"))
    errors += validate_pull_policy(get("imagePullPolicy"), path.child("imagePullPolicy"))
    if get("resources"):
        errors += validate_requirements(container["resources"], path.child("resources"), facts.claims)
    if get("resizePolicy"):
        errors += _validate_resize_policy(container["resizePolicy"], facts, path.child("resizePolicy"))
    if get("securityContext") is not None:
        where = path.child("securityContext")
        errors += validate_security_context(container["securityContext"], where, host_users=facts.host_users)
    return errors


def validate_containers(containers: Sequence[Object], facts: PodFacts, path: FieldPath) -> list[FieldError]:
    if not containers:
        return [required(path)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, container in enumerate(containers):
        where = path.index(at)
        errors += validate_common(container, facts, where)
        name = container.get("name") or ""
        if name in seen:
            errors.append(duplicate(where.child("name"), name))
        seen.add(name)
        if container.get("lifecycle") is not None:
            errors += validate_lifecycle(container["lifecycle"], facts, where.child("lifecycle"))
        errors += validate_probes(container, facts, where)
        if container.get("restartPolicy") is not None or container.get("restartPolicyRules"):
            errors += validate_restart_policy(container, where)
    return errors + host_port_conflicts(containers, path)


def validate_init_containers(
    containers: Sequence[Object], others: Sequence[Object], facts: PodFacts, path: FieldPath
) -> list[FieldError]:
    errors: list[FieldError] = []
    seen = {each.get("name") or "" for each in others}
    for at, container in enumerate(containers):
        where = path.index(at)
        errors += validate_common(container, facts, where)
        policy = container.get("restartPolicy")
        if policy is not None or container.get("restartPolicyRules"):
            errors += validate_restart_policy(container, where)
        name = container.get("name") or ""
        if name in seen:
            errors.append(duplicate(where.child("name"), name))
        elif name:
            seen.add(name)
        errors += host_port_conflicts([container], path)
        if policy == "Always":
            if container.get("lifecycle") is not None:
                errors += validate_lifecycle(container["lifecycle"], facts, where.child("lifecycle"))
            errors += validate_probes(container, facts, where)
            continue
        given = (field for field in ("lifecycle", *_PROBES) if container.get(field) is not None)
        errors.extend(forbidden(where.child(field), _ONLY_SIDECARS) for field in given)
        for place, resize in enumerate(container.get("resizePolicy") or ()):
            if resize.get("restartPolicy") == "RestartContainer":
                text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
                at_policy = where.child("resizePolicy").index(place).child("restartPolicy")
                errors.append(invalid(at_policy, "RestartContainer", text))
    return errors


_NOT_EPHEMERAL = ("ports", "resources", "resizePolicy", "restartPolicy", "restartPolicyRules")
_EPHEMERAL_NULL = (*_PROBES, "lifecycle")
_EPHEMERAL = "cannot be set for an Ephemeral Container"


def validate_ephemeral_containers(
    containers: Sequence[Object], others: Sequence[Object], facts: PodFacts, path: FieldPath
) -> list[FieldError]:
    errors: list[FieldError] = []
    regular = {each.get("name") or "" for each in others}
    seen = set(regular)
    for at, container in enumerate(containers):
        where = path.index(at)
        errors += validate_common(container, facts, where)
        errors += validate_image_space(container, where)
        name, target = container.get("name") or "", container.get("targetContainerName")
        if name in seen:
            errors.append(duplicate(where.child("name"), name))
        seen.add(name)
        if target and target not in regular:
            errors.append(not_found(where.child("targetContainerName"), target))
        unfit = (field for field in _NOT_EPHEMERAL if container.get(field) not in (None, [], {}))
        errors.extend(forbidden(where.child(field), _EPHEMERAL) for field in unfit)
        hooks = (field for field in _EPHEMERAL_NULL if container.get(field) is not None)
        errors.extend(forbidden(where.child(field), _EPHEMERAL) for field in hooks)
        for place, mount in enumerate(container.get("volumeMounts") or ()):
            given = (field for field in ("subPath", "subPathExpr") if mount.get(field))
            at_mount = where.child("volumeMounts").index(place)
            errors.extend(forbidden(at_mount.child(field), _EPHEMERAL) for field in given)
    return errors


def validate_image_space(container: Object, path: FieldPath) -> list[FieldError]:
    image = container.get("image") or ""
    if image == image.strip():
        return []
    return [invalid(path.child("image"), image, "must not have leading or trailing whitespace")]
