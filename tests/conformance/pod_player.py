"""Plays recorded pods on a node and tells how they differ; a program of its own, since it takes many threads.

``pod_player.py TOOL KUBECONFIG NODE < CASES`` prints JSON: name of the case -> differences. ``TOOL`` is the program
that recorded the cases; it looks for events once, at a moment that was right for the machine it ran on. Here they are
awaited instead: events are written behind everything else, however long that takes on a busy machine.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import json
import pathlib
import sys
import time
from types import ModuleType
from typing import Any

PLAYERS = 48
LATE_SECONDS = 20.0
LOOK_SECONDS = 0.1


class PatientServer:
    """The tool's server, asked for events again until those of the recording are there."""

    def __init__(self, server: Any, events: list[list[str]]) -> None:
        self._server = server
        self._events = {tuple(each) for each in events}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> tuple[int, Any, bytes]:
        until = time.monotonic() + LATE_SECONDS
        while True:
            answer: tuple[int, Any, bytes] = self._server.ask(method, path, headers, body)
            if method != "GET" or "/events?" not in path or time.monotonic() > until:
                return answer
            if {(each["type"], each["reason"]) for each in json.loads(answer[2])["items"]} >= self._events:
                return answer
            time.sleep(LOOK_SECONDS)


def load(path: pathlib.Path) -> ModuleType:
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(tool_path: str, kubeconfig: str, node: str) -> None:
    tool = load(pathlib.Path(tool_path))
    server = tool.from_kubeconfig(kubeconfig)
    cases = json.load(sys.stdin)

    def play(serial: int, case: dict[str, Any]) -> list[str]:
        patient = PatientServer(server, case["seen"].get("events", []))
        differences: list[str] = tool.differences(case["seen"], tool.play(patient, case, node, serial))
        return differences

    with concurrent.futures.ThreadPoolExecutor(PLAYERS) as players:
        found = list(players.map(play, range(len(cases)), cases))
    json.dump({case["name"]: rows for case, rows in zip(cases, found, strict=True)}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
