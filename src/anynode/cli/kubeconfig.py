"""Kubeconfig files: one cluster's own, and its entries merged into the user's without disturbing the rest.

Source: client-go ``tools/clientcmd/api/v1/types.go``.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from anynode.cli.state import StateError
from anynode.security.private_files import write_private


def user_file(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """The file kubectl would write to: the first of ``$KUBECONFIG``, or ``~/.kube/config``."""
    for entry in (environment.get("KUBECONFIG") or "").split(os.pathsep):
        if entry:
            return pathlib.Path(entry).expanduser()
    return pathlib.Path.home() / ".kube" / "config"


def merged(existing: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """``existing`` with our cluster, user and context added or replaced, and our context chosen."""
    result = {**existing}
    result.setdefault("apiVersion", "v1")
    result.setdefault("kind", "Config")
    for section in ("clusters", "users", "contexts"):
        added = {entry["name"]: entry for entry in ours[section]}
        kept = [entry for entry in existing.get(section) or [] if entry.get("name") not in added]
        result[section] = [*kept, *added.values()]
    result["current-context"] = ours["current-context"]
    return result


def without(existing: dict[str, Any], context: str) -> dict[str, Any]:
    """``existing`` without the entries called ``context``."""
    result = {**existing}
    for section in ("clusters", "users", "contexts"):
        result[section] = [entry for entry in existing.get(section) or [] if entry.get("name") != context]
    if result.get("current-context") == context:
        result["current-context"] = ""
    return result


def read(path: pathlib.Path) -> dict[str, Any]:
    """The file's contents, empty when there is none; raises ``StateError`` when it cannot be understood."""
    try:
        found = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise StateError(f"{path} cannot be read as a kubeconfig, so nothing was merged: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise StateError(f"{path} is no kubeconfig, so nothing was merged")
    return found


def write(path: pathlib.Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.resolve() if path.is_symlink() else path
    write_private(target, yaml.safe_dump(content, sort_keys=False).encode())


def merge_into(path: pathlib.Path, ours: dict[str, Any]) -> None:
    """Add our context to the user's file and choose it."""
    write(path, merged(read(path), ours))
