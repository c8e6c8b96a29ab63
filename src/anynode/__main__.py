"""``python -m anynode``: the anynode program."""

from __future__ import annotations

from anynode.cli.main import main

main()
