"""Reads facts from the headers of files, in workers; keeps them, to read each file once."""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.header import value
from tf_dicom_ce.dicom.pictures import picture_format, picture_size
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.reader import inspect, number_of_frames
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.intake.decoding import refusal_of
from tf_dicom_ce.intake.file_cache import FileCache, Stamp
from tf_dicom_ce.intake.identity import Identity, read_identity
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.tags.elements import Values
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.workers import guarded_map

_RULES_VERSION = 4  # increment if `examine` returns other facts for the same file
# For fewer files, starting processes costs more than it saves. Reading headers is pure Python,
# which does not crash.
_IN_PROCESS = 300
_DEVICE = {keyword: Tag(keyword) for keyword in ("Manufacturer", "StationName")}
_PICTURE = [Tag(keyword) for keyword in ("Rows", "Columns", "PhotometricInterpretation")]
_syntax_name = functools.cache(lambda uid: UID(uid).name.split(",")[0].split(" (")[0])


class Device(NamedTuple):
    """The device of an image, as pseudonyms; "" if the header says nothing."""

    manufacturer: str = ""  # (0008,0070)
    station: str = ""  # (0008,1010)


class Facts(NamedTuple):
    """Facts about a readable image: plain values, as the file cache keeps them."""

    identity: Identity  # what the file says about its patient
    frames: int  # (0028,0008) Number of Frames, at least 1
    kind: str  # what the file is, e.g. "480×640 RGB, 30 frames, JPEG Baseline"
    flags: tuple[Flag, ...]  # every decision that needs no decoding
    values: Values  # element to its raw values
    device: Device = Device()
    is_picture: bool = False  # PNG or JPEG: an image only if a labels CSV lists it


def examine_all(
    root: Path,
    schema: TagSchema,
    stamps: Mapping[str, Stamp],
    cache: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[dict[str, Facts | Refusal], int]:
    """Examines all files; keeps results as they come, and does not read unchanged files again.

    `stamps` are those of all files below `root`, by path. See `index.scan` for the others.

    Returns:
        Path to facts or refusal; and how many files were read anew.
    """
    rules = (f"headers {_RULES_VERSION}", *sorted(schema.sop_classes), *schema.elements)
    kept = FileCache(root, rules, cache)
    look = functools.partial(examine, root, schema, load_secret())

    def find(paths: list[str]) -> Iterator[list[Any]]:
        alone = len(paths) <= _IN_PROCESS
        found = guarded_map(look, paths, refusal_of, workers, chunk=32)
        for result in map(look, paths) if alone else found:
            yield list(result if isinstance(result, Facts) else (result.code, result.detail))

    def keep(entry: list[Any]) -> bool:
        # A disk may recover, and a worker may not die again.
        return len(entry) > 2 or not Code(entry[0]).may_pass

    return kept.complete(stamps, find, "Reading headers", progress, keep, _reader())


def examine(root: Path, schema: TagSchema, secret: bytes, path: str) -> Facts | Refusal:
    """Examines one file; `secret` is the key of pseudonyms. No content of a file raises."""
    with quiet():
        found = inspect(root / path, schema.sop_classes)
        if isinstance(found, Refusal):
            kind = picture_format(root / path) if found.code is Code.NOT_DICOM else None
            if not kind:
                return found
            size = picture_size(root / path)
            if isinstance(size, Refusal):
                return size
            # It says nothing about a patient: it has its own, unless a table names one.
            said = Identity(pseudonym(secret, "path", path))
            values = dict.fromkeys(schema.elements)
            return Facts(said, 1, f"{size[0]}×{size[1]} {kind}", (), values, is_picture=True)
        header, flags = found
        try:
            said, frames = read_identity(header, path, secret), number_of_frames(header)
            device = _device(header, secret)
            return Facts(said, frames, _kind(header, frames), flags, schema.read(header), device)
        # A lazily converted element may be malformed in any way.
        except Exception as error:
            return Refusal(Code.DAMAGED_HEADER, type(error).__name__)


def _reader() -> Callable[[list[Any]], Facts | Refusal]:
    """Makes a function: kept entry -> facts. Files share equal values in memory."""
    seen: dict[Any, Any] = {}

    def once(value: Any) -> Any:
        return seen.setdefault((type(value), value), value)

    def read(entry: list[Any]) -> Facts | Refusal:
        if len(entry) == 2:
            return once(Refusal(Code(entry[0]), entry[1]))
        identity, frames, kind, flags, values, device, is_picture = entry
        path, patient, unissued, study, *told = identity
        said = Identity(path, once(patient), once(unissued), once(study), *told)
        items = tuple((k, None if v is None else tuple(v)) for k, v in values.items())
        values = seen.setdefault((dict, items), dict(items))
        found = (once(kind), once(tuple(map(Flag, flags))), values, once(Device(*device)))
        return Facts(said, frames, *found, is_picture)

    return read


def _device(header: Dataset, secret: bytes) -> Device:
    names = []
    for keyword, tag in _DEVICE.items():
        text = " ".join(str(value(header, tag) or "").split()).casefold()
        names.append(text and pseudonym(secret, keyword, text))
    return Device(*names)


def _kind(header: Dataset, frames: int) -> str:
    rows, columns, photometric = (value(header, tag) for tag in _PICTURE)
    cine = f", {frames} frames" if frames > 1 else ""
    return (
        f"{rows}×{columns} {photometric}{cine}, {_syntax_name(header.file_meta.TransferSyntaxUID)}"
    )
