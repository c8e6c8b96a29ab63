"""Reads that fetch ``metadata`` alone: for the garbage collector of a cluster elsewhere, which watches every kind.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches.
"""

from __future__ import annotations

import dataclasses

from anynode.api.wire import ApiRequest, ApiResponse, ByteReader, ByteStream
from anynode.client.transport import Transport, WatchStream

_OBJECT = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class MetadataTransport:
    """``transport`` with lists and watches answered as ``PartialObjectMetadata``; closing it closes nothing."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, request: ApiRequest) -> ApiResponse:
        return await self._transport.send(_accepting(request, _LIST) if request.method == "GET" else request)

    async def watch(self, request: ApiRequest) -> WatchStream:
        return await self._transport.watch(_accepting(request, _OBJECT))

    async def open(self, request: ApiRequest) -> ByteReader:
        return await self._transport.open(request)

    async def upgrade(self, request: ApiRequest) -> tuple[ApiResponse, ByteStream]:
        return await self._transport.upgrade(request)

    async def close(self) -> None:
        return


def _accepting(request: ApiRequest, media_type: str) -> ApiRequest:
    return dataclasses.replace(request, headers={**request.headers, "accept": f"{media_type},application/json"})
