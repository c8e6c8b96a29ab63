"""Who binds a policy to parameters must be able to read them: policies read on behalf of all who write.

Source: kubernetes ``pkg/registry/admissionregistration/*admissionpolicy*/authz.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable

from anynode.admission.chain import Attributes, Lookup, Plugin
from anynode.admission.expressions import Decide
from anynode.admission.matching import GROUP
from anynode.api import errors, resources
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import GroupVersion, Resource
from anynode.api.wire import User
from anynode.schema import fields
from anynode.security import rbac

ResourceOf = Callable[[str, str], Resource | None]
_POLICIES = {
    "validatingadmissionpolicybindings": "validatingadmissionpolicies",
    "mutatingadmissionpolicybindings": "mutatingadmissionpolicies",
}
_SPEC = fields.FieldPath("spec")


class PolicyParamAccess(Plugin):
    """Judges new policies and bindings, and changes of what they refer to."""

    name = "PolicyParamAccess"
    operations = frozenset({"CREATE", "UPDATE"})
    resources = frozenset(f"{each}.{GROUP}" for each in (*_POLICIES, *_POLICIES.values()))

    def __init__(self, lookup: Lookup, resource_of: ResourceOf, decide: Decide) -> None:
        self._lookup = lookup
        self._resource_of = resource_of
        self._decide = decide

    async def validate(self, attributes: Attributes) -> None:
        if rbac.MASTERS in attributes.user.groups:
            return
        spec = (attributes.obj or {}).get("spec") or {}
        before = (attributes.old or {}).get("spec") or {}
        if attributes.resource.plural in _POLICIES:
            self._judge_binding(attributes, spec, before)
        else:
            self._judge_policy(attributes, spec, before)

    def _judge_policy(self, attributes: Attributes, spec: Object, before: Object) -> None:
        kind = spec.get("paramKind")
        if kind is None or kind == before.get("paramKind"):
            return
        wanted, _ = self._wanted(kind)
        if not self._may(attributes.user, "get", wanted, "*", "*"):
            said = f"kind={kind.get('kind') or ''}, apiVersion={kind.get('apiVersion') or ''}"
            why = (
                f'user {_shown(attributes.user)} must have "get" permission on all objects of the referenced paramKind'
            )
            raise _refusal(attributes, "paramKind", f"{why} ({said})")

    def _judge_binding(self, attributes: Attributes, spec: Object, before: Object) -> None:
        reference = spec.get("paramRef")
        same = reference == before.get("paramRef") and spec.get("policyName") == before.get("policyName")
        if reference is None or same:
            return
        name = str(spec.get("policyName") or "")
        policy = self._lookup(resources.known(_POLICIES[attributes.resource.plural], GROUP), ObjectKey("", name))
        kind = ((policy or {}).get("spec") or {}).get("paramKind")
        wanted, resolved = (("*", "*", "*"), True) if kind is None else self._wanted(kind)
        verb = "get" if reference.get("name") else "list"
        user = attributes.user
        where, which = reference.get("namespace") or "", reference.get("name") or ""
        if self._may(user, verb, wanted, where, which):
            return
        lacks = f'user {_shown(user)} does not have "{verb}" permission'
        everything = "for all groups, versions and resources"
        if policy is None:
            why = f"unable to get policy {name} to determine minimum required permissions and {lacks} {everything}"
        elif not resolved:
            named = kind or {}
            said = f"&ParamKind{{APIVersion:{named.get('apiVersion')},Kind:{named.get('kind')},}}"
            why = (
                f"unable to resolve paramKind {said} to determine minimum required permissions and {lacks} {everything}"
            )
        else:
            why = f"{lacks} on the object referenced by paramRef"
        raise _refusal(attributes, "paramRef", why)

    def _wanted(self, kind: Object) -> tuple[tuple[str, str, str], bool]:
        """(group, version, plural) of a kind of parameters, and whether it is served."""
        api_version = str(kind.get("apiVersion") or "")
        group, version = GroupVersion.parse(api_version)
        found = self._resource_of(api_version, str(kind.get("kind") or ""))
        return (group, version, "*" if found is None else found.plural), found is not None

    def _may(self, user: User, verb: str, wanted: tuple[str, str, str], namespace: str, name: str) -> bool:
        group, version, plural = wanted
        asked = rbac.Attributes(
            verb=verb, group=group, version=version, resource=plural, namespace=namespace, name=name
        )
        return self._decide(user, asked).allowed


def _shown(user: User) -> str:
    """A user as Go prints one."""
    extra = " ".join(f"{key}:[{' '.join(values)}]" for key, values in sorted(user.extra.items()))
    return f"&{{{user.name} {user.uid} [{' '.join(user.groups)}] map[{extra}]}}"


def _refusal(attributes: Attributes, field: str, why: str) -> errors.ApiError:
    found = fields.forbidden(_SPEC.child(field), why)
    resource = attributes.resource
    return errors.invalid(resource.kind, resource.group, attributes.request_name, [found.cause()])
