"""/healthz, /livez and /readyz: named checks, alone or all, tersely or verbosely.

Source: apiserver ``pkg/server/healthz``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from anynode.api.wire import ApiRequest, ApiResponse

Check = Callable[[], str]
"""Nothing when all is well, else what is wrong."""
TEXT = "text/plain; charset=utf-8"


def not_found_page() -> ApiResponse:
    return ApiResponse(status=404, content_type=TEXT, body=b"404 page not found\n")


def well() -> str:
    return ""


class Health:
    """Answers the health paths. ``checks``: name -> check."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = {"ping": well, "log": well, **checks}

    def answer(self, request: ApiRequest, path: str) -> ApiResponse | None:
        """The answer for ``/healthz``, ``/livez``, ``/readyz`` and their checks; None for other paths."""
        root, _, name = path.lstrip("/").partition("/")
        if root not in ("healthz", "livez", "readyz"):
            return None
        if name:
            check = self._checks.get(name)
            if check is None:
                return not_found_page()
            wrong = check()
            if wrong:
                return ApiResponse(status=500, content_type=TEXT, body=f"internal server error: {wrong}\n".encode())
            return ApiResponse(content_type=TEXT, body=b"ok")
        return self._all(request, root)

    def _all(self, request: ApiRequest, root: str) -> ApiResponse:
        excluded = set(request.query.get("exclude", ()))
        lines, failed = [], False
        for name, check in self._checks.items():
            wrong = "" if name in excluded else check()
            failed = failed or bool(wrong)
            shown = "excluded: ok" if name in excluded else "ok" if not wrong else "failed: reason withheld"
            lines.append(f"[{'-' if wrong else '+'}]{name} {shown}\n")
        text = "".join(lines)
        if failed:
            return ApiResponse(status=500, content_type=TEXT, body=f"{text}{root} check failed\n".encode())
        if "verbose" in request.query:
            return ApiResponse(content_type=TEXT, body=f"{text}{root} check passed\n".encode())
        return ApiResponse(content_type=TEXT, body=b"ok")
