"""Lists the decisions on a picture that its header alone determines."""

import contextlib
import itertools
from collections.abc import Callable, Iterable

from pydicom import Dataset
from pydicom.tag import Tag

from tf_dicom_ce.dicom import decoders, grayscale
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.header import value
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.regions import crop_region, has_color_flow, tissue_regions

_PHOTOMETRIC, _STORED = Tag("PhotometricInterpretation"), Tag("BitsStored")
_ANNOTATION, _LOSSY_COMPRESSION = Tag("BurnedInAnnotation"), Tag("LossyImageCompression")
_ASPECT_RATIO, _SPACING = Tag("PixelAspectRatio"), Tag("PixelSpacing")
_COLOUR = Tag("UltrasoundColorDataPresent")
_DELTAS = (Tag("PhysicalDeltaY"), Tag("PhysicalDeltaX"))
_OVERLAY_GROUPS = range(0x6000, 0x6020)
_BEHIND = (0x60000000).__le__


def decisions(header: Dataset) -> tuple[Flag, ...]:
    """Lists every decision that the header determines; malformed elements are ignored."""
    flags: list[Flag] = []
    with quiet():
        for rule in _RULES:
            # pydicom converts an element only when it is read, and may raise any exception then.
            with contextlib.suppress(Exception):
                flags += rule(header)
    return tuple(flags)


def _levels(header: Dataset) -> Iterable[Flag]:
    photometric = value(header, _PHOTOMETRIC)
    is_jpeg = _syntax(header) in decoders.JPEG  # only 8 bits are read in colour
    if photometric in grayscale.MONOCHROME:
        return list(grayscale.monochrome_flags(header))
    is_wide = photometric != grayscale.PALETTE and not is_jpeg and value(header, _STORED) > 8
    return [Flag.HIGH_BYTE] if is_wide else []


def _is_not_square(header: Dataset) -> bool:
    pairs = [value(header, tag) for tag in (_ASPECT_RATIO, _SPACING)]
    for region in tissue_regions(header):
        pairs.append([value(region, tag) for tag in _DELTAS])
    # The first complete pair counts; a region may lack a calibration.
    given = (map(float, pair) for pair in pairs if pair and all(pair))
    down, right = next(given, (1, 1))
    return abs(abs(down / right) - 1) > 0.01


def _has_overlay(header: Dataset) -> bool:
    # Elements are in order: few or none stand behind the description of the pixels.
    behind = itertools.takewhile(_BEHIND, reversed(header.keys()))
    return any(tag >> 16 in _OVERLAY_GROUPS for tag in behind)


def _syntax(header: Dataset) -> str:
    return header.file_meta.TransferSyntaxUID


def _is_high_bit_odd(header: Dataset) -> bool:
    of_cells = _syntax(header) in decoders.OF_CELLS
    return of_cells and decoders.high_bit(header) != value(header, _STORED) - 1


def _when(flag: Flag, is_so: Callable[[Dataset], bool]) -> Callable[[Dataset], list[Flag]]:
    return lambda header: [flag] if is_so(header) else []


_RULES = (
    lambda header: crop_region(header)[1],
    _when(Flag.COLOUR_DOPPLER, lambda h: value(h, _COLOUR) == 1 or has_color_flow(h)),
    _when(Flag.HIGH_BIT, _is_high_bit_odd),
    _levels,
    _when(Flag.NOT_SQUARE, _is_not_square),
    _when(Flag.OVERLAY, _has_overlay),
    _when(Flag.BURNED_IN, lambda h: str(value(h, _ANNOTATION)).upper() == "YES"),
    _when(
        Flag.LOSSY,
        lambda h: value(h, _LOSSY_COMPRESSION) == "01" or _syntax(h) in decoders.LOSSY,
    ),
)
