"""Each part alone, in a process of its own, over HTTPS with a kubeconfig: together they are a cluster."""

from __future__ import annotations

import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from tests.e2e.conftest import Kubectl, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="drives the parts with real kubectl"),
]


@contextmanager
def part(directory: pathlib.Path, *words: str) -> Iterator[pathlib.Path]:
    """One ``anynode`` process; gives its log. It must end by itself when asked, without a traceback."""
    log = directory / f"{words[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-u", "-m", "anynode", *words], stdout=output, stderr=output)
    try:
        yield log
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def test_apiserver_scheduler_controllers_and_node_in_four_processes(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "kubeconfig"
    with ExitStack() as stack:
        data = ("--data-dir", str(tmp_path / "data"))
        stack.enter_context(part(tmp_path, "apiserver", "--port", "0", *data, "--write-kubeconfig", str(config)))
        until(config.exists, "the kubeconfig")
        kubectl = Kubectl(config, tmp_path)
        until(lambda: kubectl.run("get", "--raw", "/readyz", check=False).stdout == "ok", "a ready API server")
        reach = ("--kubeconfig", str(config))
        authority = tmp_path / "data" / "pki" / "ca.crt"
        stack.enter_context(part(tmp_path, "controllers", *reach, "--root-ca-file", str(authority), "--leader-elect"))
        stack.enter_context(part(tmp_path, "scheduler", *reach))
        node = part(tmp_path, "node", *reach, "--name", "alone", "--data-dir", str(tmp_path / "nodes"))
        node_log = stack.enter_context(node)
        until(lambda: "node alone is registered" in node_log.read_text(), "a registered node")

        kubectl("create", "deployment", "web", "--image=busybox", "--replicas=2", "--", "sleep", "1000")
        kubectl("create", "job", "j", "--image=busybox", "--", "echo", "done by a node alone")
        kubectl("wait", "--for=condition=complete", "job/j", "--timeout=60s")
        kubectl("wait", "--for=condition=available", "deployment/web", "--timeout=60s")
        assert kubectl("logs", "job/j") == "done by a node alone\n"
        assert kubectl("exec", "deploy/web", "--", "echo", "in") == "in\n"
        lease = kubectl.json("-n", "kube-system", "get", "lease", "kube-controller-manager")
        assert lease["spec"]["holderIdentity"]
        kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=60s")
        until(lambda: kubectl("get", "pods", "-l", "app=web", "-o", "name") == "", "no pods")


def test_a_server_that_cannot_be_reached_is_one_sentence(tmp_path: pathlib.Path) -> None:
    for words in (("scheduler",), ("controllers",), ("node", "--data-dir", str(tmp_path))):
        done = subprocess.run(
            [sys.executable, "-m", "anynode", *words, "--kubeconfig", str(tmp_path / "missing")],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 1, words
        assert done.stderr.count("\n") == 1, done.stderr
        assert "missing" in done.stderr


def test_a_part_that_waits_for_its_server_ends_when_asked(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: c}}],"
        " clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}], users: [{name: c, user: {token: t}}]}"
    )
    words = ("node", "--kubeconfig", str(config), "--data-dir", str(tmp_path))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-u", "-m", "anynode", *words], stdout=log, stderr=log)
    try:
        until(lambda: "watch broke" in (tmp_path / "log").read_text(), "a try to reach the server")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()
