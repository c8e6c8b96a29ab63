"""Pods on a process node against what a real kubelet made of them: statuses, phases, logs and events.

Plays recorded cases with the tool that recorded them on a whole cluster in its own process. One case is left out: it
was recorded in a cluster whose namespaces had no root certificate.
"""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
RECORDED = SHARED / "data" / "golden-pods"
TOOL = SHARED / "tools" / "golden" / "podgolden.py"
FILES = ("deletion", "environment", "errors", "hooks", "init", "status", "termination")
ELSEWHERE = {"service account token without the cluster's certificate"}
START_SECONDS = 30.0
JOBS = "12"

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


def test_pods_live_as_under_a_real_kubelet(kubeconfig: pathlib.Path, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, str(TOOL), "check", "--kubeconfig", str(kubeconfig), "--node", "node-0", "--jobs", JOBS]
    running = [
        subprocess.Popen(
            [*command, "--json", str(tmp_path / f"{name}.json"), str(RECORDED / f"{name}.json")],
            stdout=subprocess.DEVNULL,
        )
        for name in FILES
    ]
    for each in running:
        each.wait()
    cases = [case for name in FILES for case in json.loads((tmp_path / f"{name}.json").read_text())]
    assert len(cases) > 50
    different = {each["name"]: each["differences"] for each in cases if not each["same"]}
    assert {name: rows for name, rows in different.items() if name not in ELSEWHERE} == {}
