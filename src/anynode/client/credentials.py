"""How a client says who it is: fixed values, files, or an exec plug-in.

In: what a kubeconfig or a service account names. Out: a ``Credential`` (an authorization header, a client certificate,
or neither) whenever a request is about to be sent. Files are read again after a minute, plug-ins run again when their
credential expires or the server answered 401. A credential that cannot be had raises ``CredentialError``, which is a
``ConnectionError``: whoever retries connections retries this.

Source: client-go ``plugin/pkg/client/auth/exec`` and ``transport/token_source.go``, 1.36;
https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from anynode.aio.clock import Clock
from anynode.api.formats import parse_time
from anynode.api.objects import Object

EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
READ_AGAIN_SECONDS = 60.0
PLUGIN_SECONDS = 60.0


class CredentialError(ConnectionError):
    """A credential could not be read or made."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Who we are, right now. Certificate and key are PEM."""

    authorization: str = ""
    certificate: bytes = b""
    key: bytes = b""


class CredentialSource(Protocol):
    async def current(self) -> Credential:
        """The credential to use now; raises ``CredentialError``."""
        ...

    def rejected(self, credential: Credential) -> bool:
        """The server did not accept ``credential`` (401): whether another may be had, so that trying again helps."""
        ...


class Fixed:
    """A credential that never changes."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def current(self) -> Credential:
        return self._credential

    def rejected(self, credential: Credential) -> bool:
        return False


class Files:
    """Credentials in files that somebody else renews: a projected service-account token, a rotated certificate."""

    def __init__(
        self,
        *,
        clock: Clock,
        token: pathlib.Path | None = None,
        certificate: pathlib.Path | None = None,
        key: pathlib.Path | None = None,
        base: Credential | None = None,
    ) -> None:
        """``base`` holds what is not in a file."""
        self._clock = clock
        self._token = token
        self._certificate = certificate
        self._key = key
        self._base = base or Credential()
        self._known: Credential | None = None
        self._read_at = 0.0

    async def current(self) -> Credential:
        if self._known is None or self._clock.monotonic() - self._read_at >= READ_AGAIN_SECONDS:
            try:
                fresh = self._read()
            except OSError as error:
                if self._known is None:
                    raise CredentialError(f"cannot read {error.filename}: {error.strerror}") from error
                fresh = self._known
            if fresh != self._known:
                self._known = fresh
            self._read_at = self._clock.monotonic()
        return self._known

    def rejected(self, credential: Credential) -> bool:
        if self._known is not credential:
            return True
        self._read_at = -READ_AGAIN_SECONDS
        return False

    def _read(self) -> Credential:
        found = self._base
        if self._token is not None:
            found = dataclasses.replace(found, authorization=f"Bearer {self._token.read_text().strip()}")
        if self._certificate is not None:
            found = dataclasses.replace(found, certificate=self._certificate.read_bytes())
        if self._key is not None:
            found = dataclasses.replace(found, key=self._key.read_bytes())
        return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExecPlugin:
    """The ``exec`` section of a kubeconfig user. ``cluster`` is told to the plug-in when it wants to know."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    api_version: str = EXEC_VERSIONS[0]
    install_hint: str = ""
    cluster: Object | None = None

    @classmethod
    def parse(cls, section: Mapping[str, Any], directory: pathlib.Path, cluster: Object) -> ExecPlugin:
        """From a kubeconfig; raises ``ValueError`` for what we cannot do: other API versions, plug-ins that ask."""
        if section.get("interactiveMode") == "Always":
            raise ValueError("exec plugin: it wants to ask the user, which is not possible here")
        version = section.get("apiVersion") or ""
        if version not in EXEC_VERSIONS:
            raise ValueError(f"exec plugin: invalid apiVersion {version!r}, known are {', '.join(EXEC_VERSIONS)}")
        command = section.get("command") or ""
        if os.sep in command and not os.path.isabs(command):
            command = str(directory / command)
        return cls(
            command=command,
            args=tuple(section.get("args") or ()),
            env={each["name"]: each.get("value", "") for each in section.get("env") or ()},
            api_version=version,
            install_hint=section.get("installHint") or "",
            cluster=cluster if section.get("provideClusterInfo") else None,
        )


class Exec:
    """Credentials from an exec plug-in, kept until they expire or are rejected."""

    def __init__(
        self, plugin: ExecPlugin, *, clock: Clock, environment: Mapping[str, str], seconds: float = PLUGIN_SECONDS
    ) -> None:
        """``seconds``: a plug-in that runs longer is killed."""
        self._plugin = plugin
        self._seconds = seconds
        self._clock = clock
        self._environment = environment
        self._credential: Credential | None = None
        self._expires: float | None = None
        self._running = asyncio.Lock()

    async def current(self) -> Credential:
        async with self._running:
            if self._credential is None or self._expired():
                self._credential, self._expires = self._read(await self._run())
            return self._credential

    def rejected(self, credential: Credential) -> bool:
        if self._credential is credential:
            self._credential = None
        return True

    def _expired(self) -> bool:
        return self._expires is not None and self._clock.now().timestamp() >= self._expires

    async def _run(self) -> bytes:
        plugin = self._plugin
        spec: Object = {"interactive": False}
        if plugin.cluster is not None:
            spec["cluster"] = plugin.cluster
        asked = {"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}
        environment = {**self._environment, **plugin.env, "KUBERNETES_EXEC_INFO": orjson.dumps(asked).decode()}
        try:
            process = await asyncio.create_subprocess_exec(
                plugin.command,
                *plugin.args,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = f" ({plugin.install_hint.strip()})" if plugin.install_hint else ""
            raise CredentialError(f"exec plugin: cannot run {plugin.command!r}: {error.strerror}{hint}") from error
        try:
            async with asyncio.timeout(self._seconds):
                output, complaint = await process.communicate()
        except TimeoutError as error:
            raise CredentialError(f"exec plugin: {plugin.command!r} did not answer in {self._seconds:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = complaint.decode(errors="replace").strip()[-500:]
            raise CredentialError(f"exec plugin: {plugin.command!r} failed with exit code {process.returncode}: {said}")
        return output

    def _read(self, output: bytes) -> tuple[Credential, float | None]:
        try:
            answer = orjson.loads(output)
        except ValueError as error:
            raise CredentialError("exec plugin: the output is no JSON") from error
        if not isinstance(answer, dict) or answer.get("apiVersion") != self._plugin.api_version:
            raise CredentialError(f"exec plugin: the output is no ExecCredential of {self._plugin.api_version}")
        status = answer.get("status") or {}
        token = status.get("token") or ""
        certificate, key = status.get("clientCertificateData") or "", status.get("clientKeyData") or ""
        if not token and not (certificate and key):
            raise CredentialError("exec plugin: the output has neither a token nor a client certificate")
        expires = status.get("expirationTimestamp")
        return (
            Credential(
                authorization=f"Bearer {token}" if token else "",
                certificate=certificate.encode(),
                key=key.encode(),
            ),
            parse_time(expires).timestamp() if expires else None,
        )


def basic(username: str, password: str) -> str:
    """The authorization header of a user name and a password."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
