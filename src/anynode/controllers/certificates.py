"""Certificate signing requests: kubelets' are approved, approved ones signed, old ones removed.

Three controllers as upstream has them. The signer is handed in as a function: keys stay where they belong. Source:
kubernetes ``pkg/controller/certificates/{approver,signer,cleaner}``, 1.36.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, get_path, key_of, uid_of
from anynode.api.resources import known
from anynode.controllers import certificate_rules as rules
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.informers.controller import Done, Outcome, RequeueAfter

REQUESTS = known("certificatesigningrequests", "certificates.k8s.io")
REVIEWS = known("subjectaccessreviews", "authorization.k8s.io")
SIGNING_SECONDS = 365 * 24 * 3600.0
WAIT_SECONDS = 60.0
"""When a request that was recognized but not allowed is looked at again: somebody may bind a role."""

Sign = Callable[[bytes, Sequence[str], float], bytes]
"""(request, usages, seconds) -> certificate, all PEM; raises ``Exception`` for a request that cannot be signed."""


class CertificateApprover:
    """Approves client certificates of kubelets that may have them."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._requests = context.informers.informer(REQUESTS)
        self._controller = context.controller("csrapproving", self.reconcile)
        self._requests.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._requests,))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        csr = self._requests.store.get(key)
        if csr is None or rules.is_issued(csr) or rules.is_decided(csr):
            return Done()
        try:
            candidates = rules.recognized(csr, rules.parsed(csr))
        except ValueError:
            return Done()  # the server takes none that cannot be read
        for subresource, said in candidates:
            if await self._allowed(csr, subresource):
                await self._approve(csr, said)
                return Done()
        return RequeueAfter(WAIT_SECONDS) if candidates else Done()

    async def _allowed(self, csr: Object, subresource: str) -> bool:
        spec = csr["spec"]
        asked = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "verb": "create",
            "subresource": subresource,
            "version": "*",
        }
        who = {"user": spec.get("username"), "uid": spec.get("uid"), "groups": spec.get("groups")}
        review = await self._context.client.create(
            REVIEWS,
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    **{field: value for field, value in who.items() if value},
                    "extra": spec.get("extra") or {},
                    "resourceAttributes": asked,
                },
            },
        )
        return bool(get_path(review, "status", "allowed", default=False))

    async def _approve(self, csr: Object, said: str) -> None:
        condition = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": said}
        await self._context.client.update(REQUESTS, _with_condition(csr, condition), subresource="approval")


class CertificateSigner:
    """Signs approved requests of the cluster's own signers."""

    def __init__(self, context: ControllerContext, *, sign: Sign, most_seconds: float = SIGNING_SECONDS) -> None:
        self._context = context
        self._sign = sign
        self._most_seconds = most_seconds
        self._requests = context.informers.informer(REQUESTS)
        self._controller = context.controller("csrsigning", self.reconcile)
        self._requests.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._requests,))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        csr = self._requests.store.get(key)
        if csr is None or rules.is_issued(csr) or not rules.condition_true(csr, "Approved"):
            return Done()
        if rules.condition_true(csr, "Denied") or rules.condition_true(csr, "Failed"):
            return Done()
        check = rules.SIGNERS.get(get_path(csr, "spec", "signerName", default=""))
        if check is None:
            return Done()  # somebody else's signer
        wrong = check(rules.parsed(csr), rules.usages_of(csr))
        if wrong:
            condition = {
                "type": "Failed",
                "status": "True",
                "reason": "SignerValidationFailure",
                "message": wrong,
                "lastUpdateTime": self._context.timestamp(),
            }
            await self._context.client.update(REQUESTS, _with_condition(csr, condition), subresource="status")
            return Done()
        seconds = rules.life_seconds(csr, self._most_seconds)
        certificate = self._sign(rules.pem_of(csr), rules.usages_of(csr), seconds)
        status = {**(csr.get("status") or {}), "certificate": base64.b64encode(certificate).decode()}
        await self._context.client.update(REQUESTS, {**csr, "status": status}, subresource="status")
        return Done()


class CertificateCleaner:
    """Removes requests that were issued, refused or forgotten long ago."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._requests = context.informers.informer(REQUESTS)
        self._controller = context.controller("csrcleaner", self.reconcile, workers=1)
        self._requests.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._requests,))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        csr = self._requests.store.get(key)
        end = None if csr is None else rules.over_at(csr)
        if csr is None or end is None:
            return Done()
        left = end - self._context.now()
        if left >= 0:
            return RequeueAfter(left + 1)
        try:
            await self._context.client.delete(REQUESTS, key, uid=uid_of(csr))
        except NotFound:
            return Done()
        return Done()


def _with_condition(csr: Object, condition: Object) -> Object:
    status = csr.get("status") or {}
    return {**csr, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}
