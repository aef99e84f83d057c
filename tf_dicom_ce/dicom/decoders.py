"""Which decoder reads which transfer syntax, and how each is kept from harm."""

import functools
import io
from typing import Any, BinaryIO

import numpy as np
import openjpeg
import rle
from PIL import Image
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders import pyjpegls
from pydicom.pixels.decoders.base import DecodeRunner

from tf_dicom_ce.dicom import codestream
from tf_dicom_ce.dicom.part10 import NATIVE
from tf_dicom_ce.dicom.refusals import Code, Refusal

JPEG = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_JPEG_2000 = (
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
)
# Without a name pydicom tries GDCM first, which ends the whole process on some damaged streams.
_PLUGIN = "tf-dicom-ce"
SUPPORTED = frozenset((*NATIVE, *JPEG, *_JPEG_LS, *_JPEG_2000, uid.RLELossless))
_LOSSY = frozenset(
    (
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLSNearLossless,
        uid.JPEG2000,
        uid.HTJ2K,
    )
)
# A progressive stream of few bytes may have thousands of scans, each over the whole image.
_MAX_SCANS = 100
_END_OF_IMAGE = b"\xff\xd9"


def supports(syntax: str) -> bool:
    """Tells whether a decoder reads this (0002,0010) Transfer Syntax UID."""
    return syntax in SUPPORTED


def is_lossy(syntax: str) -> bool:
    """Tells whether the (0002,0010) Transfer Syntax UID is one that loses detail as a rule."""
    return syntax in _LOSSY


def stored_bits(header: Dataset) -> int:
    """(0028,0101) Bits Stored; 8 for JPEG, of which only the 8-bit kind is read."""
    return 8 if header.file_meta.TransferSyntaxUID in JPEG else int(header.BitsStored)


def decode_native(
    file: BinaryIO, index: int, syntax: str, options: dict[str, Any]
) -> tuple[np.ndarray, str]:
    """Reads one frame of uncompressed pixel data.

    Args:
        file: At the value of the pixel data.
        index: The frame.
        syntax: (0002,0010) Transfer Syntax UID.
        options: What pydicom's `as_pixel_options` makes of the header.

    Returns:
        (H, W) or (H, W, 3) stored values, and their colour space.

    Raises:
        Exception: Of any kind, if the data do not fit the options.
    """
    stored, properties = get_decoder(syntax).as_array(file, index=index, raw=True, **options)
    return stored, str(properties["photometric_interpretation"])


def decode_stream(src: bytes, syntax: str, options: dict[str, Any]) -> tuple[np.ndarray, str]:
    """Decodes one frame of JPEG-LS, JPEG 2000, HTJ2K or RLE.

    Args:
        src: The codestream.
        syntax: (0002,0010) Transfer Syntax UID.
        options: What pydicom's `as_pixel_options` makes of the header.

    Returns:
        (H, W) or (H, W, 3) stored values, and their colour space.

    Raises:
        Exception: Of any kind, if the codestream is damaged or does not fit the options.
    """
    _register()
    stored, properties = get_decoder(syntax).as_array(
        encapsulate([src], has_bot=False),
        index=0,
        raw=True,
        decoding_plugin=_PLUGIN,
        **{**options, "number_of_frames": 1},
    )
    return stored, str(properties["photometric_interpretation"])


