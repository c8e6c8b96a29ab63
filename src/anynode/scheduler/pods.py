"""A pod as the scheduler sees it: its shape, shared by all pods that ask for the same, and what is its own. Pure.

In: a pod. Out: ``PodFacts`` with a ``Shape``: pods whose specs say the same about scheduling get the very same
``Shape`` object, so that whatever is computed for one serves all. A selector the API server should never have let in
matches nothing.

Source: kube-scheduler ``framework/types.go`` (PodInfo) and component-helpers ``scheduling/corev1``, 1.36.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anynode.api.objects import NO_META, Object, ObjectKey, Uid, get_path, meta
from anynode.api.selectors import NOTHING, LabelSelector, SelectorError, of_expressions, of_label_selector, of_labels
from anynode.scheduler.requests import Requests, requests_of

SHAPES_KEPT = 4096
HARD_AFFINITY_WEIGHT = 1
HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"


@dataclasses.dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the node itself; ``address`` 0.0.0.0 means all of its addresses."""

    address: str
    protocol: str
    port: int

    def conflicts(self, other: HostPort) -> bool:
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.address == other.address or "0.0.0.0" in (self.address, other.address)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class NodeTerm:
    """One node selector term: labels, and names it may have (None: any)."""

    labels: LabelSelector
    names: frozenset[str] | None = None
    not_names: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Preference:
    """A preferred node selector term."""

    weight: int
    term: NodeTerm


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class AffinityTerm:
    """One required pod affinity or anti-affinity term; no namespaces and no selector: the pod's own namespace."""

    topology_key: str
    selector: LabelSelector
    namespaces: frozenset[str]
    namespace_selector: LabelSelector | None

    def matches(self, own: str, other: PodFacts, namespace_labels: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether the term of a pod in namespace ``own`` speaks of ``other``."""
        if not self.selector.matches(other.labels):
            return False
        if other.namespace in self.namespaces:
            return True
        if self.namespace_selector is not None:
            return self.namespace_selector.matches(namespace_labels.get(other.namespace) or {})
        return not self.namespaces and other.namespace == own


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class WeightedTerm:
    """A preferred pod affinity term; a negative weight is anti-affinity."""

    weight: int
    term: AffinityTerm


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SpreadConstraint:
    """One topology spread constraint; whether it is a must is for whoever holds it to know."""

    topology_key: str
    max_skew: int
    min_domains: int
    selector: LabelSelector
    match_label_keys: tuple[str, ...]
    honor_affinity: bool
    honor_taints: bool


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Shape:
    """What pods of one kind ask for. Compared by identity: equal asks are the same object."""

    requests: Requests
    ports: tuple[HostPort, ...] = ()
    tolerations: tuple[Object, ...] = ()
    node_selector: LabelSelector | None = None
    node_terms: tuple[NodeTerm, ...] | None = None
    preferences: tuple[Preference, ...] = ()
    affinity: tuple[AffinityTerm, ...] = ()
    anti_affinity: tuple[AffinityTerm, ...] = ()
    spread: tuple[SpreadConstraint, ...] = ()
    wished_affinity: tuple[WeightedTerm, ...] = ()
    wished_spread: tuple[SpreadConstraint, ...] = ()

    @property
    def looks_at_pods(self) -> bool:
        """Whether where it may go depends on which pods are where."""
        return bool(self.affinity or self.anti_affinity or self.spread)

    @property
    def wishes_about_pods(self) -> bool:
        """Whether where it would best go depends on which pods are where."""
        return bool(self.wished_affinity or self.wished_spread)

    @property
    def opinions(self) -> tuple[WeightedTerm, ...]:
        """What it wishes of pods that come after it; a required affinity counts as a wish, too."""
        return (*self.wished_affinity, *(WeightedTerm(HARD_AFFINITY_WEIGHT, term) for term in self.affinity))

    @property
    def wanted_names(self) -> frozenset[str] | None:
        """The only node names that could do, if every term names some (a DaemonSet's pods)."""
        if not self.node_terms or any(term.names is None for term in self.node_terms):
            return None
        return frozenset[str]().union(*(term.names or frozenset() for term in self.node_terms))


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PodFacts:
    """One pod: who it is and its shape."""

    uid: Uid
    key: ObjectKey
    namespace: str
    labels: Mapping[str, str]
    shape: Shape
    priority: int = 0
    deleting: bool = False
    has_claims: bool = False
    """Whether it mounts PersistentVolumeClaims, which may tie it to certain nodes."""
    fellows: LabelSelector | None = None
    """Whom it is to spread with, unless it says itself how to spread."""

    @property
    def wishes(self) -> bool:
        """Whether where it would best go depends on which pods are where."""
        return self.fellows is not None or self.shape.wishes_about_pods


class Shapes:
    """Pods -> facts; remembers the shapes seen lately."""

    def __init__(self) -> None:
        self._known: collections.OrderedDict[bytes, Shape] = collections.OrderedDict()

    def facts(self, pod: Object, fellows: LabelSelector | None = None) -> PodFacts:
        spec = pod.get("spec") or {}
        metadata = meta(pod)
        namespace = metadata.get("namespace") or ""
        return PodFacts(
            uid=Uid(metadata.get("uid") or ""),
            key=ObjectKey(namespace, metadata.get("name") or ""),
            namespace=namespace,
            labels=metadata.get("labels") or NO_META,
            shape=self._shape(spec),
            priority=spec.get("priority") or 0,
            deleting=metadata.get("deletionTimestamp") is not None,
            has_claims=any(
                "persistentVolumeClaim" in each or "ephemeral" in each for each in spec.get("volumes") or ()
            ),
            fellows=fellows,
        )

    def _shape(self, spec: Mapping[str, Any]) -> Shape:
        signature = _signature(spec)
        shape = self._known.get(signature)
        if shape is None:
            shape = self._known[signature] = shape_of(spec)
            if len(self._known) > SHAPES_KEPT:
                self._known.popitem(last=False)
        return shape


def _signature(spec: Mapping[str, Any]) -> bytes:
    """Everything ``shape_of`` reads, as bytes."""
    get = spec.get
    return orjson.dumps(
        (
            [(each.get("resources"), each.get("ports")) for each in get("containers") or ()],
            [(each.get("resources"), each.get("restartPolicy")) for each in get("initContainers") or ()],
            get("nodeSelector"),
            get("affinity"),
            get("tolerations"),
            get("topologySpreadConstraints"),
            get("overhead"),
            get("resources"),
        )
    )


def shape_of(spec: Mapping[str, Any]) -> Shape:
    """The shape of a pod with this spec."""
    affinity = spec.get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    preferred = node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    selector = spec.get("nodeSelector")
    return Shape(
        requests=requests_of(spec),
        ports=_host_ports(spec),
        tolerations=tuple(spec.get("tolerations") or ()),
        node_selector=of_labels(selector) if selector else None,
        node_terms=None if required is None else node_terms(required.get("nodeSelectorTerms") or ()),
        preferences=tuple(
            Preference(each["weight"], term)
            for each in preferred
            for term in node_terms([each.get("preference") or {}])
            if each.get("weight")
        ),
        affinity=_affinity_terms(affinity.get("podAffinity")),
        anti_affinity=_affinity_terms(affinity.get("podAntiAffinity")),
        spread=_spreads(spec, "DoNotSchedule"),
        wished_affinity=(
            *_wished_terms(affinity.get("podAffinity"), 1),
            *_wished_terms(affinity.get("podAntiAffinity"), -1),
        ),
        wished_spread=_spreads(spec, "ScheduleAnyway"),
    )


def _host_ports(spec: Mapping[str, Any]) -> tuple[HostPort, ...]:
    return tuple(
        HostPort(port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def node_terms(terms: Sequence[Mapping[str, Any]]) -> tuple[NodeTerm, ...]:
    """The terms that can match; one without requirements matches nothing."""
    found = []
    for term in terms:
        expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
        if not expressions and not fields:
            continue
        names: frozenset[str] | None = None
        not_names: frozenset[str] = frozenset()
        for field in fields:
            values = frozenset(field.get("values") or ())
            if field.get("operator") == "In":
                names = values if names is None else names & values
            else:
                not_names |= values
        try:
            labels = of_expressions(expressions)
        except SelectorError:
            labels = NOTHING
        found.append(NodeTerm(labels, names, not_names))
    return tuple(found)


def _affinity_terms(section: Mapping[str, Any] | None) -> tuple[AffinityTerm, ...]:
    terms = (section or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_affinity_term(term) for term in terms)


def _wished_terms(section: Mapping[str, Any] | None, sign: int) -> tuple[WeightedTerm, ...]:
    terms = (section or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(
        WeightedTerm(sign * (each.get("weight") or 0), _affinity_term(each.get("podAffinityTerm") or {}))
        for each in terms
    )


def _affinity_term(term: Mapping[str, Any]) -> AffinityTerm:
    namespaces = term.get("namespaceSelector")
    return AffinityTerm(
        topology_key=term.get("topologyKey") or "",
        selector=_selector(term.get("labelSelector")),
        namespaces=frozenset(term.get("namespaces") or ()),
        namespace_selector=None if namespaces is None else _selector(namespaces),
    )


def _spreads(spec: Mapping[str, Any], when: str) -> tuple[SpreadConstraint, ...]:
    constraints = spec.get("topologySpreadConstraints") or ()
    return tuple(_spread(each) for each in constraints if each.get("whenUnsatisfiable") == when)


def _spread(constraint: Mapping[str, Any]) -> SpreadConstraint:
    return SpreadConstraint(
        topology_key=constraint.get("topologyKey") or "",
        max_skew=constraint.get("maxSkew") or 1,
        min_domains=constraint.get("minDomains") or 1,
        selector=_selector(constraint.get("labelSelector")),
        match_label_keys=tuple(constraint.get("matchLabelKeys") or ()),
        honor_affinity=constraint.get("nodeAffinityPolicy") != "Ignore",
        honor_taints=constraint.get("nodeTaintsPolicy") == "Honor",
    )


def _selector(selector: Mapping[str, Any] | None) -> LabelSelector:
    try:
        return of_label_selector(selector)
    except SelectorError:
        return NOTHING


def is_finished(pod: Object) -> bool:
    """Whether all of its containers ended for good, so that it takes no room."""
    return get_path(pod, "status", "phase") in ("Succeeded", "Failed")
