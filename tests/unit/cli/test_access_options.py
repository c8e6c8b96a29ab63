"""Options of who may come in: from a command line to settings, and back for the cluster in the background."""

from __future__ import annotations

import pathlib
from typing import Any

import click
import pytest
from click.testing import CliRunner

from anynode.aio.clock import SystemClock
from anynode.cli.access_options import access_options, access_settings, split, words
from anynode.security.pki import CertificateAuthority


def parsed(*arguments: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    @click.command()
    @click.option("--other", default="o")
    @access_options
    def command(**given: Any) -> None:
        seen.update(given)

    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return seen


def test_nothing_chosen_is_nothing() -> None:
    access, others = split(parsed())
    assert others == {"other": "o"}
    assert words(access) == []
    settings = access_settings(access)
    assert (settings.oidc, settings.request_header, settings.token_file, settings.audit_log) == (None, None, None, "")


def test_what_is_chosen_goes_to_the_settings_and_back_to_words(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file.pem"
    file.write_bytes(CertificateAuthority.load_or_create(tmp_path / "pki", SystemClock()).certificate)
    given = [
        f"--token-auth-file={file}",
        f"--audit-policy-file={file}",
        "--audit-log-path=-",
        "--audit-log-maxsize=5",
        "--oidc-issuer-url=https://id.example.com",
        "--oidc-client-id=kubernetes",
        "--oidc-required-claim=a=b",
        "--oidc-required-claim=c=d=e",
        "--oidc-signing-algs=RS256,ES256",
        f"--requestheader-client-ca-file={file}",
        "--requestheader-allowed-names=one, two",
    ]
    access, _ = split(parsed(*given))
    settings = access_settings(access)
    assert settings.oidc.required_claims == {"a": "b", "c": "d=e"}
    assert settings.oidc.algorithms == ("RS256", "ES256")
    assert settings.request_header.allowed_names == ("one", "two")
    assert settings.request_header.username_headers == ("X-Remote-User",)
    assert (settings.token_file, settings.audit_log, settings.audit_megabytes) == (file, "-", 5)
    assert sorted(words(access)) == sorted(given)


def test_what_makes_no_sense_is_one_sentence() -> None:
    access, _ = split(parsed("--oidc-issuer-url=http://id.example.com", "--oidc-client-id=k"))
    with pytest.raises(click.UsageError, match="is no https URL"):
        access_settings(access)
