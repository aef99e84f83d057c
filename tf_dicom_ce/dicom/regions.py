"""Finds the ultrasound in a picture, by (0018,6011) or by its look."""

import math
from typing import NamedTuple

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.header import value

_TISSUE_2D = 1  # (0018,6012) Region Spatial Format
_OTHER_FORMATS = (2, 3, 4, 5)  # M-mode, spectral, waveform, graphics
_TISSUE_OR_COLOR_FLOW = (1, 2)  # (0018,6014) Region Data Type
_SPECTRAL = (3, 4)  # PW and CW Doppler
_MINIMUM_SIDE = 16
_REGIONS = Tag("SequenceOfUltrasoundRegions")
_SPATIAL_FORMAT, _DATA_TYPE = Tag("RegionSpatialFormat"), Tag("RegionDataType")
_CENTIMETRE = 3
_UNITS = [Tag(f"PhysicalUnits{side}Direction") for side in "YX"]
_DELTAS = [Tag(f"PhysicalDelta{side}") for side in "YX"]
_CORNERS = [Tag(f"RegionLocation{corner}") for corner in ("MinY0", "MaxY1", "MinX0", "MaxX1")]

# Limits of `find_sector`.
_ABOVE_BACKGROUND = 8
_LINE_WIDTH = 5  # lines, calipers and strokes of letters are thinner
_MIN_TEXTURE = 0.2
_MIN_SIDE = 0.2  # share of the picture's side
_MIN_AREA = 0.05  # share of the picture's area
_MIN_FILL = 0.3  # share of the box; a narrow sector fills half of it

_Box = tuple[int, int, int, int]  # top, bottom, left, right; half-open


