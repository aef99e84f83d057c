"""Who made a result."""

import dataclasses
from collections.abc import Mapping

from tf_dicom_ce import __version__
from tf_dicom_ce.dicom.header import ULTRASOUND
from tf_dicom_ce.results.codes import Coded, coded, read_codes

MANUFACTURER = "tf_dicom_ce"
#: What makes results of a model's answers, and its version.
SOFTWARE = f"{MANUFACTURER} {__version__}"


@dataclasses.dataclass(frozen=True)
class Model:
    """An exported head, as results name it."""

    name: str  # of the model in its repository
    version: str  # e.g. "3"
    task: str  # `segmentation` or `classification`
    classes: tuple[str, ...]  # in the order of the answer; segmentation: background first
    # SHA-256 in hex: tells apart two trainings of the same name and version.
    weights_digest: str
    fingerprint: str  # of the training data, or "unknown"
    synthetic: bool | None  # whether it was trained on the phantom; None: unknown
    find_sector: bool = False  # whether it was trained on images that were cropped by looking
    blank_outside: bool = False  # whether what lies outside of the ultrasound was blackened
    sop_classes: tuple[str, ...] = tuple(sorted(ULTRASOUND))  # UIDs of what it may be asked about
    threshold: float | None = None  # of `familiarity`, below which an answer means nothing
    codes: tuple[Coded, ...] = ()  # of the classes; by default as `read_codes` has them

    def __post_init__(self):
        """Fills in the codes."""
        if not self.codes:
            object.__setattr__(self, "codes", _codes(self.classes, read_codes()))

    @classmethod
    def of(
        cls, name: str, version: str, content: dict, table: Mapping[str, Coded] | None = None
    ) -> "Model":
        """The model whose `<task>.json` holds this, as `read_metadata` gives it.

        `table` is what `read_codes` gives, by default the built-in one.

        Raises:
            KeyError: The content is not that of a head.
        """
        classes = tuple(content["classes"])
        return cls(
            name,
            version,
            content["task"],
            classes,
            content["weights_digest"],
            content.get("data_fingerprint", "unknown"),
            content.get("synthetic_data"),
            content.get("find_sector", False),
            content.get("blank_outside", False),
            tuple(sorted(content.get("sop_classes", ULTRASOUND))),
            content.get("familiarity", {}).get("threshold"),
            () if table is None else _codes(classes, table),
        )

    def knows(self, familiarity: float | None) -> bool:
        """Whether an image of this familiarity is like those that it was trained on."""
        return self.threshold is None or familiarity is None or familiarity >= self.threshold

    @property
    def intended_use(self) -> str:
        """What a result may be used for, at most 64 characters."""
        return "Research use only" + ("; trained on synthetic images" if self.synthetic else "")


def _codes(classes: tuple[str, ...], table: Mapping[str, Coded]) -> tuple[Coded, ...]:
    return tuple(coded(name, table) for name in classes)
