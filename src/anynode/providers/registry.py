"""Finds providers by name in the entry point group ``anynode.providers``, and says what one can do.

In: a name and ``ProviderSettings``; out: the provider. Raises ``ProviderError`` with what the user can do.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import cast

from anynode.provider import (
    Attach,
    Dial,
    Exec,
    Images,
    Logs,
    Provider,
    ProviderError,
    ProviderSettings,
    Stats,
    VolumeUpdates,
)

GROUP = "anynode.providers"
CAPABILITIES: Mapping[str, type] = {
    "logs": Logs,
    "exec": Exec,
    "attach": Attach,
    "dial": Dial,
    "stats": Stats,
    "images": Images,
    "volume updates": VolumeUpdates,
}


def names() -> list[str]:
    """Every installed provider."""
    return sorted({each.name for each in importlib.metadata.entry_points(group=GROUP)})


def load(name: str, settings: ProviderSettings) -> Provider:
    """The provider of that name."""
    for entry in importlib.metadata.entry_points(group=GROUP, name=name):
        factory = entry.load()
        return cast(Provider, factory(settings))
    known = ", ".join(names()) or "none"
    raise ProviderError("UnknownProvider", f'there is no provider "{name}"; installed are: {known}')


def capabilities(provider: Provider) -> list[str]:
    """What the provider can do beyond running pods."""
    return [name for name, protocol in CAPABILITIES.items() if isinstance(provider, protocol)]
