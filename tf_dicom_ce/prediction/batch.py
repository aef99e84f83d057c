"""Runs a head on the images of an index; a repeated run continues an interrupted one."""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_dicom_ce.audit_log import AuditLog, user_name
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.intake.contents import digests
from tf_dicom_ce.intake.decoding import ImageReader, Sample, decode_images, refusal_of
from tf_dicom_ce.intake.index import Index, choose_frames
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.masks import likeliest_classes
from tf_dicom_ce.prediction.folder import OUTPUTS, Journal, Row, result_uid
from tf_dicom_ce.prediction.writing import (
    MADE_UP,
    Answered,
    Examined,
    FileWriter,
    ImageWriter,
    SourceReader,
    columns,
)
from tf_dicom_ce.preprocessing import resize
from tf_dicom_ce.results.codes import Coded
from tf_dicom_ce.results.files import kinds
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import SourceImage
from tf_dicom_ce.saved_model.reading import load_head
from tf_dicom_ce.whole_files import write_table
from tf_dicom_ce.workers import guarded_map

_Skipped = list[tuple[str, str, Refusal]]  # path, number of the frame or "", reason
_TOGETHER = 8  # images per batch of the head
_FILE_SECONDS = 900.0  # for the results of a file: a cine may have thousands of frames
_READERS = 4  # processes at most, because each may hold decoded frames of a cine


