"""The Pod Security Standards: what a pod must not do, or must do, at each level and in each version of the policy.

In: a pod's metadata and spec. Out: what is wrong, as (reason, detail), in the order upstream says it. Pure.
Source: pod-security-admission ``policy/check_*.go`` and ``policy/registry.go``, 1.36;
https://kubernetes.io/docs/concepts/security/pod-security-standards/.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from anynode.api.go_text import go_quoted
from anynode.api.objects import Object

Level: TypeAlias = Literal["privileged", "baseline", "restricted"]
Violation: TypeAlias = tuple[str, str]
"""(reason, detail)."""
Check: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], Violation | None]
"""(annotations, pod spec) -> what is wrong."""

NEWEST = 35
"""The minor version that last changed a check; newer ones are the same."""
_NONE: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Versioned:
    """One check: what it does from each minor version on, and which check of the lower level it replaces."""

    name: str
    level: Level
    since: Sequence[tuple[int, Check]]
    replaces: str = ""

    def at(self, minor: int) -> Check | None:
        found = [check for first, check in self.since if first <= minor]
        return found[-1] if found else None


def violations(level: Level, minor: int, annotations: Mapping[str, Any], spec: Mapping[str, Any]) -> list[Violation]:
    """Everything the pod does against the policy of this level and version."""
    if level == "privileged":
        return []
    found = (check(annotations, spec) for check in _checks_of(level, min(minor, NEWEST)))
    return [each for each in found if each is not None]


@functools.lru_cache(maxsize=256)
def _checks_of(level: Level, minor: int) -> Sequence[Check]:
    restricted = [each for each in CHECKS if each.level == "restricted" and each.at(minor) is not None]
    replaced = {each.replaces for each in restricted} if level == "restricted" else set()
    baseline = [each for each in CHECKS if each.level == "baseline" and each.name not in replaced]
    chosen = [*baseline, *(restricted if level == "restricted" else ())]
    return tuple(check for each in chosen if (check := each.at(minor)) is not None)


# --- what checks are made of


def _containers(spec: Mapping[str, Any]) -> Iterator[Object]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def _secured(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    return holder.get("securityContext") or _NONE


def _quoted(items: Iterable[str]) -> str:
    joined = '", "'.join(items)
    return f'"{joined}"' if joined else ""


def _plural(word: str, items: Sequence[Any]) -> str:
    return word if len(items) == 1 else f"{word}s"


def _named(containers: Sequence[str]) -> str:
    return f"{_plural('container', containers)} {_quoted(containers)}"


def _setters(pod: bool, containers: Sequence[str]) -> list[str]:
    return [*(["pod"] if pod else []), *([_named(containers)] if containers else [])]


def _bad_containers(spec: Mapping[str, Any], is_bad: Callable[[Mapping[str, Any]], bool]) -> list[str]:
    """The names of the containers whose security context is bad."""
    return [each.get("name", "") for each in _containers(spec) if is_bad(_secured(each))]


def _unless_windows(check: Check) -> Check:
    def checked(annotations: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
        return None if (spec.get("os") or _NONE).get("name") == "windows" else check(annotations, spec)

    return checked


def _unless_own_users(check: Check) -> Check:
    """The check, but not of pods in a user namespace."""

    def checked(annotations: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
        return None if spec.get("hostUsers") is False else check(annotations, spec)

    return checked


# --- baseline


def _app_armor(annotations: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    values: set[str] = set()

    def is_bad(context: Mapping[str, Any]) -> bool:
        profile = context.get("appArmorProfile")
        kind = None if profile is None else profile.get("type") or ""
        if kind is None or kind in ("RuntimeDefault", "Localhost"):
            return False
        values.add(kind)
        return True

    setters = _setters(is_bad(_secured(spec)), _bad_containers(spec, is_bad))
    prefix = "container.apparmor.security.beta.kubernetes.io/"
    forbidden = sorted(
        f"{key}={go_quoted(value)}"
        for key, value in annotations.items()
        if key.startswith(prefix) and value not in ("", "runtime/default") and not value.startswith("localhost/")
    )
    if forbidden:
        setters.append(_plural("annotation", forbidden))
    if not setters:
        return None
    bad = [*sorted(values), *forbidden]
    return (
        _plural("forbidden AppArmor profile", bad),
        f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(bad)}",
    )


_DEFAULT_CAPABILITIES = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip


def _added(spec: Mapping[str, Any], allowed: frozenset[str]) -> str:
    """Which containers add which capabilities beyond ``allowed``; empty when none does."""
    forbidden: set[str] = set()

    def is_bad(context: Mapping[str, Any]) -> bool:
        extra = set((context.get("capabilities") or _NONE).get("add") or ()) - allowed
        forbidden.update(extra)
        return bool(extra)

    bad = _bad_containers(spec, is_bad)
    said = f"must not include {_quoted(sorted(forbidden))} in securityContext.capabilities.add"
    return f"{_named(bad)} {said}" if bad else ""


def _capabilities_baseline(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    added = _added(spec, _DEFAULT_CAPABILITIES)
    return ("non-default capabilities", added) if added else None


def _host_namespaces(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    found = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return ("host namespaces", ", ".join(found)) if found else None


def _host_paths(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    found = [each.get("name", "") for each in spec.get("volumes") or () if each.get("hostPath") is not None]
    return ("hostPath volumes", f"{_plural('volume', found)} {_quoted(found)}") if found else None


def _host_ports(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    bad: list[str] = []
    ports: set[str] = set()
    for container in _containers(spec):
        own = {str(each["hostPort"]) for each in container.get("ports") or () if each.get("hostPort")}
        if own:
            bad.append(container.get("name", ""))
            ports |= own
    if not bad:
        return None
    uses = "uses" if len(bad) == 1 else "use"
    return "hostPort", f"{_named(bad)} {uses} {_plural('hostPort', sorted(ports))} {', '.join(sorted(ports))}"


def _host_probes(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    bad: set[str] = set()
    hosts: set[str] = set()
    for container in _containers(spec):
        lifecycle = container.get("lifecycle") or _NONE
        probes = [container.get(field) for field in ("livenessProbe", "readinessProbe", "startupProbe")]
        for handler in (*probes, lifecycle.get("postStart"), lifecycle.get("preStop")):
            for action in ("httpGet", "tcpSocket"):
                host = ((handler or _NONE).get(action) or _NONE).get("host")
                if host:
                    bad.add(container.get("name", ""))
                    hosts.add(host)
    if not bad:
        return None
    uses = "uses" if len(bad) == 1 else "use"
    said = f"{_plural('probe or lifecycle host', sorted(hosts))} {_quoted(sorted(hosts))}"
    return "probe or lifecycle host", f"{_named(sorted(bad))} {uses} {said}"


def _privileged(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    bad = _bad_containers(spec, lambda context: bool(context.get("privileged")))
    return ("privileged", f"{_named(bad)} must not set securityContext.privileged=true") if bad else None


def _proc_mount(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    kinds: set[str] = set()

    def is_bad(context: Mapping[str, Any]) -> bool:
        kind = context.get("procMount")
        if kind in (None, "Default"):
            return False
        kinds.add(kind)
        return True

    bad = _bad_containers(spec, is_bad)
    said = f"must not set securityContext.procMount to {_quoted(sorted(kinds))}"
    return ("procMount", f"{_named(bad)} {said}") if bad else None


_LABELS = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})


def _selinux(allowed: frozenset[str]) -> Check:
    def check(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
        kinds: set[str] = set()
        told: set[str] = set()

        def is_bad(context: Mapping[str, Any]) -> bool:
            options = context.get("seLinuxOptions") or _NONE
            kind, own = options.get("type") or "", {field for field in ("user", "role") if options.get(field)}
            told.update(own)
            if kind not in allowed:
                kinds.add(kind)
            return bool(own) or kind not in allowed

        setters = _setters(is_bad(_secured(spec)), _bad_containers(spec, is_bad))
        if not setters:
            return None
        said = [f"{_plural('type', sorted(kinds))} {_quoted(sorted(kinds))}"] if kinds else []
        said += [f"{field} may not be set" for field in ("user", "role") if field in told]
        where = f"{' and '.join(setters)} set forbidden securityContext.seLinuxOptions"
        return "seLinuxOptions", f"{where}: {'; '.join(said)}"

    return check


def _seccomp_annotations(annotations: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    prefix = "container.seccomp.security.alpha.kubernetes.io/"
    keys = ["seccomp.security.alpha.kubernetes.io/pod", *(prefix + each.get("name", "") for each in _containers(spec))]
    forbidden = sorted(
        {
            f"{key}={go_quoted(annotations[key])}"
            for key in keys
            if key in annotations
            and annotations[key] not in ("runtime/default", "docker/default")
            and not annotations[key].startswith("localhost/")
        }
    )
    if not forbidden:
        return None
    return "seccompProfile", f"forbidden {_plural('annotation', forbidden)} {', '.join(forbidden)}"


def _profile_type(context: Mapping[str, Any]) -> str | None:
    profile = context.get("seccompProfile")
    return None if profile is None else profile.get("type") or ""


def _bad_seccomp(spec: Mapping[str, Any]) -> Violation | None:
    kinds: set[str] = set()

    def is_bad(context: Mapping[str, Any]) -> bool:
        kind = _profile_type(context)
        if kind in (None, "RuntimeDefault", "Localhost"):
            return False
        kinds.add(str(kind))
        return True

    setters = _setters(is_bad(_secured(spec)), _bad_containers(spec, is_bad))
    said = f"must not set securityContext.seccompProfile.type to {_quoted(sorted(kinds))}"
    return ("seccompProfile", f"{' and '.join(setters)} {said}") if setters else None


def _seccomp_baseline(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    return _bad_seccomp(spec)


_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
})  # fmt: skip
_SYSCTLS_27 = _SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_29 = _SYSCTLS_27 | {
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
_SYSCTLS_32 = _SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}


def _sysctls(allowed: frozenset[str]) -> Check:
    def check(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
        names = [each.get("name", "") for each in _secured(spec).get("sysctls") or ()]
        found = [name for name in names if name not in allowed]
        return ("forbidden sysctls", ", ".join(found)) if found else None

    return check


def _windows_host_process(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    def is_bad(context: Mapping[str, Any]) -> bool:
        return bool((context.get("windowsOptions") or _NONE).get("hostProcess"))

    setters = _setters(is_bad(_secured(spec)), _bad_containers(spec, is_bad))
    said = "must not set securityContext.windowsOptions.hostProcess=true"
    return ("hostProcess", f"{' and '.join(setters)} {said}") if setters else None


# --- restricted


def _escalation(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    bad = _bad_containers(spec, lambda context: context.get("allowPrivilegeEscalation") is not False)
    said = "must set securityContext.allowPrivilegeEscalation=false"
    return ("allowPrivilegeEscalation != false", f"{_named(bad)} {said}") if bad else None


def _capabilities_restricted(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    keeping = _bad_containers(
        spec, lambda context: "ALL" not in ((context.get("capabilities") or _NONE).get("drop") or ())
    )
    said = [f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]'] if keeping else []
    added = _added(spec, frozenset({"NET_BIND_SERVICE"}))
    said += [added] if added else []
    return ("unrestricted capabilities", "; ".join(said)) if said else None


_VOLUMES = frozenset({
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
})  # fmt: skip


def _restricted_volumes(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    bad: list[str] = []
    kinds: set[str] = set()
    for volume in spec.get("volumes") or ():
        sources = [field for field, value in volume.items() if field != "name" and value is not None]
        if not _VOLUMES.intersection(sources):
            bad.append(volume.get("name", ""))
            kinds.add(sources[0] if sources else "unknown")
    if not bad:
        return None
    uses = "uses" if len(bad) == 1 else "use"
    said = f"{_plural('restricted volume type', sorted(kinds))} {_quoted(sorted(kinds))}"
    return "restricted volume types", f"{_plural('volume', bad)} {_quoted(bad)} {uses} {said}"


def _as_non_root(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    reason, pod = "runAsNonRoot != true", _secured(spec).get("runAsNonRoot")
    explicit = _bad_containers(spec, lambda context: context.get("runAsNonRoot") is False)
    setters = _setters(pod is False, explicit)
    if setters:
        return reason, f"{' and '.join(setters)} must not set securityContext.runAsNonRoot=false"
    implicit = _bad_containers(spec, lambda context: context.get("runAsNonRoot") is None)
    if pod or not implicit:
        return None
    return reason, f"pod or {_named(implicit)} must set securityContext.runAsNonRoot=true"


def _as_user(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    def is_bad(context: Mapping[str, Any]) -> bool:
        return context.get("runAsUser") == 0

    setters = _setters(is_bad(_secured(spec)), _bad_containers(spec, is_bad))
    return ("runAsUser=0", f"{' and '.join(setters)} must not set runAsUser=0") if setters else None


def _seccomp_restricted(_: Mapping[str, Any], spec: Mapping[str, Any]) -> Violation | None:
    found = _bad_seccomp(spec)
    if found is not None or _profile_type(_secured(spec)) is not None:
        return found
    implicit = _bad_containers(spec, lambda context: _profile_type(context) is None)
    said = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return ("seccompProfile", f"pod or {_named(implicit)} {said}") if implicit else None


CHECKS: Sequence[Versioned] = (
    Versioned("appArmorProfile", "baseline", ((0, _app_armor),)),
    Versioned("capabilities_baseline", "baseline", ((0, _capabilities_baseline),)),
    Versioned("hostNamespaces", "baseline", ((0, _host_namespaces),)),
    Versioned("hostPathVolumes", "baseline", ((0, _host_paths),)),
    Versioned("hostPorts", "baseline", ((0, _host_ports),)),
    Versioned("hostProbesAndHostLifecycle", "baseline", ((34, _host_probes),)),
    Versioned("privileged", "baseline", ((0, _privileged),)),
    Versioned("procMount", "baseline", ((0, _proc_mount), (35, _unless_own_users(_proc_mount)))),
    Versioned("seLinuxOptions", "baseline", ((0, _selinux(_LABELS)), (31, _selinux(_LABELS | {"container_engine_t"})))),
    Versioned("seccompProfile_baseline", "baseline", ((0, _seccomp_annotations), (19, _seccomp_baseline))),
    Versioned(
        "sysctls",
        "baseline",
        (
            (0, _sysctls(_SYSCTLS)),
            (27, _sysctls(_SYSCTLS_27)),
            (29, _sysctls(_SYSCTLS_29)),
            (32, _sysctls(_SYSCTLS_32)),
        ),
    ),
    Versioned("windowsHostProcess", "baseline", ((0, _windows_host_process),)),
    Versioned("allowPrivilegeEscalation", "restricted", ((8, _escalation), (25, _unless_windows(_escalation)))),
    Versioned(
        "capabilities_restricted",
        "restricted",
        ((22, _capabilities_restricted), (25, _unless_windows(_capabilities_restricted))),
        replaces="capabilities_baseline",
    ),
    Versioned("procMount_restricted", "restricted", ((35, _proc_mount),), replaces="procMount"),
    Versioned("restrictedVolumes", "restricted", ((0, _restricted_volumes),), replaces="hostPathVolumes"),
    Versioned("runAsNonRoot", "restricted", ((0, _as_non_root), (35, _unless_own_users(_as_non_root)))),
    Versioned("runAsUser", "restricted", ((23, _as_user), (35, _unless_own_users(_as_user)))),
    Versioned(
        "seccompProfile_restricted",
        "restricted",
        ((19, _seccomp_restricted), (25, _unless_windows(_seccomp_restricted))),
        replaces="seccompProfile_baseline",
    ),
)
"""In the order they are told: those of the baseline by name, then the restricted ones."""
