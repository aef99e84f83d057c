"""What worker processes do, as headers are as hostile as pixels: read sources, write results."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.file_cache import Stamp, stamps_of
from tf_dicom_ce.prediction.folder import OUTPUTS, Row
from tf_dicom_ce.results.evidence import ContradictionError, made_up_uids, study_of
from tf_dicom_ce.results.files import kinds, overlay, write_dicom
from tf_dicom_ce.results.finding import Examined, Finding
from tf_dicom_ce.results.measuring import Measured
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.report import Former
from tf_dicom_ce.results.source import SourceImage
from tf_dicom_ce.whole_files import replacing

#: Column that names the UIDs of the source that are absent or illegal.
MADE_UP = "made_up_uids"


class SourceReader(ImageReader):
    """Reads sources instead of frames, the header in the same pass as the pixels."""

    def read(self, path: str, frames: Sequence[int]) -> list[SourceImage | Refusal]:
        """See `ImageReader.read`; frames are numbers."""
        found = zip(frames, super().read(path, frames), strict=True)
        return [SourceImage.of(one, k) if isinstance(one, Frame) else one for k, one in found]


class Answered(NamedTuple):
    """A file's path and, in the results, its name, a pseudonym; an image of it; `Head.answer`."""

    path: str
    name: str
    source: SourceImage
    answer: dict[str, np.ndarray]


class File(NamedTuple):
    """A file whose images are answered: path, name, and what was found in it."""

    path: str
    name: str
    stamp: Stamp  # as it was named
    examined: Examined  # its image without pixels


class Reported(NamedTuple):
    """A study whose images are answered."""

    rows: list[Row]  # for `predictions.csv`
    contradictory: list[tuple[str, Refusal]]  # paths of files that have no report, and why


def columns(model: Model) -> tuple[str, ...]:
    """The columns of `predictions.csv`."""
    is_mask = model.task == "segmentation"
    said = () if is_mask else ("class",)
    values = [f"{'share' if is_mask else 'probability'} {name}" for name in model.classes]
    if is_mask:
        values += [f"{kind} {name}" for name in model.classes[1:] for kind in Measured._fields]
    names = ("file", "frame", "model", "version", "familiarity")
    return (*names, *said, *values, *OUTPUTS, MADE_UP)


@dataclasses.dataclass(frozen=True)
class ImageWriter:
    """Measures answers, and draws them into a folder."""

    folder: Path
    model: Model

    def __call__(self, answered: Answered) -> Finding:
        """What was found in an image; of a segmentation the overlay is written.

        Raises:
            OSError: The folder cannot be written.
        """
        _, name, source, answer = answered
        if self.model.task == "segmentation":
            picture = overlay(source.pixels, answer["mask"], self.model.classes)
            with replacing(self.folder / _overlay(name, source.frame)) as beside:
                beside.write_bytes(picture)
        return Finding.of(source, answer, self.model)


@dataclasses.dataclass(frozen=True)
class FileWriter:
    """Writes the SEG and the SR of a file of `root` into a folder."""

    folder: Path
    model: Model
    root: Path

    def __call__(self, file: File) -> File | Refusal:
        """Writes the results of a file, one of a kind; of a PNG or JPEG there is none.

        Returns:
            The file, now without its masks; or why it has no result: no content of a source raises,
            and no results are of frames that were read before and after a change of the file.

        Raises:
            OSError: The folder cannot be written.
        """
        source, findings = file.examined
        refusal = None
        try:
            for kind in kinds(self.model) if source.header is not None else ():
                path = self.folder / _result(kind, file.name)
                _write(path, kind, [file.examined], self.model)
        except OSError:
            raise
        # A header may be malformed in any way.
        except Exception as error:
            refusal = Refusal(Code.DAMAGED_HEADER, type(error).__name__)
        if stamps_of(self.root, [file.path]) != {file.path: file.stamp}:
            refusal = Refusal(Code.CHANGED)
        if refusal:
            for kind in OUTPUTS:
                (self.folder / _result(kind, file.name)).unlink(missing_ok=True)
            for finding in findings:
                (self.folder / _overlay(file.name, finding.frame)).unlink(missing_ok=True)
            return refusal
        findings = [dataclasses.replace(finding, packed=b"") for finding in findings]
        return file._replace(examined=(source, findings))


