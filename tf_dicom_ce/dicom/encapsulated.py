"""Finds the bytes of each frame in encapsulated pixel data."""

import itertools
import os
import struct
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

_ITEM = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0"
# More fragments than any recording has; listing them takes a fraction of a second.
MAX_ITEMS = 1 << 18
_CHUNK = 1 << 16
# JPEG and JPEG-LS, JPEG 2000 and HTJ2K.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")


class Fragment(NamedTuple):
    """One item: the position of its bytes in the file, and their number."""

    offset: int
    length: int


class Items(NamedTuple):
    """The items of encapsulated pixel data."""

    table: Fragment | None  # the first item, the Basic Offset Table; None without items
    fragments: list[Fragment]  # all further items, in order
    cut: bool  # True if the file ends within an item


def is_other(start: bytes) -> bool:
    """Tells by the first 8 bytes whether pixel data are not encapsulated."""
    return len(start) == 8 and start[:4] not in (_ITEM, _DELIMITER)


def walk(file: BinaryIO, offset: int) -> Items:
    """Lists up to `MAX_ITEMS` items of (7FE0,0010) Pixel Data, whose value is at `offset`.

    It reads little more than their headers. The sequence delimiter may be missing.
    """
    size = file.seek(0, os.SEEK_END)
    items: list[Fragment] = []
    position, start, chunk, cut = offset, 0, b"", False
    while len(items) <= MAX_ITEMS:
        at = position - start
        if not 0 <= at <= len(chunk) - 8:
            file.seek(position)
            start, at, chunk = position, 0, file.read(_CHUNK if items else 8)
        # The delimiter, or a pad byte that the length of an odd fragment does not count.
        if chunk[at : at + 4] != _ITEM or len(chunk) < at + 8:
            break
        length = struct.unpack_from("<L", chunk, at + 4)[0]
        if position + 8 + length > size:
            cut = True
            break
        items.append(Fragment(position + 8, length))
        position += 8 + length
    return Items(items[0] if items else None, items[1:], cut)


def frame_fragments(
    file: BinaryIO, items: Items, frames: int, extended: Sequence[int] = ()
) -> list[list[Fragment]] | None:
    """Groups the fragments by frame; None if that is not certain.

    The Basic Offset Table and (7FE0,0001) Extended Offset Table are often wrong: each is used only
    if all its offsets fit the fragments.
    """
    fragments = items.fragments
    if frames == 1:
        return [fragments]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    origin = fragments[0].offset - 8
    places = {fragment.offset - 8 - origin: i for i, fragment in enumerate(fragments)}
    for offsets in (extended, _basic_table(file, items)):
        firsts = [places.get(offset, -1) for offset in offsets]
        if _is_plausible(firsts, frames):
            break
    else:
        starts = (read(file, [fragment._replace(length=4)]) for fragment in fragments)
        firsts = [i for i, start in enumerate(starts) if start.startswith(_STARTS)]
        if not _is_plausible(firsts, frames):
            return None
    ends = [*firsts[1:], len(fragments)]
    return [fragments[first:end] for first, end in zip(firsts, ends, strict=True)]


def read(file: BinaryIO, fragments: list[Fragment]) -> bytes:
    """Joins the bytes of one frame."""
    parts = []
    for fragment in fragments:
        file.seek(fragment.offset)
        parts.append(file.read(fragment.length))
    return b"".join(parts)


def _basic_table(file: BinaryIO, items: Items) -> Sequence[int]:
    if items.table.length > 4 * MAX_ITEMS:
        return ()
    value = read(file, [items.table])
    return struct.unpack(f"<{len(value) // 4}L", value[: len(value) // 4 * 4])


def _is_plausible(firsts: list[int], frames: int) -> bool:
    increasing = all(a < b for a, b in itertools.pairwise(firsts))
    return len(firsts) == frames and firsts[0] == 0 and increasing
