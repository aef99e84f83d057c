"""Where in the image the ultrasound is: (0018,6011) Sequence of Ultrasound Regions."""

from pydicom import Dataset
from pydicom.tag import Tag

from tf_dicom_ce.dicom.values import value

CROPPED = "cropped to region"
CLAMPED = "region clamped to the image"
IMPLAUSIBLE = "region implausible, ignored"
SEVERAL = "several regions, largest taken"

_TISSUE_2D = 1  # (0018,6012) Region Spatial Format
_TISSUE_OR_COLOR_FLOW = (1, 2)  # (0018,6014) Region Data Type
_MINIMUM_SIDE = 16
_REGIONS, _SPATIAL_FORMAT, _DATA_TYPE = map(
    Tag, ("SequenceOfUltrasoundRegions", "RegionSpatialFormat", "RegionDataType")
)
_CORNERS = [Tag(f"RegionLocation{corner}") for corner in ("MinY0", "MaxY1", "MinX0", "MaxX1")]

Crop = tuple[slice, slice]


def crop_region(dataset: Dataset) -> tuple[Crop | None, tuple[str, ...]]:
    """Finds the pane that shows tissue, leaving out text, scales, and ECG strips.

    The largest 2D region (Region Spatial Format 1) of tissue or colour flow (Region Data Type 1
    or 2) is taken, clamped to the image. A region is implausible if it is empty, tiny, or lies
    mostly outside of the image: such headers were copied from an image of another size.

    Args:
        dataset: A header with (0028,0010) Rows and (0028,0011) Columns.

    Returns:
        Slices over rows and columns, or None if no region is usable; and the flags that tell
        what was decided.
    """
    height, width = int(dataset.Rows), int(dataset.Columns)
    try:
        boxes = _boxes(dataset)
    # A malformed sequence must not cost the image; pydicom raises whatever comes to hand.
    except Exception:
        return None, (IMPLAUSIBLE,)
    if not boxes:
        return None, ()
    # `max` takes the first of equals, so that two panes side by side give the left one.
    top, bottom, left, right = box = max(boxes, key=_area)
    inside = (max(top, 0), min(bottom, height), max(left, 0), min(right, width))
    tiny = min(inside[1] - inside[0], inside[3] - inside[2]) < min(_MINIMUM_SIDE, height, width)
    if tiny or 2 * _area(inside) < _area(box):
        return None, (IMPLAUSIBLE,)
    flags = [SEVERAL] if len(boxes) > 1 else []
    # The maxima are inclusive by the standard, but many devices write the size itself.
    if top < 0 or left < 0 or bottom > height + 1 or right > width + 1:
        flags.append(CLAMPED)
    if inside != (0, height, 0, width):
        flags.append(CROPPED)
    return (slice(*inside[:2]), slice(*inside[2:])), tuple(flags)


def tissue_regions(dataset: Dataset) -> list[Dataset]:
    """The items of all 2D regions that show tissue or colour flow."""
    return [
        region
        for region in value(dataset, _REGIONS) or ()
        if value(region, _SPATIAL_FORMAT) == _TISSUE_2D
        and value(region, _DATA_TYPE) in _TISSUE_OR_COLOR_FLOW
    ]


def _boxes(dataset: Dataset) -> list[tuple[int, int, int, int]]:
    """The half-open boxes (top, bottom, left, right) of `tissue_regions`."""
    corners = ([int(value(region, tag)) for tag in _CORNERS] for region in tissue_regions(dataset))
    return [(top, bottom + 1, left, right + 1) for top, bottom, left, right in corners]


def _area(box: tuple[int, int, int, int]) -> int:
    top, bottom, left, right = box
    return max(bottom - top, 0) * max(right - left, 0)
