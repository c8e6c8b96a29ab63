"""The numbered templates of DaemonSets and StatefulSets."""

from __future__ import annotations

import json

from anynode.api.objects import Object
from anynode.api.resources import known
from anynode.controllers import revisions


def owner(**spec: object) -> Object:
    metadata = {"name": "web", "namespace": "default", "uid": "u"}
    template = {"spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i", "env": []}]}}
    return {
        "metadata": metadata,
        "spec": {"template": {"metadata": {"labels": {"b": "1", "a": "2"}}, **template}, **spec},
    }


def test_a_revision_is_printed_as_go_prints_maps_for_clients_compare_its_bytes() -> None:
    made = revisions.wished(owner(), known("daemonsets", "apps"), 1)
    text = json.dumps(made["data"], separators=(",", ":"))
    assert text == json.dumps(made["data"], separators=(",", ":"), sort_keys=True)
    assert text.startswith('{"spec":{"template":{"$patch":"replace","metadata"')
    assert revisions.is_current(owner(replicas=3), made)
    assert "$patch" not in revisions.template_of(made)
