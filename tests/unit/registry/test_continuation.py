from __future__ import annotations

import base64

import pytest

from anynode.api.errors import BadRequest
from anynode.registry import continuation


def test_a_token_comes_back_as_what_follows_its_key() -> None:
    assert continuation.decode(continuation.encode("ns/a", 17)) == ("ns/a\0", 17)
    token = continuation.encode("a", continuation.INCONSISTENT)
    assert "=" not in token
    assert continuation.decode(token).revision == -1


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("{}", "illegal base64 data at input byte 0"),
        ("abc", "invalid character 'i' looking for beginning of value"),
        (base64.urlsafe_b64encode(b'{"v":"x"}').rstrip(b"=").decode(), "does not recognize this encoded version x"),
        (base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1"}').rstrip(b"=").decode(), "incorrect encoded start"),
    ],
)
def test_a_bad_token_is_refused_in_upstreams_words(token: str, said: str) -> None:
    with pytest.raises(BadRequest, match=r"^invalid continue token: continue key is not valid: ") as caught:
        continuation.decode(token)
    assert said in caught.value.message
