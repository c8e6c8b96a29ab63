"""Pods on a process node against what a real kubelet made of them: statuses, phases, logs and events.

Plays recorded cases with the tool that recorded them on a whole cluster in its own process. One case is left out: it
was recorded in a cluster whose namespaces had no root certificate.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from anynode.aio.ports import lowest_port

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
RECORDED = SHARED / "data" / "golden-pods"
TOOL = SHARED / "tools" / "golden" / "podgolden.py"
PLAYER = pathlib.Path(__file__).with_name("pod_player.py")
FILES = ("deletion", "environment", "errors", "hooks", "init", "status", "termination")
ELSEWHERE = {"service account token without the cluster's certificate"}
AS_ROOT = {"must not run as root"} if os.getuid() else set()
"""What only a node that runs as root refuses."""
LOW_PORTS = {"links to services"} if lowest_port() > 1 else set()
"""What speaks of Services' ports below 1024, for which others stand in where those are closed."""
RACES = {"postStart http to nothing fails": ".status.containerStatuses[0].state.terminated.exitCode"}
"""What hangs on who is first: here the shell that sets its trap, or the hook that is refused at once."""
START_SECONDS = 30.0

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not TOOL.exists(), reason="the recordings are not here"),
]


@pytest.fixture
def kubeconfig(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Of a cluster with one process node, which ends with the test."""
    command = [sys.executable, "-m", "anynode", "up", "--name", "recorded-pods", "--port", "0"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        up = subprocess.Popen([*command, "--data-dir", str(tmp_path / "data")], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "is ready" not in log.read_text():
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield tmp_path / "data" / "kubeconfig"
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(30)
    assert "Traceback" not in log.read_text(), log.read_text()


def test_pods_live_as_under_a_real_kubelet(kubeconfig: pathlib.Path) -> None:
    cases = [case for name in FILES for case in json.loads((RECORDED / f"{name}.json").read_text())]
    here = [case for case in cases if case["name"] not in ELSEWHERE | AS_ROOT | LOW_PORTS]
    command = [sys.executable, str(PLAYER), str(TOOL), str(kubeconfig), "node-0"]
    played = subprocess.run(command, input=json.dumps(here).encode(), stdout=subprocess.PIPE, check=True)
    differences = {
        name: [row for row in rows if name not in RACES or not row.startswith(RACES[name])]
        for name, rows in json.loads(played.stdout).items()
    }
    assert len(differences) > 50
    assert {name: rows for name, rows in differences.items() if rows} == {}
