"""Bearer tokens from a file: ``token,user,uid,"group1,group2"``, one line each.

Source: apiserver ``pkg/authentication/token/tokenfile``, 1.36.
"""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Mapping

from anynode.api.wire import User


class TokenFileError(ValueError):
    """The file cannot be used; names the line and never what stands in it."""


def load(path: pathlib.Path) -> Mapping[str, User]:
    """Token -> user; raises ``TokenFileError``."""
    found: dict[str, User] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file, skipinitialspace=True):
                _take(row, len(found) + 1, found, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TokenFileError(f"cannot read the token file {path}: {type(error).__name__}") from error
    return found


def _take(row: list[str], line: int, found: dict[str, User], path: pathlib.Path) -> None:
    if not any(row):
        return
    if len(row) < 3:
        raise TokenFileError(
            f"token file {path}, entry {line}: needs token, user name and uid, found {len(row)} columns"
        )
    token, name, uid = row[0].strip(), row[1].strip(), row[2].strip()
    if not token:
        return  # as upstream: an empty token is nobody's
    if token in found:
        raise TokenFileError(f"token file {path}, entry {line}: this token was given before")
    groups = row[3].split(",") if len(row) > 3 and row[3] else []
    found[token] = User(name=name, uid=uid, groups=tuple(group.strip() for group in groups))
