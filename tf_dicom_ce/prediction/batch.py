"""One pass of a head over the images of an index; it goes on where an earlier one ended."""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.intake.contents import digests
from tf_dicom_ce.intake.decoding import ImageReader, decode_images, refusal_of
from tf_dicom_ce.intake.index import Index, choose_frames
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.prediction.folder import OUTPUTS, Journal
from tf_dicom_ce.prediction.heads import Head
from tf_dicom_ce.prediction.writing import MADE_UP, Answered, Image, Writer, columns
from tf_dicom_ce.whole_files import write_table
from tf_dicom_ce.workers import guarded_map

_TOGETHER = 8  # images that the head is given at once
_READERS = 4  # processes at most: each may hold decoded frames of a cine ready


@dataclasses.dataclass(frozen=True)
class Pass:
    """What a pass came to.

    Attributes:
        images: Images of the source that were asked for.
        before: How many of them had an answer already.
        new: How many of them this pass answered.
        pictures: How many of those are PNG or JPEG, which get no DICOM result.
        made_up: How many of those have a DICOM result with made-up UIDs.
        skipped: Files and frames without an answer, by code.
        dicom: DICOM results in the folder, relative to it, in the order they were made.
    """

    images: int
    before: int
    new: int
    pictures: int
    made_up: int
    skipped: collections.Counter[str]
    dicom: list[str]


def predict(index: Index, head: Head, folder: Path, choice: str, reader: ImageReader) -> Pass:
    """Answers every chosen image that has no answer in the folder yet.

    A row of `predictions.csv` is written after the files that it names, and every file is whole or
    absent: a kill costs the few images under way. `files.csv` and `skipped.csv` alone quote paths.

    Args:
        index: The images, and the files that are none.
        head: What answers.
        folder: One that `open_results` holds open.
        choice: Frames of a cine, see `intake.index.choose_frames`.
        reader: How files become frames.

    Returns:
        The counts.

    Raises:
        UserError: A table in the folder is not from this command.
        OSError: The folder cannot be written.
    """
    images = _images(index, choice)
    names = Journal(folder / "files.csv", ("file", "path"))
    known = {row["file"] for row in names.rows}
    new_names = {image.name: image.path for image in images if image.name not in known}
    names.add(*({"file": name, "path": path} for name, path in new_names.items()))
    rows = Journal(
        folder / "predictions.csv",
        columns(head.model),
        lambda row: all((folder / row[name]).exists() for name in OUTPUTS),
    )
    done = {(row["file"], row["frame"]) for row in rows.rows}
    missing = [image for image in images if (image.name, str(image.frame)) not in done]
    skipped = [(path, "", refusal) for path, refusal in index.refusals]
    under_way: collections.deque[Image] = collections.deque()
    results = guarded_map(
        Writer(index.root, index.schema.sop_classes, folder, head.model),
        _answered(head, reader, missing, under_way, skipped),
        refusal_of,
        chunk=1,
    )
    new = pictures = made_up = 0
    for result in results:
        image = under_way.popleft()
        if isinstance(result, Refusal):
            skipped.append((image.path, str(image.frame), result))
        else:
            rows.add(result)
            new += 1
            pictures += not result["dicom"]
            made_up += bool(result[MADE_UP])
    _write_skipped(folder, skipped)
    return Pass(
        images=len(images),
        before=len(images) - len(missing),
        new=new,
        pictures=pictures,
        made_up=made_up,
        skipped=collections.Counter(refusal.code.value for _, _, refusal in skipped),
        dicom=[row["dicom"] for row in rows.rows if row["dicom"]],
    )


def _images(index: Index, choice: str) -> list[Image]:
    secret, images = load_secret(), []
    contents = digests(index.root, [row.path for row in index.rows])
    for sample in choose_frames(index.rows, choice):
        name = pseudonym(secret, "result", f"{sample.path}\0{contents[sample.path]}")
        middle = index.rows[sample.row].frames // 2
        images.append(Image(sample.path, middle if sample.frame is None else sample.frame, name))
    return images


def _answered(
    head: Head,
    reader: ImageReader,
    images: list[Image],
    under_way: collections.deque[Image],
    skipped: list[tuple[str, str, Refusal]],
) -> Iterator[Answered]:
    """Decodes and answers as results are asked for, notes what is under way and what is not."""
    found = decode_images(reader, images, min(_READERS, os.cpu_count() or 1))
    while group := list(itertools.islice(found, _TOGETHER)):
        frames = []
        for k, frame in group:
            if isinstance(frame, Refusal):
                skipped.append((images[k].path, str(images[k].frame), frame))
            else:
                frames.append((images[k], frame))
        answers = head.answer([frame.pixels for _, frame in frames]) if frames else []
        for (image, frame), answer in zip(frames, answers, strict=True):
            under_way.append(image)
            yield Answered(image, frame, answer)


def _write_skipped(folder: Path, skipped: list[tuple[str, str, Refusal]]) -> None:
    names = ("path", "frame", "code", "kind", "remedy")
    rows = []
    for path, frame, found in skipped:
        kind = "skipped" if found.code.is_skip else "unreadable"
        row = (path, frame, found.code, kind, found.code.remedy)
        rows.append(dict(zip(names, row, strict=True)))
    write_table(folder / "skipped.csv", names, rows)
