"""What a pod's containers are given: environment, command line, volumes, resolved from the pod and what it refers to.

Pure over ``Lookups``: which ConfigMaps, Secrets and Services a pod needs is asked with ``references``, somebody else
fetches them, and the functions here resolve. Raises ``ConfigError`` (a container must wait, upstream's words) and
``MountError`` (a volume cannot be made). Source: kubelet ``pkg/kubelet/kubelet_pods.go`` (makeEnvironmentVariables),
``pkg/kubelet/envvars``, ``third_party/forked/golang/expansion``, ``pkg/volume/{configmap,secret,projected,
downwardapi}``, ``pkg/fieldpath``, ``pkg/api/v1/resource/helpers.go``, 1.36.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from anynode.api.formats import Quantity
from anynode.api.go_text import go_quoted
from anynode.api.objects import Object, annotations_of, get_path, labels_of, meta, name_of, namespace_of
from anynode.node.pod_machine import Kind, containers_of
from anynode.provider import ContainerPlan, Mount, PodIdentity, Volume, VolumeFile

DEFAULT_MODE = 0o644
TOKEN_SECONDS = 3600
MASTER_SERVICE = "kubernetes"
SUBSCRIPT = re.compile(r"^(metadata\.(?:labels|annotations))\['(.*)'\]$")


class ConfigError(Exception):
    """A container cannot be made from its configuration: CreateContainerConfigError with this message."""


class MountError(Exception):
    """A volume cannot be made; ``volume`` is its name."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(message)
        self.volume = volume
        self.message = message


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """A ConfigMap or Secret of the pod's namespace; ``kind`` is ``configmap`` or ``secret``."""

    kind: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class TokenRequest:
    """A service account token a volume wants."""

    audience: str
    expiration_seconds: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lookups:
    """What was found: references (None: not there), services of the namespace, tokens, the node's side."""

    objects: Mapping[Reference, Object | None]
    services: Sequence[Object] = ()
    tokens: Mapping[TokenRequest, str] = dataclasses.field(default_factory=dict)
    pod_ip: str = ""
    host_ip: str = ""
    allocatable: Mapping[str, str] = dataclasses.field(default_factory=dict)


# -- what is needed


def references(pod: Object, containers: Iterable[Object] | None = None) -> set[Reference]:
    """What the environment of ``containers`` (all, unless given) refers to."""
    found = set()
    for container in (each for each, _ in containers_of(pod)) if containers is None else containers:
        for source in container.get("envFrom") or ():
            for key, kind in (("configMapRef", "configmap"), ("secretRef", "secret")):
                if source.get(key):
                    found.add(Reference(kind, source[key].get("name", "")))
        for variable in container.get("env") or ():
            value = variable.get("valueFrom") or {}
            for key, kind in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
                if value.get(key):
                    found.add(Reference(kind, value[key].get("name", "")))
    return found


def volume_references(pod: Object) -> set[Reference]:
    """ConfigMaps and Secrets that volumes show."""
    found = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            if source.get("configMap"):
                found.add(Reference("configmap", source["configMap"].get("name", "")))
            if source.get("secret"):
                secret = source["secret"]
                found.add(Reference("secret", secret.get("secretName") or secret.get("name", "")))
    return found


def token_requests(pod: Object) -> set[TokenRequest]:
    return {
        TokenRequest(token.get("audience") or "", int(token.get("expirationSeconds") or TOKEN_SECONDS))
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if (token := source.get("serviceAccountToken")) is not None
    }


def shows_live_objects(pod: Object) -> bool:
    """Whether volumes of the pod must be looked at again from time to time."""
    return bool(volume_references(pod) or token_requests(pod)) or any(
        "downwardAPI" in each or "projected" in each for each in pod["spec"].get("volumes") or ()
    )


# -- expansion


def expand(text: str, values: Callable[[str], str | None]) -> str:
    """``$(NAME)`` replaced where NAME is known, ``$$`` an escaped ``$``; anything else stays as written."""
    if "$" not in text:
        return text
    out: list[str] = []
    position = 0
    while True:
        mark = text.find("$", position)
        if mark < 0 or mark + 1 >= len(text):
            out.append(text[position:])
            return "".join(out)
        out.append(text[position:mark])
        following = text[mark + 1]
        if following == "$":
            out.append("$")
            position = mark + 2
        elif following == "(":
            end = text.find(")", mark + 2)
            if end < 0:
                out.append("$(")
                position = mark + 2
                continue
            name = text[mark + 2 : end]
            value = values(name)
            out.append(f"$({name})" if value is None else value)
            position = end + 1
        else:
            out.append("$" + following)
            position = mark + 2


