"""Pages of the current state, and of an older one seen through an overlay."""

from __future__ import annotations

from anynode.storage.state import CurrentState, Overlay, Overlays, prefix_end
from anynode.storage.types import Change, Record, Revision


def record(key: str, revision: int = 1) -> Record:
    return Record(key, key.encode(), Revision(revision), Revision(revision))


def keys(state: CurrentState, prefix: str, overlay: Overlay | None = None, **more: object) -> tuple[list[str], int]:
    given: dict[str, object] = {"start": "", "limit": 0, "revision": Revision(9), **more}
    if overlay is not None:
        given["overlay"] = overlay.before
    page = state.page(prefix, **given)  # type: ignore[arg-type]
    return [each.key for each in page.records], page.remaining


def test_prefixes_end_where_the_next_begins() -> None:
    assert prefix_end("") is None
    assert prefix_end("/a/") == "/a0"
    assert "/a/\U0010ffff" < "/a0" <= "/a0"


def test_pages_follow_inserts_and_removals() -> None:
    state = CurrentState(record(key) for key in ("/b", "/a/2", "/a/1", "/a"))
    assert keys(state, "/a/") == (["/a/1", "/a/2"], 0)
    state.put(record("/a/15"))
    state.put(record("/a/1", 2))
    state.remove("/a/2")
    state.remove("/nothing")
    assert keys(state, "/a/") == (["/a/1", "/a/15"], 0)
    assert keys(state, "", limit=1) == (["/a"], 3)
    assert keys(state, "/a/", start="/a/1\0") == (["/a/15"], 0)
    assert len(state) == 4


def test_an_overlay_takes_away_brings_back_and_replaces() -> None:
    state = CurrentState([record("/a/1", 5), record("/a/2", 6), record("/b/1", 7)])
    overlay = Overlay("/a/", Revision(4))
    old = record("/a/1", 1)
    changes = [
        Change(Revision(5), record("/a/1", 5), old),
        Change(Revision(6), record("/a/2", 6), None),
        Change(Revision(7), record("/b/1", 7), None),
        Change(Revision(8), record("/a/3", 8), record("/a/3", 2), deleted=True),
        Change(Revision(9), record("/a/1", 9), record("/a/1", 5)),
    ]
    overlay.absorb(changes, Revision(9))
    overlay.absorb(changes[:2], Revision(6))
    assert overlay.through == 9
    assert keys(state, "/a/", overlay) == (["/a/1", "/a/3"], 0)
    assert keys(state, "/a/", overlay, limit=1) == (["/a/1"], 1)
    page = state.page("/a/", start="", limit=0, revision=Revision(4), overlay=overlay.before)
    assert page.records[0] is old


def test_the_overlays_last_used_are_kept() -> None:
    overlays = Overlays()
    first = overlays.at("/a/", Revision(1))
    assert overlays.at("/a/", Revision(1)) is first
    for revision in range(2, 12):
        overlays.at("/a/", Revision(revision))
    assert overlays.at("/a/", Revision(1)) is not first
    last = overlays.at("/a/", Revision(11))
    overlays.forget_before(Revision(12))
    assert overlays.at("/a/", Revision(11)) is not last
