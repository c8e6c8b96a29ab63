"""Whether a pod may be on a node: node selector, node affinity, taints. Pure.

Source: component-helpers ``scheduling/corev1`` (nodeaffinity, taint and toleration helpers), 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anynode.api.objects import Object, get_path, labels_of, name_of
from anynode.api.selectors import SelectorError, of_expressions

NODE_NAME_FIELD = "metadata.name"


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether ``toleration`` covers ``taint``."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return operator == "Equal" and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(
    tolerations: Sequence[Mapping[str, Any]], taints: Iterable[Object], effects: tuple[str, ...]
) -> Object | None:
    """The first taint with one of ``effects`` that nothing tolerates."""
    for taint in taints:
        if taint.get("effect") in effects and not any(tolerates(each, taint) for each in tolerations):
            return taint
    return None


def affinity_fits(pod_spec: Mapping[str, Any], node: Object) -> bool:
    """Whether node selector and required node affinity of a pod allow ``node``."""
    labels = labels_of(node)
    for key, value in (pod_spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return False
    required = get_path(
        pod_spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", default=None
    )
    if required is None:
        return True
    return any(_term_fits(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term_fits(term: Mapping[str, Any], node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    try:
        if not of_expressions(expressions).matches(labels_of(node)):
            return False
    except SelectorError:
        return False
    return all(_field_fits(each, node) for each in fields)


def _field_fits(field: Mapping[str, Any], node: Object) -> bool:
    if field.get("key") != NODE_NAME_FIELD:
        return False
    return (name_of(node) in (field.get("values") or ())) == (field.get("operator") == "In")


def target_node(pod: Object) -> str:
    """The node a pod is on, or is pinned to by affinity on the node's name; empty when neither."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    terms = get_path(
        spec,
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
        default=(),
    )
    for term in terms:
        for field in term.get("matchFields") or ():
            values = list(field.get("values") or ())
            if field.get("key") == NODE_NAME_FIELD and field.get("operator") == "In" and len(values) == 1:
                return str(values[0])
    return ""


def pinned(affinity: Mapping[str, Any] | None, node: str) -> Object:
    """``affinity`` with its required node terms replaced by "this node and no other"."""
    term = {"matchFields": [{"key": NODE_NAME_FIELD, "operator": "In", "values": [node]}]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    before = dict(affinity or {})
    node_affinity = before.get("nodeAffinity") or {}
    selector = {**(node_affinity.get(required) or {}), "nodeSelectorTerms": [term]}
    return {**before, "nodeAffinity": {**node_affinity, required: selector}}
