"""Security contexts of containers and pods.

Source: kubernetes ``pkg/apis/core/validation/validation.go`` (ValidateSecurityContext,
validatePodSpecSecurityContext, validateLinux, validateWindows), 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from anynode.api import names
from anynode.api.objects import Object
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from anynode.schema.kinds.internal_form import internal
from anynode.schema.kinds.volume_rules import validate_descending_path

_MOST_ID = 2**31 - 1
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_sysctl = re.compile(_SYSCTL).fullmatch
_control = re.compile(r"[\x00-\x1f\x7f]").search
_net_bios = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}').fullmatch
_dns_domain = re.compile(
    r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
).fullmatch
_bad_user = re.compile(r'["/\\:;|=,+*?<>@\[\]]').search
_SECCOMP = ("Localhost", "RuntimeDefault", "Unconfined")
_WINDOWS = "cannot be set for a windows pod"


def containers_with_paths(spec: Object, path: FieldPath) -> Iterator[tuple[Object, FieldPath]]:
    """Every container of a pod, init containers first, with its path."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for at, container in enumerate(spec.get(kind) or ()):
            yield container, path.child(kind).index(at)


def _validate_id(context: Object, field: str, path: FieldPath) -> list[FieldError]:
    number = context.get(field)
    if number is None:
        return []
    return [invalid(path.child(field), number, text) for text in names.in_range(number, 0, _MOST_ID)]


def validate_security_context(context: Object, path: FieldPath, *, host_users: bool) -> list[FieldError]:
    if not context:
        return []
    errors = _validate_id(context, "runAsUser", path) + _validate_id(context, "runAsGroup", path)
    mount = context.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            errors.append(not_supported(path.child("procMount"), mount, ("Default", "Unmasked")))
        if host_users and mount == "Unmasked":
            text = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid(path.child("procMount"), mount, text))
    errors += validate_seccomp(context.get("seccompProfile"), path.child("seccompProfile"))
    if context.get("allowPrivilegeEscalation") is False:
        text = "cannot set `allowPrivilegeEscalation` to false and "
        if context.get("privileged"):
            errors.append(invalid(path, internal("SecurityContext", context), f"{text}`privileged` to true"))
        for capability in (context.get("capabilities") or {}).get("add") or ():
            if capability == "CAP_SYS_ADMIN":
                shown = internal("SecurityContext", context)
                errors.append(invalid(path, shown, f"{text}`capabilities.Add` CAP_SYS_ADMIN"))
    errors += _validate_windows_options(context.get("windowsOptions"), path.child("windowsOptions"))
    return errors + validate_app_armor(context.get("appArmorProfile"), path.child("appArmorProfile"))


def validate_seccomp(profile: Object | None, path: FieldPath) -> list[FieldError]:
    if profile is None:
        return []
    errors: list[FieldError] = []
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if not kind:
        errors.append(required(path.child("type"), "type is required when seccompProfile is set"))
    elif kind not in _SECCOMP:
        errors.append(not_supported(path.child("type"), kind, _SECCOMP))
    where = path.child("localhostProfile")
    if kind == "Localhost":
        if local is None:
            errors.append(required(where, "must be set when seccomp type is Localhost"))
        else:
            errors += validate_descending_path(local, where)
    elif local is not None:
        shown = internal("SeccompProfile", profile)
        errors.append(invalid(where, shown, "can only be set when seccomp type is Localhost"))
    return errors


def validate_app_armor(profile: Object | None, path: FieldPath) -> list[FieldError]:
    if profile is None:
        return []
    kind, local, where = profile.get("type") or "", profile.get("localhostProfile"), path.child("localhostProfile")
    if kind == "Localhost":
        errors: list[FieldError] = []
        if local is None or (not local.strip() and local == local.strip()):
            errors.append(required(where, "must be set when AppArmor type is Localhost"))
        elif local != local.strip():
            errors.append(invalid(where, local, "must not be padded with whitespace"))
        if local is not None and len(local) > 4095:
            errors.append(too_long(where, 4095))
        return errors
    if kind in ("RuntimeDefault", "Unconfined"):
        text = "can only be set when AppArmor type is Localhost"
        return [] if local is None else [invalid(where, local, text)]
    if not kind:
        return [required(path.child("type"), "type is required when appArmorProfile is set")]
    return [not_supported(path.child("type"), kind, _SECCOMP)]


