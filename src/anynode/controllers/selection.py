"""Store indexes that find what a controller looks for without a scan over all objects.

``index_...`` prepares a store; the finders below need the index of theirs. An object with a selector is filed under
one pair it demands, an object with labels under each pair it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from anynode.api.objects import Object, controller_of, get_path, labels_of, namespace_of
from anynode.api.selectors import NOTHING, LabelSelector, SelectorError, of_label_selector, of_labels
from anynode.informers.store import Store

_CONTROLLER = "controllers/controller"
_LABEL = "controllers/label"
_NODE = "controllers/node"
_SELECTOR = "controllers/selector"
_PLAIN = "ReplicationController"
"""The kind whose selector is a plain map of labels."""


def matches(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` holds every pair of ``wanted``."""
    return all(labels.get(key) == value for key, value in wanted.items())


def index_owned(store: Store) -> None:
    """Keep ``store`` ready for ``owned_by`` and ``orphans``."""
    store.add_index(_CONTROLLER, _controller_keys)


def index_labels(store: Store) -> None:
    """Keep ``store`` ready for ``labelled``."""
    store.add_index(_LABEL, _label_keys)


def index_nodes(store: Store) -> None:
    """Keep ``store`` ready for ``on_node``."""
    store.add_index(_NODE, _node_keys)


def index_selectors(store: Store) -> None:
    """Keep ``store`` (of workloads or services) ready for ``selecting``."""
    store.add_index(_SELECTOR, _selector_keys)


def selector_of(obj: Mapping[str, Any]) -> LabelSelector:
    """``spec.selector`` of a workload, compiled; one that is absent, empty or cannot be read selects nothing."""
    written = get_path(obj, "spec", "selector")
    try:
        selector = of_labels(written) if obj.get("kind") == _PLAIN else of_label_selector(written)
    except SelectorError:
        return NOTHING
    return NOTHING if selector.empty else selector


def _controller_keys(obj: Object) -> Iterable[str]:
    reference = controller_of(obj)
    if reference is not None:
        return (f"uid/{reference.get('uid')}",)
    namespace = namespace_of(obj)
    return [f"orphan/{namespace}", *(f"orphan/{namespace}/{key}={value}" for key, value in labels_of(obj).items())]


def _selector_keys(obj: Object) -> Iterable[str]:
    selector = get_path(obj, "spec", "selector")
    if not selector:
        return ()
    inner = selector.get("matchLabels")
    wanted = inner if isinstance(inner, dict) else selector
    pairs = {key: value for key, value in wanted.items() if isinstance(value, str)}
    namespace = namespace_of(obj)
    if not pairs:
        return (f"{namespace}/",)
    key = max(pairs)
    return (f"{namespace}/{key}={pairs[key]}",)


def _label_keys(obj: Object) -> Iterable[str]:
    namespace = namespace_of(obj)
    return [f"{namespace}/{key}={value}" for key, value in labels_of(obj).items()]


def _node_keys(obj: Object) -> Iterable[str]:
    node = get_path(obj, "spec", "nodeName")
    return (node,) if node else ()


def owned_by(store: Store, uid: str) -> list[Object]:
    """What the controller with this UID owns."""
    return store.by_index(_CONTROLLER, f"uid/{uid}")


def orphans(store: Store, namespace: str, selector: LabelSelector) -> list[Object]:
    """What no controller owns in ``namespace`` and ``selector`` selects."""
    pair = next(
        (
            f"/{each.key}={each.values[0]}"
            for each in selector.requirements
            if each.operator in ("=", "==", "in") and len(each.values) == 1
        ),
        "",
    )
    found = store.by_index(_CONTROLLER, f"orphan/{namespace}{pair}")
    return [obj for obj in found if selector.matches(labels_of(obj))]


def selecting(store: Store, obj: Object) -> list[Object]:
    """The workloads whose label selector selects ``obj``."""
    return [each for each in _may_select(store, obj) if selector_of(each).matches(labels_of(obj))]


def services_of(store: Store, pod: Object) -> list[Object]:
    """The Services whose selector (a plain map) selects ``pod``."""
    labels = labels_of(pod)
    return [each for each in _may_select(store, pod) if matches(get_path(each, "spec", "selector"), labels)]


def _may_select(store: Store, obj: Object) -> Iterable[Object]:
    if not len(store):
        return  # most clusters lack most kinds of workload, and every bare pod comes this way
    namespace = namespace_of(obj)
    yield from store.by_index(_SELECTOR, f"{namespace}/")
    for key, value in labels_of(obj).items():
        yield from store.by_index(_SELECTOR, f"{namespace}/{key}={value}")


def on_node(store: Store, node: str) -> list[Object]:
    return store.by_index(_NODE, node)


def labelled(store: Store, namespace: str, wanted: Mapping[str, str]) -> list[Object]:
    """The objects of ``namespace`` with all these labels; looks only at those with the rarest pair."""
    if not wanted:
        return store.list(namespace)
    candidates = min((store.by_index(_LABEL, f"{namespace}/{key}={value}") for key, value in wanted.items()), key=len)
    return [obj for obj in candidates if matches(wanted, labels_of(obj))]
