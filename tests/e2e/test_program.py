"""The anynode program: up, status, kubeconfig, down, and what happens when it cannot go on or is killed."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from typing import Any

import pytest
import yaml
from tests.e2e.conftest import Kubectl, anynode, until

pytestmark = pytest.mark.e2e


class Up:
    """One cluster of this test, started detached."""

    def __init__(self, directory: pathlib.Path, *words: str) -> None:
        self.directory = directory
        self.words = words
        self.options = ("--name", "t", "--data-dir", str(directory))

    def start(self) -> dict[str, Any]:
        anynode("up", "--detach", "--port", "0", *self.options, *self.words)
        found: dict[str, Any] = json.loads(anynode("status", "-o", "json", *self.options).stdout)
        return found

    def stop(self) -> None:
        anynode("down", *self.options)

    def kill(self) -> None:
        pid = json.loads((self.directory / "run.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not pathlib.Path(f"/proc/{pid}").exists() or _is_zombie(pid), "the process is dead")


def processes_of(directory: pathlib.Path) -> list[str]:
    """The command lines of running processes that name ``directory``."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(directory) in words:
                found.append(words)
    return found


def _is_zombie(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def up(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Any:
    cluster = Up(tmp_path / "data", *getattr(request, "param", ("--nodes", "1")))
    yield cluster
    anynode("down", *cluster.options, check=False)


def test_up_status_kubeconfig_down(up: Up, tmp_path: pathlib.Path) -> None:
    before = anynode("status", *up.options, check=False)
    assert before.returncode == 1
    status = up.start()
    assert status["running"] is True
    assert status["server"].startswith("https://127.0.0.1:")
    assert status["dataDir"] == str(up.directory)
    assert len(status["nodes"]) == 1
    content = yaml.safe_load(anynode("kubeconfig", *up.options).stdout)
    assert content["clusters"][0]["cluster"]["server"] == status["server"]
    if shutil.which("kubectl"):
        kubectl = Kubectl(up.directory / "kubeconfig", tmp_path)
        assert kubectl("get", "nodes", "-o", "name").split() == [f"node/{status['nodes'][0]}"]
    for name in ("kubeconfig", "state.db", "run.json"):
        assert (up.directory / name).stat().st_mode & 0o077 == 0, name
    up.stop()
    assert processes_of(up.directory) == []
    assert anynode("status", *up.options, check=False).returncode == 1
    assert not (up.directory / "run.json").exists()


def test_a_second_up_on_the_same_directory_is_one_sentence(up: Up) -> None:
    status = up.start()
    for words in (("--detach",), ()):
        refused = anynode("up", *words, "--port", "0", *up.options, check=False)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert f"pid {status['pid']}" in refused.stderr
        assert "anynode down" in refused.stderr
    assert json.loads(anynode("status", "-o", "json", *up.options).stdout)["pid"] == status["pid"]


def test_a_port_in_use_is_one_sentence(tmp_path: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = anynode("up", "--port", str(port), "--data-dir", str(tmp_path / "d"), check=False)
    assert refused.returncode == 1
    sentence = refused.stderr.strip().splitlines()[-1]
    assert f"127.0.0.1:{port}" in sentence
    assert "--port" in sentence
    assert "Traceback" not in refused.stderr


def test_a_damaged_data_file_is_one_sentence_and_is_not_touched(up: Up) -> None:
    up.start()
    up.stop()
    file = up.directory / "state.db"
    damaged = b"not a database at all" * 500
    file.write_bytes(damaged)
    refused = anynode("up", "--port", "0", *up.options, check=False)
    assert refused.returncode == 1
    assert str(file) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert file.read_bytes() == damaged


@pytest.mark.parametrize("up", [("--nodes", "0", "--ephemeral")], indirect=True)
def test_an_ephemeral_cluster_leaves_no_state(up: Up) -> None:
    assert up.start()["nodes"] == []
    up.stop()
    assert not (up.directory / "state.db").exists()
    assert not (up.directory / "kubeconfig").exists()


def test_the_foreground_ends_in_order_on_ctrl_c(tmp_path: pathlib.Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "anynode", "up", "--port", "0", "--data-dir", str(tmp_path / "d"), "--name", "t"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    while not any("is ready" in line for line in lines):
        line = process.stdout.readline()
        assert line, "".join(lines)
        lines.append(line)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert "stopped" in rest
    assert "Traceback" not in rest


def test_merge_adds_the_context_and_delete_takes_it_away(up: Up, tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kube" / "config"))
    up.start()
    anynode("kubeconfig", "--merge", *up.options)
    content = yaml.safe_load((tmp_path / "kube" / "config").read_text())
    assert content["current-context"] == "anynode-t"
    anynode("down", "--delete", *up.options)
    assert yaml.safe_load((tmp_path / "kube" / "config").read_text())["contexts"] == []
    assert not up.directory.exists()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="drives the cluster with real kubectl")
def test_after_kill_9_everything_acknowledged_is_there_and_pods_are_taken_over(up: Up, tmp_path: pathlib.Path) -> None:
    up.start()
    kubectl = Kubectl(up.directory / "kubeconfig", tmp_path)
    starts, go = tmp_path / "starts", tmp_path / "go"
    until(lambda: kubectl.run("get", "serviceaccount", "default", check=False).returncode == 0, "a service account")
    kubectl("create", "configmap", "kept", "--from-literal=a=1")
    for name, script in (("long", "exec sleep 3000"), ("short", f"until test -e {go}; do sleep 0.05; done; exit 5")):
        kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 0,
                    "containers": [
                        {"name": "c", "image": "x", "command": ["sh", "-c", f"echo {name} >> {starts}; {script}"]}
                    ],
                },
            }
        )
        kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Running", "--timeout=30s")
    up.kill()
    go.touch()
    up.start()
    assert kubectl.json("get", "configmap", "kept")["data"] == {"a": "1"}
    kubectl("wait", "pod/short", "--for=jsonpath={.status.phase}=Failed", "--timeout=30s")
    short = kubectl.json("get", "pod", "short")["status"]["containerStatuses"][0]
    assert short["state"]["terminated"]["exitCode"] == 5
    long = kubectl.json("get", "pod", "long")
    assert long["status"]["phase"] == "Running"
    assert long["status"]["containerStatuses"][0]["restartCount"] == 0
    assert sorted(starts.read_text().split()) == ["long", "short"]
    kubectl("delete", "pod", "long", "--timeout=20s")


def test_the_state_file_is_a_sound_database_after_kill_9(up: Up) -> None:
    up.start()
    up.kill()
    with sqlite3.connect(up.directory / "state.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()
