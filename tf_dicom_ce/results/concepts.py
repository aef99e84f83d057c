"""Codes for what a result says: SNOMED where there is one, else a scheme of our own."""

import hashlib
import re

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from tf_dicom_ce import __version__
from tf_dicom_ce.results.model import Model

#: Designators of private schemes begin with 99 (PS3.16, 8.2).
SCHEME = CodingSchemeIdentificationItem(
    "99TFDICOMCE", name="Class names of tf_dicom_ce", responsible_organization="tf_dicom_ce"
)
MANUFACTURER = "tf_dicom_ce"
#: What makes results of a model's answers, and its version.
SOFTWARE = f"{MANUFACTURER} {__version__}"

_ORGANS = {"liver": codes.SCT.Liver, "kidney": codes.SCT.Kidney}


def organ(name: str) -> Code | None:
    """The SNOMED code of an organ, None for any other name."""
    return _ORGANS.get(name.strip().casefold())


def own(meaning: str) -> Code:
    """A code of our own; the same text gives the same code, whatever the model.

    Args:
        meaning: Any text; more than 64 characters are cut, as a code meaning has no more.
    """
    plain = re.sub(r"[^A-Z0-9]+", "_", meaning.upper()).strip("_")
    digest = hashlib.sha256(meaning.encode()).hexdigest()[:6].upper()
    return Code(f"{plain[:9]}_{digest}", SCHEME.CodingSchemeDesignator, meaning[:64])


def intended_use(model: Model) -> str:
    """What a result may be used for, at most 64 characters."""
    return "Research use only" + ("; trained on synthetic images" if model.synthetic else "")