@dataclasses.dataclass(frozen=True)
class StudyWriter:
    """Writes the report of a study into a folder; `former` is what `former_reports` gives."""

    folder: Path
    model: Model
    former: Mapping[tuple[str, ...], Sequence[Former]]

    def __call__(self, files: Sequence[File]) -> Reported:
        """Writes a report on all files of a study, or of each patient whose images it has.

        A file that is alone has none: its SR says the same. A report that is there is left as it
        is: its name tells its files and frames.

        Returns:
            For each file a row of each frame: shares of the region and what is measured, empty
            where the image is not calibrated; or class and probabilities; the results relative to
            the folder, empty where there is none; keywords of the UIDs for which the DICOM results
            have made-up ones. And the files that no report can be about; the SR of each stands.

        Raises:
            OSError: The folder cannot be written.
        """
        studies: dict[tuple[str, ...], list[File]] = {}
        for file in files:
            if file.examined[0].header is not None:
                studies.setdefault(study_of(file.examined[0]), []).append(file)
        reports: dict[str, str] = {}
        contradictory = []
        for key, study in studies.items():
            if len(study) > 1:
                images = [file.examined for file in study]
                report = _result("report", _digest(study))
                try:
                    if not (self.folder / report).exists():
                        former = self.former.get(key, ())
                        _write(self.folder / report, "sr", images, self.model, former)
                except ContradictionError as error:
                    refusal = Refusal(Code.CONTRADICTION, str(error))
                    contradictory += [(file.path, refusal) for file in study]
                else:
                    reports |= {file.name: report for file in study}
        rows = [row for file in files for row in self._rows(file, reports.get(file.name, ""))]
        return Reported(rows, contradictory)

    def _rows(self, file: File, report: str) -> list[Row]:
        (source, findings), rows = file.examined, []
        files, made_up = dict.fromkeys(OUTPUTS, ""), ()
        if source.header is not None:
            files |= {kind: _result(kind, file.name) for kind in kinds(self.model)}
            files["report"], made_up = report, made_up_uids(source)
        for finding in findings:
            if self.model.task == "segmentation":
                files["overlay"] = _overlay(file.name, finding.frame)
            of_image = "" if finding.familiarity is None else f"{finding.familiarity:.4f}"
            identity = (file.name, str(finding.frame), self.model.name, self.model.version)
            row = (*identity, of_image, *self._said(finding), *files.values(), " ".join(made_up))
            rows.append(dict(zip(columns(self.model), row, strict=True)))
        return rows

    def _said(self, finding: Finding) -> list[str]:
        values = [f"{value:.6f}" for value in finding.values]
        if finding.class_id is not None:
            return [self.model.classes[finding.class_id], *values]
        for measured in finding.measured:
            values += (
                [""] * len(Measured._fields)
                if measured is None
                else [f"{value:.3f}" for value in measured]
            )
        return values


def former_reports(files: Iterable[Path]) -> dict[tuple[str, ...], list[Former]]:
    """The UIDs of reports, by what `study_of` gives of their sources."""
    of_study = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID")
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    found: dict[tuple[str, ...], list[Former]] = {}
    for file in files:
        with contextlib.suppress(InvalidDicomError):  # it is damaged
            report = dcmread(file, specific_tags=[*of_study, *uids])
            key, former = (tuple(str(report.get(k, "")) for k in keys) for keys in (of_study, uids))
            found.setdefault(key, []).append(Former(*former))
    return found


def _write(
    path: Path,
    kind: str,
    images: Sequence[Examined],
    model: Model,
    former: Sequence[Former] = (),
) -> None:
    with replacing(path) as beside, beside.open("wb") as content:
        write_dicom(content, kind, images, model, former)


def _digest(study: Iterable[File]) -> str:
    """Another one for other files or frames: a study may get more of them."""
    lines = (f"{file.name} {[found.frame for found in file.examined[1]]}" for file in study)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _result(kind: str, name: str) -> str:
    return f"{kind}/{name}.dcm"


def _overlay(name: str, frame: int) -> str:
    return f"overlay/{name}-{frame}.png"
