"""Differences as people read them: a unified diff of YAML, as ``kubectl diff`` prints it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from anynode.api.objects import Object
from anynode.history.difference import Difference

CONTEXT_LINES = 3
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def unified(difference: Difference, before: str, after: str) -> Iterator[str]:
    """The lines of one object's diff, without line ends. ``before`` and ``after`` name the two states."""
    yield from difflib.unified_diff(
        _lines(difference.before),
        _lines(difference.after),
        f"{before} {difference.id}" if difference.before is not None else "/dev/null",
        f"{after} {difference.id}" if difference.after is not None else "/dev/null",
        lineterm="",
        n=CONTEXT_LINES,
    )


def wire(difference: Difference) -> dict[str, Any]:
    """One difference for ``-o json``."""
    return {
        "group": difference.id.group,
        "kind": difference.id.kind,
        "namespace": difference.id.namespace,
        "name": difference.id.name,
        "action": difference.action,
        "paths": difference.paths(),
        "before": difference.before,
        "after": difference.after,
    }


def _lines(obj: Object | None) -> Sequence[str]:
    if obj is None:
        return ()
    text: str = yaml.dump(obj, Dumper=_Dumper, sort_keys=True, allow_unicode=True, default_flow_style=False)
    return text.splitlines()
