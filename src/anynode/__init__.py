"""anynode: Kubernetes API on top, programmable Python at the back.

``Cluster`` (a whole Kubernetes in this process) is the public face for Python; it is loaded on first use so that the
command line starts quickly. The programs are ``anynode node`` and ``anynode up``.
"""

from __future__ import annotations

__version__ = "0.1.0"
