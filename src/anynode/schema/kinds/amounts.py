"""Resource names and quantities: what containers, pods, quotas and volumes may ask for.

Source: kubernetes ``pkg/apis/core/helper/helpers.go``, ``pkg/apis/core/validation/validation.go``
(ValidateResourceRequirements), 1.36.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence

from anynode.api import names
from anynode.api.formats import Quantity
from anynode.api.objects import Object
from anynode.api.remembering import remembered
from anynode.schema import metadata
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
)

_NOT_INTEGER = "must be an integer"
_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
_COUNTED = frozenset((
    "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers",
))  # fmt: skip
_QUOTA = _COUNTED | {
    "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.storage",
    "requests.ephemeral-storage", "limits.cpu", "limits.memory", "limits.ephemeral-storage",
}  # fmt: skip
_STANDARD = _QUOTA | {"storage"}


def is_huge_page(name: str) -> bool:
    return name.startswith("hugepages-")


def is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


@remembered(1024)
def is_extended(name: str) -> bool:
    if is_native(name) or name.startswith("requests."):
        return False
    return not names.label_key(f"requests.{name}")


def overcommit_allowed(name: str) -> bool:
    return is_native(name) and not is_huge_page(name)


def is_integer(name: str) -> bool:
    return name in _COUNTED or is_extended(name)


def validate_resource_name(name: str, path: FieldPath) -> list[FieldError]:
    errors = metadata.validate_label_key(name, path)
    if errors or "/" in name:
        return errors
    known = name in _STANDARD or is_huge_page(name) or name.startswith("requests.hugepages-")
    return [] if known else [invalid(path, name, "must be a standard resource type or fully qualified")]


def validate_container_resource_name(name: str, path: FieldPath) -> list[FieldError]:
    if name in _CONTAINER:
        return []
    errors = validate_resource_name(name, path)
    if "/" not in name:
        if not is_huge_page(name):
            errors.append(invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(invalid(path, name, "doesn't follow extended resource name standard"))
    return errors


def validate_pod_resource_name(name: str, path: FieldPath) -> list[FieldError]:
    errors = validate_resource_name(name, path)
    if errors or name in ("cpu", "memory") or is_huge_page(name):
        return errors
    return [not_supported(path, name, ("cpu", "hugepages-", "memory"))]


def validate_quota_resource_name(name: str, path: FieldPath) -> list[FieldError]:
    errors = validate_resource_name(name, path)
    known = "/" in name or name in _QUOTA or is_huge_page(name) or name.startswith("requests.hugepages-")
    return errors if known else [*errors, invalid(path, name, "must be a standard resource for quota")]


def validate_nonnegative_quantity(amount: Quantity, path: FieldPath) -> list[FieldError]:
    return [invalid(path, str(amount), metadata.NEGATIVE)] if amount.nano < 0 else []


def validate_positive_quantity(amount: Quantity, path: FieldPath) -> list[FieldError]:
    return [invalid(path, str(amount), "must be greater than zero")] if amount.nano <= 0 else []


def validate_quantity(name: str, amount: Quantity, path: FieldPath) -> list[FieldError]:
    errors = validate_nonnegative_quantity(amount, path)
    if amount.milli_value() % 1000 and is_integer(name):
        errors.append(invalid(path, str(amount), _NOT_INTEGER))
    return errors


def validate_basic(amount: Quantity, path: FieldPath) -> list[FieldError]:
    return [invalid(path, amount.value(), "must be a valid resource quantity")] if amount.value() < 0 else []


NameRule = Callable[[str, FieldPath], list[FieldError]]


@functools.lru_cache(maxsize=4096)
def _plain(name: str, amount: str) -> bool:
    """Whether an amount is surely good, the case to be quick about."""
    return name in _CONTAINER and Quantity.parse(amount).nano >= 0


def validate_requirements(
    requirements: Object,
    path: FieldPath,
    claims: Collection[str] = (),
    rule: NameRule = validate_container_resource_name,
) -> list[FieldError]:
    """Complaints about ``resources`` of a container or, with another name rule, of a pod."""
    limits: Mapping[str, str] = requirements.get("limits") or {}
    requests: Mapping[str, str] = requirements.get("requests") or {}
    if not limits and not requests and not requirements.get("claims"):
        return []
    errors: list[FieldError] = []
    for name, text in sorted(limits.items()):
        if not _plain(name, text) or rule is not validate_container_resource_name:
            errors += _validate_amount(name, Quantity.parse(text), path.child("limits").key(name), rule)
    for name, text in sorted(requests.items()):
        amount = Quantity.parse(text)
        huge: list[FieldError] = []
        if not _plain(name, text) or rule is not validate_container_resource_name:
            checked = _validate_amount(name, amount, path.child("requests").key(name), rule)
            huge = [each for each in checked if "integer multiple" in each.message]
            errors += [each for each in checked if each not in huge]
        errors += _validate_against_limit(name, amount, limits.get(name), path)
        errors += huge
    every = limits.keys() | requests.keys()
    if any(map(is_huge_page, every)) and not every & {"cpu", "memory"}:
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    return errors + _validate_claim_names(requirements.get("claims") or (), claims, path.child("claims"))


def _validate_amount(name: str, amount: Quantity, path: FieldPath, rule: NameRule) -> list[FieldError]:
    errors = rule(name, path) + validate_quantity(name, amount, path)
    if is_huge_page(name) and not _is_whole_pages(name, amount):
        errors.append(invalid(path, str(amount), f"{amount} is not positive integer multiple of {name}"))
    return errors


def _is_whole_pages(name: str, amount: Quantity) -> bool:
    try:
        page = Quantity.parse(name.removeprefix("hugepages-"))
    except ValueError:
        return False
    return page.nano > 0 and page.milli_value() % 1000 == 0 and amount.value() % page.value() == 0


def _validate_against_limit(name: str, amount: Quantity, limit: str | None, path: FieldPath) -> list[FieldError]:
    if limit is None:
        if overcommit_allowed(name):
            return []
        return [required(path.child("limits"), "Limit must be set for non overcommitable resources")]
    most = Quantity.parse(limit)
    if amount.nano != most.nano and not overcommit_allowed(name):
        return [invalid(path.child("requests"), str(amount), f"must be equal to {name} limit of {most}")]
    if amount.nano > most.nano:
        text = f"must be less than or equal to {name} limit of {most}"
        return [invalid(path.child("requests"), str(amount), text)]
    return []


def _validate_claim_names(claims: Sequence[Object], known: Collection[str], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, claim in enumerate(claims):
        name, wanted, where = claim.get("name") or "", claim.get("request") or "", path.index(position)
        if not name:
            errors.append(required(where))
            continue
        if name in seen:
            errors.append(duplicate(where, name))
        else:
            key = name
            if wanted:
                errors += metadata.validate_name(wanted, where.child("request"), metadata.label_name)
                key = f"{name}/{wanted}"
            if key in seen:
                errors.append(duplicate(where, key))
            elif not wanted:
                errors.extend(duplicate(where, name) for each in seen if each.partition("/")[0] == name)
            seen.add(key)
        if name not in known:
            tail = f": {', '.join(sorted(known))}" if known else " which is empty"
            errors.append(not_found(where, name, f"must be one of the names in pod.spec.resourceClaims{tail}"))
    return errors
