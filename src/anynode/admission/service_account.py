"""ServiceAccount: every pod runs as a service account that exists, and gets its token mounted unless told otherwise.

Source: kubernetes ``plugin/pkg/admission/serviceaccount/admission.go``, 1.36.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from anynode.admission.chain import Attributes, Lookup, Plugin
from anynode.aio.clock import Clock
from anynode.api import objects, resources
from anynode.api.objects import Object, ObjectKey

DEFAULT = "default"
MIRROR = "kubernetes.io/config.mirror"
ENFORCE_SECRETS = "kubernetes.io/enforce-mountable-secrets"
VOLUME = "kube-api-access-"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
DEFAULT_TRIES = 10
"""A controller makes the default account soon after the namespace: it is waited for."""
TRUE_WORDS = frozenset({"1", "t", "T", "TRUE", "true", "True"})

TOKEN_SOURCES: Sequence[Object] = (
    {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {
        "downwardAPI": {
            "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
        }
    },
)


class ServiceAccountPlugin(Plugin):
    name = "ServiceAccount"
    operations = frozenset({"CREATE", "UPDATE"})
    resources = frozenset({"pods", "pods/ephemeralcontainers"})

    def __init__(
        self, lookup: Lookup, *, clock: Clock, chance: random.Random, token_sources: Sequence[Object] = TOKEN_SOURCES
    ) -> None:
        self._lookup = lookup
        self._token_sources = list(token_sources)
        self._clock = clock
        self._chance = chance

    async def admit(self, attributes: Attributes) -> Object | None:
        pod = attributes.obj
        if pod is None or attributes.operation != "CREATE":
            return pod
        if MIRROR in objects.annotations_of(pod):  # never changed, and refused before later plugins have their say
            await self.validate(attributes)
            return pod
        spec: Object = {**(pod.get("spec") or {})}
        name = spec.get("serviceAccountName") or DEFAULT
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(attributes, name)
        if wants_token(account, spec):
            suffix = "".join(self._chance.choice(SUFFIX_LETTERS) for _ in range(5))
            spec = with_token(spec, VOLUME + suffix, self._token_sources)
        pull_secrets = account.get("imagePullSecrets")
        if not spec.get("imagePullSecrets") and pull_secrets:
            spec["imagePullSecrets"] = [{"name": each.get("name", "")} for each in pull_secrets]
        return {**pod, "spec": spec}

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if pod is None or (attributes.operation == "UPDATE" and not attributes.subresource):
            return
        spec = pod.get("spec") or {}
        if attributes.operation == "CREATE" and MIRROR in objects.annotations_of(pod):
            why = mirror_refusal(spec)
        else:
            name = spec.get("serviceAccountName")
            if not name:
                where = f"{attributes.namespace}/{objects.name_of(pod)}"
                raise attributes.forbidden(f"no service account specified for pod {where}")
            account = await self._account(attributes, name)
            enforced = objects.annotations_of(account).get(ENFORCE_SECRETS) in TRUE_WORDS
            why = secret_refusal(account, spec, only_ephemeral=bool(attributes.subresource)) if enforced else None
        if why is not None:
            raise attributes.forbidden(why)

    async def _account(self, attributes: Attributes, name: str) -> Object:
        key = ObjectKey(attributes.namespace, name)
        pause_seconds = 0.1 + 0.1 * self._chance.random()
        for tries in range(DEFAULT_TRIES if name == DEFAULT else 1):
            if tries:
                await self._clock.sleep(pause_seconds)
            account = self._lookup(resources.known("serviceaccounts"), key)
            if account is not None:
                return account
        raise attributes.forbidden(
            f'error looking up service account {attributes.namespace}/{name}: serviceaccount "{name}" not found'
        )


def wants_token(account: Object, spec: Object) -> bool:
    """The pod's word counts first, then the account's; else yes."""
    for asked in (spec.get("automountServiceAccountToken"), account.get("automountServiceAccountToken")):
        if asked is not None:
            return bool(asked)
    return True


def with_token(spec: Object, fresh_name: str, sources: list[Object]) -> Object:
    """A pod spec in which every container has the token mounted, from a volume that is there or one of ``sources``."""
    volumes = spec.get("volumes") or []
    name = next((each["name"] for each in volumes if each.get("name", "").startswith(VOLUME)), None)
    mount = {"name": name or fresh_name, "readOnly": True, "mountPath": MOUNT_PATH}
    changed, needed = {**spec}, False
    for field in ("initContainers", "containers"):
        containers = spec.get(field)
        if not containers:
            continue
        mounted = [_with_mount(container, mount) for container in containers]
        if any(new is not old for new, old in zip(mounted, containers, strict=True)):
            changed[field], needed = mounted, True
    if needed and name is None:
        volume = {"name": fresh_name, "projected": {"sources": sources, "defaultMode": 420}}
        changed["volumes"] = [*volumes, volume]
    return changed


def _with_mount(container: Object, mount: Object) -> Object:
    mounts = container.get("volumeMounts") or []
    if any(each.get("mountPath") == MOUNT_PATH for each in mounts):
        return container
    return {**container, "volumeMounts": [*mounts, mount]}


def mirror_refusal(spec: Object) -> str | None:
    """Why a pod that mirrors a file on a node may not be, or None."""
    if spec.get("serviceAccountName"):
        return "a mirror pod may not reference service accounts"
    volumes = spec.get("volumes") or ()
    if spec.get("imagePullSecrets") or any("secret" in each for each in volumes) or any(_secret_uses(spec)):
        return "a mirror pod may not reference secrets"
    sources = [source for each in volumes for source in (each.get("projected") or {}).get("sources") or ()]
    if any("secret" in source for source in sources):
        return "a mirror pod may not reference secrets"
    if any("serviceAccountToken" in source for source in sources):
        return "a mirror pod may not use ServiceAccountToken volume projections"
    return None


def secret_refusal(account: Object, spec: Object, *, only_ephemeral: bool) -> str | None:
    """Which Secret the pod uses that its account does not list, or None. For accounts that enforce their list."""
    whose = f"service account {objects.name_of(account)} does not reference that"
    allowed = {each.get("name") for each in account.get("secrets") or ()}
    if not only_ephemeral:
        for volume in spec.get("volumes") or ():
            name = (volume.get("secret") or {}).get("secretName")
            if name is not None and name not in allowed:
                return f'volume with secret.secretName="{name}" is not allowed because {whose} secret'
    for field, use, name in _secret_uses(spec):
        if (field == "ephemeralContainers") == only_ephemeral and name not in allowed:
            return f'{use} referencing secret.secretName="{name}" is not allowed because {whose} secret'
    if only_ephemeral:
        return None
    pullable = {each.get("name") for each in account.get("imagePullSecrets") or ()}
    for index, each in enumerate(spec.get("imagePullSecrets") or ()):
        if each.get("name") not in pullable:
            name = each.get("name", "")
            return f'imagePullSecrets[{index}].name="{name}" is not allowed because {whose} imagePullSecret'
    return None


def _secret_uses(spec: Object) -> Iterator[tuple[str, str, str]]:
    """(container field, where, Secret's name) of every environment that reads a Secret."""
    for field, word in (
        ("initContainers", "init container"),
        ("containers", "container"),
        ("ephemeralContainers", "ephemeral container"),
    ):
        for container in spec.get(field) or ():
            said = f"{word} {container.get('name', '')}"
            for variable in container.get("env") or ():
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
                if reference is not None:
                    yield field, f"{said} with envVar {variable.get('name', '')}", reference.get("name", "")
            for source in container.get("envFrom") or ():
                if source.get("secretRef") is not None:
                    yield field, f"{said} with envFrom", source["secretRef"].get("name", "")
