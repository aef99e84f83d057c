"""What is decided about a picture, as far as its header tells."""

import itertools
from collections.abc import Callable, Iterator

from pydicom import Dataset
from pydicom.tag import Tag

from tf_dicom_ce.dicom import decoders, grayscale
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.regions import crop_region, tissue_regions
from tf_dicom_ce.dicom.values import value

INVERTED = "MONOCHROME1 inverted"
WINDOWED = "windowed to 8 bits"
MIN_MAX = "scaled from its minimum and maximum to 8 bits"
HIGH_BYTE = "colour reduced to its high byte"
NOT_SQUARE = "pixels not square, not resampled"
OVERLAY = "overlay planes ignored"
BURNED_IN = "burned-in annotation declared"
LOSSY = "lossy compressed"

_PHOTOMETRIC, _ANNOTATION, _LOSSY_COMPRESSION, _ASPECT_RATIO, _SPACING = map(
    Tag,
    (
        *("PhotometricInterpretation", "BurnedInAnnotation", "LossyImageCompression"),
        *("PixelAspectRatio", "PixelSpacing"),
    ),
)
_DELTAS = (Tag("PhysicalDeltaY"), Tag("PhysicalDeltaX"))
_OVERLAY_GROUPS = range(0x6000, 0x6020)
_BEHIND = (0x60000000).__le__


def decisions(header: Dataset) -> tuple[str, ...]:
    """Lists in plain words every decision on a picture that its header alone tells.

    Args:
        header: A header that `read_header` accepts.

    Returns:
        Flags such as "cropped to region"; a malformed element gives none.
    """
    flags: list[str] = []
    with quiet():
        for rule in (_region, _levels, _aspect, _overlay, _burned_in, _lossy):
            flags.extend(_attempt(rule, header))
    return tuple(flags)


def _attempt(rule: Callable[[Dataset], Iterator[str]], header: Dataset) -> list[str]:
    try:
        return list(rule(header))
    # pydicom converts elements when they are looked at, and raises whatever comes to hand.
    except Exception:
        return []


def _region(header: Dataset) -> Iterator[str]:
    yield from crop_region(header)[1]


def _levels(header: Dataset) -> Iterator[str]:
    photometric = value(header, _PHOTOMETRIC)
    bits = decoders.stored_bits(header)
    if photometric in grayscale.MONOCHROME:
        if not grayscale.is_8_bit(header):
            yield WINDOWED if grayscale.window(header) else MIN_MAX
        if photometric == "MONOCHROME1":
            yield INVERTED
    elif photometric != grayscale.PALETTE and bits > 8:
        yield HIGH_BYTE


def _aspect(header: Dataset) -> Iterator[str]:
    pairs = [value(header, tag) for tag in (_ASPECT_RATIO, _SPACING)]
    for region in tissue_regions(header):
        pairs.append([value(region, tag) for tag in _DELTAS])
    # The first that is given counts; a region need not be calibrated.
    for down, right in (map(float, pair) for pair in pairs if pair and all(pair)):
        if abs(abs(down / right) - 1) > 0.01:
            yield NOT_SQUARE
        return


def _overlay(header: Dataset) -> Iterator[str]:
    tags = header.keys()
    # In order as a rule, and seldom any behind the description of the pixels.
    if any(tag >> 16 in _OVERLAY_GROUPS for tag in itertools.takewhile(_BEHIND, reversed(tags))):
        yield OVERLAY


def _burned_in(header: Dataset) -> Iterator[str]:
    if str(value(header, _ANNOTATION)).upper() == "YES":
        yield BURNED_IN


def _lossy(header: Dataset) -> Iterator[str]:
    syntax = header.file_meta.TransferSyntaxUID
    if value(header, _LOSSY_COMPRESSION) == "01" or decoders.is_lossy(syntax):
        yield LOSSY
