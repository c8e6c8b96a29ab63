"""``/anynode/v1/snapshot`` and ``/anynode/v1/rewind``: the whole state at a revision, and going back to one.

Not of Kubernetes. Non-resource URLs, so only who may use every URL reaches them (``system:masters``): a snapshot holds
every Secret in the clear. ``GET snapshot?revision=N`` streams ``storage.snapshot``'s form; ``POST rewind?revision=N``
answers what was written (``dryRun=All``: what would be). Errors are ``Status`` as everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from anynode.api import errors
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.registry.rewind import rewind
from anynode.registry.watch_cache import ROOT
from anynode.storage import snapshot
from anynode.storage.types import (
    Compacted,
    FutureRevision,
    Revision,
    Storage,
    StorageDamaged,
    StorageError,
    StorageUnavailable,
)

SNAPSHOT = "/anynode/v1/snapshot"
REWIND = "/anynode/v1/rewind"
MEDIA_TYPE = "application/vnd.anynode.snapshot"


@dataclasses.dataclass(slots=True)
class _Pieces:
    """A snapshot as the body of an answer."""

    first: bytes
    rest: AsyncGenerator[bytes, None]

    async def read(self) -> bytes:
        if self.first:
            piece, self.first = self.first, b""
            return piece
        return await anext(self.rest, b"")

    async def close(self) -> None:
        await self.rest.aclose()


class StateRoutes:
    """Both handlers. ``about`` goes into the head of a snapshot; ``after`` runs when the state was rewound."""

    def __init__(self, storage: Storage, about: Mapping[str, str], after: Callable[[], None]) -> None:
        self._storage = storage
        self._about = about
        self._after = after

    def paths(self) -> Mapping[str, Callable[[ApiRequest], Awaitable[ApiResponse]]]:
        return {SNAPSHOT: self.snapshot, REWIND: self.rewind}

    async def snapshot(self, request: ApiRequest) -> ApiResponse:
        """Raises ``Expired`` or ``Timeout`` before anything is sent when the revision cannot be read."""
        if request.method not in ("GET", "HEAD"):
            raise _not_allowed()
        pieces = snapshot.chunks(self._storage, _revision(request), prefix=ROOT, about=self._about)
        try:
            first = await anext(pieces, b"")
        except (Compacted, FutureRevision, StorageUnavailable) as error:
            raise _as_api_error(error) from error
        except StorageDamaged as error:
            raise errors.InternalError(f"Internal error occurred: {error}") from error
        return ApiResponse(content_type=MEDIA_TYPE, stream=_Pieces(first, pieces))

    async def rewind(self, request: ApiRequest) -> ApiResponse:
        if request.method != "POST":
            raise _not_allowed()
        revision = _revision(request)
        if revision is None:
            raise errors.BadRequest("revision must be specified: the resourceVersion of the state to go back to")
        dry_run = request.argument("dryRun")
        if dry_run not in ("", "All"):
            raise errors.BadRequest(f'dryRun: Unsupported value: "{dry_run}": supported values: "All"')
        try:
            await self._storage.catch_up()
            done = await rewind(self._storage, revision, dry_run=dry_run == "All")
        except (Compacted, FutureRevision, StorageUnavailable) as error:
            raise _as_api_error(error) from error
        self._after()
        answer: Object = {**dataclasses.asdict(done), "revision": self._storage.revision}
        return ApiResponse(obj=answer)


def _revision(request: ApiRequest) -> Revision | None:
    text = request.argument("revision")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise errors.BadRequest(f'revision: Invalid value: "{text}": must be a resourceVersion')
    return Revision(int(text))


def _as_api_error(error: StorageError) -> errors.ApiError:
    if isinstance(error, Compacted):
        return errors.Expired(f"revision {error.revision} is forgotten, the oldest kept is {error.oldest}")
    if isinstance(error, FutureRevision):
        return errors.BadRequest(f"revision {error.revision} is yet to come, the newest is {error.current}")
    return errors.ServiceUnavailable(str(error))


def _not_allowed() -> errors.MethodNotAllowed:
    return errors.MethodNotAllowed("the server does not allow this method on the requested resource", details={})
