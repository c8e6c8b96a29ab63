"""A mistake on the command line is one sentence that names it, said before anything is started."""

from __future__ import annotations

import pathlib

import pytest
from click.testing import CliRunner

from anynode.cli.main import root

OIDC = ("--oidc-issuer-url", "https://id.example.com", "--oidc-client-id", "kubernetes")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "--image", "busybox"), "anynode: --image 'busybox' is not of the form NAME=PROGRAM\n"),
        (("node", "--image", "busybox"), "anynode: --image 'busybox' is not of the form NAME=PROGRAM\n"),
        (("up", "-d", "--provider-option", "a"), "anynode: --provider-option 'a' is not of the form KEY=VALUE\n"),
        (
            ("up", "--snapshot", "s", "--etcd-servers", "http://127.0.0.1:1"),
            "anynode: a snapshot can begin a cluster in memory or in a file, not one in etcd\n",
        ),
        (
            ("apiserver", "--service-cluster-ip-range", "10.0.0.1/24"),
            "anynode: services cannot have addresses of 10.0.0.1/24: 10.0.0.1/24 has host bits set\n",
        ),
        (
            ("apiserver", "--oidc-client-id", "kubernetes"),
            "Error: --oidc-issuer-url and --oidc-client-id go together\n",
        ),
        (
            ("up", "-d", "--oidc-issuer-url", "https://id.example.com"),
            "Error: --oidc-issuer-url and --oidc-client-id go together\n",
        ),
        (
            ("apiserver", *OIDC, "--oidc-required-claim", "group"),
            "Error: --oidc-required-claim 'group' is not of the form KEY=VALUE\n",
        ),
        (("apiserver", *OIDC, "--oidc-ca-file", "junk"), "Error: junk: no certificate (PEM) can be read from it\n"),
        (
            ("apiserver", "--requestheader-client-ca-file", "junk"),
            "Error: junk: no certificate (PEM) can be read from it\n",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    words: tuple[str, ...], said: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYNODE_HOME", str(tmp_path / "home"))
    pathlib.Path("junk").write_text("junk")
    result = CliRunner().invoke(root, words)
    assert result.exit_code in (1, 2)
    assert result.output.endswith(said)
    assert "Traceback" not in result.output
