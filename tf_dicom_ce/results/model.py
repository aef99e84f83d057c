"""Who made a result, and codes for what it says: SNOMED where there is one, else our own."""

import dataclasses
import hashlib
import re

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from tf_dicom_ce import __version__

MANUFACTURER = "tf_dicom_ce"
#: Designators of private schemes begin with 99 (PS3.16, 8.2).
SCHEME = CodingSchemeIdentificationItem(
    "99TFDICOMCE", "Class names of tf_dicom_ce", responsible_organization=MANUFACTURER
)
#: What makes results of a model's answers, and its version.
SOFTWARE = f"{MANUFACTURER} {__version__}"

_ORGANS = {"liver": codes.SCT.Liver, "kidney": codes.SCT.Kidney}


@dataclasses.dataclass(frozen=True)
class Model:
    """An exported head, as results name it."""

    name: str  # of the model in its repository
    version: str  # e.g. "3"
    task: str  # `segmentation` or `classification`
    classes: tuple[str, ...]  # in the order of the answer; segmentation: background first
    # SHA-256 in hex: another training has another one, even of the same name and version.
    weights_digest: str
    fingerprint: str  # of the training data, or "unknown"
    synthetic: bool | None  # whether it was trained on the phantom; None: unknown
    find_sector: bool = False  # whether it was trained on images that were cropped by looking
    blank_outside: bool = False  # whether what lies outside of the ultrasound was blackened

    @classmethod
    def of(cls, name: str, version: str, content: dict) -> "Model":
        """The model whose `<task>.json` holds this, as `read_metadata` gives it.

        Raises:
            KeyError: The content is not that of a head.
        """
        return cls(
            name,
            version,
            content["task"],
            tuple(content["classes"]),
            content["weights_digest"],
            content.get("data_fingerprint", "unknown"),
            content.get("synthetic_data"),
            content.get("find_sector", False),
            content.get("blank_outside", False),
        )

    @property
    def intended_use(self) -> str:
        """What a result may be used for, at most 64 characters."""
        return "Research use only" + ("; trained on synthetic images" if self.synthetic else "")


def organ(name: str) -> Code | None:
    """The SNOMED code of an organ, None for any other name."""
    return _ORGANS.get(name.strip().casefold())


def own(meaning: str) -> Code:
    """A code of our own, the same for the same text, which its meaning cuts at 64 characters."""
    plain = re.sub(r"[^A-Z0-9]+", "_", meaning.upper()).strip("_")
    digest = hashlib.sha256(meaning.encode()).hexdigest()[:6].upper()
    return Code(f"{plain[:9]}_{digest}", SCHEME.CodingSchemeDesignator, meaning[:64])