class Region(NamedTuple):
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns, as an index of [rows, columns]."""
        rows = slice(self.top, self.top + self.height)
        return rows, slice(self.left, self.left + self.width)


def crop_region(dataset: Dataset) -> tuple[Region | None, tuple[Flag, ...]]:
    """Finds the pane that shows tissue, without text, scales, and ECG strips.

    It takes the largest 2D region (Region Spatial Format 1) of tissue or colour flow (Region Data
    Type 1 or 2), clamped to the image; if there is none, the largest 2D region without a data type.
    A region is implausible if it is empty, tiny, or mostly outside of the image: such headers were
    copied from an image of another size. Without a usable region the pane is None.
    """
    height, width = int(dataset.Rows), int(dataset.Columns)
    try:
        tissue = tissue_regions(dataset)
        boxes = [_box(region) for region in tissue]
    # A malformed sequence must not cost the image; pydicom may raise anything.
    except Exception:
        return None, (Flag.IMPLAUSIBLE_REGION,)
    if not boxes:
        return None, (Flag.NO_TISSUE_REGION,) if value(dataset, _REGIONS) else ()
    # Of equal panes side by side, `max` takes the first: the left one.
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
    top, bottom, left, right = inside
    return Region(top, left, bottom - top, right - left), tuple(flags)


def pixel_spacing(dataset: Dataset, region: Region) -> tuple[float, float] | None:
    """Returns height and width of a region's pixel in mm; None without a calibration.

    They are (0018,602E) and (0018,602C) Physical Delta of the region's item, if its units in both
    directions, (0018,6026) and (0018,6024), are cm.
    """
    height, width = int(dataset.Rows), int(dataset.Columns)
    try:
        for item in tissue_regions(dataset):
            top, bottom, left, right = _clamped(_box(item), height, width)
            if Region(top, left, bottom - top, right - left) == region:
                units = [value(item, tag) for tag in _UNITS]
                sides = [10 * abs(float(value(item, tag))) for tag in _DELTAS]
                fit = all(math.isfinite(side) and side > 0 for side in sides)
                return tuple(sides) if units == [_CENTIMETRE] * 2 and fit else None
    # As in `crop_region`.
    except Exception:
        return None
    return None


def tissue_regions(dataset: Dataset) -> list[Dataset]:
    """Returns the 2D regions of tissue or colour flow; if none, those without a data type."""
    regions = value(dataset, _REGIONS) or ()
    flat = [region for region in regions if value(region, _SPATIAL_FORMAT) == _TISSUE_2D]
    typed = [region for region in flat if value(region, _DATA_TYPE) in _TISSUE_OR_COLOR_FLOW]
    return typed or [region for region in flat if not value(region, _DATA_TYPE)]


def is_not_2d(dataset: Dataset) -> bool:
    """Tells whether the regions show M-mode, spectra, waveforms or graphics, but no tissue.

    Regions that do not say what they show are ignored.
    """
    try:
        regions = value(dataset, _REGIONS) or ()
        kinds = [(value(item, _SPATIAL_FORMAT), value(item, _DATA_TYPE)) for item in regions]
        has_tissue = bool(tissue_regions(dataset))
    except Exception:  # as in `crop_region`
        return False
    untold = any(not kind and type_ in _TISSUE_OR_COLOR_FLOW for kind, type_ in kinds)
    others = any(kind in _OTHER_FORMATS or type_ in _SPECTRAL for kind, type_ in kinds)
    return others and not (has_tissue or untold)


def has_color_flow(dataset: Dataset) -> bool:
    """Tells whether a region shows colour flow."""
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
    """Panes may share their border; a colour box lies within the tissue and is no pane."""
    shared = max(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), min(a[3], b[3])
    return 2 * _area(shared) < min(_area(a), _area(b))


def _area(box: _Box) -> int:
    top, bottom, left, right = box
    return max(bottom - top, 0) * max(right - left, 0)


def find_sector(levels: np.ndarray) -> Region | None:
    """Finds the ultrasound among text, ECG traces, gray bars and scales.

    Ultrasound is the largest area that is brighter than the background and rough in both
    directions: text and lines are thin, gray bars are smooth. If a sector is black towards its
    edges, the box is too small. The levels are (H, W) uint8.
    """
    # Imported here, because SciPy takes long to import, and few readers need it.
    from scipy import ndimage

    shape = np.array(levels.shape)
    if shape.min() < 4 * _LINE_WIDTH:
        return None
    background = int(np.bincount(levels.ravel(), minlength=256)[:64].argmax())
    bright = levels > background + _ABOVE_BACKGROUND
    # Speckle has holes.
    solid = ndimage.binary_closing(np.pad(bright, 1), np.ones((3, 3)))[1:-1, 1:-1]
    wide = ndimage.binary_opening(solid, np.ones((_LINE_WIDTH, _LINE_WIDTH)))
    letter = max(2 * _LINE_WIDTH, shape.min() // 40)
    core = ndimage.binary_opening(wide, np.ones((letter, letter)))
    core &= _texture(levels, letter) > _MIN_TEXTURE
    # Vessels and chambers are black, and may divide the tissue.
    link = max(3, shape.min() // 30)
    linked = ndimage.binary_closing(np.pad(core, link), np.ones((3, 3)), iterations=link)
    labels, count = ndimage.label(linked[link:-link, link:-link])
    if count == 0:
        return None
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    # The opening cut off the corners: restore them, but not lines that touch them.
    whole = ndimage.binary_propagation(core & (labels == largest), mask=wide)
    box = ndimage.find_objects(whole.astype(np.int8))[0]
    sides = np.array([s.stop - s.start for s in box])
    plausible = (
        np.all(sides >= _MIN_SIDE * shape)
        and sides.prod() >= _MIN_AREA * levels.size
        and whole[box].mean() >= _MIN_FILL
    )
    return Region(box[0].start, box[1].start, *sides.tolist()) if plausible else None


def _texture(levels: np.ndarray, size: int) -> np.ndarray:
    """Returns, around each pixel, the share that differs from its neighbours both ways."""
    from scipy import ndimage

    signed = levels.astype(np.int16)
    down = np.abs(np.diff(signed, axis=0, append=signed[-1:])) > 1
    right = np.abs(np.diff(signed, axis=1, append=signed[:, -1:])) > 1
    return ndimage.uniform_filter((down & right).astype(np.float32), size)
