"""What workers do, for headers are as hostile as pixels: a file to sources, an answer to files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_dicom_ce.dicom.reader import Frame
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.prediction.folder import OUTPUTS
from tf_dicom_ce.results.evidence import made_up_uids
from tf_dicom_ce.results.files import dicom_file, overlay
from tf_dicom_ce.results.measuring import Measured, measure
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


def columns(model: Model) -> tuple[str, ...]:
    """The columns of `predictions.csv`."""
    is_mask = model.task == "segmentation"
    said = () if is_mask else ("class",)
    values = [f"{'share' if is_mask else 'probability'} {name}" for name in model.classes]
    if is_mask:
        values += [f"{kind} {name}" for name in model.classes[1:] for kind in Measured._fields]
    return ("file", "frame", "model", "version", *said, *values, *OUTPUTS, MADE_UP)


@dataclasses.dataclass(frozen=True)
class Writer:
    """Writes the results of a model into a folder."""

    folder: Path
    model: Model

    def __call__(self, answered: Answered) -> dict[str, str] | Refusal:
        """Writes the files of one image; of a PNG or JPEG no DICOM is made.

        Returns:
            Its row for `predictions.csv`: shares of the region, with six decimals, and what is
            `measure`d, with three, empty where the image is not calibrated; or class and
            probabilities; files relative to the folder, empty where there is none; keywords of the
            UIDs for which the DICOM result has made-up ones. Or why there is no result: no content
            of a source raises.

        Raises:
            OSError: The folder cannot be written.
        """
        _, name, source, answer = answered
        contents, made_up = {}, ()
        if source.header is not None:
            made_up = made_up_uids(source)
            try:
                contents["dicom"] = dicom_file(source, self.model, answer)
            # A header may be malformed in any way.
            except Exception as error:
                return Refusal(Code.DAMAGED_HEADER, type(error).__name__)
        if self.model.task == "segmentation":
            contents["overlay"] = overlay(source.pixels, answer["mask"], self.model.classes)
        files = {
            "dicom": f"dicom/{name}-{source.frame}.dcm",
            "overlay": f"overlay/{name}-{source.frame}.png",
        }
        for output, content in contents.items():
            with replacing(self.folder / files[output]) as beside:
                beside.write_bytes(content)
        identity = (name, str(source.frame), self.model.name, self.model.version)
        written = (files[output] if output in contents else "" for output in OUTPUTS)
        row = (*identity, *self._said(answer, source.spacing), *written, " ".join(made_up))
        return dict(zip(columns(self.model), row, strict=True))

    def _said(
        self, answer: dict[str, np.ndarray], spacing: tuple[float, float] | None
    ) -> list[str]:
        classes = self.model.classes
        if self.model.task == "segmentation":
            mask = answer["mask"]
            values = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
            shares = [f"{value:.6f}" for value in values]
            if spacing is None:
                return shares + [""] * len(Measured._fields) * (len(classes) - 1)
            measured = (measure(mask == label, spacing) for label in range(1, len(classes)))
            return shares + [f"{value:.3f}" for of_class in measured for value in of_class]
        values = [f"{value:.6f}" for value in answer["probabilities"]]
        return [classes[int(answer["class_id"])], *values]
