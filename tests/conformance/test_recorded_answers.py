"""The API server alone against what a real kube-apiserver 1.36 answered, area by area.

The recordings were made with a distribution's build that adds a fourth source, its own ConfigMap, to every service
account token volume; a case that differs in nothing else counts as alike here, and is counted apart. ``FLOORS`` holds
what was reached: a change may raise a number, never lower it.
"""

from __future__ import annotations

import collections
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
RECORDED = SHARED / "data" / "golden"
TOOL = SHARED / "tools" / "golden" / "golden.py"
OWN_SOURCE = re.compile(r"\.projected\.sources: 3 items, upstream has 4$")
START_SECONDS = 30.0
PARTS = 8
"""Servers the cases are dealt to: most of their time is waiting, as the recording did."""
FLOORS = {
    "admission": 23,
    "admission-policy": 26,
    "apply": 26,
    "authz": 31,
    "cr": 29,
    "cr-validation": 25,
    "crd": 11,
    "crd-validation": 33,
    "defaulting": 53,
    "delete": 13,
    "discovery": 34,
    "dry-run": 3,
    "field-validation": 17,
    "http": 12,
    "list": 19,
    "misc": 5,
    "patch": 21,
    "pod-subresources": 17,
    "reviews": 11,
    "roundtrip": 22,
    "subresources": 21,
    "tables": 31,
    "update": 34,
    "validation": 149,
    "watch": 21,
    "webhook-config": 5,
    "write": 22,
}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not TOOL.exists(), reason="the recordings are not here"),
]


@contextmanager
def apiserver(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """``anynode apiserver`` in its own process; gives its kubeconfig."""
    directory.mkdir()
    kubeconfig = directory / "kubeconfig"
    words = ["apiserver", "--port", "0", "--data-dir", str(directory / "data"), "--write-kubeconfig", str(kubeconfig)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "anynode", *words], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "ready" not in (directory / "log").read_text():
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.05)
        yield kubeconfig
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def weight(case: dict[str, Any]) -> float:
    """About how many seconds a case takes: what it sleeps, and a little."""
    return 0.3 + sum(float(step.get("SLEEP", 0)) + float(step.get("seconds", 0)) for step in case["steps"])


def parts() -> Iterator[list[dict[str, Any]]]:
    """All recorded cases in order, cut into pieces that take about the same time."""
    cases = [case for file in sorted(RECORDED.glob("*.json")) for case in json.loads(file.read_text())]
    most = sum(map(weight, cases)) / PARTS
    part: list[dict[str, Any]] = []
    for case in cases:
        part.append(case)
        if sum(map(weight, part)) >= most:
            yield part
            part = []
    if part:
        yield part


def check(kubeconfig: pathlib.Path, cases: list[dict[str, Any]]) -> subprocess.Popen[bytes]:
    """One case after the other, in the background; the report stands beside the kubeconfig."""
    file = kubeconfig.with_name("cases.json")
    file.write_text(json.dumps(cases))
    words = ["--kubeconfig", str(kubeconfig), "--json", str(kubeconfig.with_name("report.json")), str(file)]
    return subprocess.Popen([sys.executable, str(TOOL), "check", *words], stdout=subprocess.DEVNULL)


def test_the_api_server_answers_as_upstream_does(tmp_path: pathlib.Path) -> None:
    reports = []
    with ExitStack() as servers:
        running = []
        for number, cases in enumerate(parts()):
            kubeconfig = servers.enter_context(apiserver(tmp_path / str(number)))
            running.append((check(kubeconfig, cases), kubeconfig.with_name("report.json")))
        for process, report in running:
            process.wait()
            reports += json.loads(report.read_text())
    alike, total, apart = collections.Counter[str](), collections.Counter[str](), collections.Counter[str]()
    differing = []
    for case in reports:
        total[case["area"]] += 1
        rest = [row for row in case["differences"] if not OWN_SOURCE.search(row)]
        if rest:
            differing.append(f"{case['area']}: {case['name']}: {rest[0]}")
            continue
        alike[case["area"]] += 1
        apart[case["area"]] += not case["same"]
    for area in sorted(total):
        print(
            f"{area:20} {alike[area]:4} of {total[area]:4}   (of these {apart[area]} but for the distribution's source)"
        )
    fallen = {area: (alike[area], floor) for area, floor in FLOORS.items() if alike[area] < floor}
    assert not fallen, (fallen, differing)
