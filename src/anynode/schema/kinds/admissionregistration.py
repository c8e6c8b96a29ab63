"""The rules of ``admissionregistration.k8s.io``: webhook configurations, admission policies and their bindings.

Source: kubernetes ``pkg/registry/admissionregistration``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.schema.kinds import admissionregistration_policies as policies
from anynode.schema.kinds import admissionregistration_webhooks as webhooks
from anynode.schema.rules import KindRules

GROUP = "admissionregistration.k8s.io"
RULES: Sequence[tuple[str, str, KindRules]] = (
    (GROUP, "ValidatingWebhookConfiguration", webhooks.VALIDATING),
    (GROUP, "MutatingWebhookConfiguration", webhooks.MUTATING),
    (GROUP, "ValidatingAdmissionPolicy", policies.VALIDATING_POLICY),
    (GROUP, "ValidatingAdmissionPolicyBinding", policies.VALIDATING_BINDING),
    (GROUP, "MutatingAdmissionPolicy", policies.MUTATING_POLICY),
    (GROUP, "MutatingAdmissionPolicyBinding", policies.MUTATING_BINDING),
)
