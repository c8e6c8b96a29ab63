"""Kubeconfigs and service accounts -> ClientConfig."""

from __future__ import annotations

import base64
import pathlib
import stat
from typing import Any

import pytest
import yaml

from anynode.client.config import ClientConfig, ConfigError
from anynode.client.credentials import Credential, CredentialError, Exec, ExecPlugin
from anynode.testing.clock import FakeClock


def kubeconfig(directory: pathlib.Path, name: str = "config", **parts: Any) -> pathlib.Path:
    content = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1/", **parts.get("cluster", {})}}],
        "users": [{"name": "u", "user": parts.get("user", {})}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", **parts.get("context", {})}}],
        "current-context": parts.get("current", "x"),
    }
    path = directory / name
    path.write_text(yaml.safe_dump(content))
    return path


async def test_a_token_and_a_namespace(tmp_path: pathlib.Path) -> None:
    path = kubeconfig(tmp_path, user={"token": "t"}, context={"namespace": "team"})
    config = ClientConfig.from_kubeconfig(path)
    assert (config.server, config.namespace) == ("http://127.0.0.1:1", "team")
    assert (await config.credentials.current()).authorization == "Bearer t"


async def test_certificates_from_data_and_from_relative_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"authority")
    data = base64.b64encode(b"key").decode()
    (tmp_path / "me.crt").write_bytes(b"certificate")
    path = kubeconfig(
        tmp_path,
        cluster={"certificate-authority": "ca.crt", "tls-server-name": "k8s"},
        user={"client-certificate": "me.crt", "client-key-data": data},
    )
    config = ClientConfig.from_kubeconfig(path)
    assert config.certificate_authority == b"authority"
    assert config.tls_server_name == "k8s"
    assert await config.credentials.current() == Credential(certificate=b"certificate", key=b"key")


async def test_rotated_certificates_and_token_files_are_read_again(tmp_path: pathlib.Path) -> None:
    clock = FakeClock()
    for name in ("me.crt", "me.key", "token"):
        (tmp_path / name).write_text(f"{name}-1")
    user = {"client-certificate": "me.crt", "client-key": "me.key", "tokenFile": "token"}
    source = ClientConfig.from_kubeconfig(kubeconfig(tmp_path, user=user), clock=clock).credentials
    first = await source.current()
    assert first == Credential(authorization="Bearer token-1", certificate=b"me.crt-1", key=b"me.key-1")
    await clock.advance(61)
    assert await source.current() is first
    for name in ("me.crt", "me.key"):
        (tmp_path / name).write_text(f"{name}-2")
    await clock.advance(61)
    assert (await source.current()).certificate == b"me.crt-2"
    (tmp_path / "me.crt").unlink()
    await clock.advance(61)
    assert (await source.current()).certificate == b"me.crt-2"


def test_the_first_of_several_files_wins(tmp_path: pathlib.Path) -> None:
    one = kubeconfig(tmp_path, "one", current="", cluster={"server": "http://one"})
    two = kubeconfig(tmp_path, "two", current="x", cluster={"server": "http://two"})
    environment = {"KUBECONFIG": f"{one}:{tmp_path / 'absent'}:{two}"}
    assert ClientConfig.from_kubeconfig(environment=environment).server == "http://one"
    with pytest.raises(ConfigError, match="no context"):
        ClientConfig.from_kubeconfig(context="y", environment=environment)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "no YAML"),
        ("- a", "no mapping"),
        ("clusters: 3", "clusters in the kubeconfig"),
        ("{}", "no current context"),
        ("{current-context: x, contexts: [{name: x, context: {cluster: c}}]}", "names a cluster"),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: c}}], "
            "clusters: [{name: c, cluster: {server: 'ftp:'}}]}",
            "no URL",
        ),
    ],
)
def test_bad_files_are_named(tmp_path: pathlib.Path, text: str, complaint: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        ClientConfig.from_kubeconfig(path)


async def test_in_cluster_reads_the_token_again(tmp_path: pathlib.Path) -> None:
    clock = FakeClock()
    (tmp_path / "token").write_text("one\n")
    (tmp_path / "namespace").write_text("team")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    config = ClientConfig.in_cluster(environment=environment, directory=tmp_path, clock=clock)
    assert (config.server, config.namespace) == ("https://[fd00::1]:443", "team")
    assert (await config.credentials.current()).authorization == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert (await config.credentials.current()).authorization == "Bearer one"
    await clock.advance(61)
    assert (await config.credentials.current()).authorization == "Bearer two"
    with pytest.raises(ConfigError):
        ClientConfig.in_cluster(environment={}, directory=tmp_path)


def plugin(directory: pathlib.Path, script: str) -> dict[str, Any]:
    path = directory / "plugin"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./plugin",
            "env": [{"name": "WHO", "value": "me"}],
            "provideClusterInfo": True,
            "installHint": "install it",
        }
    }


ANSWER = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"%s}}'


async def test_a_plugin_is_told_the_cluster_and_run_again_when_expired(tmp_path: pathlib.Path) -> None:
    clock = FakeClock()
    said = ANSWER % ("$WHO-$n", ',"expirationTimestamp":"2026-01-01T00:10:00Z"')
    script = f"""
n=$(cat {tmp_path}/n 2>/dev/null || echo 0); n=$((n+1)); echo $n > {tmp_path}/n
echo "$KUBERNETES_EXEC_INFO" > {tmp_path}/info
cat <<END
{said}
END
"""
    path = kubeconfig(tmp_path, user=plugin(tmp_path, script))
    source = ClientConfig.from_kubeconfig(path, environment={"PATH": "/bin:/usr/bin"}, clock=clock).credentials
    first = await source.current()
    assert first.authorization == "Bearer me-1"
    assert await source.current() is first
    assert '"cluster":{"server":"http://127.0.0.1:1/"}' in (tmp_path / "info").read_text()
    assert source.rejected(first)
    assert (await source.current()).authorization == "Bearer me-2"
    await clock.advance(600)
    assert (await source.current()).authorization == "Bearer me-3"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo no >&2; exit 3", "exit code 3: no"),
        ("echo hello", "no JSON"),
        ("echo '{}'", "no ExecCredential"),
        (f"echo '{ANSWER % ('', '')}'", "neither a token"),
    ],
)
async def test_a_failing_plugin_says_why(tmp_path: pathlib.Path, script: str, complaint: str) -> None:
    path = kubeconfig(tmp_path, user=plugin(tmp_path, script))
    source = ClientConfig.from_kubeconfig(path, environment={"PATH": "/bin:/usr/bin"}).credentials
    with pytest.raises(CredentialError, match=complaint):
        await source.current()


async def test_a_plugin_that_hangs_is_killed(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "plugin"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o700)
    source = Exec(
        ExecPlugin(command=str(script)), clock=FakeClock(), environment={"PATH": "/bin:/usr/bin"}, seconds=0.1
    )
    with pytest.raises(CredentialError, match="did not answer"):
        await source.current()


async def test_a_missing_plugin_gives_its_hint(tmp_path: pathlib.Path) -> None:
    user = plugin(tmp_path, "")
    (tmp_path / "plugin").unlink()
    source = ClientConfig.from_kubeconfig(kubeconfig(tmp_path, user=user), environment={}).credentials
    with pytest.raises(CredentialError, match="install it"):
        await source.current()


def test_an_old_plugin_version_is_refused(tmp_path: pathlib.Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}}
    with pytest.raises(ConfigError, match="v1alpha1"):
        ClientConfig.from_kubeconfig(kubeconfig(tmp_path, user=user))
