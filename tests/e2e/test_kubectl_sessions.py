"""kubectl and running containers: logs, exec, attach, cp, port-forward, over WebSocket and SPDY."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pty
import re
import socket
import subprocess
import time
import urllib.request

import pytest
from tests.e2e.conftest import Kubectl, until

pytestmark = pytest.mark.e2e

PROTOCOLS = [
    pytest.param({}, id="websocket"),
    pytest.param({"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}, id="spdy"),
]


def pod(name: str, script: str, **container: object) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "busybox", "command": ["sh", "-c", script], **container}],
        },
    }


def running(kubectl: Kubectl, name: str, script: str, **container: object) -> None:
    kubectl.apply(pod(name, script, **container))
    kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Running", "--timeout=40s")


def test_logs_in_every_form(kubectl: Kubectl) -> None:
    kubectl.apply(pod("p", "for i in 1 2 3; do echo line $i; done; echo err >&2"))
    kubectl("wait", "pod/p", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=40s")
    assert kubectl("logs", "p") == "line 1\nline 2\nline 3\nerr\n"
    assert kubectl("logs", "p", "--tail=2") == "line 3\nerr\n"
    stamped = kubectl("logs", "p", "--timestamps").splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z line 1$", stamped[0])
    assert kubectl("logs", "p", "--since=1h", "--limit-bytes=6") == "line 1"
    refused = kubectl.run("logs", "p", "--previous", check=False)
    assert "previous terminated container" in refused.stderr


def test_logs_follow_and_previous(kubectl: Kubectl) -> None:
    crashing = pod("c", "echo attempt; sleep 1; exit 3")
    crashing["spec"]["restartPolicy"] = "Always"  # type: ignore[index]
    kubectl.apply(crashing)
    until(
        lambda: (
            kubectl("get", "pod", "c", "-o", "jsonpath={.status.containerStatuses[0].restartCount}") not in ("", "0")
        ),
        "a restart",
    )
    assert kubectl("logs", "c", "--previous") == "attempt\n"
    running(kubectl, "f", 'echo 1; until test -e "$HOME/go"; do sleep 0.05; done; echo 2')
    following = kubectl.started("logs", "-f", "f")
    assert following.stdout is not None
    assert following.stdout.readline() == "1\n"
    kubectl("exec", "f", "--", "sh", "-c", 'touch "$HOME/go"')
    assert following.communicate(timeout=40)[0] == "2\n"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exec(kubectl: Kubectl, protocol: dict[str, str]) -> None:
    running(kubectl, "p", "sleep 1000", env=[{"name": "COLOUR", "value": "red"}])
    assert kubectl("exec", "p", "--", "sh", "-c", "echo $COLOUR", env=protocol) == "red\n"
    assert kubectl("exec", "-i", "p", "--", "cat", given="over there", env=protocol) == "over there"
    failed = kubectl.run("exec", "p", "--", "sh", "-c", "echo no >&2; exit 7", check=False, env=protocol)
    assert failed.returncode == 7
    assert failed.stderr.startswith("no\n")
    big = "x" * 300_000
    assert kubectl("exec", "-i", "p", "--", "cat", given=big, env=protocol) == big


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exec_with_a_terminal(kubectl: Kubectl, protocol: dict[str, str]) -> None:
    running(kubectl, "p", "sleep 1000")
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    process = subprocess.Popen(
        kubectl.words("exec", "-it", "p", "--", "sh", "-c", "tty; read x; echo got $x"),
        env={**kubectl.environment, **protocol},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    seen = b""

    def read() -> bytes:
        nonlocal seen
        with contextlib.suppress(BlockingIOError, OSError):
            seen += os.read(master, 65536)
        return seen

    try:
        until(lambda: b"/dev/pts/" in read(), "a terminal")
        os.write(master, b"hello\n")
        until(lambda: b"got hello" in read(), "an answer")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_attach_sends_and_sees(kubectl: Kubectl, protocol: dict[str, str]) -> None:
    running(kubectl, "p", "while read x; do echo got $x; done", stdin=True, stdinOnce=True)
    assert "got hello\n" in kubectl("attach", "-i", "p", given="hello\n", env=protocol)
    kubectl("wait", "pod/p", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=40s")


def test_cp_both_ways(kubectl: Kubectl, tmp_path: pathlib.Path) -> None:
    running(kubectl, "p", "sleep 1000")
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "a.bin").write_bytes(os.urandom(100_000))
    target = f"/tmp/{kubectl.namespace}"
    kubectl("cp", str(source), f"p:{target}")
    kubectl("cp", f"p:{target}", str(tmp_path / "back"))
    assert (tmp_path / "back/sub/a.bin").read_bytes() == (source / "sub/a.bin").read_bytes()
    kubectl("exec", "p", "--", "rm", "-r", target)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_port_forward(kubectl: Kubectl, protocol: dict[str, str]) -> None:
    serve = (
        "import http.server,os\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "  def do_GET(self):\n"
        "    self.send_response(200); self.end_headers(); self.wfile.write(b'y'*200000)\n"
        "http.server.ThreadingHTTPServer((os.environ['IP'],8080),H).serve_forever()"
    )
    running(
        kubectl, "p", "unused", command=["python3", "-c", serve],
        env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    )  # fmt: skip
    kubectl("wait", "pod/p", "--for=condition=ready", "--timeout=40s")
    forward = subprocess.Popen(
        kubectl.words("port-forward", "pod/p", ":8080"),
        env={**kubectl.environment, **protocol}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert forward.stdout is not None
        port = int(re.search(r"127\.0\.0\.1:(\d+) ->", forward.stdout.readline())[1])  # type: ignore[index]
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.read() == b"y" * 200_000
        with socket.create_connection(("127.0.0.1", port)) as idle:
            time.sleep(0.1)
            idle.close()
    finally:
        forward.terminate()
        forward.communicate()


def test_drawing_environment_and_files_from_the_api(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c", "--from-literal=key=from-config")
    kubectl("create", "secret", "generic", "s", "--from-literal=key=from-secret")
    spec = pod("p", 'echo "$A $B $C $D"; cat "$ANYNODE_ROOT"/etc/c/key 2>/dev/null || cat /etc/c/key')
    spec["spec"]["containers"][0] |= {  # type: ignore[index]
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "key"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
            {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "D", "value": "$(A)-$(C)"},
        ],
        "volumeMounts": [{"name": "v", "mountPath": "/etc/c"}],
    }
    spec["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "c"}}]  # type: ignore[index]
    kubectl.apply(spec)
    kubectl("wait", "pod/p", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=40s")
    assert kubectl("logs", "p") == "from-config from-secret p from-config-p\nfrom-config"
