"""What worker processes do, as headers are as hostile as pixels: read sources, write results."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.prediction.folder import OUTPUTS, Row
from tf_dicom_ce.results.evidence import made_up_uids, study_of
from tf_dicom_ce.results.files import kinds, overlay, write_dicom
from tf_dicom_ce.results.finding import Examined, Finding
from tf_dicom_ce.results.measuring import Measured
from tf_dicom_ce.results.model import Model
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
    examined: Examined  # its image without pixels


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
    """Writes the SEG of a file into a folder."""

    folder: Path
    model: Model

    def __call__(self, file: File) -> File | Refusal:
        """Writes the masks; of a classification, and of a PNG or JPEG, there is none.

        Returns:
            The file, now without its masks; or why it has no result: no content of a source raises.

        Raises:
            OSError: The folder cannot be written.
        """
        source, findings = file.examined
        if source.header is not None and "seg" in kinds(self.model):
            try:
                _write(self.folder / _result("seg", file.name), "seg", [file.examined], self.model)
            except OSError:
                raise
            # A header may be malformed in any way.
            except Exception as error:
                return _refused(self.folder, file, error)
        findings = [dataclasses.replace(finding, packed=b"") for finding in findings]
        return file._replace(examined=(source, findings))


@dataclasses.dataclass(frozen=True)
class StudyWriter:
    """Writes the SR of a study into a folder."""

    folder: Path
    model: Model

    def __call__(self, files: Sequence[File]) -> list[list[Row] | Refusal]:
        """Writes one report on all files of a study, or of each patient whose images it has.

        Where a header spoils it, each file has a report of its own.

        Returns:
            For each file a row for `predictions.csv` of each frame: shares of the region and what
            is measured, empty where the image is not calibrated; or class and probabilities; the
            results relative to the folder, empty where there is none; keywords of the UIDs for
            which the DICOM results have made-up ones. Or why the file has no result: no content of
            a source raises.

        Raises:
            OSError: The folder cannot be written.
        """
        studies: dict[tuple[str, ...], list[File]] = {}
        for file in files:
            if file.examined[0].header is not None:
                studies.setdefault(study_of(file.examined[0]), []).append(file)
        reports: dict[str, str | Refusal] = {}
        for study in studies.values():
            reports |= self._report(study)
        return [
            report if isinstance(report, Refusal) else self._rows(file, report)
            for file in files
            for report in [reports.get(file.name, "")]
        ]

    def _report(self, files: Sequence[File]) -> dict[str, str | Refusal]:
        """The report of each file by the file's name, or why there is none."""
        names = [file.name for file in files]
        # Another report for other files: a study may get more of them.
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
        report = _result("sr", digest[:32])
        try:
            _write(self.folder / report, "sr", [file.examined for file in files], self.model)
        except OSError:
            raise
        # A header may be malformed in any way.
        except Exception as error:
            if len(files) == 1:
                return {names[0]: _refused(self.folder, files[0], error)}
            return {name: report for one in files for name, report in self._report([one]).items()}
        return dict.fromkeys(names, report)

    def _rows(self, file: File, report: str) -> list[Row]:
        (source, findings), rows = file.examined, []
        made_up = () if source.header is None else made_up_uids(source)
        for finding in findings:
            files = dict.fromkeys(OUTPUTS, "") | {"sr": report}
            if self.model.task == "segmentation":
                files["seg"] = report and _result("seg", file.name)
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


def _write(path: Path, kind: str, images: Sequence[Examined], model: Model) -> None:
    with replacing(path) as beside, beside.open("wb") as content:
        write_dicom(content, kind, images, model)


def _refused(folder: Path, file: File, error: Exception) -> Refusal:
    """The refusal of a file, of which no result is left."""
    (folder / _result("seg", file.name)).unlink(missing_ok=True)
    for finding in file.examined[1]:
        (folder / _overlay(file.name, finding.frame)).unlink(missing_ok=True)
    return Refusal(Code.DAMAGED_HEADER, type(error).__name__)


def _result(kind: str, name: str) -> str:
    return f"{kind}/{name}.dcm"


def _overlay(name: str, frame: int) -> str:
    return f"overlay/{name}-{frame}.png"
