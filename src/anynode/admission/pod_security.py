"""PodSecurity: pods keep the policy their namespace asks for by label; workloads are warned before their pods fail.

In: pods, what makes pods, and namespaces whose labels change. Out: a refusal (mode enforce), warnings for the client
(warn), annotations for the audit log (audit). A namespace without such labels costs one look.
Source: pod-security-admission ``admission/admission.go`` and ``api/helpers.go``, 1.36; KEP-2579.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anynode.admission.chain import Attributes, ListIn, Lookup, Plugin
from anynode.admission.pod_security_checks import NEWEST, Level, Violation, violations
from anynode.api import errors, objects, resources
from anynode.api.errors import Cause
from anynode.api.objects import Object, ObjectKey

PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
LEVELS: Sequence[Level] = ("privileged", "baseline", "restricted")
MOST_PODS = 3000
"""How many pods of a namespace are held against a new policy."""
SLICE_PODS = 200
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")
_MOST_DIGITS = 18
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "podtemplates": ("template",),
    "replicationcontrollers": ("spec", "template"),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class LevelVersion:
    """A level as of a version; ``minor`` None is the latest."""

    level: Level = "privileged"
    minor: int | None = None

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor is None else f'v1.{self.minor}'}"

    def judge(self, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> list[Violation]:
        minor = NEWEST if self.minor is None else self.minor
        return violations(self.level, minor, metadata.get("annotations") or {}, spec)


PRIVILEGED = LevelVersion()


@dataclasses.dataclass(frozen=True, slots=True)
class PodPolicy:
    """What a namespace asks for in each mode."""

    enforce: LevelVersion = PRIVILEGED
    audit: LevelVersion = PRIVILEGED
    warn: LevelVersion = PRIVILEGED


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodSecuritySettings:
    """The operator's choices: ``PodSecurityConfiguration`` upstream."""

    defaults: PodPolicy = PodPolicy()
    usernames: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()


def policy_of(labels: Mapping[str, str], defaults: PodPolicy) -> tuple[PodPolicy, list[Cause]]:
    """The policy labels ask for, and what is wrong with them; where one is wrong the strictest is enforced."""
    found: dict[str, LevelVersion] = {}
    causes: list[Cause] = []
    good_level: dict[str, bool] = {}
    for mode in MODES:
        chosen: LevelVersion = getattr(defaults, mode)
        level, version = labels.get(PREFIX + mode), labels.get(f"{PREFIX}{mode}-version")
        if level is not None:
            good_level[mode] = level in LEVELS
            known = next((each for each in LEVELS if each == level), None)
            failing: Level = "restricted" if mode == "enforce" else "privileged"
            chosen = dataclasses.replace(chosen, level=known or failing)
            if known is None:
                causes.append(_cause(PREFIX + mode, level, f"must be one of {', '.join(LEVELS)}"))
        if version is not None:
            matched = _VERSION.fullmatch(version)
            minor = int(matched[1]) if matched and len(matched[1]) <= _MOST_DIGITS else None
            chosen = dataclasses.replace(chosen, minor=minor)
            if minor is None and version != "latest":
                causes.append(_cause(f"{PREFIX}{mode}-version", version, 'must be "latest" or "v1.x"'))
        found[mode] = chosen
    enforce, warn = found["enforce"], found["warn"]
    if "warn" not in good_level and good_level.get("enforce") and _rank(enforce) > _rank(warn):
        minor = warn.minor if f"{PREFIX}warn-version" in labels else enforce.minor
        found["warn"] = LevelVersion(enforce.level, minor)
    return PodPolicy(**found), causes


def _rank(policy: LevelVersion) -> int:
    return LEVELS.index(policy.level)


def _cause(label: str, value: str, why: str) -> Cause:
    message = f'Invalid value: "{value}": {why}'
    return Cause(reason="FieldValueInvalid", message=message, field=f"metadata.labels[{label}]")


def _said(found: Iterable[Violation]) -> str:
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)