def _validate_windows_options(options: Object | None, path: FieldPath) -> list[FieldError]:
    if not options:
        return []
    errors: list[FieldError] = []
    name, spec, user = (
        options.get(field) for field in ("gmsaCredentialSpecName", "gmsaCredentialSpec", "runAsUserName")
    )
    if name is not None:
        where = path.child("gmsaCredentialSpecName")
        errors.extend(invalid(where, name, text) for text in names.dns1123_subdomain(name))
    if spec is not None:
        where = path.child("gmsaCredentialSpec")
        if not spec:
            errors.append(invalid(where, spec, "gmsaCredentialSpec cannot be an empty string"))
        elif len(spec) > 64 * 1024:
            errors.append(invalid(where, spec, "gmsaCredentialSpec size must be under 64 KiB"))
    if user is not None:
        errors.extend(invalid(path.child("runAsUserName"), user, text) for text in _wrong_user_name(user))
    return errors


def _wrong_user_name(text: str) -> Iterator[str]:
    """What is wrong with ``runAsUserName`` of a Windows container: ``[domain\\]user``."""
    if not text:
        yield "runAsUserName cannot be an empty string"
    elif _control(text):
        yield "runAsUserName cannot contain control characters"
    elif text.count("\\") > 1:
        yield "runAsUserName cannot contain more than one backslash"
    else:
        domain, found, user = text.rpartition("\\")
        if len(domain) >= 256:
            yield "runAsUserName's Domain length must be under 256 characters"
        if found and not (_net_bios(domain) or _dns_domain(domain)):
            yield "runAsUserName's Domain doesn't match the NetBios nor the DNS format"
        if not user:
            yield "runAsUserName's User cannot be empty"
        elif len(user) > 104:
            yield "runAsUserName's User length must not be longer than 104 characters"
        if user and not user.strip(". "):
            yield "runAsUserName's User cannot contain only periods or spaces"
        if _bad_user(user):
            yield "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"


def validate_pod_security_context(spec: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about ``spec.securityContext``, including what shares the host's namespaces."""
    context = spec.get("securityContext")
    if context is None:
        return []
    errors: list[FieldError] = []
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        errors += _validate_id(context, field, path)
    for at, group in enumerate(context.get("supplementalGroups") or ()):
        where = path.child("supplementalGroups").index(at)
        errors.extend(invalid(where, group, text) for text in names.in_range(group, 0, _MOST_ID))
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(path.child("shareProcessNamespace"), True, text))
    errors += _validate_sysctls(context, spec, path.child("sysctls"))
    policy = context.get("fsGroupChangePolicy")
    if policy is not None and policy not in ("Always", "OnRootMismatch"):
        errors.append(not_supported(path.child("fsGroupChangePolicy"), policy, ("Always", "OnRootMismatch")))
    errors += validate_seccomp(context.get("seccompProfile"), path.child("seccompProfile"))
    errors += _validate_windows_options(context.get("windowsOptions"), path.child("windowsOptions"))
    errors += validate_app_armor(context.get("appArmorProfile"), path.child("appArmorProfile"))
    known: Mapping[str, tuple[str, str]] = {
        "supplementalGroupsPolicy": ("Merge", "Strict"),
        "seLinuxChangePolicy": ("MountOption", "Recursive"),
    }
    for field, values in known.items():
        if context.get(field) is not None and context[field] not in values:
            errors.append(not_supported(path.child(field), context[field], values))
    return errors


