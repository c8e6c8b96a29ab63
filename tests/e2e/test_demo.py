"""What ``make demo`` runs after installation: the first thing a user sees."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest
from tests.e2e.test_program import processes_of

pytestmark = pytest.mark.e2e

RUN = pathlib.Path(__file__).resolve().parents[2] / "examples" / "hello" / "run.py"


def test_the_demo_shows_everything_and_leaves_nothing() -> None:
    done = subprocess.run([sys.executable, str(RUN)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "node-0   Ready" in done.stdout
    assert len(set(re.findall(r"^Hello from (hello-\S+)$", done.stdout, re.MULTILINE))) == 2
    assert "the sum of 1..100 is 5050" in done.stdout
    assert processes_of(pathlib.Path("anynode-hello-")) == []
