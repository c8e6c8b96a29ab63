"""Names, keys and values with a prescribed shape: each function says what is wrong, in upstream's sentences.

``text -> list of complaints``, empty when the text is good. Source: apimachinery ``pkg/util/validation/validation.go``
and ``pkg/api/validate/content``, 1.36.
"""

from __future__ import annotations

import re

from anynode.api.remembering import remembered

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = "(" + _KEY + ")?"
_WILDCARD = r"\*\." + _SUBDOMAIN
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HEADER = "[-A-Za-z0-9]+"
_PERCENT = "[0-9]+%"
_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_LOOSE_LABEL = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_LOOSE_SUBDOMAIN = rf"{_LOOSE_LABEL}(\.{_LOOSE_LABEL})*"
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_DNS1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character"
)
_KEY_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)
_WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_RELAXED_ENV_TEXT = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_CONFIG_KEY_TEXT = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
_HEADER_TEXT = "a valid HTTP header must consist of alphanumeric characters or '-'"
_PERCENT_TEXT = "a valid percent string must be a numeric string followed by an ending '%'"
_IDENTIFIER_TEXT = (
    "a valid C identifier must start with alphabetic character or '_', "
    "followed by a string of alphanumeric characters or '_'"
)

_label = re.compile(_LABEL).fullmatch
_subdomain = re.compile(_SUBDOMAIN).fullmatch
_dns1035 = re.compile(_DNS1035).fullmatch
_key = re.compile(_KEY).fullmatch
_value = re.compile(_VALUE).fullmatch
_config_key = re.compile(_CONFIG_KEY).fullmatch


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def max_length_error(most: int) -> str:
    return f"must be no more than {most} characters"


def max_bytes_error(most: int) -> str:
    return f"must be no more than {most} bytes"


def regex_error(text: str, pattern: str, *examples: str) -> str:
    """Upstream's sentence for a text that does not match ``pattern``."""
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


def inclusive_range_error(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


EMPTY = "must be non-empty"


def dns1123_label(text: str) -> list[str]:
    errors = [max_length_error(63)] if _length(text) > 63 else []
    if not _label(text):
        dotted = _subdomain(text) is not None
        errors.append("must not contain dots" if dotted else regex_error(_LABEL_TEXT, _LABEL, "my-name", "123-abc"))
    return errors


def dns1123_subdomain(text: str) -> list[str]:
    errors = [max_length_error(253)] if _length(text) > 253 else []
    if not _subdomain(text):
        errors.append(regex_error(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    return errors


def dns1123_subdomain_with_underscores(text: str) -> list[str]:
    errors = [max_length_error(253)] if _length(text) > 253 else []
    if not re.fullmatch(_LOOSE_SUBDOMAIN, text):
        said = _SUBDOMAIN_TEXT.replace("characters, '-'", "characters, '_', '-'")
        errors.append(regex_error(said, _LOOSE_SUBDOMAIN, "example.com"))
    return errors


def dns1035_label(text: str) -> list[str]:
    errors = [max_length_error(63)] if _length(text) > 63 else []
    if not _dns1035(text):
        errors.append(regex_error(_DNS1035_TEXT, _DNS1035, "my-name", "abc-123"))
    return errors


def wildcard_subdomain(text: str) -> list[str]:
    """Complaints about ``*.example.com``."""
    errors = [max_length_error(253)] if _length(text) > 253 else []
    if not re.fullmatch(_WILDCARD, text):
        errors.append(regex_error(_WILDCARD_TEXT, _WILDCARD, "*.example.com"))
    return errors


@remembered(4096)
def _label_key(text: str) -> tuple[str, ...]:
    errors: list[str] = []
    parts = text.split("/")
    complaint = regex_error(_KEY_TEXT, _KEY, "MyName", "my.name", "123-abc")
    if len(parts) > 2:
        return (
            f"a valid label key {complaint} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        )
    if len(parts) == 2:
        if not parts[0]:
            errors.append(f"prefix part {EMPTY}")
        else:
            errors.extend(f"prefix part {each}" for each in dns1123_subdomain(parts[0]))
    name = parts[-1]
    if not name:
        errors.append(f"name part {EMPTY}")
    elif _length(name) > 63:
        errors.append(f"name part {max_bytes_error(63)}")
    if not _key(name):
        errors.append(f"name part {complaint}")
    return tuple(errors)


def label_key(text: str) -> list[str]:
    """Complaints about a label key, also called a qualified name: ``[prefix/]name``."""
    return list(_label_key(text))


qualified_name = label_key


def label_value(text: str) -> list[str]:
    errors = [max_bytes_error(63)] if _length(text) > 63 else []
    if not _value(text):
        errors.append(regex_error(_VALUE_TEXT, _VALUE, "MyValue", "my_value", "12345"))
    return errors


def config_map_key(text: str) -> list[str]:
    """Complaints about a key of a ConfigMap's or Secret's data."""
    errors = [max_length_error(253)] if _length(text) > 253 else []
    if not _config_key(text):
        errors.append(regex_error(_CONFIG_KEY_TEXT, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    return errors + _parent_directory(text)


def relaxed_env_var_name(text: str) -> list[str]:
    if not text:
        return [f"environment variable name {EMPTY}"]
    return [] if all(" " <= char <= "~" and char != "=" for char in text) else [_RELAXED_ENV_TEXT]


def c_identifier(text: str) -> list[str]:
    if re.fullmatch(_IDENTIFIER, text):
        return []
    return [regex_error(_IDENTIFIER_TEXT, _IDENTIFIER, "my_name", "MY_NAME", "MyName")]


def http_header_name(text: str) -> list[str]:
    return [] if re.fullmatch(_HEADER, text) else [regex_error(_HEADER_TEXT, _HEADER, "X-Header-Name")]


def percent(text: str) -> list[str]:
    return [] if re.fullmatch(_PERCENT, text) else [regex_error(_PERCENT_TEXT, _PERCENT, "1%", "93%")]


def port_number(number: int) -> list[str]:
    return [] if 1 <= number <= 65535 else [inclusive_range_error(1, 65535)]


def in_range(number: int, low: int, high: int) -> list[str]:
    return [] if low <= number <= high else [inclusive_range_error(low, high)]


def port_name(text: str) -> list[str]:
    """Complaints about a container port's name (IANA service name)."""
    errors = [max_length_error(15)] if _length(text) > 15 else []
    if not re.fullmatch("[-a-z0-9]+", text):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        errors.append("must contain at least one letter (a-z)")
    if "--" in text:
        errors.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def path_segment_name(text: str) -> list[str]:
    """Complaints about a name that only has to fit into a URL path."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{char}'" for char in ("/", "%") if char in text]


def _parent_directory(text: str) -> list[str]:
    if text in (".", ".."):
        return [f"must not be '{text}'"]
    return ["must not start with '..'"] if text.startswith("..") else []
