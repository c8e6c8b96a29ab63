"""Token files: who is in them, and errors that tell no token."""

from __future__ import annotations

import pathlib

import pytest

from anynode.api.wire import User
from anynode.security.token_file import TokenFileError, load


def written(tmp_path: pathlib.Path, text: str) -> pathlib.Path:
    path = tmp_path / "tokens.csv"
    path.write_text(text)
    return path


def test_users_and_their_groups(tmp_path: pathlib.Path) -> None:
    text = 'one,ann,u1,"devs,ops"\n\ntwo,bob,u2\nthree,"eve, the user",u3,solo\n'
    assert load(written(tmp_path, text)) == {
        "one": User(name="ann", uid="u1", groups=("devs", "ops")),
        "two": User(name="bob", uid="u2"),
        "three": User(name="eve, the user", uid="u3", groups=("solo",)),
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [("hush,ann\n", "entry 1: needs"), ("hush,ann,1\nhush,bob,2\n", "entry 2: this token was given before")],
)
def test_what_is_wrong_is_said_without_the_token(tmp_path: pathlib.Path, text: str, why: str) -> None:
    with pytest.raises(TokenFileError, match=why) as caught:
        load(written(tmp_path, text))
    assert "hush" not in str(caught.value)


def test_no_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TokenFileError, match="cannot read the token file"):
        load(tmp_path / "missing")
