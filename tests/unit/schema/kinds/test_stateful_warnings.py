"""What a stateful set may say and is warned of."""

from __future__ import annotations

from anynode.schema.kinds.catalogue import rules_of

RULES = rules_of("apps", "StatefulSet")


def test_endless_revisions_and_fractions_of_bytes() -> None:
    claim = {"spec": {"resources": {"requests": {"storage": "1m"}}}}
    stateful_set = {"metadata": {"name": "s"}, "spec": {"revisionHistoryLimit": -1, "volumeClaimTemplates": [claim]}}
    endless = (
        "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
    )
    fraction = 'resources.requests[storage]: fractional byte value "1m" is invalid, must be an integer'
    assert list(RULES.warnings(stateful_set)) == [f"spec.volumeClaimTemplates[0].{fraction}", endless]
    after = list(RULES.update_warnings(stateful_set, stateful_set))
    assert after == [f"spec.volumeClaimTemplates[0].Spec.{fraction}", endless]
