"""Each behaviour Kubernetes' conformance suite asks of an API server alone is asked by a test of this project too.

``a1_behaviours.csv`` holds the suite's names (1.36: 446 tests, 108 of them of this class) beside our tests, as many
rows as it takes; here every named test is looked for among those pytest collects, and every name has to have one.
"""

from __future__ import annotations

import csv
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
BEHAVIOURS = 108


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    with (HERE / "a1_behaviours.csv").open(newline="") as table:
        return [(row["codename"], row["test"]) for row in csv.DictReader(table)]


def collected(files: set[str]) -> set[str]:
    """The tests in the files, by pytest's names for them."""
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *sorted(files)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.splitlines())


def test_every_behaviour_has_a_test(rows: list[tuple[str, str]]) -> None:
    assert len({codename for codename, _ in rows}) == BEHAVIOURS
    assert [codename for codename, test in rows if not test] == []
    assert len(set(rows)) == len(rows)


@pytest.mark.slow
def test_every_named_test_exists(rows: list[tuple[str, str]]) -> None:
    known = collected({test.partition("::")[0] for _, test in rows})
    missing = sorted({test for _, test in rows} - known)
    assert missing == []
