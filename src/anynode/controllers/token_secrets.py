"""Secrets of type ``kubernetes.io/service-account-token`` get the token of the account they name, and go with it.

In: Secrets of that type and ServiceAccounts; a function that signs. Out: ``token``, ``ca.crt`` and ``namespace`` in the
Secret, or the Secret removed once its account is not there any more. Source: kubernetes
``pkg/controller/serviceaccount/tokens_controller.go``, 1.36.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, annotations_of, key_of, name_of, namespace_of, uid_of, with_meta
from anynode.api.resources import known
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

SECRETS, ACCOUNTS = known("secrets"), known("serviceaccounts")
TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME, ACCOUNT_UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
BY_ACCOUNT = "account"

SignToken = Callable[[str, str, str, str], str]
"""(namespace, account, its uid, secret) -> the token."""


class TokenSecrets:
    """Fills such Secrets. ``root_ca``: PEM, what the token's holder trusts."""

    def __init__(self, context: ControllerContext, *, sign: SignToken, root_ca: str) -> None:
        self._client = context.client
        self._sign = sign
        self._root_ca = base64.b64encode(root_ca.encode()).decode()
        self._secrets = context.informers.informer(SECRETS, field_selector=f"type={TYPE}")
        self._accounts = context.informers.informer(ACCOUNTS)
        self._secrets.store.add_index(
            BY_ACCOUNT, lambda secret: [f"{namespace_of(secret)}/{annotations_of(secret).get(ACCOUNT_NAME, '')}"]
        )
        self._controller = context.controller("token-secrets", self.reconcile)
        self._secrets.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))
        self._accounts.subscribe(self._account_changed)

    def _account_changed(self, delta: Delta) -> None:
        for secret in self._secrets.store.by_index(BY_ACCOUNT, str(key_of(delta.obj))):
            self._controller.queue.add(key_of(secret))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._secrets, self._accounts))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        secret = self._secrets.store.get(key)
        if secret is None:
            return Done()
        account = await self._account(secret)
        if account is None:
            try:
                await self._client.delete(SECRETS, key, uid=uid_of(secret))
            except NotFound:
                return Done()
            return Done()
        filled = self._filled(secret, account)
        if filled is not None:
            await self._client.update(SECRETS, filled)
        return Done()

    async def _account(self, secret: Object) -> Object | None:
        """The account the Secret is of; None when it is gone, or was made again since."""
        annotations = annotations_of(secret)
        key = ObjectKey(namespace_of(secret), annotations.get(ACCOUNT_NAME, ""))
        if not key.name:
            return None
        account = self._accounts.store.get(key)
        if account is None:
            try:
                account = await self._client.get(ACCOUNTS, key)  # it may be newer than the mirror
            except NotFound:
                return None
        uid = annotations.get(ACCOUNT_UID)
        return account if uid in (None, "", uid_of(account)) else None

    def _filled(self, secret: Object, account: Object) -> Object | None:
        """The Secret with all it should have; None when it has it."""
        namespace, data = namespace_of(secret), dict(secret.get("data") or {})
        wanted = {"ca.crt": self._root_ca, "namespace": base64.b64encode(namespace.encode()).decode()}
        missing = {field: value for field, value in wanted.items() if value and data.get(field) != value}
        if not data.get("token"):
            token = self._sign(namespace, name_of(account), uid_of(account), name_of(secret))
            missing["token"] = base64.b64encode(token.encode()).decode()
        annotations = annotations_of(secret)
        if not missing and annotations.get(ACCOUNT_UID) == uid_of(account):
            return None
        marked = with_meta(secret, annotations={**annotations, ACCOUNT_UID: uid_of(account)})
        return {**marked, "data": {**data, **missing}}
