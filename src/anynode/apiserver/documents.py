"""Documents that are no discovery: OpenAPI v3 and v2, and what verifies service account tokens.

Made when first asked for: most clusters are never asked for most of them. Source: kube-openapi ``pkg/handler3``,
kubernetes ``pkg/routes/openidmetadata.go``, 1.36.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson

from anynode.api.errors import MethodNotAllowed
from anynode.api.resources import Catalogue, GroupVersion
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.apiserver.health import not_found_page
from anynode.schema import openapi, openapi_protobuf
from anynode.schema.openapi import Document
from anynode.security.tokens import TokenIssuer

Answer = Callable[[ApiRequest], Awaitable[ApiResponse]]
JWKS = "/openid/v1/jwks"
_JSON = "application/json"
_V2_FORMS = {
    _JSON: _JSON,
    "application/*": _JSON,
    "*/*": _JSON,
    **dict.fromkeys(openapi_protobuf.ASKED_FOR, openapi_protobuf.MEDIA_TYPE),
}
"""What clients ask for -> what they get."""


class Documents:
    """Answers by path prefix. A document takes tens of milliseconds to make: a thread does it, one at a time."""

    def __init__(self, catalogue: Catalogue, tokens: TokenIssuer | None) -> None:
        self._catalogue = catalogue
        self._tokens = tokens
        self._making = asyncio.Lock()
        self._made: dict[object, Document | None] = {}

    def paths(self) -> Mapping[str, Answer]:
        answers: dict[str, Answer] = {"/openapi/v2": self._openapi_v2, "/openapi/v3": self._openapi_v3}
        if self._tokens is not None:
            answers["/.well-known/openid-configuration"] = self._openid
            answers[JWKS] = self._jwks
        return {path: _only_read(answer) for path, answer in answers.items()}

    async def _document(self, name: object, make: Callable[[], Document | None]) -> Document | None:
        if name not in self._made:
            async with self._making:
                if name not in self._made:
                    self._made[name] = await asyncio.to_thread(make)
        return self._made[name]

    async def _openapi_v3(self, request: ApiRequest) -> ApiResponse:
        _, _, _, *rest = request.path.rstrip("/").split("/")
        match rest:
            case []:
                return ApiResponse(body=openapi.root(self._catalogue))
            case ["api", version]:
                group_version = GroupVersion("", version)
            case ["apis", group, version]:
                group_version = GroupVersion(group, version)
            case _:
                return not_found_page()
        if not any(each.group_version == group_version for each in self._catalogue):
            return not_found_page()
        document = await self._document(group_version, lambda: openapi.document(group_version, self._catalogue))
        return not_found_page() if document is None else _tagged(request, document)

    async def _openapi_v2(self, request: ApiRequest) -> ApiResponse:
        form = _form(request.headers.get("accept") or "*/*")
        if form is None:
            return ApiResponse(status=406, body=b"")
        document = await self._document(form, self._v2_protobuf if form != _JSON else self._v2)
        assert document is not None
        response = _tagged(request, document)
        response.content_type = form
        return response

    def _v2(self) -> Document:
        return openapi.v2(self._catalogue)

    def _v2_protobuf(self) -> Document:
        document = self._v2()
        return Document(openapi_protobuf.encode(orjson.loads(document.body)), document.hash)

    async def _openid(self, request: ApiRequest) -> ApiResponse:
        assert self._tokens is not None
        return ApiResponse(body=orjson.dumps(self._tokens.discovery(f"{self._tokens.issuer}{JWKS}")))

    async def _jwks(self, request: ApiRequest) -> ApiResponse:
        assert self._tokens is not None
        return ApiResponse(content_type="application/jwk-set+json", body=orjson.dumps(self._tokens.jwks()))


def _only_read(answer: Answer) -> Answer:
    async def read(request: ApiRequest) -> ApiResponse:
        if request.method not in ("GET", "HEAD"):
            said = "the server does not allow this method on the requested resource"
            raise MethodNotAllowed(said, details={})
        return await answer(request)

    return read


def _form(accept: str) -> str | None:
    """The content type of the first clause that can be served; the media type alone decides, as upstream."""
    clauses = (clause.partition(";")[0].strip() for clause in accept.split(","))
    return next((_V2_FORMS[clause] for clause in clauses if clause in _V2_FORMS), None)


def _tagged(request: ApiRequest, document: Document) -> ApiResponse:
    """The document, or 304 for who has it already; for ever good under its own hash."""
    tag = f'"{document.hash}"'
    headers = {"etag": tag, "vary": "Accept"}
    if request.argument("hash") == document.hash:
        headers["cache-control"] = "public, immutable"
    if request.headers.get("if-none-match") == tag:
        return ApiResponse(status=304, headers=headers, body=b"")
    return ApiResponse(headers=headers, body=document.body)
