"""Chooses the decoder of a transfer syntax, and guards it against damaged streams."""

import functools
import importlib.util
import io
import random
import re
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import openjpeg
import rle
from PIL import Image
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders import pyjpegls
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.tag import Tag

from tf_dicom_ce.dicom import codestream
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.header import value
from tf_dicom_ce.dicom.part10 import NATIVE
from tf_dicom_ce.dicom.refusals import Code, Refusal

JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG_2000 = (
    *(uid.JPEG2000Lossless, uid.JPEG2000),
    *(uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K),
)
# Without a name pydicom tries GDCM first, which crashes the process on some damaged streams.
_PLUGIN = "tf-dicom-ce"
#: One video stream of all frames (MPEG-2, H.264 or H.265), possibly in several fragments.
FRAGMENTED_VIDEO = frozenset(f"1.2.840.10008.1.2.4.{number}.1" for number in range(100, 107))
#: All video syntaxes: those, and the ones in a single fragment.
VIDEO = FRAGMENTED_VIDEO | {f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109)}
#: Transfer syntaxes that a decoder reads.
SUPPORTED = frozenset((*NATIVE, *JPEG, *_JPEG_LS, *_JPEG_2000, uid.RLELossless, *VIDEO))
#: Transfer syntaxes whose pixels are cells of (0028,0100) Bits Allocated.
OF_CELLS = frozenset((*NATIVE, uid.RLELossless))
_TRANSFORMED = ("YBR_ICT", "YBR_RCT")  # the JPEG 2000 decoder returns these as RGB
#: Transfer syntaxes that usually lose detail.
LOSSY = frozenset(
    (
        *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit),
        *(uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K),
        *VIDEO,
    )
)

# A short progressive stream may have thousands of scans, each over the whole image.
_MAX_SCANS = 100
# Possible continuations of a cut scan; libjpeg would continue it with zeros.
_OTHER_SAMPLES = tuple(random.Random(k).randbytes(200).replace(b"\xff", b"") for k in range(6))
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_STORED, _HIGH_BIT = Tag("BitsStored"), Tag("HighBit")
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)


class Decoded(NamedTuple):
    """One decoded frame."""

    values: np.ndarray  # (H, W) or (H, W, 3) integers
    photometric: str  # (0028,0004) Photometric Interpretation of `values`
    flags: tuple[Flag, ...] = ()  # where the codestream contradicts the header


def decode_native(file: BinaryIO, index: int, syntax: str, options: dict[str, Any]) -> Decoded:
    """Reads one frame of uncompressed pixel data as cells, see `values_of`.

    The file's position is the value of the pixel data. `options` come from pydicom's
    `as_pixel_options`. Damaged data may raise any exception.
    """
    options = {**options, "correct_unused_bits": False}
    stored, properties = get_decoder(syntax).as_array(file, index=index, raw=True, **options)
    return Decoded(stored, str(properties["photometric_interpretation"]))


def decode_stream(src: bytes, syntax: str, options: dict[str, Any]) -> Decoded:
    """Decodes one frame of JPEG-LS, JPEG 2000, HTJ2K, or RLE (to cells).

    Damaged data may raise any exception.
    """
    _register(syntax)
    options = {**options, "number_of_frames": 1, "correct_unused_bits": False}
    flags: tuple[Flag, ...] = ()
    if syntax != uid.RLELossless:
        of_2000 = syntax in _JPEG_2000
        found = codestream.jpeg_2000_frame(src) if of_2000 else codestream.jpeg_frame(src)
        if found.precision > options["bits_allocated"]:
            options["bits_allocated"] = 16 if found.precision <= 16 else 32
        says_so = options["photometric_interpretation"] in _TRANSFORMED
        if of_2000 and (found.is_transformed or says_so):
            options["photometric_interpretation"] = "RGB"
            flags = () if found.is_transformed and says_so else (Flag.COLOUR_SPACE,)
    options |= {"index": 0, "raw": True, "decoding_plugin": _PLUGIN}
    stored, properties = get_decoder(syntax).as_array(encapsulate([src], has_bot=False), **options)
    return Decoded(stored, str(properties["photometric_interpretation"]), flags)


