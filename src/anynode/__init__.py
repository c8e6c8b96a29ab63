"""anynode: Kubernetes API on top, programmable Python at the back.

``Cluster`` (a whole Kubernetes in this process) and ``VirtualNode`` are the public face for Python; they are loaded on
first use so that the command line starts quickly. The programs are ``anynode node`` and ``anynode up``.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

PUBLIC = {"Cluster": "anynode.cluster", "ClusterSettings": "anynode.cluster", "VirtualNode": "anynode.virtual_node"}
"""Public name -> where it lives; imported when first asked for."""


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
