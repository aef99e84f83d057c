"""Runs a head on the images of an index; a repeated run continues an interrupted one."""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_dicom_ce.audit_log import AuditLog, user_name
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.intake.contents import digests
from tf_dicom_ce.intake.decoding import ImageReader, Sample, decode_images, refusal_of
from tf_dicom_ce.intake.file_cache import Stamp, stamps_of
from tf_dicom_ce.intake.index import Index, choose_frames
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.masks import likeliest_classes
from tf_dicom_ce.prediction.folder import OUTPUTS, Journal, Row, Skips, result_uid
from tf_dicom_ce.prediction.writing import (
    MADE_UP,
    Answered,
    File,
    FileWriter,
    ImageWriter,
    SourceReader,
    StudyWriter,
    columns,
    former_reports,
)
from tf_dicom_ce.preprocessing import resize
from tf_dicom_ce.results.codes import Coded
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import SourceImage
from tf_dicom_ce.saved_model.reading import load_head
from tf_dicom_ce.workers import guarded_map

_DICOM = [output for output in OUTPUTS if output != "overlay"]
_FOR_GOOD = frozenset(code.value for code in Code if not code.may_pass)
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
    unreported: int = 0  # files without a report of their study, as they contradict each other
    # Files and frames without an answer, by code, also of earlier runs.
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
    absent: a kill costs the study under way. What is refused for good is not looked at again; what
    may pass, such as a disk that fails, has its study answered anew. Of a study there is kept what
    was found, not what was looked at, so memory grows little with its length. `files.csv` and
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
    stamps = stamps_of(reader.root, [row.path for row in index.rows])
    images, names = _images(index, choice)
    files = Journal(folder / "files.csv", ("file", "path"))
    known = {row["file"] for row in files.rows}
    paths = dict.fromkeys(image.path for image in images if names[image.path] not in known)
    files.add(*({"file": names[path], "path": path} for path in paths))
    rows = Journal(folder / "predictions.csv", columns(head.model))
    skips = Skips(folder, names)
    missing = _missing(index, images, names, folder, rows, skips)
    skips.add(*(skips.row(refusal, path) for path, refusal in index.refusals))
    before = {(row["file"], row["frame"]) for row in rows.rows}
    made = Pass(len(images), sum((names[one.path], str(one.frame)) in before for one in images))
    found = _files(head, reader, folder, missing, names, stamps, skips)
    under_way: collections.deque[list[tuple[File, list[Sample]]]] = collections.deque()

    def answered() -> Iterator[list[File]]:
        for _, study in itertools.groupby(found, key=lambda one: _study(index, one[1][0])):
            under_way.append(list(study))
            yield [file for file, _ in under_way[-1]]

    present = set(names.values())  # of a changed file, there are also the rows of before
    former = former_reports(
        _reports_besides(folder, (row for row in rows.rows if row["file"] in present))
    )
    writer = StudyWriter(folder, head.model, former)
    for new in guarded_map(writer, answered(), refusal_of, timeout=_SECONDS, chunk=1):
        study = under_way.popleft()
        if isinstance(new, Refusal):
            skips.note(new, (image for _, samples in study for image in samples))
            continue
        if log:
            first = {row["file"]: row for row in reversed(new.rows)}
            for file, samples in study:
                of_study = index.rows[samples[0].row].study
                _record(log, of_study, head.model, folder, first[file.name])
        skips.add(*(skips.row(refusal, path) for path, refusal in new.contradictory))
        rows.add(*new.rows)
        made.new += len(new.rows)
        made.pictures += sum(not row["sr"] for row in new.rows)
        made.made_up += sum(bool(row[MADE_UP]) for row in new.rows)
    for report in _reports_besides(folder, rows.rows):
        report.unlink(missing_ok=True)
    made.skipped.update(row["code"] for row in skips.rows)
    made.unreported = made.skipped.pop(Code.CONTRADICTION, 0)
    made.dicom += dict.fromkeys(row[kind] for row in rows.rows for kind in _DICOM if row[kind])
    return made


