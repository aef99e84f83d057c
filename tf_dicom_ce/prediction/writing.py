"""An answer to its files and its row; done in workers, for headers are as hostile as pixels."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_dicom_ce.dicom.pictures import picture_format
from tf_dicom_ce.dicom.reader import Frame, read_header
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.prediction.folder import OUTPUTS
from tf_dicom_ce.results.evidence import made_up_uids
from tf_dicom_ce.results.files import dicom_file, overlay
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import Source
from tf_dicom_ce.whole_files import replacing


@dataclasses.dataclass(frozen=True)
class Image:
    """One frame to be looked at.

    Attributes:
        path: Of the file, relative to the source's folder.
        frame: From 0.
        name: Of the file in the results: a pseudonym of its path and content.
    """

    path: str
    frame: int
    name: str


class Answered(NamedTuple):
    """An image, what was read of it, and what the head said: an answer of `Head.answer`."""

    image: Image
    frame: Frame
    answer: dict[str, np.ndarray]


#: Column that names the UIDs of the source that are absent or illegal.
MADE_UP = "made_up_uids"


def columns(model: Model) -> tuple[str, ...]:
    """The columns of `predictions.csv`."""
    is_mask = model.task == "segmentation"
    said = () if is_mask else ("class",)
    values = (f"{'share' if is_mask else 'probability'} {name}" for name in model.classes)
    return ("file", "frame", "model", "version", *said, *values, *OUTPUTS, MADE_UP)


@dataclasses.dataclass(frozen=True)
class Writer:
    """Writes results.

    Attributes:
        root: Folder of the sources.
        classes: SOP classes that are read.
        folder: Folder of the results.
        model: Who answered.
    """

    root: Path
    classes: frozenset[str]
    folder: Path
    model: Model

    def __call__(self, answered: Answered) -> dict[str, str] | Refusal:
        """Writes the files of one image.

        Args:
            answered: The image; of a PNG or JPEG no DICOM is made.

        Returns:
            Its row for `predictions.csv`: shares of the region, or class and probabilities, with
            six decimals; files relative to the folder, empty where there is none; keywords of the
            UIDs for which the DICOM result has made-up ones. Or why there is no result: no content
            of a source raises.

        Raises:
            OSError: The folder cannot be written.
        """
        image, frame, answer = answered
        contents, made_up = {}, ()
        if not picture_format(self.root / image.path):
            result = self._dicom(answered)
            if isinstance(result, Refusal):
                return result
            contents["dicom"], made_up = result
        if self.model.task == "segmentation":
            contents["overlay"] = overlay(frame.pixels, answer["mask"], self.model.classes)
        stem = f"{image.name}-{image.frame}"
        files = {"dicom": f"dicom/{stem}.dcm", "overlay": f"overlay/{stem}.png"}
        for name, content in contents.items():
            with replacing(self.folder / files[name]) as beside:
                beside.write_bytes(content)
        identity = (image.name, image.frame, self.model.name, self.model.version)
        written = (files[name] if name in contents else "" for name in OUTPUTS)
        row = (*map(str, identity), *self._said(answer), *written, " ".join(made_up))
        return dict(zip(columns(self.model), row, strict=True))

    def _dicom(self, answered: Answered) -> tuple[bytes, tuple[str, ...]] | Refusal:
        image, frame, answer = answered
        header = read_header(self.root / image.path, self.classes)
        if isinstance(header, Refusal):
            return header
        source = Source(header, image.frame, frame.region, frame.pixels)
        try:
            return dicom_file(source, self.model, answer), made_up_uids(source)
        # A header may be malformed in any way.
        except Exception as error:
            return Refusal(Code.DAMAGED_HEADER, type(error).__name__)

    def _said(self, answer: dict[str, np.ndarray]) -> list[str]:
        classes = self.model.classes
        if self.model.task == "segmentation":
            mask = answer["mask"]
            values = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
            return [f"{value:.6f}" for value in values]
        values = [f"{value:.6f}" for value in answer["probabilities"]]
        return [classes[int(answer["class_id"])], *values]
