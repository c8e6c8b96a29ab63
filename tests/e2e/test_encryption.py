"""Secrets at rest: nothing of them lies in the data directory in the clear, and keys can be changed while they stay."""

from __future__ import annotations

import base64
import os
import pathlib
import subprocess
import sys

import pytest
from tests.e2e.conftest import anynode
from tests.e2e.test_backup import serving

pytestmark = pytest.mark.e2e

KEYS = {name: base64.b64encode(os.urandom(32)).decode() for name in ("old", "new")}


def config(path: pathlib.Path, *names: str, kind: str = "aesgcm", plain: bool = False) -> str:
    keys = ", ".join(f"{{name: {name}, secret: {KEYS[name]}}}" for name in names)
    providers = f"[{{{kind}: {{keys: [{keys}]}}}}{', {identity: {}}' if plain else ''}]"
    path.write_text(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"
        f"resources: [{{resources: [secrets], providers: {providers}}}]\n"
    )
    path.chmod(0o600)
    return f"--encryption-provider-config={path}"


def stored(directory: pathlib.Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.glob("state.db*"))


def test_secrets_are_encrypted_rewritten_and_restored(tmp_path: pathlib.Path) -> None:
    directory, file = tmp_path / "c", tmp_path / "enc.yaml"
    with serving(directory) as kubectl:
        kubectl("create", "secret", "generic", "before", "--from-literal=a=unmistakable-0")
    clear = base64.b64encode(b"unmistakable-0")
    assert clear in stored(directory)
    with serving(directory, config(file, "old", plain=True)) as kubectl:
        kubectl("create", "secret", "generic", "s", "--from-literal=a=unmistakable-1")
        assert kubectl("get", "secret", "before", "-o", "jsonpath={.data.a}") == clear.decode()
        kubectl("replace", "-f", "-", given=kubectl("get", "secrets", "-o", "json"))
        anynode("backup", str(tmp_path / "b"), "--kubeconfig", str(kubectl.kubeconfig))
    content = stored(directory)
    assert base64.b64encode(b"unmistakable-1") not in content
    assert content.count(b"k8s:enc:aesgcm:v1:old:") >= 2, "what changes nothing is written anew in today's form"
    with serving(directory, config(file, "new", "old")) as kubectl:
        kubectl("replace", "-f", "-", given=kubectl("get", "secrets", "-o", "json"))
    with serving(directory, config(file, "new")) as kubectl:
        assert len(kubectl.json("get", "secrets")["items"]) == 2
    with serving(directory, config(file, "old")) as kubectl:
        refused = kubectl.run("get", "secret", "s", check=False)
        assert "no matching key was found for the provided AES transformer" in refused.stderr
        assert kubectl("get", "configmaps", "-A", "-o", "name")

    option = config(file, "new", kind="secretbox")
    anynode("restore", str(tmp_path / "b"), "--data-dir", str(tmp_path / "again"), option)
    assert clear not in stored(tmp_path / "again")
    with serving(tmp_path / "again", option) as kubectl:
        assert kubectl("get", "secret", "before", "-o", "jsonpath={.data.a}") == clear.decode()


def test_a_wrong_file_is_one_sentence(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "enc.yaml"
    file.write_text("kind: Pod")
    file.chmod(0o600)
    command = [sys.executable, "-m", "anynode", "apiserver", "--data-dir", str(tmp_path / "c"), "--port", "0"]
    for option in (f"--encryption-provider-config={file}", "--encryption-provider-config=/nowhere"):
        ended = subprocess.run([*command, option], capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 1
        assert ended.stderr.startswith("anynode: cannot use what was given: ")
        assert ended.stderr.count("\n") == 1