def _missing(
    index: Index,
    images: list[Sample],
    names: dict[str, str],
    folder: Path,
    rows: Journal,
    skips: Skips,
) -> list[Sample]:
    """The images of studies that lack an answer, study by study; takes out what is told of them."""

    def whole(row: Row) -> bool:
        return all((folder / row[name]).exists() for name in OUTPUTS)

    there = [row for row in rows.rows if whole(row)]
    for_good = [row for row in skips.rows if row["code"] in _FOR_GOOD and row["file"]]
    done = {(row["file"], row["frame"]) for row in (*there, *for_good)}
    studies: dict[tuple[str, ...], list[Sample]] = {}
    for image in images:
        studies.setdefault(_study(index, image), []).append(image)
    missing = [
        image
        for study in studies.values()
        if any((names[one.path], str(one.frame)) not in done for one in study)
        for image in study
    ]
    again = {names[image.path] for image in missing}
    rows.keep(row for row in there if row["file"] not in again)
    closed = {names[image.path] for image in images} - again
    skips.keep(row for row in skips.rows if row["file"] in closed)
    return missing


def _reports_besides(folder: Path, rows: Iterable[Row]) -> list[Path]:
    """The reports that none of the rows names; files of other names are none of ours."""
    named = {row["report"] for row in rows}
    reports = sorted((folder / "report").glob("[0-9a-f]" * 32 + ".dcm"))
    return [path for path in reports if f"report/{path.name}" not in named]


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
    stamps: dict[str, Stamp],
    skips: Skips,
) -> Iterator[tuple[File, list[Sample]]]:
    """Answers, and writes overlays and masks, file by file; notes what cannot be."""
    under_way: collections.deque[list[Sample]] = collections.deque()

    def answered() -> Iterator[File]:
        found = _findings(head, reader, folder, images, names, skips)
        for path, group in itertools.groupby(found, key=lambda one: one[0].path):
            source, samples, findings = None, [], []
            for image, seen, finding in group:  # the header of the first alone is kept
                source = source or seen
                samples.append(image)
                findings.append(finding)
            under_way.append(samples)
            yield File(path, names[path], stamps[path], (source, tuple(findings)))

    writer = FileWriter(folder, head.model, reader.root)
    for file in guarded_map(writer, answered(), refusal_of, timeout=_SECONDS, chunk=1):
        samples = under_way.popleft()
        if isinstance(file, Refusal):
            skips.note(file, samples)
        else:
            yield file, samples


def _findings(
    head: Head,
    reader: ImageReader,
    folder: Path,
    images: list[Sample],
    names: dict[str, str],
    skips: Skips,
) -> Iterator[tuple[Sample, SourceImage, Finding]]:
    """Answers and measures, image by image; notes what cannot be."""
    under_way: collections.deque[tuple[Sample, SourceImage]] = collections.deque()

    def answered() -> Iterator[Answered]:
        for image, source, answer in _answers(head, reader, images, skips):
            under_way.append((image, source))
            yield Answered(image.path, names[image.path], source, answer)

    writer = ImageWriter(folder, head.model)
    for found in guarded_map(writer, answered(), refusal_of, chunk=1):
        image, source = under_way.popleft()
        if isinstance(found, Refusal):
            skips.note(found, [image])
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
    head: Head, reader: ImageReader, images: list[Sample], skips: Skips
) -> Iterator[tuple[Sample, SourceImage, dict[str, np.ndarray]]]:
    """Decodes and answers images lazily; notes what cannot be."""
    reader = SourceReader(**vars(reader))
    found = decode_images(reader, images, min(_READERS, os.cpu_count() or 1))
    while group := list(itertools.islice(found, _TOGETHER)):
        sources = []
        for k, source in group:
            if isinstance(source, Refusal):
                skips.note(source, [images[k]])
            else:
                sources.append((images[k], source))
        answers = head.answer([source.pixels for _, source in sources]) if sources else []
        for (image, source), answer in zip(sources, answers, strict=True):
            if head.model.knows(answer.get("familiarity")):
                yield image, source, answer
            else:
                skips.note(Refusal(Code.UNFAMILIAR), [image])
