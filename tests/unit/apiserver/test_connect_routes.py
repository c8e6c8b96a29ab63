"""Where the API server lets itself be sent."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from anynode.api.objects import Object
from anynode.api.wire import ApiRequest
from anynode.apiserver.connect_routes import connect_options, is_port, is_proxyable


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.1.2.3", True),
        ("10.0.0.1", True),
        ("fd00::1", True),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("fe80::1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("metadata.internal", False),
        ("", False),
    ],
)
def test_only_where_a_pod_may_be(address: str, allowed: bool) -> None:
    assert is_proxyable(address) is allowed


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("80", True), ("65535", True), ("65536", False), ("0", False), ("²", False), ("9" * 5000, False)],
)
def test_a_port_is_one_that_can_be_dialed(text: str, allowed: bool) -> None:
    assert is_port(text) is allowed


@pytest.mark.parametrize(
    ("kind", "query", "options"),
    [
        ("PodExecOptions", {"stdin": ("1",), "tty": ("0",), "command": ("sh",)}, {"stdin": True, "command": ["sh"]}),
        ("PodAttachOptions", {"container": ("c",), "command": ("x",)}, {"container": "c"}),
        ("PodPortForwardOptions", {"ports": ("80,81", "x")}, {"ports": [80, 81]}),
        ("PodProxyOptions", {}, {"path": "/a/b"}),
    ],
)  # fmt: skip
def test_admission_is_told_what_the_query_says(kind: str, query: dict[str, Sequence[str]], options: Object) -> None:
    request = ApiRequest(method="POST", path="/api/v1/namespaces/n/pods/p/proxy/a/b", query=query)
    assert connect_options(request, kind) == options
