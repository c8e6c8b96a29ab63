"""What an operator says of who may come in and what is told of it: token file, OpenID Connect, front proxy, audit.

In: file names and options as kube-apiserver has them. Out: ``Access``, read and checked before the server starts.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

from anynode.aio.clock import Clock
from anynode.api.wire import User
from anynode.apiserver.audit_log import DEFAULT_MEGABYTES, RotatedFile, StandardOutput
from anynode.apiserver.audit_policy import AuditPolicy, PolicyError
from anynode.apiserver.front_proxy import FrontProxies, RequestHeaderSettings
from anynode.security import token_file
from anynode.security.oidc import OidcSettings
from anynode.security.token_file import TokenFileError


class AccessError(ValueError):
    """A file or option cannot be used; one sentence."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """What may be chosen. Without any of it: the cluster's own certificates and tokens, and no audit."""

    token_file: pathlib.Path | None = None
    oidc: OidcSettings | None = None
    request_header: RequestHeaderSettings | None = None
    audit_policy_file: pathlib.Path | None = None
    audit_log: str = ""
    """A file, or ``-`` for standard output."""
    audit_megabytes: int = 0
    audit_backups: int = 0
    audit_days: int = 0

    def read(self, clock: Clock, client_authority: bytes) -> Access:
        """The files read; raises ``AccessError``."""
        if bool(self.audit_log) != bool(self.audit_policy_file):
            raise AccessError("an audit log needs both --audit-log-path and --audit-policy-file")
        try:
            tokens = token_file.load(self.token_file) if self.token_file else {}
            policy = AuditPolicy.parse(self.audit_policy_file.read_text()) if self.audit_policy_file else None
            return Access(
                tokens=tokens,
                audit_policy=policy,
                audit_output=self._output(clock),
                proxies=FrontProxies(self.request_header, client_authority) if self.request_header else None,
            )
        except (TokenFileError, PolicyError) as error:
            raise AccessError(str(error)) from error
        except ValueError as error:
            raise AccessError(f"the authority of front proxies cannot be read: {error}") from error
        except OSError as error:
            raise AccessError(f"cannot use {error.filename}: {error.strerror}") from error

    def _output(self, clock: Clock) -> RotatedFile | StandardOutput | None:
        if not self.audit_log:
            return None
        if self.audit_log == "-":
            return StandardOutput()
        return RotatedFile(
            pathlib.Path(self.audit_log),
            now=clock.now,
            most_bytes=(self.audit_megabytes or DEFAULT_MEGABYTES) << 20,
            most_backups=self.audit_backups,
            most_days=self.audit_days,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The same, ready for use."""

    tokens: Mapping[str, User]
    audit_policy: AuditPolicy | None
    audit_output: RotatedFile | StandardOutput | None
    proxies: FrontProxies | None
