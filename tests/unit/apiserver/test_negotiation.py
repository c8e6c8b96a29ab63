from __future__ import annotations

import pytest

from anynode.api.errors import NotAcceptable, UnsupportedMediaType
from anynode.apiserver.negotiation import (
    BODIES,
    JSON,
    PATCHES,
    YAML,
    Accepted,
    accepted,
    check_page,
    check_produced,
    content_type,
)

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Accepted()),
        ("*/*", Accepted()),
        ("application/vnd.kubernetes.protobuf,application/json", Accepted()),
        ("text/html, application/json;q=0.5", Accepted()),
        ("application/yaml", Accepted(YAML)),
        (TABLE, Accepted(JSON, "Table", "v1")),
        (f"{TABLE},application/json", Accepted(JSON, "Table", "v1")),
        ("application/json;as=Table;v=v9;g=meta.k8s.io, application/json", Accepted()),
        ("application/json;q=0.1, application/yaml;q=0.9", Accepted(YAML)),
    ],
)
def test_the_most_wanted_form_we_have_is_chosen(header: str, expected: Accepted) -> None:
    assert accepted(header) == expected


REFUSED = [
    ("text/plain", "406: Not Acceptable"),
    ("application/*", "406: Not Acceptable"),
    ("application/json;as=Nothing;v=v1;g=meta.k8s.io", "only the following media types are accepted"),
    ("application/vnd.kubernetes.protobuf", "only the following media types are accepted"),
]


@pytest.mark.parametrize(("header", "said"), REFUSED)
def test_each_refusal_is_its_own(header: str, said: str) -> None:
    depths = []
    for _ in range(3):
        with pytest.raises(NotAcceptable, match=said) as caught:
            accepted(header)
        depths.append(len(caught.traceback))
        caught.value.headers = {"x": "y"}
    assert depths == [depths[0]] * 3


@pytest.mark.parametrize(("header", "said"), REFUSED)
def test_what_we_do_not_have_is_refused(header: str, said: str) -> None:
    with pytest.raises(NotAcceptable, match=said):
        accepted(header)


def test_bodies_are_json_unless_they_say_otherwise() -> None:
    assert content_type("") == JSON
    assert content_type("application/yaml; charset=utf-8") == YAML
    with pytest.raises(UnsupportedMediaType, match=r"accepted media types include: application/json, "):
        content_type("text/plain", BODIES)


@pytest.mark.parametrize("header", ["", "text/plain", "*/*", "Application/merge-patch+json", "text/a, text/b"])
def test_patches_of_no_known_kind_are_refused_by_the_router(header: str) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        content_type(header, PATCHES)
    assert refused.value.message == "415: Unsupported Media Type"
    assert refused.value.status()["details"] == {}


def test_a_list_of_patches_gets_past_the_router_alone() -> None:
    with pytest.raises(UnsupportedMediaType, match="the body of the request was in an unknown format"):
        content_type(", ".join(PATCHES[:2]), PATCHES)
    assert content_type("application/merge-patch+json; charset=utf-8", PATCHES) == PATCHES[1]


def test_a_document_of_one_form_is_given_to_nobody_who_wants_another() -> None:
    check_produced("", JSON)
    check_produced("text/plain, */*;q=0.1", JSON)
    with pytest.raises(NotAcceptable, match=r"Available representations: application/jwk-set.json"):
        check_produced(JSON, "application/jwk-set+json")


def test_pages_are_text() -> None:
    check_page("")
    check_page("text/plain")
    with pytest.raises(NotAcceptable, match="accepted: application/json, application/yaml, text/plain"):
        check_page(JSON)


def test_what_no_router_guards_takes_any_application_type() -> None:
    assert accepted("application/*", routed=False) == Accepted()
    with pytest.raises(NotAcceptable, match="only the following media types are accepted"):
        accepted("text/html", routed=False)
    with pytest.raises(NotAcceptable, match="406: Not Acceptable"):
        accepted("application/*")
