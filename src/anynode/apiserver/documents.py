"""Documents that are no discovery: OpenAPI v3 and v2, and what verifies service account tokens.

Made when first asked for: most clusters are never asked for most of them. Source: kube-openapi ``pkg/handler3``,
kubernetes ``pkg/routes/openidmetadata.go``, 1.36.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import orjson

from anynode.api.resources import Catalogue, GroupVersion
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.apiserver.health import not_found_page
from anynode.schema import openapi, openapi_protobuf
from anynode.schema.openapi import Document
from anynode.security.tokens import TokenIssuer

Answer = Callable[[ApiRequest], ApiResponse]
JWKS = "/openid/v1/jwks"


class Documents:
    """Answers by path prefix."""

    def __init__(self, catalogue: Catalogue, tokens: TokenIssuer | None) -> None:
        self._catalogue = catalogue
        self._tokens = tokens
        self._root: bytes | None = None
        self._v2: Document | None = None
        self._v2_protobuf: Document | None = None
        self._v3: dict[GroupVersion, Document | None] = {}

    def paths(self) -> Mapping[str, Answer]:
        answers: dict[str, Answer] = {"/openapi/v2": self._openapi_v2, "/openapi/v3": self._openapi_v3}
        if self._tokens is not None:
            answers["/.well-known/openid-configuration"] = self._openid
            answers[JWKS] = self._jwks
        return answers

    def _openapi_v3(self, request: ApiRequest) -> ApiResponse:
        _, _, _, *rest = request.path.rstrip("/").split("/")
        if not rest:
            if self._root is None:
                self._root = openapi.root(self._catalogue)
            return ApiResponse(body=self._root)
        match rest:
            case ["api", version]:
                group_version = GroupVersion("", version)
            case ["apis", group, version]:
                group_version = GroupVersion(group, version)
            case _:
                return not_found_page()
        if group_version not in self._v3:
            self._v3[group_version] = openapi.document(group_version, self._catalogue)
        document = self._v3[group_version]
        return not_found_page() if document is None else _tagged(request, document)

    def _openapi_v2(self, request: ApiRequest) -> ApiResponse:
        if self._v2 is None:
            self._v2 = openapi.v2(self._catalogue)
        accept = request.headers.get("accept", "")
        if not any(each in accept for each in openapi_protobuf.ASKED_FOR):
            return _tagged(request, self._v2)
        if self._v2_protobuf is None:
            body = openapi_protobuf.encode(orjson.loads(self._v2.body))
            self._v2_protobuf = Document(body, hashlib.sha512(body).hexdigest().upper())
        response = _tagged(request, self._v2_protobuf)
        response.content_type = openapi_protobuf.MEDIA_TYPE
        return response

    def _openid(self, request: ApiRequest) -> ApiResponse:
        assert self._tokens is not None
        return ApiResponse(body=orjson.dumps(self._tokens.discovery(f"{self._tokens.issuer}{JWKS}")))

    def _jwks(self, request: ApiRequest) -> ApiResponse:
        assert self._tokens is not None
        return ApiResponse(content_type="application/jwk-set+json", body=orjson.dumps(self._tokens.jwks()))


def _tagged(request: ApiRequest, document: Document) -> ApiResponse:
    """The document, or 304 for who has it already; for ever good under its own hash."""
    tag = f'"{document.hash}"'
    headers = {"etag": tag, "vary": "Accept"}
    if request.argument("hash") == document.hash:
        headers["cache-control"] = "public, immutable"
    if request.headers.get("if-none-match") == tag:
        return ApiResponse(status=304, headers=headers, body=b"")
    return ApiResponse(headers=headers, body=document.body)
