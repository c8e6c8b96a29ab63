"""Real processes: a cluster started by the anynode program, driven by real kubectl, on loopback with port 0."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

WAIT_SECONDS = 40.0


class Kubectl:
    """kubectl against one cluster, with a home of its own."""

    def __init__(self, kubeconfig: pathlib.Path, home: pathlib.Path, namespace: str = "default") -> None:
        self.kubeconfig = kubeconfig
        self.home = home
        self.namespace = namespace

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "KUBECONFIG": str(self.kubeconfig),
            "LC_ALL": "C.UTF-8",
        }

    def words(self, *words: str) -> list[str]:
        return ["kubectl", "-n", self.namespace, *words]

    def run(
        self, *words: str, given: str | None = None, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.words(*words),
            env={**self.environment, **(env or {})},
            input=given,
            stdin=None if given is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"kubectl {' '.join(words)} exited {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def __call__(self, *words: str, given: str | None = None, env: Mapping[str, str] | None = None) -> str:
        """Standard output; anything but exit code 0 fails the test."""
        return self.run(*words, given=given, env=env).stdout

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> str:
        return self("apply", "-f", "-", given="\n---\n".join(json.dumps(obj) for obj in objects))

    def started(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(*words),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """The first true value of ``condition``; fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.05)


def anynode(*words: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the anynode program."""
    done = subprocess.run(
        [sys.executable, "-m", "anynode", *words], capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        pytest.fail(f"anynode {' '.join(words)} exited {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


@pytest.fixture(scope="session")
def cluster_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """The data directory of a running cluster: two process nodes, durable storage."""
    directory = tmp_path_factory.mktemp("cluster")
    anynode("up", "--detach", "--port", "0", "--nodes", "2", "--name", "e2e", "--data-dir", str(directory))
    yield directory
    anynode("down", "--name", "e2e", "--data-dir", str(directory))
    log = (directory / "anynode.log").read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def admin(cluster_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl as the cluster's administrator, in namespace default."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed; these tests drive the cluster with the real one")
    return Kubectl(cluster_dir / "kubeconfig", tmp_path_factory.mktemp("home"))


@pytest.fixture
def kubectl(admin: Kubectl, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """kubectl in a namespace of this test's own, deleted afterwards."""
    name = request.node.name.lower().replace("_", "-").replace("[", "-").replace("]", "").removeprefix("test-")
    namespace = f"{name[:45].strip('-')}-{os.urandom(2).hex()}"
    admin("create", "namespace", namespace)
    until(
        lambda: admin.run("-n", namespace, "get", "serviceaccount", "default", check=False).returncode == 0,
        "the default service account",
    )
    yield Kubectl(admin.kubeconfig, admin.home, namespace)
    admin("delete", "namespace", namespace, "--wait=false")
