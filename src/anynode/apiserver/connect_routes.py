"""The connecting subresources: from a request to what it is connected to.

``routes`` is (qualified resource, subresource) -> verb -> route, as ``ApiServer`` takes them. Source: kubernetes
``pkg/registry/core/{pod,node,service}`` (ResourceLocation), ``pkg/registry/core/pod/rest/subresources.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import random
import re
from collections.abc import Callable, Iterator, Mapping

from anynode.admission.chain import Attributes, Chain
from anynode.api import errors
from anynode.api.objects import Object, ObjectKey, get_path
from anynode.api.resources import Resource, known
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver.authorization import Authorizer
from anynode.apiserver.connect import Connector, ConnectTarget, kubelet_address
from anynode.apiserver.requestinfo import RequestInfo
from anynode.apiserver.served import Served
from anynode.apiserver.server import Route
from anynode.security import rbac
from anynode.streaming import websocket

Lookup = Callable[[Resource, ObjectKey], Object | None]
PROXY_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "")
_PROXIED = re.compile(r"^/api/v1/(?:namespaces/[^/]+/)?(?:pods|services|nodes)/[^/]+/proxy(/.*)?$")


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """``name``, ``name:port`` or ``scheme:name:port``."""

    scheme: str
    name: str
    port: str

    @classmethod
    def parse(cls, text: str, what: str) -> Reference:
        """Raises ``BadRequest``."""
        match text.split(":"):
            case [name] if name:
                return cls("", name, "")
            case [name, port] if name:
                return cls("", name, port)
            case [scheme, name, port] if name and scheme in ("", "http", "https"):
                return cls(scheme, name, port)
        raise errors.BadRequest(f'invalid {what} request "{text}"')


class ConnectRoutes:
    """Finds what a connecting request means and hands it to the ``Connector``."""

    def __init__(
        self,
        connector: Connector,
        *,
        lookup: Lookup,
        authorizer: Authorizer,
        admission: Chain,
        random: random.Random,
    ) -> None:
        self._connector = connector
        self._admission = admission
        self._lookup = lookup
        self._authorizer = authorizer
        self._random = random
        self._pods, self._nodes = known("pods"), known("nodes")
        self._services, self._endpoints = known("services"), known("endpoints")

    def routes(self) -> Mapping[tuple[str, str], Mapping[str, Route]]:
        """Every connecting subresource."""
        session = dict.fromkeys(("get", "create"), self._pod)
        return {
            ("pods", "log"): {"get": self._pod},
            ("pods", "exec"): session,
            ("pods", "attach"): session,
            ("pods", "portforward"): session,
            ("pods", "proxy"): dict.fromkeys(PROXY_VERBS, self._pod_proxy),
            ("services", "proxy"): dict.fromkeys(PROXY_VERBS, self._service_proxy),
            ("nodes", "proxy"): dict.fromkeys(PROXY_VERBS, self._node_proxy),
        }

    def _found(self, resource: Resource, namespace: str, name: str) -> Object:
        found = self._lookup(resource, ObjectKey(namespace if resource.namespaced else "", name))
        if found is None:
            raise errors.not_found(resource, name)
        return found

    async def _admit(self, served: Served, request: ApiRequest, info: RequestInfo, user: User, kind: str) -> None:
        """Let admission see who connects to what. Raises ``ApiError``."""
        options: Object = {"kind": kind, "apiVersion": "v1", **connect_options(request, kind)}
        await self._admission.admit(
            Attributes(
                operation="CONNECT",
                resource=served.resource,
                subresource=info.subresource,
                namespace=info.namespace,
                name=info.name,
                obj=options,
                user=user,
            )
        )

    async def _pod(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        if info.subresource != "log" and info.verb == "get" and websocket.is_websocket(request.headers):
            self._require_create(info, user)
        if info.subresource != "log":
            await self._admit(served, request, info, user, _OPTIONS[info.subresource])
        pod = self._found(self._pods, info.namespace, info.name)
        node_name = get_path(pod, "spec", "nodeName", default="")
        node = self._found(self._nodes, "", node_name) if node_name else None
        return await self._connector.connect(request, ConnectTarget(kind=info.subresource, pod=pod, node=node))

    def _require_create(self, info: RequestInfo, user: User) -> None:
        """A WebSocket comes as GET and needs, as a POST would, the verb create."""
        wanted = rbac.Attributes(
            verb="create",
            group=info.group,
            version=info.version,
            resource=info.plural,
            subresource=info.subresource,
            namespace=info.namespace,
            name=info.name,
        )
        self._authorizer.require(user, wanted)

    async def _pod_proxy(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        await self._admit(served, request, info, user, "PodProxyOptions")
        wanted = Reference.parse(info.name, "pod")
        pod = self._found(self._pods, info.namespace, wanted.name)
        port = wanted.port or next(_container_ports(pod), "443" if wanted.scheme == "https" else "80")
        address = get_path(pod, "status", "podIP", default="")
        if not is_proxyable(address) or not is_port(port):
            raise errors.BadRequest("address not allowed")
        target = ConnectTarget(
            kind="pod-proxy",
            pod=pod,
            address=(address, int(port)),
            tls=wanted.scheme == "https",
            path=proxied_path(request.path),
        )
        return await self._connector.connect(request, target)

    async def _service_proxy(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        await self._admit(served, request, info, user, "ServiceProxyOptions")
        wanted = Reference.parse(info.name, "service")
        port_name = wanted.port
        if is_port(wanted.port):
            service = self._found(self._services, info.namespace, wanted.name)
            ports = get_path(service, "spec", "ports", default=())
            named = next((each for each in ports if each.get("port") == int(wanted.port)), None)
            if named is None:
                raise errors.ServiceUnavailable(f'no service port {wanted.port} found for service "{wanted.name}"')
            port_name = named.get("name") or ""
        endpoints = self._lookup(self._endpoints, ObjectKey(info.namespace, wanted.name))
        if endpoints is None:  # upstream names the resource of the request, not the one it looked for
            raise errors.not_found(self._services, wanted.name)
        choices = [each for each in _addresses(endpoints, port_name) if is_proxyable(each[0])]
        if not choices:
            raise errors.ServiceUnavailable(f'no endpoints available for service "{info.name}"')
        target = ConnectTarget(
            kind="service-proxy",
            address=self._random.choice(choices),
            tls=wanted.scheme == "https",
            path=proxied_path(request.path),
        )
        return await self._connector.connect(request, target)

    async def _node_proxy(self, served: Served, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        await self._admit(served, request, info, user, "NodeProxyOptions")
        wanted = Reference.parse(info.name, "node")
        node = self._found(self._nodes, "", wanted.name)
        host, kubelet_port = kubelet_address(node)
        kubelet = wanted.port in ("", str(kubelet_port))
        if not kubelet and not is_port(wanted.port):
            raise errors.BadRequest(f'invalid node request "{info.name}"')
        target = ConnectTarget(
            kind="node-proxy" if kubelet else "pod-proxy",
            node=node,
            address=(host, kubelet_port if kubelet else int(wanted.port)),
            tls=kubelet or wanted.scheme == "https",
            path=proxied_path(request.path),
        )
        return await self._connector.connect(request, target)


_OPTIONS = {"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}
_FLAGS = ("stdin", "stdout", "stderr", "tty")


def connect_options(request: ApiRequest, kind: str) -> Object:
    """What the query says of a connection, as its options object has it."""
    found: Object = {}
    if kind.endswith("ProxyOptions"):
        path = proxied_path(request.path)
        return {"path": path} if path else {}
    if kind == "PodPortForwardOptions":
        ports = [int(port) for value in request.query.get("ports", ()) for port in value.split(",") if is_port(port)]
        return {"ports": ports} if ports else {}
    found.update({flag: True for flag in _FLAGS if request.argument(flag).lower() not in ("", "0", "false", "f")})
    if request.argument("container"):
        found["container"] = request.argument("container")
    command = list(request.query.get("command", ()))
    if command and kind == "PodExecOptions":
        found["command"] = command
    return found


def is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def is_proxyable(address: str) -> bool:
    """Whether a pod may be there. Link-local addresses are the machine's own matters, such as a cloud's metadata.

    Upstream refuses the loopback too; here that is where pods are.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return not (mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified)


def proxied_path(path: str) -> str:
    """What follows ``proxy`` in a request's path, still encoded; empty when nothing does."""
    match = _PROXIED.match(path)
    return (match[1] or "") if match else ""


def _container_ports(pod: Object) -> Iterator[str]:
    for container in get_path(pod, "spec", "containers", default=()):
        for port in container.get("ports") or ():
            yield str(port["containerPort"])


def _addresses(endpoints: Object, port_name: str) -> Iterator[tuple[str, int]]:
    """Ready addresses that are pods, with the port of this name."""
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            if (port.get("name") or "") != port_name:
                continue
            for address in subset.get("addresses") or ():
                if get_path(address, "targetRef", "kind", default="Pod") == "Pod" and address.get("targetRef"):
                    yield address["ip"], port["port"]
