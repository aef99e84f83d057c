"""SOP classes: what a DICOM file says that it is."""

import re

from pydicom.uid import UID, UID_dictionary

#: (0008,0060) Modality is free text in practice; the SOP class says what a file is.
ULTRASOUND: frozenset[str] = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
        "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
        "1.2.840.10008.5.1.4.1.1.6",  # the same, retired
        "1.2.840.10008.5.1.4.1.1.3",
    }
)


def sop_class_uid(name: str) -> str:
    """The UID of a SOP class.

    Args:
        name: Its name, e.g. "CT Image Storage", its keyword, e.g. "CTImageStorage", or its UID,
            which may be a private one.

    Raises:
        ValueError: There is no such SOP class; the message names the remedy.
    """
    for uid, (title, kind, _, _, keyword) in UID_dictionary.items():
        if kind == "SOP Class" and name in (uid, title, keyword):
            return uid
    if re.fullmatch(r"\d+(\.\d+)+", name) and UID(name).is_private:
        return name
    raise ValueError(f"unknown SOP class '{name}'; write it as in 'CT Image Storage', or its UID")