def decode_jpeg(
    src: bytes, rows: int, columns: int, photometric: str
) -> tuple[np.ndarray, str] | Refusal:
    """Decodes one frame of 8-bit JPEG, lossy or lossless, with Pillow.

    Of YCbCr only the luminance is decoded, without a conversion of colours.

    Args:
        src: The codestream.
        rows: (0028,0010) Rows.
        columns: (0028,0011) Columns.
        photometric: (0028,0004) Photometric Interpretation.

    Returns:
        (H, W) or (H, W, 3) uint8 and their colour space; or a refusal of more than 8 bits.

    Raises:
        OSError: Damaged.
        ValueError: The codestream's size is not Rows × Columns, or it has too many scans.
    """
    found = codestream.jpeg_frame(src)
    if found.precision != 8:
        return Refusal(Code.UNSUPPORTED_TRANSFER_SYNTAX, f"{found.precision}-bit JPEG")
    _check_size(columns, rows, found.columns, found.rows)
    if src.count(b"\xff\xda") > _MAX_SCANS:
        raise ValueError("too many scans")
    image = Image.open(io.BytesIO(src), formats=("JPEG",))
    if image.size != (columns, rows):
        raise ValueError("the codestream's frame header is ambiguous")
    if image.mode == "L":
        one_sample = photometric in ("MONOCHROME1", "PALETTE COLOR")
        return np.asarray(image), photometric if one_sample else "MONOCHROME2"
    if found.lossless:
        # libjpeg converts no colours here, and unless told otherwise takes them for RGB.
        if "jfif" in image.info:
            image.draft("YCbCr", None)
        return np.asarray(image), photometric
    adobe = image.info.get("adobe_transform")
    if adobe == 0 or found.has_rgb_ids:
        return np.asarray(image), "RGB"
    if photometric == "RGB" and adobe is None and "jfif" not in image.info:
        image.draft("YCbCr", None)  # the components as they are
        return np.asarray(image), "RGB"
    image.draft("L", None)
    return np.asarray(image), "MONOCHROME2"


def is_available(transfer_syntax: str) -> bool:
    """Called by pydicom's registry: the decoders of this module are hard dependencies."""
    return True


@functools.cache
def _register() -> None:
    """Adds the decoders below to pydicom's registry, once per process."""
    for syntaxes, function in (
        (_JPEG_LS, decode_jpeg_ls),
        (_JPEG_2000, decode_jpeg_2000),
        ((uid.RLELossless,), decode_rle),
    ):
        for syntax in syntaxes:
            get_decoder(syntax).add_plugin(_PLUGIN, (__name__, function.__name__))


def decode_jpeg_ls(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decodes one frame of JPEG-LS with CharLS.

    Args:
        src: The codestream.
        runner: pydicom's state; told the order and the size of the samples.

    Returns:
        The samples.

    Raises:
        RuntimeError: Damaged.
        ValueError: The codestream's size is not Rows × Columns.
    """
    found = codestream.jpeg_frame(src)
    _check_size(runner.columns, runner.rows, found.columns, found.rows)
    # CharLS 2 may count zeros for seconds behind the end of a stream that has no end marker.
    return pyjpegls._decode_frame(src + _END_OF_IMAGE, runner)


def decode_jpeg_2000(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decodes one frame of JPEG 2000 or HTJ2K with OpenJPEG.

    Args:
        src: The codestream.
        runner: pydicom's state; told the colour space and the size of a sample.

    Returns:
        The samples, interleaved.

    Raises:
        RuntimeError: Damaged.
        ValueError: The codestream's size is not Rows × Columns × Samples per Pixel.
    """
    found = codestream.jpeg_2000_frame(src)
    _check_size(runner.columns, runner.rows, found.columns, found.rows)
    if found.components != runner.samples_per_pixel:
        raise ValueError("the codestream's components differ from Samples per Pixel")
    frame = openjpeg.decode_pixel_data(src, version=2)
    if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")
    precision = runner.get_option("j2k_precision", runner.bits_stored)
    runner.set_option("bits_allocated", 8 if precision <= 8 else 16 if precision <= 16 else 32)
    return frame


def decode_rle(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decodes one frame of RLE Lossless with pylibjpeg-rle.

    Args:
        src: The RLE segments.
        runner: pydicom's state; told the order of the samples.

    Returns:
        The samples, plane by plane.

    Raises:
        ValueError: Damaged.
    """
    frame = rle.decode_pixel_data(
        src,
        version=2,
        rows=runner.rows,
        columns=runner.columns,
        bits_allocated=runner.bits_allocated,
    )
    runner.set_option("planar_configuration", 1)
    return frame


def _check_size(columns: int, rows: int, found_columns: int, found_rows: int) -> None:
    """A codestream may promise gigabytes behind a small (0028,0010) Rows."""
    if (columns, rows) != (found_columns, found_rows):
        raise ValueError("the codestream's size differs from Rows and Columns")
