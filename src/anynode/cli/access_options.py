"""Options of who may come in and what is told of it, named as kube-apiserver's; shared by ``up`` and ``apiserver``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from anynode.cli.options import pairs

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False)

_OPTIONS = (
    click.option("--token-auth-file", metavar="FILE", type=_FILE, help='Tokens: token,user,uid,"group1,group2".'),
    click.option("--audit-policy-file", metavar="FILE", type=_FILE, help="What is audited (audit.k8s.io/v1 Policy)."),
    click.option("--audit-log-path", metavar="FILE", default="", help="Where audit events go; - is standard output."),
    click.option("--audit-log-maxsize", default=0, type=click.IntRange(0), help="Rotate at so many megabytes.  [100]"),
    click.option("--audit-log-maxbackup", default=0, type=click.IntRange(0), help="Old audit logs kept.  [all]"),
    click.option("--audit-log-maxage", default=0, type=click.IntRange(0), help="Days old audit logs are kept.  [any]"),
    click.option("--oidc-issuer-url", metavar="URL", default="", help="OpenID Connect provider whose ID tokens count."),
    click.option("--oidc-client-id", metavar="ID", default="", help="Audience its tokens must be for."),
    click.option("--oidc-username-claim", default="sub", help="Claim that names the user.  [sub]"),
    click.option("--oidc-username-prefix", default="", help="Put before the name; - for nothing.  [issuer#]"),
    click.option("--oidc-groups-claim", default="", help="Claim that lists the groups."),
    click.option("--oidc-groups-prefix", default="", help="Put before each group."),
    click.option("--oidc-required-claim", "oidc_required", multiple=True, metavar="KEY=VALUE", help="Must be claimed."),
    click.option("--oidc-signing-algs", default="RS256", help="Algorithms taken, joined by commas.  [RS256]"),
    click.option("--oidc-ca-file", metavar="FILE", type=_FILE, help="Authority of the provider's certificate (PEM)."),
    click.option(
        "--requestheader-client-ca-file", metavar="FILE", type=_FILE, help="Authority of front proxies (PEM)."
    ),
    click.option("--requestheader-allowed-names", default="", help="Common names a front proxy may have.  [any]"),
    click.option("--requestheader-username-headers", default="X-Remote-User", help="[X-Remote-User]"),
    click.option("--requestheader-uid-headers", default="X-Remote-Uid", help="[X-Remote-Uid]"),
    click.option("--requestheader-group-headers", default="X-Remote-Group", help="[X-Remote-Group]"),
    click.option("--requestheader-extra-headers-prefix", default="X-Remote-Extra-", help="[X-Remote-Extra-]"),
)


def access_options(function: F) -> F:
    """All of them; read with ``access_settings``."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _parameters() -> list[click.Option]:
    def carrier() -> None:
        """Nothing: it carries the options."""

    found: list[click.Option] = vars(access_options(carrier))["__click_params__"]
    return found


def split(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A command's arguments: these options, and the others."""
    names = {str(each.name) for each in _parameters()}
    own = {name: value for name, value in given.items() if name in names}
    return own, {name: value for name, value in given.items() if name not in names}


def words(access: dict[str, Any]) -> list[str]:
    """The words of a command line that say the same."""
    found = []
    for each in _parameters():
        value = access.get(str(each.name))
        if value and value != each.default:
            found += [f"{each.opts[0]}={one}" for one in (value if isinstance(value, tuple) else (value,))]
    return found


def access_settings(given: dict[str, Any]) -> Any:
    """``AccessSettings`` from a command's arguments; ends the command with one sentence where they make no sense."""
    try:
        return _settings(given)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _settings(given: dict[str, Any]) -> Any:
    import pathlib

    from anynode.aio import tls
    from anynode.apiserver.access import AccessSettings
    from anynode.apiserver.front_proxy import RequestHeaderSettings
    from anynode.security.oidc import OidcSettings

    def words(name: str) -> tuple[str, ...]:
        return tuple(each.strip() for each in given[name].split(",") if each.strip())

    def path(name: str) -> pathlib.Path | None:
        return pathlib.Path(given[name]) if given[name] else None

    def authority(name: str) -> bytes | None:
        content = path(name)
        try:
            return tls.authority(content.read_bytes()) if content else None
        except ValueError as error:
            raise ValueError(f"{content}: {error}") from error

    oidc = None
    if given["oidc_issuer_url"] or given["oidc_client_id"]:
        if not given["oidc_issuer_url"] or not given["oidc_client_id"]:
            raise ValueError("--oidc-issuer-url and --oidc-client-id go together")
        oidc = OidcSettings(
            issuer=given["oidc_issuer_url"],
            client_id=given["oidc_client_id"],
            username_claim=given["oidc_username_claim"],
            username_prefix=given["oidc_username_prefix"],
            groups_claim=given["oidc_groups_claim"],
            groups_prefix=given["oidc_groups_prefix"],
            required_claims=pairs("--oidc-required-claim", given["oidc_required"]),
            algorithms=words("oidc_signing_algs"),
            ca=authority("oidc_ca_file"),
        )
    request_header, proxies = None, authority("requestheader_client_ca_file")
    if proxies is not None:
        request_header = RequestHeaderSettings(
            authority=proxies,
            allowed_names=words("requestheader_allowed_names"),
            username_headers=words("requestheader_username_headers"),
            uid_headers=words("requestheader_uid_headers"),
            group_headers=words("requestheader_group_headers"),
            extra_prefixes=words("requestheader_extra_headers_prefix"),
        )
    return AccessSettings(
        token_file=path("token_auth_file"),
        oidc=oidc,
        request_header=request_header,
        audit_policy_file=path("audit_policy_file"),
        audit_log=given["audit_log_path"],
        audit_megabytes=given["audit_log_maxsize"],
        audit_backups=given["audit_log_maxbackup"],
        audit_days=given["audit_log_maxage"],
    )
