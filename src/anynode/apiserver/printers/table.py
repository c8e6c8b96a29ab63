"""Which row belongs to which resource, and the definitions of the columns.

A resource without a row of its own is shown by name and time of creation. Descriptions of columns: as recorded of a
real kube-apiserver 1.36, in ``data/column-descriptions.json``; columns that were not recorded have none.
"""

from __future__ import annotations

import datetime
import functools
import importlib.resources
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import orjson

from anynode.api import resources
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.apiserver.printers import cluster_kinds, core, network, pods, workloads

Printer: TypeAlias = Callable[[Object, datetime.datetime], list[Any]]

DEFAULT_COLUMNS = "v1/limitranges"
NEVER = "0001-01-01T00:00:00Z"

PRINTERS: Mapping[tuple[str, str], Printer] = {
    ("", "componentstatuses"): core.component_status,
    ("", "configmaps"): core.config_map,
    ("", "endpoints"): network.endpoints,
    ("", "events"): core.event,
    ("", "namespaces"): core.namespace,
    ("", "nodes"): core.node,
    ("", "persistentvolumeclaims"): core.persistent_volume_claim,
    ("", "persistentvolumes"): core.persistent_volume,
    ("", "pods"): pods.pod_cells,
    ("", "podtemplates"): workloads.pod_template,
    ("", "replicationcontrollers"): workloads.replication_controller,
    ("", "resourcequotas"): core.resource_quota,
    ("", "secrets"): core.secret,
    ("", "serviceaccounts"): core.name_and_age,
    ("", "services"): network.service,
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"): cluster_kinds.admission_policy,
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"): cluster_kinds.admission_policy_binding,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): cluster_kinds.webhook_configuration,
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): cluster_kinds.admission_policy,
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): cluster_kinds.admission_policy_binding,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): cluster_kinds.webhook_configuration,
    ("apiregistration.k8s.io", "apiservices"): cluster_kinds.api_service,
    ("apps", "controllerrevisions"): workloads.controller_revision,
    ("apps", "daemonsets"): workloads.daemon_set,
    ("apps", "deployments"): workloads.deployment,
    ("apps", "replicasets"): workloads.replica_set,
    ("apps", "statefulsets"): workloads.stateful_set,
    ("autoscaling", "horizontalpodautoscalers"): workloads.horizontal_pod_autoscaler,
    ("batch", "cronjobs"): workloads.cron_job,
    ("batch", "jobs"): workloads.job,
    ("certificates.k8s.io", "certificatesigningrequests"): cluster_kinds.signing_request,
    ("coordination.k8s.io", "leases"): cluster_kinds.lease,
    ("discovery.k8s.io", "endpointslices"): network.endpoint_slice,
    ("events.k8s.io", "events"): core.event,
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): cluster_kinds.flow_schema,
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): cluster_kinds.priority_level,
    ("networking.k8s.io", "ingressclasses"): network.ingress_class,
    ("networking.k8s.io", "ingresses"): network.ingress,
    ("networking.k8s.io", "ipaddresses"): network.ip_address,
    ("networking.k8s.io", "networkpolicies"): network.network_policy,
    ("networking.k8s.io", "servicecidrs"): network.service_cidr,
    ("node.k8s.io", "runtimeclasses"): cluster_kinds.runtime_class,
    ("policy", "poddisruptionbudgets"): workloads.pod_disruption_budget,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): cluster_kinds.role_binding,
    ("rbac.authorization.k8s.io", "rolebindings"): cluster_kinds.role_binding,
    ("resource.k8s.io", "deviceclasses"): core.name_and_age,
    ("resource.k8s.io", "resourceclaims"): cluster_kinds.resource_claim,
    ("resource.k8s.io", "resourceclaimtemplates"): core.name_and_age,
    ("resource.k8s.io", "resourceslices"): cluster_kinds.resource_slice,
    ("scheduling.k8s.io", "priorityclasses"): cluster_kinds.priority_class,
    ("storage.k8s.io", "csidrivers"): cluster_kinds.csi_driver,
    ("storage.k8s.io", "csinodes"): cluster_kinds.csi_node,
    ("storage.k8s.io", "storageclasses"): cluster_kinds.storage_class,
    ("storage.k8s.io", "volumeattachments"): cluster_kinds.volume_attachment,
    ("storage.k8s.io", "volumeattributesclasses"): cluster_kinds.volume_attributes_class,
}


def columns(resource: Resource) -> list[Any]:
    """The column definitions of ``resource``; shared, never to be changed."""
    defined = _columns()
    return defined.get(f"{resource.api_version}/{resource.plural}") or defined[DEFAULT_COLUMNS]


def cells(resource: Resource, obj: Object, now: datetime.datetime) -> list[Any]:
    """One row, as wide as upstream's."""
    printer = PRINTERS.get((resource.group, resource.plural))
    if printer is not None:
        return printer(obj, now)
    metadata = obj["metadata"]
    return [metadata.get("name", ""), metadata.get("creationTimestamp") or NEVER]


def conditions(resource: Resource, obj: Object) -> list[Object] | None:
    """What a row says beside its cells (pods that are over), or None."""
    if resource.plural == "pods" and not resource.group:
        return pods.conditions(obj)
    return None


def no_rows(resource: Resource) -> list[Any] | None:
    """What a table without rows says of its rows: upstream has null for built-in kinds shown by name and time only."""
    builtin = f"{resource.api_version}/{resource.plural}" in _columns()
    return None if builtin and (resource.group, resource.plural) not in PRINTERS else []


@functools.cache
def _columns() -> Mapping[str, list[Any]]:
    text = importlib.resources.files("anynode.apiserver").joinpath("data/column-descriptions.json").read_bytes()
    described = orjson.loads(text)
    texts: list[str] = described["texts"]
    found: dict[str, list[Any]] = {}
    for key, definitions in resources.columns().items():
        numbers = described["columns"].get(key, ())
        said = [texts[number] for number in numbers] or [""] * len(definitions)
        found[key] = [
            {
                "name": each["name"],
                "type": each["type"],
                "format": each["format"],
                "description": about,
                "priority": each["priority"],
            }
            for each, about in zip(definitions, said, strict=True)
        ]
    return found
