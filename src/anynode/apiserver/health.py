"""/healthz, /livez and /readyz: named checks, alone or all, tersely or verbosely; and the pages /statusz and /flagz.

The checks are called as upstream's are, as probes and operators name them. Those that follow the start of one of
upstream's own loops hold as soon as the server answers. Source: apiserver ``pkg/server/healthz``, component-base
``zpages``, 1.36.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence

from anynode.aio.clock import Clock
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.apiserver import negotiation

Check = Callable[[], str]
"""Nothing when all is well, else what is wrong."""
TEXT = "text/plain; charset=utf-8"
_NO_SNIFFING = {"x-content-type-options": "nosniff"}
_STARTED = (
    "start-apiserver-admission-initializer", "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer", "priority-and-fairness-filter", "storage-object-count-tracker-hook",
    "start-apiextensions-informers", "start-apiextensions-controllers", "crd-informer-synced",
    "start-system-namespaces-controller", "peer-endpoint-reconciler-controller",
    "start-cluster-authentication-info-controller", "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector", "storage-readiness",
    "start-legacy-token-tracking-controller", "start-service-ip-repair-controllers", "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes", "priority-and-fairness-config-producer", "bootstrap-controller",
    "start-kubernetes-service-cidr-controller", "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller", "apiservice-status-remote-available-controller",
    "apiservice-registration-controller", "apiservice-wait-for-first-sync", "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
)  # fmt: skip
_STARTED_LAST = ("apiservice-openapi-controller", "apiservice-openapiv3-controller")
_PAGE = (
    "\n{title}\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility "
    "guarantees and is for debugging purposes only.\n{rows}"
)


def not_found_page() -> ApiResponse:
    return ApiResponse(status=404, content_type=TEXT, headers=_NO_SNIFFING, body=b"404 page not found\n")


def well() -> str:
    return ""


class Health:
    """Answers the health paths."""

    def __init__(
        self,
        *,
        storage: Check,
        clock: Clock,
        version: str,
        flags: Mapping[str, str] | None = None,
        ending: Check = well,
    ) -> None:
        """``storage``: what is wrong with the storage; ``ending``: that the server is going down; ``version``: major
        and minor; ``flags``: what the server was started with, by upstream's names of flags."""
        self._clock = clock
        self._began = clock.now()
        self._version = version
        self._flags = dict(flags or {})
        hooks = {f"poststarthook/{name}": well for name in _STARTED} | {"autoregister-completion": well}
        hooks |= {f"poststarthook/{name}": well for name in _STARTED_LAST}
        alive = {"ping": well, "log": well, "loopback-serving-certificate": well, "etcd": storage, **hooks}
        ready = {"ping": well, "log": well, "informer-sync": storage}
        self._checks: Mapping[str, Mapping[str, Check]] = {
            "healthz": alive,
            "livez": alive,
            "readyz": {**ready, **hooks, "shutdown": ending},
        }

    def answer(self, request: ApiRequest, path: str) -> ApiResponse | None:
        """The answer for ``/healthz``, ``/livez``, ``/readyz`` and their checks, and the two pages; None for others."""
        root, _, name = path.lstrip("/").partition("/")
        checks = self._checks.get(root)
        if checks is None:
            return self._page(request, path)
        if not name:
            return self._all(request, root, checks)
        check = checks.get(name)
        if check is None:
            return not_found_page()
        wrong = check()
        if wrong:
            body = f"internal server error: {wrong}\n".encode()
            return ApiResponse(status=500, content_type=TEXT, headers=_NO_SNIFFING, body=body)
        return ApiResponse(content_type=TEXT, body=b"ok")

    def _all(self, request: ApiRequest, root: str, checks: Mapping[str, Check]) -> ApiResponse:
        excluded = {name for value in request.query.get("exclude", ()) for name in value.split(",")}
        lines, failed = [], False
        for name, check in checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok\n")
                continue
            wrong = check()
            failed = failed or bool(wrong)
            lines.append(f"[-]{name} failed: reason withheld\n" if wrong else f"[+]{name} ok\n")
        text = "".join(lines) + _unmatched(sorted(excluded - checks.keys() - {""}))
        if failed:
            body = f"{text}{root} check failed\n".encode()
            return ApiResponse(status=500, content_type=TEXT, headers=_NO_SNIFFING, body=body)
        if "verbose" not in request.query:
            return ApiResponse(content_type=TEXT, headers=_NO_SNIFFING, body=b"ok")
        return ApiResponse(content_type=TEXT, headers=_NO_SNIFFING, body=f"{text}{root} check passed\n".encode())

    def _page(self, request: ApiRequest, path: str) -> ApiResponse | None:
        if path == "/statusz":
            title, rows = "apiserver statusz", self._status_rows()
        elif path == "/flagz":
            title, rows = "apiserver flagz", "".join(f"{name} {self._flags[name]}\n" for name in sorted(self._flags))
        else:
            return None
        negotiation.check_page(request.headers.get("accept", ""))
        return ApiResponse(content_type=TEXT, body=_PAGE.format(title=title, rows=rows).encode())

    def _status_rows(self) -> str:
        up = self._clock.now() - self._began
        minutes, seconds = divmod(int(up / datetime.timedelta(seconds=1)), 60)
        hours, minutes = divmod(minutes, 60)
        began = self._began.strftime("%a %b %e %H:%M:%S UTC %Y")
        return (
            f"\nStarted: {began}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nBinary version: {self._version}\n"
            f"Emulation version: {self._version}\nPaths: /flagz /healthz /livez /metrics /readyz /statusz /version\n"
        )


def _unmatched(names: Sequence[str]) -> str:
    if not names:
        return ""
    listed = ",".join(f'"{name}"' for name in names)
    return f"warn: some health checks cannot be excluded: no matches for {listed}\n"
