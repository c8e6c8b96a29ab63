"""Documents that are no discovery: OpenAPI v3 and v2, and what verifies service account tokens.

Made when first asked for: most clusters are never asked for most of them. Source: kube-openapi ``pkg/handler3``,
kubernetes ``pkg/routes/openidmetadata.go``, 1.36.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import orjson

from anynode.api.errors import MethodNotAllowed
from anynode.api.resources import Catalogue, GroupVersion
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.apiserver import negotiation
from anynode.apiserver.health import not_found_page
from anynode.schema import openapi, openapi_protobuf
from anynode.schema.custom import openapi as custom_openapi
from anynode.schema.custom.openapi import Published
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


_NO_DOCUMENT = ApiResponse(status=404, content_type="", body=b"")
Parts = Mapping[GroupVersion, Sequence[Published]]
"""Group version -> what is told of its custom resources."""


class RemoteDocuments(Protocol):
    """The OpenAPI documents of aggregated API servers."""

    def documents(self) -> Mapping[GroupVersion, str]:
        """Group version -> the document's hash."""
        ...

    async def document(self, request: ApiRequest, group_version: GroupVersion) -> ApiResponse | None: ...


class Documents:
    """Answers by path prefix. A document takes tens of milliseconds to make: a thread does it, one at a time."""

    def __init__(
        self,
        catalogue: Catalogue,
        tokens: TokenIssuer | None,
        custom: Callable[[], Parts] = dict,
        remote: RemoteDocuments | None = None,
    ) -> None:
        """``custom``: what is told of custom resources now; ``changed`` says that it would tell something else."""
        self._catalogue = catalogue
        self._tokens = tokens
        self._custom = custom
        self._remote = remote
        self._making = asyncio.Lock()
        self._made: dict[object, Document | None] = {}
        self._parts: Parts | None = None
        self._hashes: dict[GroupVersion, str] = {}
        self._own: dict[tuple[object, ...], Document] = {}
        """Documents that custom resources are part of, by what they are and their hash."""

    def changed(self) -> None:
        """Custom resources or aggregated servers have come, gone or changed."""
        self._parts = None

    def _current(self) -> Parts:
        if self._parts is None:
            self._parts = self._custom()
            self._hashes = {each: custom_openapi.hash_of(parts) for each, parts in self._parts.items()}
            kept = set(self._hashes.values())
            self._own = {name: made for name, made in self._own.items() if made.hash in kept}
        return self._parts

    async def _with_custom(self, name: tuple[object, ...], make: Callable[[], Document]) -> Document:
        """A document that custom resources are part of, made once for what they are now."""
        found = self._own.get(name)
        if found is None:
            async with self._making:
                found = self._own.get(name)
                if found is None:
                    found = await asyncio.to_thread(make)
                    self._own[name] = found
        return found

    def paths(self) -> Mapping[str, Answer]:
        answers: dict[str, Answer] = {"/openapi/v2": self._openapi_v2, "/openapi/v3": self._openapi_v3}
        if self._tokens is not None:
            answers["/.well-known/openid-configuration"] = self._openid
            answers[JWKS] = self._jwks
        return {path: answer if path[:8] == "/openapi" else _only_read(answer) for path, answer in answers.items()}

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
                self._current()
                remote = {} if self._remote is None else self._remote.documents()
                return ApiResponse(body=openapi.root(self._catalogue, {**remote, **self._hashes}))
            case ["api", version]:
                group_version = GroupVersion("", version)
            case ["apis", group, version]:
                group_version = GroupVersion(group, version)
            case _:
                return _NO_DOCUMENT
        parts = self._current().get(group_version)
        if parts:
            name = (group_version, self._hashes[group_version])
            return _tagged(request, await self._with_custom(name, lambda: openapi.custom_document(parts)))
        if not any(each.group_version == group_version for each in self._catalogue):
            found = None if self._remote is None else await self._remote.document(request, group_version)
            return _NO_DOCUMENT if found is None else found
        document = await self._document(group_version, lambda: openapi.document(group_version, self._catalogue))
        return _NO_DOCUMENT if document is None else _tagged(request, document)

    async def _openapi_v2(self, request: ApiRequest) -> ApiResponse:
        if request.path.rstrip("/") != "/openapi/v2":
            return not_found_page()
        form = _form(request.headers.get("accept") or "*/*")
        if form is None:
            return ApiResponse(status=406, body=b"")
        document = await self._v2_document(form)
        response = _tagged(request, document)
        response.content_type = form
        return response

    async def _v2_document(self, form: str) -> Document:
        parts = [part for each in self._current().values() for part in each]
        if not parts:
            document = await self._document(form, lambda: self._v2(form, ()))
            assert document is not None
            return document
        name = (form, *self._hashes.values())
        self._own = {key: made for key, made in self._own.items() if key == name or not isinstance(key[0], str)}
        return await self._with_custom(name, lambda: self._v2(form, parts))

    def _v2(self, form: str, parts: Sequence[Published]) -> Document:
        document = openapi.v2(self._catalogue, parts)
        if form == _JSON:
            return document
        return Document(openapi_protobuf.encode(orjson.loads(document.body)), document.hash)

    async def _openid(self, request: ApiRequest) -> ApiResponse:
        assert self._tokens is not None
        return ApiResponse(body=orjson.dumps(self._tokens.discovery(f"{self._tokens.issuer}{JWKS}")))

    async def _jwks(self, request: ApiRequest) -> ApiResponse:
        assert self._tokens is not None
        negotiation.check_produced(request.headers.get("accept", ""), "application/jwk-set+json")
        return ApiResponse(content_type="application/jwk-set+json", body=orjson.dumps(self._tokens.jwks()))


def _only_read(answer: Answer) -> Answer:
    async def read(request: ApiRequest) -> ApiResponse:
        if request.method != "GET":
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
