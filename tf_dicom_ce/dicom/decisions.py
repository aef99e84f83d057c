"""What is decided about a picture, as far as its header tells."""

import contextlib
import itertools
from collections.abc import Iterator

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
    """Every decision on a picture that its header alone tells; a malformed element tells none."""
    flags: list[Flag] = []
    with quiet():
        for rule in _RULES:
            # pydicom converts an element only when it is read, and may raise any exception then.
            with contextlib.suppress(Exception):
                flags += list(rule(header))
    return tuple(flags)


def _region(header: Dataset) -> Iterator[Flag]:
    yield from crop_region(header)[1]


def _colour_doppler(header: Dataset) -> Iterator[Flag]:
    if value(header, _COLOUR) == 1 or has_color_flow(header):
        yield Flag.COLOUR_DOPPLER


def _bits(header: Dataset) -> Iterator[Flag]:
    of_cells = header.file_meta.TransferSyntaxUID in decoders.OF_CELLS
    if of_cells and decoders.high_bit(header) != value(header, _STORED) - 1:
        yield Flag.HIGH_BIT


def _levels(header: Dataset) -> Iterator[Flag]:
    photometric = value(header, _PHOTOMETRIC)
    is_jpeg = header.file_meta.TransferSyntaxUID in decoders.JPEG  # the 8-bit kind alone is read
    if photometric in grayscale.MONOCHROME:
        yield from grayscale.monochrome_flags(header)
    elif photometric != grayscale.PALETTE and not is_jpeg and value(header, _STORED) > 8:
        yield Flag.HIGH_BYTE


def _aspect(header: Dataset) -> Iterator[Flag]:
    pairs = [value(header, tag) for tag in (_ASPECT_RATIO, _SPACING)]
    for region in tissue_regions(header):
        pairs.append([value(region, tag) for tag in _DELTAS])
    # The first that is given counts; a region need not be calibrated.
    for down, right in (map(float, pair) for pair in pairs if pair and all(pair)):
        if abs(abs(down / right) - 1) > 0.01:
            yield Flag.NOT_SQUARE
        return


def _overlay(header: Dataset) -> Iterator[Flag]:
    tags = header.keys()
    # In order as a rule, and seldom any behind the description of the pixels.
    if any(tag >> 16 in _OVERLAY_GROUPS for tag in itertools.takewhile(_BEHIND, reversed(tags))):
        yield Flag.OVERLAY


def _burned_in(header: Dataset) -> Iterator[Flag]:
    if str(value(header, _ANNOTATION)).upper() == "YES":
        yield Flag.BURNED_IN


def _lossy(header: Dataset) -> Iterator[Flag]:
    syntax = header.file_meta.TransferSyntaxUID
    if value(header, _LOSSY_COMPRESSION) == "01" or syntax in decoders.LOSSY:
        yield Flag.LOSSY


_RULES = (_region, _colour_doppler, _bits, _levels, _aspect, _overlay, _burned_in, _lossy)
