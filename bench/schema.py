"""``python -m bench.schema``: microseconds for what every write costs in ``anynode.schema``, for one pod of 1.5 kB."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import orjson

from anynode.api import resources
from anynode.schema import decode, managed_fields, openapi, stored, strategic, types

POD = "io.k8s.api.core.v1.Pod"
NOW = "2026-01-02T03:04:05Z"


def pod() -> dict[str, Any]:
    """A pod as it looks after defaulting."""
    container = {
        "name": "c",
        "image": "registry.example.com/app:1",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "livenessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "periodSeconds": 10},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "web-0", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [container],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
            "enableServiceLinks": True,
        },
        "status": {},
    }


STATUS = {
    "status": {
        "phase": "Running",
        "podIP": "127.1.2.3",
        "podIPs": [{"ip": "127.1.2.3"}],
        "startTime": NOW,
        "conditions": [
            {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": NOW}
            for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
        ],
        "containerStatuses": [
            {
                "name": "c", "ready": True, "started": True, "image": "i", "imageID": "", "restartCount": 0,
                "state": {"running": {"startedAt": NOW}}, "lastState": {},
            }
        ],
    }
}  # fmt: skip


def measured(name: str, work: Callable[[], object], times: int = 3000) -> None:
    work()
    best = min(timeit.repeat(work, number=times, repeat=5)) / times
    print(f"{name:52} {best * 1e6:8.1f} us")


def main() -> None:
    table = types.builtin()
    new = pod()
    body = orjson.dumps(new)
    written = {"manager": "bench", "api_version": "v1", "time": NOW, "type_name": POD, "types": table}
    entries = managed_fields.updated(None, new, **written)
    live = managed_fields.with_entries({**new, "metadata": {**new["metadata"], "uid": "u"}}, entries)
    merged = strategic.merge(live, STATUS, POD, table)
    measured("decode a pod, look for duplicate keys", lambda: decode.decode_json(body))
    measured("typed decode of a pod", lambda: decode.check_fields(new, POD, table))
    measured("managedFields of a created pod", lambda: managed_fields.updated(None, new, **written))
    measured("what storing changes", lambda: stored.as_stored(new, POD, table))
    measured("strategic merge of a status", lambda: strategic.merge(live, STATUS, POD, table))
    measured("typed decode of the patched pod", lambda: decode.check_fields(merged, POD, table, known=live))
    status = {**written, "subresource": "status"}
    measured("managedFields of a status patch", lambda: managed_fields.updated(live, merged, **status))
    measured("load the type table", types.builtin.__wrapped__, times=20)
    measured("OpenAPI v3 of apps/v1", _openapi, times=5)


def _openapi() -> object:
    openapi.document.cache_clear()
    return openapi.document(resources.GroupVersion("apps", "v1"), resources.builtin())


if __name__ == "__main__":
    main()
