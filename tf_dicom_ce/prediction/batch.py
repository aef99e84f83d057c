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
    File,
    FileWriter,
    ImageWriter,
    SourceReader,
    StudyWriter,
    columns,
)
from tf_dicom_ce.preprocessing import resize
from tf_dicom_ce.results.codes import Coded
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import SourceImage
from tf_dicom_ce.saved_model.reading import load_head
from tf_dicom_ce.whole_files import write_table
from tf_dicom_ce.workers import guarded_map

_Skipped = list[tuple[str, str, Refusal]]  # path, number of the frame or "", reason
_DICOM = [output for output in OUTPUTS if output != "overlay"]
_TOGETHER = 8  # images per batch of the head
_SECONDS = 900.0  # per result: a cine may have thousands of frames, a study a hundred files
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
    """Answers every study that has not all its answers in the folder yet.

    A study of several files has a report, so all of them are answered together. Its rows in
    `predictions.csv` are written after the results that they name, and every result is whole or
    absent: a kill costs the study under way. Of a study there is kept what was found, not what was
    looked at, so memory grows little with its length. `files.csv` and `skipped.csv` alone quote
    paths.

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
    studies: dict[tuple[str, ...], list[Sample]] = {}
    for image in images:
        studies.setdefault(_study(index, image), []).append(image)

    def whole(found: list[Row]) -> list[Row]:
        """The rows of studies whose results are there, and whose chosen frames have one each."""
        there = collections.Counter(
            row["file"] for row in found if all((folder / row[name]).exists() for name in OUTPUTS)
        )
        lost = {
            names[image.path]
            for study in studies.values()
            if len(study) > sum(there[name] for name in {names[image.path] for image in study})
            for image in study
        }
        kept = [row for row in found if row["file"] not in lost]
        reports = {row["report"] for row in found} - {"", *(row["report"] for row in kept)}
        for report in reports:  # of a study that has got another file, say
            (folder / report).unlink(missing_ok=True)
        return kept

    rows = Journal(folder / "predictions.csv", columns(head.model), whole)
    done = {row["file"] for row in rows.rows}
    missing = [
        image for study in studies.values() for image in study if names[image.path] not in done
    ]
    skipped = [(path, "", refusal) for path, refusal in index.refusals]
    made = Pass(len(images), len(images) - len(missing))
    found = _files(head, reader, folder, missing, names, skipped)
    under_way: collections.deque[list[tuple[File, list[Sample]]]] = collections.deque()

    def answered() -> Iterator[list[File]]:
        for _, study in itertools.groupby(found, key=lambda one: _study(index, one[1][0])):
            under_way.append(list(study))
            yield [file for file, _ in under_way[-1]]

    writer = StudyWriter(folder, head.model)
    for new in guarded_map(writer, answered(), refusal_of, timeout=_SECONDS, chunk=1):
        study = under_way.popleft()
        if isinstance(new, Refusal):
            images = (image for _, samples in study for image in samples)
            skipped += ((image.path, str(image.frame), new) for image in images)
            continue
        if log:
            first = {row["file"]: row for row in reversed(new)}
            for file, samples in study:
                of_study = index.rows[samples[0].row].study
                _record(log, of_study, head.model, folder, first[file.name])
        rows.add(*new)
        made.new += len(new)
        made.pictures += sum(not row["sr"] for row in new)
        made.made_up += sum(bool(row[MADE_UP]) for row in new)
    _write_skipped(folder, skipped)
    made.skipped.update(refusal.code.value for _, _, refusal in skipped)
    made.dicom += dict.fromkeys(row[kind] for row in rows.rows for kind in _DICOM if row[kind])
    return made


def _record(log: AuditLog, study: str, model: Model, folder: Path, row: Row) -> None:
    """Notes the results of a file, which all of its rows name."""
    files = [folder / row[kind] for kind in _DICOM if row[kind]]
    log.add(user_name(), study, model, [result_uid(file) for file in files])


def _study(index: Index, image: Sample) -> tuple[str, ...]:
    """What the images of a study have in common; one without a study has its file alone."""
    row = index.rows[image.row]
    return (row.study, row.pseudonym) if row.study else (row.path,)


def _files(
    head: Head,
    reader: ImageReader,
    folder: Path,
    images: list[Sample],
    names: dict[str, str],
    skipped: _Skipped,
) -> Iterator[tuple[File, list[Sample]]]:
    """Answers, and writes overlays and masks, file by file; notes what cannot be."""
    under_way: collections.deque[list[Sample]] = collections.deque()

    def answered() -> Iterator[File]:
        found = _findings(head, reader, folder, images, names, skipped)
        for path, group in itertools.groupby(found, key=lambda one: one[0].path):
            source, samples, findings = None, [], []
            for image, seen, finding in group:  # the header of the first alone is kept
                source = source or seen
                samples.append(image)
                findings.append(finding)
            under_way.append(samples)
            yield File(path, names[path], (source, tuple(findings)))

    writer = FileWriter(folder, head.model)
    for file in guarded_map(writer, answered(), refusal_of, timeout=_SECONDS, chunk=1):
        samples = under_way.popleft()
        if isinstance(file, Refusal):
            skipped += ((image.path, str(image.frame), file) for image in samples)
        else:
            yield file, samples


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
            yield image, source.without_pixels(), found


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
