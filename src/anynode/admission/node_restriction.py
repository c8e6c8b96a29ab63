"""A node changes what is its own: its Node, lease and CSINode, its mirror pods, the status of pods bound to it.

Looks at writes of users ``system:node:<name>`` in group ``system:nodes`` only. Source: kubernetes
``plugin/pkg/admission/noderestriction``, 1.36.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from cryptography import x509
from cryptography.x509.oid import NameOID

from anynode.admission.chain import Attributes, Lookup, Plugin
from anynode.api import errors, objects, resources
from anynode.api.errors import ApiError
from anynode.api.objects import Object, ObjectKey
from anynode.api.wire import User
from anynode.security import pod_references
from anynode.security.node_authorizer import LEASES, NODE_USER, node_of
from anynode.security.rbac import Attributes as Asked

May = Callable[[User, Asked], bool]
KUBELET_LABELS = frozenset({
    "kubernetes.io/hostname", "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type", "kubernetes.io/os", "kubernetes.io/arch",
    "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
})  # fmt: skip
KUBELET_LABEL_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
RESTRICTED_NAMESPACE = "node-restriction.kubernetes.io"
NODE_SIGNERS = frozenset({"kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"})
AUDIENCE_VERB = "request-serviceaccounts-token-audience"
"""The verb by which a node may ask for tokens of an audience that no volume of the pod names."""
_CLAIM_STATUS = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")


class NodeRestriction(Plugin):
    """``may``: whether a user has a right, for token audiences."""

    name = "NodeRestriction"
    operations = frozenset({"CREATE", "UPDATE", "DELETE"})
    resources = frozenset({
        "pods", "pods/status", "pods/eviction", "pods/binding", "pods/ephemeralcontainers", "pods/resize",
        "nodes", "nodes/status", "persistentvolumeclaims", "persistentvolumeclaims/status", "serviceaccounts/token",
        "leases.coordination.k8s.io", "csinodes.storage.k8s.io", "resourceslices.resource.k8s.io",
        "certificatesigningrequests.certificates.k8s.io",
    })  # fmt: skip

    def __init__(self, lookup: Lookup, may: May) -> None:
        self._lookup = lookup
        self._may = may
        self._checks: Mapping[str, Callable[[str, Attributes], None]] = {
            "nodes": _check_node,
            "persistentvolumeclaims": _check_claim,
            "serviceaccounts": self._check_token,
            "leases": _check_lease,
            "csinodes": _check_csi_node,
            "resourceslices": _check_slice,
            "certificatesigningrequests": _check_signing_request,
        }

    async def admit(self, attributes: Attributes) -> Object | None:
        user = attributes.user
        if not user.name.startswith(NODE_USER):
            return attributes.obj
        node = node_of(user)
        if node is None:
            return attributes.obj
        if not node:
            raise attributes.forbidden(f'could not determine node from user "{user.name}"')
        if attributes.resource.plural == "pods":
            self._check_pod(node, attributes)
        else:
            self._checks[attributes.resource.plural](node, attributes)
        return attributes.obj

    # --- pods

    def _check_pod(self, node: str, attributes: Attributes) -> None:
        if attributes.subresource == "status":
            _check_pod_status(node, attributes)
        elif attributes.subresource == "eviction":
            self._check_eviction(node, attributes)
        elif attributes.subresource:
            why = f"unexpected pod subresource \"{attributes.subresource}\", only 'status' and 'eviction' are allowed"
            raise attributes.forbidden(why)
        elif attributes.operation == "CREATE":
            self._check_mirror(node, attributes)
        elif attributes.operation == "DELETE":
            pod = self._pod(attributes.resource.plural, attributes.namespace, attributes.name)
            if _home(pod) != node:
                raise attributes.forbidden(f'node "{node}" can only delete pods with spec.nodeName set to itself')
        else:
            why = f'unexpected operation "{attributes.operation}", node "{node}" can only create and delete mirror pods'
            raise attributes.forbidden(why)

    def _pod(self, plural: str, namespace: str, name: str) -> Object:
        resource = resources.known(plural)
        found = self._lookup(resource, ObjectKey(namespace, name))
        if found is None:
            # Upstream looks it up in its cache, which names the kind.
            kind = resource.kind.lower()
            raise errors.NotFound(f'{kind} "{name}" not found', details={"name": name, "kind": kind})
        return found

    def _check_mirror(self, node: str, attributes: Attributes) -> None:
        pod = attributes.obj or {}
        metadata = objects.meta(pod)
        if pod_references.MIRROR not in (metadata.get("annotations") or {}):
            why = f'pod does not have "{pod_references.MIRROR}" annotation, node "{node}" can only create mirror pods'
            raise attributes.forbidden(why)
        can_only = f'node "{node}" can only create pods with'
        if _home(pod) != node:
            raise attributes.forbidden(f"{can_only} spec.nodeName set to itself")
        owners = metadata.get("ownerReferences") or []
        if len(owners) > 1:
            raise attributes.forbidden(f"{can_only} a single owner reference set to itself")
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise attributes.forbidden(f"{can_only} an owner reference set to itself")
        if not owner.get("controller"):
            raise attributes.forbidden(f"{can_only} a controller owner reference set to itself")
        if owner.get("blockOwnerDeletion"):
            raise attributes.forbidden(f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        uid = objects.uid_of(self._pod("nodes", "", node))
        if owner.get("uid") != uid:
            raise attributes.forbidden(f"node {node} UID mismatch: expected {owner.get('uid', '')} got {uid}")
        try:
            referring = pod_references.api_reference(pod)
        except ValueError as error:
            raise attributes.forbidden(f"error checking mirror pod for API references: {error}") from error
        if referring:
            raise attributes.forbidden(f'node "{node}" can not create pods that reference {referring}')

    def _check_eviction(self, node: str, attributes: Attributes) -> None:
        name = attributes.name or objects.meta(attributes.obj or {}).get("name") or ""
        if not name:
            raise attributes.forbidden("could not determine pod from request data")
        if _home(self._pod("pods", attributes.namespace, name)) != node:
            raise attributes.forbidden(f"node {node} can only evict pods with spec.nodeName set to itself")

    # --- tokens

    def _check_token(self, node: str, attributes: Attributes) -> None:
        spec = (attributes.obj or {}).get("spec") or {}
        ref = spec.get("boundObjectRef") or {}
        if (ref.get("apiVersion"), ref.get("kind")) != ("v1", "Pod") or not ref.get("name"):
            raise attributes.forbidden("node requested token not bound to a pod")
        if not ref.get("uid"):
            raise attributes.forbidden("node requested token with a pod binding without a uid")
        pod = self._pod("pods", attributes.namespace, ref["name"])
        if ref["uid"] != objects.uid_of(pod):
            why = (
                f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise attributes.forbidden(why)
        if _home(pod) != node:
            raise attributes.forbidden("node requested token bound to a pod scheduled on a different node")
        self._check_audience(attributes, spec.get("audiences") or [], pod)

    def _check_audience(self, attributes: Attributes, audiences: list[str], pod: Object) -> None:
        if len(audiences) > 1:
            raise attributes.forbidden("node may only request 0 or 1 audiences")
        audience = audiences[0] if audiences else ""
        found, wrong = self._pod_names_audience(pod, audience)
        if found:
            return
        if wrong:
            said = wrong[0] if len(wrong) == 1 else f"[{', '.join(dict.fromkeys(wrong))}]"
            raise attributes.forbidden(f'error validating audience "{audience}": {said}')
        user = attributes.user
        asked = Asked(
            verb=AUDIENCE_VERB,
            version="v1",
            resource=audience,
            namespace=attributes.namespace,
            name=attributes.name,
        )
        if not self._may(user, asked):
            raise attributes.forbidden(
                f'audience "{audience}" not found in pod spec volume, {user.name} is not authorized to request tokens '
                "for this audience"
            )

    def _pod_names_audience(self, pod: Object, audience: str) -> tuple[bool, list[str]]:
        wrong: list[str] = []
        namespace = objects.namespace_of(pod)
        for volume in objects.get_path(pod, "spec", "volumes", default=()):
            for source in (volume.get("projected") or {}).get("sources") or ():
                token = source.get("serviceAccountToken")
                if token is not None and (token.get("audience") or "") == audience:
                    return True, []
            try:
                driver = self._driver(volume, pod, namespace)
                if driver and self._driver_names(driver, audience):
                    return True, []
            except ApiError as error:
                wrong.append(error.message)
        return False, wrong

    def _driver(self, volume: Object, pod: Object, namespace: str) -> str:
        """The CSI driver behind a volume of a pod, empty for none."""
        if (volume.get("ephemeral") or {}).get("volumeClaimTemplate") is not None:
            claim = f"{objects.name_of(pod)}-{volume.get('name', '')}"
        elif volume.get("persistentVolumeClaim") is not None:
            claim = volume["persistentVolumeClaim"].get("claimName") or ""
        else:
            return (volume.get("csi") or {}).get("driver") or ""
        bound = self._pod("persistentvolumeclaims", namespace, claim)
        found = self._pod("persistentvolumes", "", objects.get_path(bound, "spec", "volumeName", default=""))
        driver: str = objects.get_path(found, "spec", "csi", "driver", default="")
        return driver

    def _driver_names(self, driver: str, audience: str) -> bool:
        resource = resources.known("csidrivers", "storage.k8s.io")
        found = self._lookup(resource, ObjectKey("", driver))
        if found is None:
            raise errors.not_found(resource, driver)
        requests = objects.get_path(found, "spec", "tokenRequests", default=())
        return any((each.get("audience") or "") == audience for each in requests)


def _home(pod: Object) -> str:
    home: str = objects.get_path(pod, "spec", "nodeName", default="")
    return home


def _check_pod_status(node: str, attributes: Attributes) -> None:
    if attributes.operation != "UPDATE":
        raise attributes.forbidden(f'unexpected operation "{attributes.operation}"')
    old, new = attributes.old or {}, attributes.obj or {}
    if _home(old) != node:
        raise attributes.forbidden(
            f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
        )
    if objects.labels_of(old) != objects.labels_of(new):
        raise attributes.forbidden(f'node "{node}" cannot update labels through pod status')
    before, after = old.get("status") or {}, new.get("status") or {}
    if (before.get("resourceClaimStatuses") or []) != (after.get("resourceClaimStatuses") or []):
        raise attributes.forbidden(f'node "{node}" cannot update resource claim statues')
    if before.get("extendedResourceClaimStatus") != after.get("extendedResourceClaimStatus"):
        raise attributes.forbidden(f'node "{node}" cannot update extended resource claim status')


def _check_node(node: str, attributes: Attributes) -> None:
    name = attributes.name or objects.meta(attributes.obj or {}).get("name") or ""
    if name != node:
        raise attributes.forbidden(f'node "{node}" is not allowed to modify node "{name}"')
    if attributes.operation == "DELETE":
        return
    new, old = attributes.obj or {}, attributes.old or {}
    creating = attributes.operation == "CREATE"
    source = objects.get_path(new, "spec", "configSource", default=None)
    if source is not None and creating:
        raise attributes.forbidden(f'node "{node}" is not allowed to create pods with a non-nil configSource')
    if source is not None and source != objects.get_path(old, "spec", "configSource", default=None):
        raise attributes.forbidden(f'node "{node}" is not allowed to update configSource to a new non-nil configSource')
    if not creating:
        taints, before = (objects.get_path(each, "spec", "taints", default=None) or [] for each in (new, old))
        if taints != before:
            raise attributes.forbidden(f'node "{node}" is not allowed to modify taints')
        owners, before = (objects.meta(each).get("ownerReferences") or [] for each in (new, old))
        if owners != before:
            raise attributes.forbidden(f'node "{node}" is not allowed to modify ownerReferences')
    changed = {key for key, _ in objects.labels_of(new).items() ^ objects.labels_of(old).items()}
    forbidden = ", ".join(sorted(label for label in changed if _is_forbidden_label(label, creating=creating)))
    if forbidden and creating:
        raise attributes.forbidden(f'node "{node}" is not allowed to set the following labels: {forbidden}')
    if forbidden:
        raise attributes.forbidden(f"is not allowed to modify labels: {forbidden}")


def _within(namespace: str, domain: str) -> bool:
    return namespace == domain or namespace.endswith(f".{domain}")


def _is_forbidden_label(label: str, *, creating: bool) -> bool:
    namespace, slash, _ = label.partition("/")
    if not slash:
        return False
    if _within(namespace, RESTRICTED_NAMESPACE):
        return True
    if not _within(namespace, "kubernetes.io") and not _within(namespace, "k8s.io"):
        return False
    return label not in KUBELET_LABELS and not any(_within(namespace, each) for each in KUBELET_LABEL_NAMESPACES)


def _check_claim(node: str, attributes: Attributes) -> None:
    if attributes.subresource != "status":
        raise attributes.forbidden("may only update PVC status")
    if attributes.operation != "UPDATE":
        raise attributes.forbidden(f'unexpected operation "{attributes.operation}"')
    if _claim_without_status(attributes.obj or {}) != _claim_without_status(attributes.old or {}):
        why = f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
        raise attributes.forbidden(why)


def _claim_without_status(claim: Object) -> Object:
    metadata = {
        key: value for key, value in objects.meta(claim).items() if key not in ("resourceVersion", "managedFields")
    }
    status = {key: value for key, value in (claim.get("status") or {}).items() if key not in _CLAIM_STATUS}
    return {**claim, "metadata": metadata, "status": status}


def _check_lease(node: str, attributes: Attributes) -> None:
    if attributes.namespace != LEASES:
        raise attributes.forbidden(f'can only access leases in the "{LEASES}" system namespace')
    if _said_name(attributes) != node:
        raise attributes.forbidden("can only access node lease with the same name as the requesting node")


def _said_name(attributes: Attributes) -> str:
    """The name of the object written; a creation's stands in the object."""
    if attributes.operation == "CREATE":
        return objects.meta(attributes.obj or {}).get("name") or ""
    return attributes.name


def _check_csi_node(node: str, attributes: Attributes) -> None:
    if _said_name(attributes) != node:
        raise attributes.forbidden("can only access CSINode with the same name as the requesting node")


def _check_slice(node: str, attributes: Attributes) -> None:
    said = {"CREATE": ("create", attributes.obj), "DELETE": ("delete", attributes.old)}.get(attributes.operation)
    if said is None:
        return
    verb, found = said
    if objects.get_path(found or {}, "spec", "nodeName", default="") != node:
        raise attributes.forbidden(f"can only {verb} ResourceSlice with the same NodeName as the requesting node")


def _check_signing_request(node: str, attributes: Attributes) -> None:
    spec = (attributes.obj or {}).get("spec") or {}
    if attributes.operation != "CREATE" or spec.get("signerName") not in NODE_SIGNERS:
        return
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or ""))
        names = [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except ValueError as error:
        raise attributes.forbidden(f"unable to parse csr: {error}") from error
    if (names[-1] if names else "") != f"{NODE_USER}{node}":
        raise attributes.forbidden(f"can only create a node CSR with CN={NODE_USER}{node}")