# -- environment


def service_variables(services: Iterable[Object], namespace: str, links: bool) -> dict[str, str]:
    """Docker-style variables of services with an address; the API's own service always."""
    chosen: dict[str, Object] = {}
    for service in services:
        address = get_path(service, "spec", "clusterIP", default="")
        if address in ("", "None"):
            continue
        name = name_of(service)
        if namespace_of(service) == "default" and name == MASTER_SERVICE:
            chosen.setdefault(name, service)
        elif namespace_of(service) == namespace and links:
            chosen[name] = service
    found: dict[str, str] = {}
    for name, service in chosen.items():
        found.update(_variables_of(name, service))
    return found


def _variables_of(name: str, service: Object) -> dict[str, str]:
    prefix = name.upper().replace("-", "_")
    host = service["spec"]["clusterIP"]
    found = {f"{prefix}_SERVICE_HOST": host}
    ports = service["spec"].get("ports") or ()
    if ports:
        found[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
    for index, port in enumerate(ports):
        number, protocol = port["port"], port.get("protocol") or "TCP"
        shown = f"[{host}]" if ":" in host else host
        url = f"{protocol.lower()}://{shown}:{number}"
        if port.get("name"):
            found[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(number)
        if index == 0:
            found[f"{prefix}_PORT"] = url
        base = f"{prefix}_PORT_{number}_{protocol}"
        found[base] = url
        found[f"{base}_PROTO"] = protocol.lower()
        found[f"{base}_PORT"] = str(number)
        found[f"{base}_ADDR"] = host
    return found


def environment(pod: Object, container: Object, lookups: Lookups) -> dict[str, str]:
    """Name -> value; raises ``ConfigError``."""
    links = pod["spec"].get("enableServiceLinks")
    from_services = service_variables(lookups.services, namespace_of(pod), links is None or bool(links))
    values: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        values.update(_from_source(source, lookups))

    def known(name: str) -> str | None:
        found = values.get(name)
        return from_services.get(name) if found is None else found

    for variable in container.get("env") or ():
        if variable.get("value"):
            value: str | None = expand(variable["value"], known)
        elif variable.get("valueFrom"):
            value = _from_value(variable["valueFrom"], pod, container, lookups)
        else:
            value = ""
        if value is not None:
            values[variable["name"]] = value
    return {**from_services, **values}


def _from_source(source: Object, lookups: Lookups) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for key, kind in (("configMapRef", "configmap"), ("secretRef", "secret")):
        reference = source.get(key)
        if not reference:
            continue
        obj = _found(Reference(kind, reference.get("name", "")), lookups, optional=bool(reference.get("optional")))
        return {} if obj is None else {prefix + name: value for name, value in _texts(obj, kind).items()}
    return {}


def _found(reference: Reference, lookups: Lookups, *, optional: bool) -> Object | None:
    obj = lookups.objects.get(reference)
    if obj is None and not optional:
        raise ConfigError(f'{reference.kind} "{reference.name}" not found')
    return obj


def _texts(obj: Object, kind: str) -> dict[str, str]:
    data = obj.get("data") or {}
    if kind == "configmap":
        return dict(data)
    return {name: base64.b64decode(value or "").decode(errors="surrogateescape") for name, value in data.items()}


def _from_value(source: Object, pod: Object, container: Object, lookups: Lookups) -> str | None:
    """The value, or None when something optional is not there."""
    if source.get("fieldRef"):
        return field_value(pod, source["fieldRef"].get("fieldPath", ""), lookups)
    if source.get("resourceFieldRef"):
        return resource_value(pod, container, source["resourceFieldRef"], lookups.allocatable)
    for key, kind, title in (("configMapKeyRef", "configmap", "ConfigMap"), ("secretKeyRef", "secret", "Secret")):
        reference = source.get(key)
        if not reference:
            continue
        optional = bool(reference.get("optional"))
        obj = _found(Reference(kind, reference.get("name", "")), lookups, optional=optional)
        value = None if obj is None else _texts(obj, kind).get(reference["key"])
        if value is None and not optional:
            where = f"{namespace_of(pod)}/{reference.get('name', '')}"
            raise ConfigError(f"couldn't find key {reference['key']} in {title} {where}")
        return value
    return ""


# -- downward API


def field_value(pod: Object, path: str, lookups: Lookups) -> str:
    """A field of the pod as text; raises ``ConfigError`` for one that may not be asked for."""
    match = SUBSCRIPT.match(path)
    if match:
        source = labels_of(pod) if match.group(1) == "metadata.labels" else annotations_of(pod)
        return source.get(match.group(2), "")
    spec = pod["spec"]
    simple: Mapping[str, Callable[[], str]] = {
        "metadata.name": lambda: name_of(pod),
        "metadata.namespace": lambda: namespace_of(pod),
        "metadata.uid": lambda: str(meta(pod).get("uid", "")),
        "metadata.labels": lambda: _format_map(labels_of(pod)),
        "metadata.annotations": lambda: _format_map(annotations_of(pod)),
        "spec.nodeName": lambda: spec.get("nodeName") or "",
        "spec.serviceAccountName": lambda: spec.get("serviceAccountName") or "",
        "status.hostIP": lambda: lookups.host_ip,
        "status.hostIPs": lambda: lookups.host_ip,
        "status.podIP": lambda: lookups.pod_ip,
        "status.podIPs": lambda: lookups.pod_ip,
    }
    found = simple.get(path)
    if found is None:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return found()


def _format_map(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={go_quoted(values[key])}" for key in sorted(values))


def resource_value(pod: Object, container: Object, selector: Object, allocatable: Mapping[str, str]) -> str:
    """A request or limit, divided and rounded up; an unset limit is what the node offers."""
    name = selector.get("containerName")
    if name:
        container = next((each for each, _ in containers_of(pod) if each["name"] == name), container)
    which, _, resource = selector["resource"].partition(".")
    resources = container.get("resources") or {}
    text = (resources.get(which) or {}).get(resource)
    if text is None and which == "requests":
        text = (resources.get("limits") or {}).get(resource) if "requests" not in resources else None
    if text is None and which == "limits":
        text = allocatable.get(resource)
    divisor = Quantity.parse(selector.get("divisor") or "0")
    if text is None:
        return "0"
    amount = Quantity.parse(text)
    if resource == "cpu":
        unit = divisor.milli_value() or 1000
        return str(-(-amount.milli_value() // unit))
    return str(-(-amount.value() // (divisor.value() or 1)))


# -- volumes


def volumes(pod: Object, lookups: Lookups) -> list[Volume]:
    """Every volume resolved; raises ``MountError``."""
    return [_volume(pod, each, lookups) for each in pod["spec"].get("volumes") or ()]


def _volume(pod: Object, volume: Object, lookups: Lookups) -> Volume:
    name = volume["name"]
    if "hostPath" in volume:
        source = volume["hostPath"]
        return Volume(name=name, host_path=source["path"], host_path_type=source.get("type") or "")
    if "emptyDir" in volume:
        source = volume["emptyDir"] or {}
        limit = source.get("sizeLimit")
        return Volume(
            name=name,
            medium=source.get("medium") or "",
            size_limit_bytes=Quantity.parse(limit).value() if limit else None,
        )
    try:
        for key, read in (("configMap", _config_map), ("secret", _secret), ("downwardAPI", _downward)):
            if key in volume:
                source = volume[key] or {}
                return Volume(name=name, files=read(pod, source, _mode(source.get("defaultMode")), lookups))
        if "projected" in volume:
            return Volume(name=name, files=_projected(pod, volume["projected"] or {}, lookups))
    except ConfigError as error:
        raise MountError(name, str(error)) from error
    kind = next((key for key in volume if key != "name"), "none")
    raise MountError(name, f"volumes of kind {kind} are not offered by this node")


def _mode(value: Any) -> int:
    return DEFAULT_MODE if value is None else int(value)


def _config_map(pod: Object, source: Object, mode: int, lookups: Lookups) -> list[VolumeFile]:
    obj = _found(Reference("configmap", source.get("name", "")), lookups, optional=bool(source.get("optional")))
    if obj is None:
        return []
    data = {key: value.encode(errors="surrogateescape") for key, value in (obj.get("data") or {}).items()}
    data.update({key: base64.b64decode(value or "") for key, value in (obj.get("binaryData") or {}).items()})
    return _selected(data, source, mode, "configmap")


def _secret(pod: Object, source: Object, mode: int, lookups: Lookups) -> list[VolumeFile]:
    name = source.get("secretName") or source.get("name", "")
    obj = _found(Reference("secret", name), lookups, optional=bool(source.get("optional")))
    if obj is None:
        return []
    data = {key: base64.b64decode(value or "") for key, value in (obj.get("data") or {}).items()}
    return _selected(data, source, mode, "secret")


def _selected(data: Mapping[str, bytes], source: Object, mode: int, kind: str) -> list[VolumeFile]:
    items = source.get("items")
    if not items:
        return [VolumeFile(path=key, content=content, mode=mode) for key, content in sorted(data.items())]
    files = []
    for item in items:
        content = data.get(item["key"])
        if content is None:
            if source.get("optional"):
                continue
            raise ConfigError(
                f"{kind} references non-existent {kind if kind == 'secret' else 'config'} key: {item['key']}"
            )
        own = item.get("mode")
        files.append(VolumeFile(path=item["path"], content=content, mode=mode if own is None else int(own)))
    return files


def _downward(pod: Object, source: Object, mode: int, lookups: Lookups) -> list[VolumeFile]:
    files = []
    for item in source.get("items") or ():
        if item.get("fieldRef"):
            text = field_value(pod, item["fieldRef"].get("fieldPath", ""), lookups)
        else:
            text = resource_value(pod, {}, item.get("resourceFieldRef") or {}, lookups.allocatable)
        own = item.get("mode")
        files.append(VolumeFile(path=item["path"], content=text.encode(), mode=mode if own is None else int(own)))
    return files


def _projected(pod: Object, source: Object, lookups: Lookups) -> list[VolumeFile]:
    mode = _mode(source.get("defaultMode"))
    files: dict[str, VolumeFile] = {}
    for each in source.get("sources") or ():
        found: list[VolumeFile] = []
        if each.get("configMap") is not None:
            found = _config_map(pod, each["configMap"], mode, lookups)
        elif each.get("secret") is not None:
            found = _secret(pod, each["secret"], mode, lookups)
        elif each.get("downwardAPI") is not None:
            found = _downward(pod, each["downwardAPI"], mode, lookups)
        elif each.get("serviceAccountToken") is not None:
            token = each["serviceAccountToken"]
            request = TokenRequest(token.get("audience") or "", int(token.get("expirationSeconds") or TOKEN_SECONDS))
            text = lookups.tokens.get(request)
            if text is None:
                raise ConfigError(f"failed to fetch token for service account {pod['spec'].get('serviceAccountName')}")
            found = [VolumeFile(path=token["path"], content=text.encode(), mode=0o600)]
        files.update({file.path: file for file in found})
    return list(files.values())


# -- containers


def container_plan(pod: Object, container: Object, kind: Kind, attempt: int, lookups: Lookups) -> ContainerPlan:
    """Everything resolved for one attempt; raises ``ConfigError``."""
    env = environment(pod, container, lookups)
    return ContainerPlan(
        name=container["name"],
        image=container.get("image") or "",
        attempt=attempt,
        command=[expand(each, env.get) for each in container.get("command") or ()],
        args=[expand(each, env.get) for each in container.get("args") or ()],
        env=env,
        working_dir=container.get("workingDir") or "",
        mounts=[
            Mount(
                volume=each["name"],
                path=each["mountPath"],
                sub_path=_sub_path(each, env),
                read_only=bool(each.get("readOnly")),
            )
            for each in container.get("volumeMounts") or ()
        ],
        tty=bool(container.get("tty")),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        termination_message_path=container.get("terminationMessagePath") or "/dev/termination-log",
        limits=(container.get("resources") or {}).get("limits") or {},
        spec=container,
    )


def _sub_path(mount: Object, env: Mapping[str, str]) -> str:
    """The place in its volume a mount shows; raises ``ConfigError`` where it would not lead into the volume."""
    path = str(mount.get("subPath") or "")
    if mount.get("subPathExpr"):
        missing: set[str] = set()

        def value(name: str) -> str | None:
            if not env.get(name):
                missing.add(name)
            return env.get(name)

        path = expand(mount["subPathExpr"], value)
        if missing:
            raise ConfigError(f"missing value for {', '.join(sorted(missing))}")
    if path.startswith("/"):
        raise ConfigError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise ConfigError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


def host_name(pod: Object) -> str:
    """The pod's host name. Source: GeneratePodHostNameAndDomain."""
    spec = pod["spec"]
    chosen = spec.get("hostnameOverride") or spec.get("hostname") or name_of(pod)
    return str(chosen)[:63].rstrip("-.")


def identity_of(pod: Object, cluster_id: str, node: str) -> PodIdentity:
    """What the backend marks its objects with."""
    digest = hashlib.sha256(orjson.dumps(pod["spec"], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    return PodIdentity(
        cluster_id=cluster_id,
        node=node,
        namespace=namespace_of(pod),
        name=name_of(pod),
        uid=meta(pod).get("uid", ""),
        spec_hash=digest,
    )
