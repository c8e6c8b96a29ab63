"""Fetches what pods refer to: ConfigMaps and Secrets one by one, tokens by TokenRequest, services from a mirror.

Nothing is watched across the cluster but services: a node reads only what its pods name, so that it needs no right to
all Secrets. An answer is kept for a short while, a token until four fifths of its life are over. Source: kubelet
``pkg/kubelet/util/manager``, ``pkg/kubelet/token/token_manager.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from anynode.aio.clock import Clock
from anynode.api.errors import ApiError, Forbidden, NotFound, is_passing
from anynode.api.formats import parse_time
from anynode.api.objects import Object, ObjectKey, meta, name_of, namespace_of
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.node import pod_plan
from anynode.node.pod_plan import Lookups, Reference, TokenRequest

logger = logging.getLogger(__name__)

RESOURCES = {"configmap": known("configmaps"), "secret": known("secrets")}
SERVICE_ACCOUNTS = known("serviceaccounts")
KEPT_SECONDS = 1.0
"""Pods of one Deployment start together: they share one answer."""
TOKEN_SHARE = 0.8
TOKEN_MOST_SECONDS = 24 * 3600.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NodeSide:
    """What of its node a pod may see."""

    host_ip: str
    allocatable: Mapping[str, str]


class PodLookups:
    """The lookups of one process; many nodes may share it."""

    def __init__(
        self, client: ApiClient, *, clock: Clock, services: Callable[[str], Sequence[Object]] | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._services = services
        self._objects: dict[tuple[str, Reference], tuple[float, Object | None]] = {}
        self._tokens: dict[tuple[str, TokenRequest], tuple[float, str]] = {}

    async def for_environment(self, pod: Object, container: Object, pod_ip: str, node: NodeSide) -> Lookups:
        """What the environment of one container needs."""
        return Lookups(
            objects=await self._fetch(namespace_of(pod), pod_plan.references(pod, [container])),
            services=self._services(namespace_of(pod)) if self._services is not None else (),
            pod_ip=pod_ip,
            host_ip=node.host_ip,
            allocatable=node.allocatable,
        )

    async def for_volumes(self, pod: Object, node: NodeSide) -> Lookups:
        """What the volumes of a pod need."""
        if not pod["spec"].get("volumes"):
            return Lookups(objects={}, host_ip=node.host_ip, allocatable=node.allocatable)
        objects = await self._fetch(namespace_of(pod), pod_plan.volume_references(pod))
        tokens = {each: await self._token(pod, each) for each in pod_plan.token_requests(pod)}
        return Lookups(
            objects=objects,
            tokens={request: token for request, token in tokens.items() if token is not None},
            host_ip=node.host_ip,
            allocatable=node.allocatable,
        )

    def forget(self, pod_uid: str) -> None:
        """The pod is gone: its tokens too."""
        for key in [each for each in self._tokens if each[0] == pod_uid]:
            del self._tokens[key]

    async def _fetch(self, namespace: str, references: Iterable[Reference]) -> dict[Reference, Object | None]:
        now = self._clock.monotonic()
        found: dict[Reference, Object | None] = {}
        for reference in references:
            known_until, obj = self._objects.get((namespace, reference), (0.0, None))
            if known_until <= now:
                obj = await self._get(namespace, reference)
                if obj is not None:
                    self._keep(namespace, reference, obj, now)
            found[reference] = obj
        return found

    def _keep(self, namespace: str, reference: Reference, obj: Object, now: float) -> None:
        if len(self._objects) > 1000:
            self._objects = {key: value for key, value in self._objects.items() if value[0] > now}
        self._objects[(namespace, reference)] = (now + KEPT_SECONDS, obj)

    async def _get(self, namespace: str, reference: Reference) -> Object | None:
        try:
            return await self._client.get(RESOURCES[reference.kind], ObjectKey(namespace, reference.name))
        except (NotFound, Forbidden):
            return None

    async def _token(self, pod: Object, request: TokenRequest) -> str | None:
        uid = str(meta(pod).get("uid", ""))
        renew_at, token = self._tokens.get((uid, request), (0.0, ""))
        if token and self._clock.monotonic() < renew_at:
            return token
        body: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [request.audience] if request.audience else [],
                "expirationSeconds": request.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid},
            },
        }
        account = pod["spec"].get("serviceAccountName") or "default"
        try:
            answer = await self._client.create(
                SERVICE_ACCOUNTS, body, namespace=namespace_of(pod), name=account, subresource="token"
            )
        except ApiError as error:
            level = logging.DEBUG if is_passing(error) else logging.WARNING
            logger.log(level, "token refused", extra={"account": account, "why": error.message})
            return None
        fresh = str(answer["status"]["token"])
        lifetime = (parse_time(answer["status"]["expirationTimestamp"]) - self._clock.now()).total_seconds()
        renew_in = min(lifetime * TOKEN_SHARE, TOKEN_MOST_SECONDS)
        self._tokens[(uid, request)] = (self._clock.monotonic() + renew_in, fresh)
        return fresh
