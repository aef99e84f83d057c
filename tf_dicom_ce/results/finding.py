"""What a head found in a frame: the numbers that the table, JSON, the page, SEG and SR show."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from tf_dicom_ce.dicom.regions import Region
from tf_dicom_ce.results.measuring import Measured, contour, largest_part, measure
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import SourceImage


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found in one frame; small, so that all frames of a study can be kept."""

    frame: int  # from 0
    region: Region  # of the picture: what the head saw
    digest: str  # SHA-256 of its pixels in hex
    # One a class, six decimals: its probability, or in a segmentation its share of the region.
    values: tuple[float, ...]
    class_id: int | None = None  # of a classification
    # Of a segmentation alone, one a class but the background:
    measured: tuple[Measured | None, ...] = ()  # three decimals; None if not calibrated
    # The border of the largest part as `contour` gives it, in the picture; None without a pixel.
    contours: tuple[np.ndarray | None, ...] = ()
    packed: bytes = b""  # the mask, compressed; not needed once the SEG is written
    familiarity: float | None = None  # 0…1, four decimals; None of a head that does not tell

    @classmethod
    def of(cls, source: SourceImage, answer: Mapping[str, np.ndarray], model: Model) -> "Finding":
        """Measures an answer.

        Args:
            source: The image.
            answer: Perhaps `familiarity`; `mask`, uint8 of the height and width of the source's
                region, 0 is background; or `class_id` and `probabilities` [K].
            model: Who answered.

        Raises:
            ValueError: The mask holds a class that the model does not have, or has another size;
                or the probabilities are of other classes.
        """
        seen = source.frame, source.region, source.digest
        familiarity = answer.get("familiarity")
        if familiarity is not None:
            familiarity = round(float(familiarity), 4)
        if model.task == "classification":
            values = tuple(round(float(value), 6) for value in answer["probabilities"])
            if len(values) != len(model.classes):
                raise ValueError(f"{len(values)} probabilities, {len(model.classes)} classes")
            return cls(*seen, values, int(answer["class_id"]), familiarity=familiarity)
        mask = answer["mask"]
        if mask.max() >= len(model.classes):
            raise ValueError(f"mask has class {mask.max()}, the model has {len(model.classes)}")
        counts = np.bincount(mask.ravel(), minlength=len(model.classes))
        measured, contours = [], []
        for label, count in enumerate(counts[1:], start=1):
            of_class, corner = _cropped(mask == label)
            corner = (corner[1] + source.region.left, corner[0] + source.region.top)
            contours.append(contour(largest_part(of_class)) + corner if count else None)
            measured.append(
                source.spacing
                and Measured(*(round(value, 3) for value in measure(of_class, source.spacing)))
            )
        packed = zlib.compress(source.in_file(mask).tobytes(), 1)
        shares = tuple(round(float(count / mask.size), 6) for count in counts)
        found = tuple(measured), tuple(contours), packed, familiarity
        return cls(*seen, shares, None, *found)

    def mask(self, source: SourceImage) -> np.ndarray:
        """The mask in its place in the file, uint8 [Rows, Columns]."""
        return np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(source.shape)


#: A file's image, any frame of it, and what was found in its frames, in their order; at least one.
Examined = tuple[SourceImage, Sequence[Finding]]


def _cropped(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The box of a mask's pixels, and the row and column of its corner."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return mask[:0], (0, 0)
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return box, (int(rows[0]), int(columns[0]))
