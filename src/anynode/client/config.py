"""Where the API server is and how to speak to it: from a kubeconfig, a service account, or code.

In: kubeconfig files (``KUBECONFIG`` may name several, the first that says something wins), or the files every pod
finds. Out: a ``ClientConfig``. Relative paths in a kubeconfig are relative to that file. Anything wrong in it raises
``ConfigError`` with the file's name.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/ and client-go
``tools/clientcmd``, 1.36.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import pathlib
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from anynode.aio import tls
from anynode.aio.clock import Clock, SystemClock
from anynode.api.objects import Object
from anynode.client.credentials import Credential, CredentialSource, Exec, ExecPlugin, Files, Fixed, basic

SERVICE_ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
EMPTY_DIRECTORY = pathlib.Path()


class ConfigError(ValueError):
    """A kubeconfig or environment that does not say how to reach a cluster."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """One cluster as one user. ``certificate_authority`` is PEM; empty: the machine's own authorities."""

    server: str
    credentials: CredentialSource = dataclasses.field(default_factory=lambda: Fixed(Credential()))
    certificate_authority: bytes = b""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    namespace: str = "default"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Sent with every request: impersonation."""

    @classmethod
    def from_kubeconfig(
        cls,
        path: str | os.PathLike[str] | None = None,
        context: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> ClientConfig:
        """From the file ``path``, or from those ``KUBECONFIG`` names, or ``~/.kube/config``; raises ``ConfigError``."""
        environment = os.environ if environment is None else environment
        merged = _merge([_read(each) for each in _files(path, environment)])
        return _chosen(merged, context or merged.current_context, environment, clock or SystemClock())

    @classmethod
    def in_cluster(
        cls,
        *,
        environment: Mapping[str, str] | None = None,
        directory: pathlib.Path = SERVICE_ACCOUNT,
        clock: Clock | None = None,
    ) -> ClientConfig:
        """As the service account of the pod we run in; raises ``ConfigError`` outside of one."""
        environment = os.environ if environment is None else environment
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
        if not host or not port or not (directory / "token").exists():
            raise ConfigError("this is no pod with a service account")
        namespace = directory / "namespace"
        authority = directory / "ca.crt"
        return cls(
            server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
            credentials=Files(token=directory / "token", clock=clock or SystemClock()),
            certificate_authority=authority.read_bytes() if authority.exists() else b"",
            namespace=namespace.read_text().strip() if namespace.exists() else "default",
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        context: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> ClientConfig:
        """``path`` or ``KUBECONFIG`` if given, else the service account of this pod, else ``~/.kube/config``."""
        environment = os.environ if environment is None else environment
        if path is None and not environment.get("KUBECONFIG"):
            try:
                return cls.in_cluster(environment=environment, clock=clock)
            except ConfigError:
                pass  # not in a pod: the user's own file is next
        return cls.from_kubeconfig(path, context, environment=environment, clock=clock)

    def ssl_context(self, credential: Credential) -> ssl.SSLContext | None:
        """TLS towards the server as ``credential``; None for plain HTTP. Raises ``ConfigError`` for bad PEM."""
        if not self.server.startswith("https:"):
            return None
        try:
            return tls.client_context(
                ca=self.certificate_authority or None,
                certificate=credential.certificate or None,
                key=credential.key or None,
                verify=not self.insecure_skip_tls_verify,
            )
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"a certificate or key cannot be used: {error}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """A named part of a kubeconfig and where relative paths in it begin."""

    value: Mapping[str, Any]
    directory: pathlib.Path

    def text(self, field: str) -> str:
        value = self.value.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ConfigError(f"{field} must be a string")
        return value

    def path(self, field: str) -> pathlib.Path | None:
        """The file ``field`` names, unless its content is given beside it."""
        path = self.text(field)
        return self.directory / path if path and not self.text(f"{field}-data") else None

    def content(self, field: str) -> bytes:
        """``<field>-data`` decoded, or the bytes of the file ``<field>``."""
        data = self.text(f"{field}-data")
        if data:
            try:
                return base64.b64decode(data, validate=True)
            except ValueError as error:
                raise ConfigError(f"{field}-data is no base64") from error
        path = self.text(field)
        if not path:
            return b""
        try:
            return (self.directory / path).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {field} {path}: {error.strerror}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class _Kubeconfig:
    path: pathlib.Path
    current_context: str
    clusters: Mapping[str, _Entry]
    users: Mapping[str, _Entry]
    contexts: Mapping[str, _Entry]


def _files(path: str | os.PathLike[str] | None, environment: Mapping[str, str]) -> Sequence[pathlib.Path]:
    if path is not None:
        return [pathlib.Path(path)]
    named = [pathlib.Path(each) for each in environment.get("KUBECONFIG", "").split(os.pathsep) if each]
    if named:
        there = [each for each in named if each.exists()]
        if not there:
            raise ConfigError(f"no file of KUBECONFIG exists: {os.pathsep.join(map(str, named))}")
        return there
    home = environment.get("HOME") or str(pathlib.Path.home())
    return [pathlib.Path(home) / ".kube" / "config"]


def _read(path: pathlib.Path) -> _Kubeconfig:
    try:
        loaded = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the kubeconfig {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the kubeconfig {path} is no YAML: {error}") from error
    if loaded is None:
        loaded = {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"the kubeconfig {path} is no mapping")
    return _Kubeconfig(
        path=path,
        current_context=loaded.get("current-context") or "",
        clusters=_named(loaded, "clusters", "cluster", path),
        users=_named(loaded, "users", "user", path),
        contexts=_named(loaded, "contexts", "context", path),
    )


def _named(loaded: Object, plural: str, singular: str, path: pathlib.Path) -> Mapping[str, _Entry]:
    rows = loaded.get(plural) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get("name") for row in rows):
        raise ConfigError(f"{plural} in the kubeconfig {path} must be a list of named entries")
    return {row["name"]: _Entry(row.get(singular) or {}, path.parent) for row in rows}


def _merge(files: Sequence[_Kubeconfig]) -> _Kubeconfig:
    """What the first file says about a name counts."""
    last_first = files[::-1]
    return _Kubeconfig(
        path=files[0].path,
        current_context=next((each.current_context for each in files if each.current_context), ""),
        clusters={name: entry for each in last_first for name, entry in each.clusters.items()},
        users={name: entry for each in last_first for name, entry in each.users.items()},
        contexts={name: entry for each in last_first for name, entry in each.contexts.items()},
    )


def _chosen(found: _Kubeconfig, context: str, environment: Mapping[str, str], clock: Clock) -> ClientConfig:
    if not context:
        raise ConfigError(f"the kubeconfig {found.path} has no current context, and none was named")
    chosen = found.contexts.get(context)
    if chosen is None:
        raise ConfigError(f'the kubeconfig {found.path} has no context "{context}"')
    cluster = found.clusters.get(chosen.text("cluster"))
    if cluster is None:
        raise ConfigError(f'context "{context}" names a cluster that is not in the kubeconfig {found.path}')
    user_name = chosen.text("user")
    user = found.users.get(user_name, _Entry({}, EMPTY_DIRECTORY))
    if user_name and user_name not in found.users:
        raise ConfigError(f'context "{context}" names a user that is not in the kubeconfig {found.path}')
    server = cluster.text("server")
    if not server.startswith(("http://", "https://")):
        raise ConfigError(f'the server of context "{context}" is no URL: {server!r}')
    return ClientConfig(
        server=server.rstrip("/"),
        credentials=_credentials(user, cluster, environment, clock),
        certificate_authority=cluster.content("certificate-authority"),
        insecure_skip_tls_verify=bool(cluster.value.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.text("tls-server-name"),
        proxy_url=cluster.text("proxy-url"),
        namespace=chosen.text("namespace") or "default",
        headers=_impersonation(user),
    )


def _credentials(user: _Entry, cluster: _Entry, environment: Mapping[str, str], clock: Clock) -> CredentialSource:
    base = Credential(certificate=user.content("client-certificate"), key=user.content("client-key"))
    if user.value.get("exec") and not user.text("token"):
        try:
            plugin = ExecPlugin.parse(user.value["exec"], user.directory, _told(cluster))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return Exec(plugin, clock=clock, environment=environment)
    token = user.path("tokenFile")
    if token is None and user.text("token"):
        base = dataclasses.replace(base, authorization=f"Bearer {user.text('token')}")
    elif token is None and user.text("username"):
        base = dataclasses.replace(base, authorization=basic(user.text("username"), user.text("password")))
    certificate, key = user.path("client-certificate"), user.path("client-key")
    if token is certificate is key is None:
        return Fixed(base)
    return Files(clock=clock, token=token, certificate=certificate, key=key, base=base)


def _told(cluster: _Entry) -> Object:
    """The cluster as an exec plug-in is told of it."""
    authority = cluster.content("certificate-authority")
    extensions = {each.get("name"): each.get("extension") for each in cluster.value.get("extensions") or ()}
    fields = {
        "server": cluster.text("server"),
        "tls-server-name": cluster.text("tls-server-name"),
        "insecure-skip-tls-verify": bool(cluster.value.get("insecure-skip-tls-verify")),
        "certificate-authority-data": base64.b64encode(authority).decode(),
        "proxy-url": cluster.text("proxy-url"),
        "config": extensions.get("client.authentication.k8s.io/exec"),
    }
    return {name: value for name, value in fields.items() if value}


def _impersonation(user: _Entry) -> Mapping[str, str]:
    headers = {"impersonate-user": user.text("as"), "impersonate-uid": user.text("as-uid")}
    groups = user.value.get("as-groups") or ()
    if len(groups) > 1:
        raise ConfigError("as-groups names several groups; our requests can carry one")
    headers["impersonate-group"] = "".join(groups)
    return {name: value for name, value in headers.items() if value}