class Head:
    """A head with its encoder, for images of mixed sizes.

    Args:
        path: As for `load_head`, which may raise UserError.
        codes: Codes of classes, see `results.codes.read_codes`; by default the built-in table.

    Attributes:
        model: The model as results name it.
    """

    def __init__(self, path: Path, codes: Mapping[str, Coded] | None = None):
        self._head = load_head(path)
        folder = self._head.folder
        self.model = Model.of(folder.parent.name, folder.name, self._head.content, codes)

    def answer(self, pixels: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Answers some images in one batch.

        Each image is first resized to the model's size, exactly as for training. So sizes may be
        mixed, and the model's size bounds the memory.

        Args:
            pixels: Gray levels, uint8 [H, W] each; at least one image.

        Returns:
            For each image `mask` uint8 [H, W], or `class_id` int32 and `probabilities` float32 [K];
            and `familiarity`, if the head has it.
        """
        size = self._head.image_size
        found = self._head(tf.stack([resize(image[..., np.newaxis], size) for image in pixels]))
        if self.model.task == "segmentation":
            return [
                {"mask": likeliest_classes(found["probabilities"][k], image.shape)}
                | {name: found[name][k] for name in found if name == "familiarity"}
                for k, image in enumerate(pixels)
            ]
        return [{name: found[name][k] for name in found} for k in range(len(pixels))]


@dataclasses.dataclass
class Pass:
    """The outcome of a run over a source."""

    images: int  # number of chosen images of the source
    before: int  # how many of them were answered before
    new: int = 0  # how many of them were answered now
    pictures: int = 0  # how many of the new ones are PNG or JPEG, which get no DICOM result
    made_up: int = 0  # how many of the new ones have a DICOM result with made-up UIDs
    # Files and frames without an answer, by code.
    skipped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    # DICOM results, relative to the folder, oldest first.
    dicom: list[str] = dataclasses.field(default_factory=list)


def predict(
    index: Index,
    head: Head,
    folder: Path,
    choice: str,
    reader: ImageReader,
    log: AuditLog | None = None,
) -> Pass:
    """Answers every file that has not all its answers in the folder yet.

    The rows of a file in `predictions.csv` are written after the files that they name, and every
    file is whole or absent: a kill costs the few files under way. Of a cine there is kept what was
    found, not what was looked at, so memory grows little with its length. `files.csv` and
    `skipped.csv` alone quote paths.

    Args:
        index: The images, and the files that are none.
        head: What answers.
        folder: One that `open_results` holds open.
        choice: Frames of a cine, see `intake.index.choose_frames`.
        reader: How files become frames.
        log: Gets a line for each answer.

    Raises:
        UserError: A table in the folder is not from this command.
        OSError: The folder cannot be written.
    """
    images, names = _images(index, choice)
    files = Journal(folder / "files.csv", ("file", "path"))
    known = {row["file"] for row in files.rows}
    paths = dict.fromkeys(image.path for image in images if names[image.path] not in known)
    files.add(*({"file": names[path], "path": path} for path in paths))
    chosen = collections.Counter(names[image.path] for image in images)

    def whole(found: list[Row]) -> list[Row]:
        """The rows of files whose results are there, and whose chosen frames have one each."""
        answered = collections.Counter(row["file"] for row in found)
        lost = {file for file, frames in chosen.items() if answered[file] < frames}
        for row in found:
            if not all((folder / row[name]).exists() for name in OUTPUTS):
                lost.add(row["file"])
        return [row for row in found if row["file"] not in lost]

    rows = Journal(folder / "predictions.csv", columns(head.model), whole)
    done = {row["file"] for row in rows.rows}
    missing = [image for image in images if names[image.path] not in done]
    skipped = [(path, "", refusal) for path, refusal in index.refusals]
    under_way: collections.deque[list[Sample]] = collections.deque()

    def examined() -> Iterator[Examined]:
        found = _findings(head, reader, folder, missing, names, skipped)
        for path, group in itertools.groupby(found, key=lambda one: one[0].path):
            source, answered = None, []
            for image, seen, finding in group:  # pixels of the first alone are kept
                source = source or seen
                answered.append((image, finding))
            under_way.append([image for image, _ in answered])
            yield Examined(path, names[path], source, [finding for _, finding in answered])

    made = Pass(len(images), len(images) - len(missing))
    writer = FileWriter(folder, head.model)
    for result in guarded_map(writer, examined(), refusal_of, timeout=_FILE_SECONDS, chunk=1):
        samples = under_way.popleft()
        if isinstance(result, Refusal):
            skipped += ((image.path, str(image.frame), result) for image in samples)
        else:
            if log:
                _record(log, index.rows[samples[0].row].study, head.model, folder, result[0])
            rows.add(*result)
            made.new += len(result)
            made.pictures += sum(not row["sr"] for row in result)
            made.made_up += sum(bool(row[MADE_UP]) for row in result)
    _write_skipped(folder, skipped)
    made.skipped.update(refusal.code.value for _, _, refusal in skipped)
    made.dicom += dict.fromkeys(
        row[kind] for row in rows.rows for kind in kinds(head.model) if row[kind]
    )
    return made


def _record(log: AuditLog, study: str, model: Model, folder: Path, row: Row) -> None:
    """Notes the results of a file, which all of its rows name."""
    files = [folder / row[kind] for kind in kinds(model) if row[kind]]
    log.add(user_name(), study, model, [result_uid(file) for file in files])


def _findings(
    head: Head,
    reader: ImageReader,
    folder: Path,
    images: list[Sample],
    names: dict[str, str],
    skipped: _Skipped,
) -> Iterator[tuple[Sample, SourceImage, Finding]]:
    """Answers and measures, image by image; notes what cannot be."""
    under_way: collections.deque[tuple[Sample, SourceImage]] = collections.deque()

    def answered() -> Iterator[Answered]:
        for image, source, answer in _answers(head, reader, images, skipped):
            under_way.append((image, source))
            yield Answered(image.path, names[image.path], source, answer)

    writer = ImageWriter(folder, head.model)
    for found in guarded_map(writer, answered(), refusal_of, chunk=1):
        image, source = under_way.popleft()
        if isinstance(found, Refusal):
            skipped.append((image.path, str(image.frame), found))
        else:
            yield image, source, found


def _images(index: Index, choice: str) -> tuple[list[Sample], dict[str, str]]:
    """Returns the chosen frames by number, and path to name of the file in the results."""
    secret, contents = load_secret(), digests(index.root, [row.path for row in index.rows])
    names = {
        path: pseudonym(secret, "result", f"{path}\0{content}")
        for path, content in contents.items()
    }
    images = []
    for image in choose_frames(index.rows, choice):
        middle = index.rows[image.row].frames // 2
        number = middle if image.frame is None else image.frame
        images.append(dataclasses.replace(image, frame=number))
    return images, names


def _answers(
    head: Head, reader: ImageReader, images: list[Sample], skipped: _Skipped
) -> Iterator[tuple[Sample, SourceImage, dict[str, np.ndarray]]]:
    """Decodes and answers images lazily; appends refusals to `skipped`."""
    reader = SourceReader(**vars(reader))
    found = decode_images(reader, images, min(_READERS, os.cpu_count() or 1))
    while group := list(itertools.islice(found, _TOGETHER)):
        sources = []
        for k, source in group:
            if isinstance(source, Refusal):
                skipped.append((images[k].path, str(images[k].frame), source))
            else:
                sources.append((images[k], source))
        answers = head.answer([source.pixels for _, source in sources]) if sources else []
        for (image, source), answer in zip(sources, answers, strict=True):
            if head.model.knows(answer.get("familiarity")):
                yield image, source, answer
            else:
                skipped.append((image.path, str(image.frame), Refusal(Code.UNFAMILIAR)))


def _write_skipped(folder: Path, skipped: _Skipped) -> None:
    names = ("path", "frame", "code", "kind", "remedy")
    rows = []
    for path, frame, refusal in skipped:
        code = refusal.code
        row = (path, frame, code, "skipped" if code.is_skip else "unreadable", code.remedy)
        rows.append(dict(zip(names, row, strict=True)))
    write_table(folder / "skipped.csv", names, rows)