def _validate_sysctls(context: Object, spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, sysctl in enumerate(context.get("sysctls") or ()):
        name, where = sysctl.get("name") or "", path.index(at).child("name")
        if not name:
            errors.append(required(where))
        elif len(name) > 253 or not _sysctl(name):
            errors.append(invalid(where, name, f"must have at most 253 characters and match regex ^{_SYSCTL}$"))
        elif name in seen:
            errors.append(duplicate(where, name))
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            errors.append(invalid(where, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and (
            dotted.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")) or dotted == "kernel.sem"
        ):
            errors.append(invalid(where, name, "may not be specified when 'hostIPC' is true"))
        seen.add(name)
    return errors


def validate_host_process(spec: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about Windows hostProcess containers, which stand alone or not at all."""
    of_pod = ((spec.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
    errors: list[FieldError] = []
    count = on_host = 0
    for container, where in containers_with_paths(spec, path):
        count += 1
        own = ((container.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
        if of_pod is not None and own is not None and of_pod != own:
            text = f"pod hostProcess value must be identical if both are specified, was {str(of_pod).lower()}"
            errors.append(invalid(where.child("securityContext", "windowsOptions", "hostProcess"), own, text))
        on_host += bool(of_pod if own is None else own)
    if on_host and on_host != count:
        text = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errors.append(invalid(path, "", text))
    if on_host and not spec.get("hostNetwork"):
        text = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.append(invalid(path.child("hostNetwork"), False, text))
    return errors


def validate_host_users(spec: Object, path: FieldPath) -> list[FieldError]:
    if spec.get("hostUsers") is not False:
        return []
    text = "when `hostUsers` is false"
    shown = {"hostNetwork": "hostNetwork", "hostPID": "HostPID", "hostIPC": "HostIPC"}
    return [forbidden(path.child(name), text) for field, name in shown.items() if spec.get(field)]


def validate_os(spec: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about ``spec.os`` and what does not go with it."""
    name = (spec.get("os") or {}).get("name") or ""
    if not name:
        return [required(path.child("os", "name"))]
    if name == "linux":
        return _validate_linux(spec, path)
    if name == "windows":
        return _validate_windows(spec, path)
    return [not_supported(path.child("os"), name, ("linux", "windows"))]


def _validate_linux(spec: Object, path: FieldPath) -> list[FieldError]:
    text = "windows options cannot be set for a linux pod"
    errors: list[FieldError] = []
    if (spec.get("securityContext") or {}).get("windowsOptions") is not None:
        errors.append(forbidden(path.child("securityContext", "windowsOptions"), text))
    for container, where in containers_with_paths(spec, path):
        if (container.get("securityContext") or {}).get("windowsOptions") is not None:
            errors.append(forbidden(where.child("securityContext", "windowsOptions"), text))
    return errors


_POD_FIELDS = (
    ("securityContext", "appArmorProfile"), ("securityContext", "seLinuxOptions"), ("hostUsers",), ("hostPID",),
    ("hostIPC",), ("securityContext", "seccompProfile"), ("securityContext", "fsGroup"),
    ("securityContext", "fsGroupChangePolicy"), ("securityContext", "sysctls"), ("shareProcessNamespace",),
    ("securityContext", "runAsUser"), ("securityContext", "runAsGroup"), ("securityContext", "supplementalGroups"),
    ("securityContext", "supplementalGroupsPolicy"), ("securityContext", "seLinuxChangePolicy"),
)  # fmt: skip
_CONTAINER_FIELDS = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged",
    "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup",
)  # fmt: skip
_PLAIN_FLAGS = ("hostPID", "hostIPC")


def _validate_windows(spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    context = spec.get("securityContext") or {}
    for field in _POD_FIELDS:
        value = context.get(field[1]) if len(field) == 2 else spec.get(field[0])
        if value or (value is not None and field[-1] not in (*_PLAIN_FLAGS, "sysctls")):
            errors.append(forbidden(path.child(*field), _WINDOWS))
    for container, where in containers_with_paths(spec, path):
        own = container.get("securityContext") or {}
        given = (field for field in _CONTAINER_FIELDS if own.get(field) is not None)
        errors.extend(forbidden(where.child("securityContext", field), _WINDOWS) for field in given)
    return errors


# Old annotations beside the fields that took their place

_SECCOMP_OF_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_OF_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_TEXTS = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default", "docker/default")}
_APP_ARMOR_TEXTS = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default",)}


def annotations_that_differ(annotations: Mapping[str, str], spec: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about annotations that mean another seccomp or AppArmor profile than the field they stand beside."""
    errors: list[FieldError] = []
    if not any(".security." in key for key in annotations):
        return errors
    of_pod = spec.get("securityContext") or {}
    if _SECCOMP_OF_POD in annotations:
        where = path.child("securityContext", "seccompProfile")
        profile, text = of_pod.get("seccompProfile"), annotations[_SECCOMP_OF_POD]
        errors += _differing(text, profile, where, _SECCOMP_TEXTS, "seccomp")
    containers = list(containers_with_paths(spec, path))
    for container, where in containers:
        found = annotations.get(_SECCOMP_OF_CONTAINER + (container.get("name") or ""))
        profile = (container.get("securityContext") or {}).get("seccompProfile")
        where = where.child("securityContext", "seccompProfile")
        errors += _differing(found, profile, where, _SECCOMP_TEXTS, "seccomp")
    if (spec.get("os") or {}).get("name") == "windows":
        return errors
    for container, where in containers:
        found = annotations.get(_APP_ARMOR + (container.get("name") or ""))
        own = (container.get("securityContext") or {}).get("appArmorProfile")
        profile = own if own is not None else of_pod.get("appArmorProfile")
        where = where.child("securityContext", "appArmorProfile")
        errors += _differing(found, profile, where, _APP_ARMOR_TEXTS, "apparmor")
    return errors


def _differing(
    annotation: str | None, profile: Object | None, path: FieldPath, texts: Mapping[str, Sequence[str]], what: str
) -> list[FieldError]:
    if annotation is None or profile is None:
        return []
    kind = profile.get("type") or ""
    if kind in texts:
        differs = annotation not in texts[kind]
    elif kind == "Localhost":
        differs = not annotation.startswith("localhost/")
        if not differs and annotation.removeprefix("localhost/") != profile.get("localhostProfile"):
            return [forbidden(path.child("localhostProfile"), f"{what} profile in annotation and field must match")]
    else:
        differs = False
    return [forbidden(path.child("type"), f"{what} type in annotation and field must match")] if differs else []
