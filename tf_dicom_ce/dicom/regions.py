"""Where in the image the ultrasound is: (0018,6011) Sequence of Ultrasound Regions."""

from pydicom import Dataset
from pydicom.tag import Tag

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.values import value

_TISSUE_2D = 1  # (0018,6012) Region Spatial Format
_OTHER_FORMATS = (2, 3, 4, 5)  # M-mode, spectral, waveform, graphics
_TISSUE_OR_COLOR_FLOW = (1, 2)  # (0018,6014) Region Data Type
_SPECTRAL = (3, 4)  # PW and CW Doppler
_MINIMUM_SIDE = 16
_REGIONS, _SPATIAL_FORMAT, _DATA_TYPE = map(
    Tag, ("SequenceOfUltrasoundRegions", "RegionSpatialFormat", "RegionDataType")
)
_CORNERS = [Tag(f"RegionLocation{corner}") for corner in ("MinY0", "MaxY1", "MinX0", "MaxX1")]

Crop = tuple[slice, slice]
_Box = tuple[int, int, int, int]  # top, bottom, left, right; half-open


def crop_region(dataset: Dataset) -> tuple[Crop | None, tuple[Flag, ...]]:
    """Finds the pane that shows tissue, leaving out text, scales, and ECG strips.

    The largest 2D region (Region Spatial Format 1) of tissue or colour flow (Region Data Type 1
    or 2) is taken, clamped to the image; if there is none, the largest 2D region without a data
    type. A region is implausible if it is empty, tiny, or lies mostly outside of the image: such
    headers were copied from an image of another size.

    Args:
        dataset: A header with (0028,0010) Rows and (0028,0011) Columns.

    Returns:
        Slices over rows and columns, or None if no region is usable; and the flags that tell
        what was decided.
    """
    height, width = int(dataset.Rows), int(dataset.Columns)
    try:
        tissue = tissue_regions(dataset)
        boxes = [_box(region) for region in tissue]
    # A malformed sequence must not cost the image; pydicom raises whatever comes to hand.
    except Exception:
        return None, (Flag.IMPLAUSIBLE_REGION,)
    if not boxes:
        return None, (Flag.NO_TISSUE_REGION,) if value(dataset, _REGIONS) else ()
    # `max` takes the first of equals, so that two panes side by side give the left one.
    top, bottom, left, right = box = max(boxes, key=_area)
    inside = _clamped(box, height, width)
    if _is_tiny(inside, height, width) or 2 * _area(inside) < _area(box):
        return None, (Flag.IMPLAUSIBLE_REGION,)
    flags = [] if value(tissue[0], _DATA_TYPE) else [Flag.UNTYPED_REGION]
    if len(boxes) > 1:
        flags.append(Flag.SEVERAL_REGIONS)
    panes = (_clamped(pane, height, width) for pane in boxes)
    if any(not _is_tiny(pane, height, width) and _are_apart(pane, inside) for pane in panes):
        flags.append(Flag.TWO_PANES)
    # The maxima are inclusive by the standard, but many devices write the size itself.
    if top < 0 or left < 0 or bottom > height + 1 or right > width + 1:
        flags.append(Flag.CLAMPED)
    if inside != (0, height, 0, width):
        flags.append(Flag.CROPPED)
    return (slice(*inside[:2]), slice(*inside[2:])), tuple(flags)


def tissue_regions(dataset: Dataset) -> list[Dataset]:
    """The items of all 2D regions that show tissue or colour flow, or else have no data type."""
    flat = [
        region
        for region in value(dataset, _REGIONS) or ()
        if value(region, _SPATIAL_FORMAT) == _TISSUE_2D
    ]
    typed = [region for region in flat if value(region, _DATA_TYPE) in _TISSUE_OR_COLOR_FLOW]
    return typed or [region for region in flat if not value(region, _DATA_TYPE)]


def is_not_2d(dataset: Dataset) -> bool:
    """Tells whether the regions are of M-mode, spectra, waveforms or graphics, and none of tissue.

    Regions that do not say what they are of count for neither.
    """
    try:
        kinds = [
            (value(region, _SPATIAL_FORMAT), value(region, _DATA_TYPE))
            for region in value(dataset, _REGIONS) or ()
        ]
        has_tissue = bool(tissue_regions(dataset))
    except Exception:  # as in `crop_region`
        return False
    untold = any(not kind and type_ in _TISSUE_OR_COLOR_FLOW for kind, type_ in kinds)
    others = any(kind in _OTHER_FORMATS or type_ in _SPECTRAL for kind, type_ in kinds)
    return others and not (has_tissue or untold)


def has_color_flow(dataset: Dataset) -> bool:
    """Tells whether a region is of colour flow."""
    regions = value(dataset, _REGIONS) or ()
    return any(value(region, _DATA_TYPE) == _TISSUE_OR_COLOR_FLOW[1] for region in regions)


def _box(region: Dataset) -> _Box:
    top, bottom, left, right = (int(value(region, tag)) for tag in _CORNERS)
    return top, bottom + 1, left, right + 1


def _clamped(box: _Box, height: int, width: int) -> _Box:
    top, bottom, left, right = box
    return max(top, 0), min(bottom, height), max(left, 0), min(right, width)


def _is_tiny(box: _Box, height: int, width: int) -> bool:
    return min(box[1] - box[0], box[3] - box[2]) < min(_MINIMUM_SIDE, height, width)


def _are_apart(a: _Box, b: _Box) -> bool:
    """Panes may share their border; a colour box lies within the tissue."""
    shared = max(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), min(a[3], b[3])
    return 2 * _area(shared) < min(_area(a), _area(b))


def _area(box: _Box) -> int:
    top, bottom, left, right = box
    return max(bottom - top, 0) * max(right - left, 0)
