"""What workers do, for headers are as hostile as pixels: a file to sources, an answer to files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.prediction.folder import OUTPUTS, Row
from tf_dicom_ce.results.evidence import made_up_uids
from tf_dicom_ce.results.files import kinds, overlay, write_dicom
from tf_dicom_ce.results.finding import Finding
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


class Examined(NamedTuple):
    """A file whose images are answered: path and name, its first image, and what was found."""

    path: str
    name: str
    source: SourceImage
    findings: list[Finding]  # by frame; at least one


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
    """Writes the DICOM results of a model into a folder."""

    folder: Path
    model: Model

    def __call__(self, examined: Examined) -> list[Row] | Refusal:
        """Writes the results of a file, one of a kind; of a PNG or JPEG none is made.

        Returns:
            A row for `predictions.csv` of each frame: shares of the region and what is measured,
            empty where the image is not calibrated; or class and probabilities; files relative to
            the folder, empty where there is none; keywords of the UIDs for which the DICOM result
            has made-up ones. Or why there is no result, and then no overlay is left: no content of
            a source raises.

        Raises:
            OSError: The folder cannot be written.
        """
        _, name, source, findings = examined
        files, made_up = {}, ()
        if source.header is not None:
            made_up = made_up_uids(source)
            files = {kind: f"{kind}/{name}.dcm" for kind in kinds(self.model)}
        try:
            for kind, file in files.items():
                with replacing(self.folder / file) as beside, beside.open("wb") as content:
                    write_dicom(content, kind, source, findings, self.model)
        except OSError:
            raise
        # A header may be malformed in any way.
        except Exception as error:
            for finding in findings:
                (self.folder / _overlay(name, finding.frame)).unlink(missing_ok=True)
            return Refusal(Code.DAMAGED_HEADER, type(error).__name__)
        rows = []
        for finding in findings:
            if self.model.task == "segmentation":
                files["overlay"] = _overlay(name, finding.frame)
            of_image = "" if finding.familiarity is None else f"{finding.familiarity:.4f}"
            identity = (name, str(finding.frame), self.model.name, self.model.version, of_image)
            written = (files.get(output, "") for output in OUTPUTS)
            row = (*identity, *self._said(finding), *written, " ".join(made_up))
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


def _overlay(name: str, frame: int) -> str:
    return f"overlay/{name}-{frame}.png"
