"""Tells what the frames of an Enhanced US Volume show."""

from pydicom import Dataset
from pydicom.tag import Tag

from tf_dicom_ce.dicom.header import value

_SHARED = Tag("SharedFunctionalGroupsSequence")
_PER_FRAME = Tag("PerFrameFunctionalGroupsSequence")
_IMAGE_DATA_TYPE, _DATA_TYPE = Tag("ImageDataTypeSequence"), Tag("DataType")
_TISSUE = ("TISSUE_INTENSITY", "", None)


def is_tissue(header: Dataset, index: int) -> bool:
    """Tells whether a frame shows tissue, by (0018,9808) Data Type (PS3.3 C.8.24.5).

    Other frames show flow, elasticity and the like. Without a data type a frame counts as tissue.
    """
    groups = [*(value(header, _SHARED) or ())[:1]]
    groups += (value(header, _PER_FRAME) or ())[index : index + 1]
    types = (
        value(item, _DATA_TYPE) for group in groups for item in value(group, _IMAGE_DATA_TYPE) or ()
    )
    return all(kind in _TISSUE for kind in types)