def is_available(transfer_syntax: str) -> bool:
    """Answers pydicom's registry: yes, the decoders of this module are hard dependencies."""
    return True


@functools.cache
def _register(syntax: str) -> None:
    get_decoder(syntax).add_plugin(_PLUGIN, (__name__, "decode_frame"))


def decode_frame(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decodes one frame for pydicom, and sets the sample layout in `runner`."""
    syntax, rows, columns = runner.transfer_syntax, runner.rows, runner.columns
    if syntax == uid.RLELossless:
        runner.set_option("planar_configuration", 1)
        size = {"rows": rows, "columns": columns, "bits_allocated": runner.bits_allocated}
        return rle.decode_pixel_data(src, version=2, **size)
    if syntax in _JPEG_LS:
        codestream.jpeg_frame(src).require_size(rows, columns)
        # Without an end marker CharLS 2 may read zeros for seconds beyond the end.
        return pyjpegls._decode_frame(src + codestream.END_OF_IMAGE, runner)
    found = codestream.jpeg_2000_frame(src)
    found.require_size(rows, columns)
    if found.components != runner.samples_per_pixel:
        raise ValueError("the codestream's components differ from Samples per Pixel")
    frame = openjpeg.decode_pixel_data(src, version=2)
    precision = runner.get_option("j2k_precision", runner.bits_stored)
    runner.set_option("bits_allocated", 8 if precision <= 8 else 16 if precision <= 16 else 32)
    return frame


def decode_jpeg(
    src: bytes, rows: int, columns: int, samples: int, photometric: str
) -> tuple[Decoded, int] | Refusal:
    """Decodes one frame of JPEG, lossy or lossless.

    Pillow decodes 8 bits; of YCbCr it decodes the luminance only, without colour conversion.
    imagecodecs, an extra, decodes one component of more bits; without it they are refused.

    Returns:
        The frame and the number of bits that its values need; or a refusal.

    Raises:
        OSError, RuntimeError: The stream is damaged.
        ValueError: Its size is not Rows × Columns, it has too many scans, or it ends before its
            last pixel.
    """
    found = codestream.jpeg_frame(src)
    if found.precision != 8 and (found.components != 1 or not _has_wide_jpeg()):
        return Refusal(Code.UNSUPPORTED_TRANSFER_SYNTAX, f"{found.precision}-bit JPEG")
    found.require_size(rows, columns)
    if src.count(b"\xff\xda") > _MAX_SCANS:
        raise ValueError("too many scans")
    if found.precision != 8:
        return _decode_wide_jpeg(src, found, photometric), found.precision
    flags = () if found.components == samples else (Flag.SAMPLES,)
    if src.rfind(codestream.END_OF_IMAGE) > src.rfind(b"\xff\xda"):  # after the last scan
        decoded = _decode_jpeg(src, found, photometric)
    else:
        # libjpeg invents missing samples before the end marker. If pixels are missing, another
        # continuation changes the picture. Only missing whole scans cannot be found this way.
        if not codestream.is_one_scan(src):
            raise ValueError("the codestream may end before its last scan")
        src = _unpadded(src)
        decoded = _decode_jpeg(src + codestream.END_OF_IMAGE, found, photometric)
        for other_samples in _OTHER_SAMPLES:
            more = _continuation(src, other_samples) + codestream.END_OF_IMAGE
            other = _decode_jpeg(src + more, found, photometric)
            if not np.array_equal(decoded.values, other.values):
                raise ValueError("the codestream ends before its last pixel")
        flags = (*flags, Flag.NO_END_MARKER)
    return decoded._replace(flags=(*decoded.flags, *flags)), 8


@functools.cache
def _has_wide_jpeg() -> bool:
    return importlib.util.find_spec("imagecodecs") is not None


def _decode_wide_jpeg(src: bytes, found: codestream.FrameHeader, photometric: str) -> Decoded:
    """Decodes one component of more than 8 bits."""
    from imagecodecs import jpeg8_decode

    if src.rfind(codestream.END_OF_IMAGE) < src.rfind(b"\xff\xda"):
        raise ValueError("the codestream ends before its last pixel")
    values = jpeg8_decode(src)
    if values.shape != (found.rows, found.columns):
        raise ValueError("the codestream's frame header is ambiguous")
    one_sample = photometric in ("MONOCHROME1", "PALETTE COLOR")
    return Decoded(values, photometric if one_sample else "MONOCHROME2")


def _unpadded(src: bytes) -> bytes:
    """Cuts off padding and half a marker, which would count as samples; FF 00 is a sample."""
    src = src.rstrip(b"\xff")
    bare = src.rstrip(b"\0")
    return bare + b"\0" if bare.endswith(b"\xff") else bare


def _continuation(src: bytes, samples: bytes) -> bytes:
    """Returns the samples, and repeats them after each of the next restart markers."""
    last = [marker[1] for marker in _RESTART.findall(src)][-1:]
    first = last[0] - 0xD0 + 1 if last else 0
    restarts = (bytes((0xFF, 0xD0 + number % 8)) for number in range(first, first + 8))
    return samples + b"".join(restart + samples for restart in restarts)


def _decode_jpeg(src: bytes, found: codestream.FrameHeader, photometric: str) -> Decoded:
    image = Image.open(io.BytesIO(src), formats=("JPEG",))
    if image.size != (found.columns, found.rows):
        raise ValueError("the codestream's frame header is ambiguous")
    if image.mode == "L":
        one_sample = photometric in ("MONOCHROME1", "PALETTE COLOR")
        return Decoded(np.asarray(image), photometric if one_sample else "MONOCHROME2")
    has_jfif = "jfif" in image.info
    if found.lossless:
        # libjpeg converts no colours here, and takes them for RGB by default.
        if has_jfif:
            image.draft("YCbCr", None)
        return Decoded(np.asarray(image), photometric)
    adobe = image.info.get("adobe_transform")
    if adobe == 0 or found.has_rgb_ids:
        differs = photometric != "RGB"
        return Decoded(np.asarray(image), "RGB", (Flag.COLOUR_SPACE,) * differs)
    # An RGB JPEG is not subsampled.
    if photometric == "RGB" and adobe is None and not has_jfif and not found.is_subsampled:
        image.draft("YCbCr", None)  # the components as they are
        return Decoded(np.asarray(image), "RGB")
    image.draft("L", None)
    differs = photometric == "RGB"
    return Decoded(np.asarray(image), "MONOCHROME2", (Flag.COLOUR_SPACE,) * differs)


def high_bit(header: Dataset) -> int:
    """Returns (0028,0102) High Bit; (0028,0101) Bits Stored - 1 if it is absent."""
    found = value(header, _HIGH_BIT)
    return int(value(header, _STORED)) - 1 if found is None else int(found)


def values_of(cells: np.ndarray, header: Dataset) -> tuple[np.ndarray, tuple[Flag, ...]]:
    """Extracts the values from cells of (0028,0100) Bits Allocated.

    A value is the (0028,0101) Bits Stored below and including (0028,0102) High Bit. High Bit is
    ignored as wrong if it is not Bits Stored - 1 and no cell has a bit above Bits Stored. Other
    bits that are set, and belong to no overlay plane, are flagged.
    """
    stored, high = int(value(header, _STORED)), high_bit(header)
    size = 8 * cells.itemsize
    if stored >= size:
        return cells, ()
    if not stored <= high + 1 <= size or bits_of(cells) <= stored:
        high = stored - 1
    # Shift to the top and down again, so that the highest bit gives the sign.
    values = (cells << (size - 1 - high)) >> (size - stored)
    others = cells.dtype.kind == "u" and np.any(values << (high + 1 - stored) != cells)
    # A plane with (60xx,0102) Overlay Bit Position and no (60xx,3000) Overlay Data is embedded.
    has_overlay = others and any(
        group << 16 | 0x0102 in header and group << 16 | 0x3000 not in header
        for group in _OVERLAY_GROUPS
    )
    return values, (Flag.UNUSED_BITS,) if others and not has_overlay else ()


def bits_of(values: np.ndarray) -> int:
    """Counts the bits that the values need, including the sign."""
    low, high = int(values.min()), int(values.max())
    return max(high.bit_length(), (~min(low, 0)).bit_length()) + (values.dtype.kind == "i")
