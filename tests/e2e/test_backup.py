"""Back up a server while it is written to, restore it, and find exactly one revision's state."""

from __future__ import annotations

import contextlib
import json
import pathlib
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import Kubectl, anynode, until

pytestmark = pytest.mark.e2e


@contextlib.contextmanager
def serving(directory: pathlib.Path, *words: str) -> Iterator[Kubectl]:
    """``anynode apiserver`` on ``directory``, ended by SIGTERM."""
    kubeconfig = directory.with_suffix(".kc")
    kubeconfig.unlink(missing_ok=True)
    command = [sys.executable, "-m", "anynode", "apiserver", "--port", "0", "--data-dir", str(directory)]
    server = subprocess.Popen([*command, "--write-kubeconfig", str(kubeconfig), *words])
    try:
        until(lambda: kubeconfig.exists() or server.poll() is not None, "the server is ready")
        assert server.poll() is None
        yield Kubectl(kubeconfig, directory)
    finally:
        server.terminate()
        assert server.wait(20) == 0


def test_a_backup_under_writes_holds_one_revision(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "cluster.backup"
    with serving(tmp_path / "old") as old:
        old("create", "secret", "generic", "kept", "--from-literal=a=b")
        writes = "; ".join(f"kubectl create configmap c{n} --from-literal=n={n}" for n in range(40))
        writer = subprocess.Popen(["sh", "-c", writes], env=old.environment, stdout=subprocess.DEVNULL)
        until(lambda: old.run("get", "configmap", "c5", check=False).returncode == 0, "the writer writes")
        said = json.loads(anynode("backup", str(file), "--data-dir", str(tmp_path / "old"), "-o", "json").stdout)
        assert writer.wait(60) == 0
        service = old("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
        last = old.json("get", "configmap", "c39")["metadata"]["resourceVersion"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert said["bytes"] == file.stat().st_size
    assert said["revision"] < int(last)

    restored = json.loads(anynode("restore", str(file), "--data-dir", str(tmp_path / "new"), "-o", "json").stdout)
    assert restored["records"] == said["records"]
    with serving(tmp_path / "new") as new:
        maps = {each["metadata"]["name"]: each for each in new.json("get", "configmaps")["items"]}
        numbers = sorted(int(name[1:]) for name in maps if name[1:].isdigit())
        assert numbers == list(range(len(numbers))), "the state of one revision, without holes"
        assert 5 < len(numbers) < 40
        assert all(int(each["metadata"]["resourceVersion"]) <= said["revision"] for each in maps.values())
        assert new("get", "secret", "kept", "-o", "jsonpath={.data.a}") == "Yg=="
        assert new("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}") == service
        watched = new("get", "--raw", f"/api/v1/configmaps?watch=1&resourceVersion={last}&timeoutSeconds=1")
        assert json.loads(watched.splitlines()[0])["object"]["code"] == 410
        new("create", "configmap", "after")
        assert int(new.json("get", "configmap", "after")["metadata"]["resourceVersion"]) > int(last)

    offline = tmp_path / "offline.backup"
    anynode("backup", str(offline), "--data-dir", str(tmp_path / "new"))
    assert b'"after"' in offline.read_bytes()


def test_what_is_wrong_is_said_and_nothing_is_made(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path / "old") as server:
        file = tmp_path / "b"
        anynode("backup", str(file), "--kubeconfig", str(server.kubeconfig))
        taken = anynode("restore", str(file), "--data-dir", str(tmp_path / "old"), check=False)
        assert taken.returncode == 1
        assert "nothing was restored" in taken.stderr
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "broken").write_bytes(content)
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-200])
    for name in ("broken", "cut"):
        refused = anynode("restore", str(tmp_path / name), "--data-dir", str(tmp_path / "new"), check=False)
        assert refused.returncode == 1, name
        assert not (tmp_path / "new" / "state.db").exists()
    missing = anynode("backup", str(tmp_path / "c"), "--data-dir", str(tmp_path / "nowhere"), check=False)
    assert missing.returncode == 1
    assert "there is no cluster" in missing.stderr
    assert not list(tmp_path.glob(".c*"))