class PodSecurity(Plugin):
    name = "PodSecurity"
    operations = frozenset({"CREATE", "UPDATE"})
    resources = frozenset({"namespaces", "pods", "pods/ephemeralcontainers", "pods/resize", *_TEMPLATES})

    def __init__(self, lookup: Lookup, list_in: ListIn, settings: PodSecuritySettings | None = None) -> None:
        self._lookup = lookup
        self._list_in = list_in
        self._settings = settings or PodSecuritySettings()
        self._namespaces = resources.known("namespaces")
        self._pods = resources.known("pods")
        self._open = self._settings.defaults == PodPolicy()

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None:
            return
        plural = attributes.resource.plural
        if plural == "namespaces":
            await self._judge_namespace(attributes, obj)
        elif plural == "pods":
            self._judge_pod(attributes, obj)
        else:
            self._judge_template(attributes, obj)

    # --- pods

    def _policy(self, namespace: str) -> tuple[PodPolicy, list[Cause]] | None:
        """What a namespace asks for; None where that is nothing."""
        found = self._lookup(self._namespaces, ObjectKey("", namespace))
        labels = {} if found is None else objects.labels_of(found)
        if self._open and not any(label.startswith(PREFIX) for label in labels):
            return None
        policy, causes = policy_of(labels, self._settings.defaults)
        return None if policy == PodPolicy() and not causes else (policy, causes)

    def _exempt(self, attributes: Attributes, spec: Mapping[str, Any]) -> bool:
        settings = self._settings
        why = ""
        if attributes.namespace in settings.namespaces:
            why = "namespace"
        elif attributes.user.name in settings.usernames:
            why = "user"
        elif spec.get("runtimeClassName") in settings.runtime_classes:
            why = "runtimeClass"
        if why:
            attributes.audit[f"{PREFIX}exempt"] = why
        return bool(why)

    def _judge_pod(self, attributes: Attributes, pod: Object) -> None:
        asked = self._policy(attributes.namespace)
        if asked is None:
            attributes.audit[f"{PREFIX}enforce-policy"] = "privileged:latest"
            return
        if attributes.operation == "UPDATE" and not is_significant(pod, attributes.old or {}):
            return
        spec = pod.get("spec") or {}
        if self._exempt(attributes, spec):
            return
        enforce = asked[0].enforce
        attributes.audit[f"{PREFIX}enforce-policy"] = str(enforce)
        found = enforce.judge(objects.meta(pod), spec)
        self._audit(attributes, asked, objects.meta(pod), spec)
        if found:
            raise attributes.forbidden(f'violates PodSecurity "{enforce}": {_said(found)}')
        self._warn(attributes, asked[0].warn, objects.meta(pod), spec)

    def _judge_template(self, attributes: Attributes, obj: Object) -> None:
        asked = self._policy(attributes.namespace)
        if asked is None:
            return
        if asked[0].warn.level == asked[0].audit.level == "privileged" and not asked[1]:
            return
        template = objects.get_path(obj, *_TEMPLATES[attributes.resource.qualified])
        if template is None:
            return
        spec = template.get("spec") or {}
        if not self._exempt(attributes, spec):
            self._audit(attributes, asked, objects.meta(template), spec)
            self._warn(attributes, asked[0].warn, objects.meta(template), spec)

    def _audit(
        self,
        attributes: Attributes,
        asked: tuple[PodPolicy, list[Cause]],
        metadata: Mapping[str, Any],
        spec: Mapping[str, Any],
    ) -> None:
        policy, causes = asked
        if causes:
            texts = [f"{each.field}: {each.message}" for each in causes]
            said = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
            attributes.audit[f"{PREFIX}error"] = f"Failed to parse policy: {said}"
        found = policy.audit.judge(metadata, spec)
        if found:
            said = f'would violate PodSecurity "{policy.audit}": {_said(found)}'
            attributes.audit[f"{PREFIX}audit-violations"] = said

    def _warn(
        self, attributes: Attributes, policy: LevelVersion, metadata: Mapping[str, Any], spec: Mapping[str, Any]
    ) -> None:
        found = policy.judge(metadata, spec)
        if found:
            attributes.warnings.append(f'would violate PodSecurity "{policy}": {_said(found)}')

    # --- namespaces

    async def _judge_namespace(self, attributes: Attributes, namespace: Object) -> None:
        labels = objects.labels_of(namespace)
        before = objects.labels_of(attributes.old or {})
        if not any(label.startswith(PREFIX) for label in (*labels, *before)):
            return
        policy, causes = policy_of(labels, self._settings.defaults)
        old_policy, old_causes = policy_of(before, self._settings.defaults)
        update = attributes.operation == "UPDATE"
        if causes and not (update and causes == old_causes):
            raise errors.invalid("Namespace", "", attributes.said_name, causes)
        name = objects.name_of(namespace)
        if name in self._settings.namespaces:
            self._warn_exempt(attributes, name, policy, labels)
            return
        enforce, old = policy.enforce, old_policy.enforce
        if not update or enforce == old or enforce.level == "privileged":
            return
        if enforce.minor == old.minor and _rank(enforce) <= _rank(old):
            return
        attributes.warnings.extend(await self._violating(name, enforce))

    def _warn_exempt(self, attributes: Attributes, name: str, policy: PodPolicy, labels: Mapping[str, str]) -> None:
        if policy in (PodPolicy(), self._settings.defaults):
            return
        said = ", ".join(
            f"{mode}={getattr(policy, mode)}"
            for mode in MODES
            if getattr(policy, mode).level != "privileged"
            and (PREFIX + mode in labels or f"{PREFIX}{mode}-version" in labels)
        )
        attributes.warnings.append(
            f'namespace "{name}" is exempt from Pod Security, and the policy ({said}) will be ignored'
        )

    async def _violating(self, namespace: str, enforce: LevelVersion) -> list[str]:
        """What to tell of the pods of a namespace that its new policy would refuse."""
        pods = prioritized(
            each
            for each in self._list_in(self._pods, namespace)
            if objects.get_path(each, "spec", "runtimeClassName") not in self._settings.runtime_classes
        )
        checked = pods[:MOST_PODS]
        names: dict[str, list[str]] = {}
        for index, pod in enumerate(checked):
            found = enforce.judge(objects.meta(pod), pod.get("spec") or {})
            if found:
                names.setdefault(", ".join(reason for reason, _ in found), []).append(objects.name_of(pod))
            if index % SLICE_PODS == SLICE_PODS - 1:
                await asyncio.sleep(0)
        said = []
        if len(checked) < len(pods):
            known = f"the first {len(checked)} of {len(pods)} existing pods"
            said.append(f"new PodSecurity enforce level only checked against {known}")
        if names:
            head = f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level'
            said.append(f'{head} "{enforce}"')
        return [*said, *sorted(f"{_first_of(each)}: {reason}" for reason, each in names.items())]


def _first_of(names: Sequence[str]) -> str:
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{min(names)} (and {others} other {'pod' if others == 1 else 'pods'})"


def prioritized(pods: Iterable[Object]) -> list[Object]:
    """The pods, the first of each controller before its like."""
    first: list[Object] = []
    rest: list[Object] = []
    seen: set[str] = set()
    for pod in pods:
        owner = objects.controller_of(pod)
        uid = None if owner is None else owner.get("uid") or ""
        (rest if uid is not None and uid in seen else first).append(pod)
        if uid is not None:
            seen.add(uid)
    return [*first, *rest]


def is_significant(pod: Object, old: Object) -> bool:
    """Whether a change of a pod touches what the policy looks at."""
    spec, before = pod.get("spec") or {}, old.get("spec") or {}
    for field in ("containers", "initContainers"):
        images = [each.get("image") for each in spec.get(field) or ()]
        if images != [each.get("image") for each in before.get(field) or ()]:
            return True
    debuggers = {each.get("name"): each.get("image") for each in before.get("ephemeralContainers") or ()}
    return any(
        each.get("name") not in debuggers or each.get("image") != debuggers[each.get("name")]
        for each in spec.get("ephemeralContainers") or ()
    )
