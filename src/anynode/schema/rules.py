"""What upstream's strategy, defaulting and validation say of one kind, as one value per kind.

Pure: objects come in shared and go out as copies along the changed path (or the same object when nothing changed).
The registry calls, for a create: ``default``, ``prepare_create``, ``validate``; for an update of the main resource:
``default``, ``prepare_update``, ``validate_update``; for ``/status``: ``prepare_status``, ``validate_status``; for
another subresource that writes the object: ``subresources[name]``. Before ``prepare_create`` the registry has set
``metadata.uid``, the namespace and the generated name.
Source: kubernetes ``pkg/registry/<group>/<kind>/strategy.go``, ``pkg/apis/<group>/<version>/defaults.go``,
``pkg/apis/<group>/validation/validation.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from anynode.api.objects import Object
from anynode.schema.fields import FieldError


class Findings(list[FieldError]):
    """What is wrong with an object, and ``warnings``: texts of what is wrong too but let pass, for the client."""

    def __init__(self, errors: Iterable[FieldError] = (), *, warnings: Sequence[str] = ()) -> None:
        super().__init__(errors)
        self.warnings = warnings


def same(obj: Object) -> Object:
    return obj


def nothing_wrong(_: Object) -> Sequence[FieldError]:
    return ()


def nothing_wrong_between(_new: Object, _old: Object) -> Sequence[FieldError]:
    return ()


def no_warnings(_: Object) -> Sequence[str]:
    return ()


def no_warnings_between(_new: Object, _old: Object) -> Sequence[str]:
    return ()


def keep_new(new: Object, _old: Object) -> Object:
    return new


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubresourceRules:
    """How a write through one subresource (``finalize``, ``ephemeralcontainers``, ``resize``) is made and judged."""

    prepare: Callable[[Object, Object], Object] = keep_new
    validate: Callable[[Object, Object], Sequence[FieldError]] = nothing_wrong_between


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KindRules:
    """One kind's rules. Metadata rules (names, labels, annotations, finalizers, owner references, immutable metadata
    on update) are the registry's and apply to every kind; here stands only what is the kind's own."""

    default: Callable[[Object], Object] = same
    prepare_create: Callable[[Object], Object] = same
    """Drop what a client may not set (status), set ``metadata.generation`` 1 where the kind has generations."""
    prepare_update: Callable[[Object, Object], Object] = keep_new
    """(new, old): put back what the main endpoint may not change (status), count up ``metadata.generation``."""
    prepare_status: Callable[[Object, Object], Object] = keep_new
    """(new, old): put back all but status for the ``/status`` endpoint."""
    validate: Callable[[Object], Sequence[FieldError]] = nothing_wrong
    validate_update: Callable[[Object, Object], Sequence[FieldError]] = nothing_wrong_between
    validate_status: Callable[[Object, Object], Sequence[FieldError]] = nothing_wrong_between
    warnings: Callable[[Object], Sequence[str]] = no_warnings
    """Texts for ``Warning: 299`` headers after a create."""
    update_warnings: Callable[[Object, Object], Sequence[str]] = no_warnings_between
    """(new, old): the same after an update."""
    status_warnings: Callable[[Object, Object], Sequence[str]] = no_warnings_between
    """(new, old): the same after an update of the status."""
    subresources: Mapping[str, SubresourceRules] = dataclasses.field(default_factory=dict)
    valid_name: Callable[[str], Sequence[str]] | None = None
    """``name -> what is wrong``; None: a DNS-1123 subdomain."""
    allow_create_on_update: bool = False
    allow_unconditional_update: bool = True
    refused_as: str | None = None
    """The group in the words of a refusal, where it is not the kind's own: events are core events to validation."""
    field_labels: Sequence[str] = ()
    """Field selectors beside ``metadata.name`` and ``metadata.namespace``, such as ``spec.nodeName``."""
