"""What is wrong with a name, in upstream's sentences."""

from __future__ import annotations

from anynode.api import names


def test_good_names_have_no_complaint() -> None:
    assert names.dns1123_label("a-1") == []
    assert names.dns1123_subdomain("a.b-c.d") == []
    assert names.dns1035_label("a1") == []
    assert names.label_key("example.com/My_name.x") == []
    assert names.label_value("") == []
    assert names.config_map_key("a.b_C-d") == []
    assert names.port_name("http-8080") == []


def test_a_bad_subdomain() -> None:
    assert names.dns1123_subdomain("Bad_Host") == [
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    ]


def test_a_dotted_label_and_a_trailing_newline() -> None:
    assert names.dns1123_label("a.b") == ["must not contain dots"]
    assert names.dns1123_label("a\n") != []
    assert names.dns1123_label("a" * 64) == ["must be no more than 63 characters"]


def test_bad_label_keys() -> None:
    assert names.label_key("b!") == [
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
        "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
    ]
    assert names.label_key("/x") == ["prefix part must be non-empty"]
    assert "with an optional DNS subdomain prefix" in names.label_key("a/b/c")[0]


def test_parent_directories_are_no_keys() -> None:
    assert names.config_map_key("..") == ["must not be '..'"]
    assert names.config_map_key("..a") == ["must not start with '..'"]
    assert names.path_segment_name("a/b") == ["may not contain '/'"]


def test_search_domains_may_have_underscores() -> None:
    for good in ("_a_b", "a__b", "_a._b.c"):
        assert names.dns1123_subdomain_with_underscores(good) == []
    [said] = names.dns1123_subdomain_with_underscores("_")
    assert said.startswith(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-'"
    )
    assert said.endswith(r"'_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')")
