"""Which decoder reads which transfer syntax, and how each is kept from harm."""

import functools
import re
from typing import Any, BinaryIO

import openjpeg
import rle
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders import pyjpegls
from pydicom.pixels.decoders.base import DecodeRunner

from tf_dicom_ce.dicom import codestream
from tf_dicom_ce.dicom.decoded import Decoded
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.part10 import NATIVE

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
#: Transfer syntaxes whose pixels are cells of (0028,0100) Bits Allocated.
OF_CELLS = frozenset((*NATIVE, uid.RLELossless))
_VIDEO = re.compile(r"1\.2\.840\.10008\.1\.2\.(4\.10\d(\.1)?|7\.\d)")  # MPEG, HEVC, SMPTE
_TRANSFORMED = ("YBR_ICT", "YBR_RCT")  # these leave the JPEG 2000 decoder as RGB
_LOSSY = frozenset(
    (
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLSNearLossless,
        uid.JPEG2000,
        uid.HTJ2K,
    )
)


def supports(syntax: str) -> bool:
    """Tells whether a decoder reads this (0002,0010) Transfer Syntax UID."""
    return syntax in SUPPORTED


def is_video(syntax: str) -> bool:
    """Tells whether the (0002,0010) Transfer Syntax UID is of a video stream."""
    return _VIDEO.fullmatch(syntax) is not None


def is_lossy(syntax: str) -> bool:
    """Tells whether the (0002,0010) Transfer Syntax UID is one that loses detail as a rule."""
    return syntax in _LOSSY


def stored_bits(header: Dataset) -> int:
    """(0028,0101) Bits Stored; 8 for JPEG, of which only the 8-bit kind is read."""
    return 8 if header.file_meta.TransferSyntaxUID in JPEG else int(header.BitsStored)


def decode_native(file: BinaryIO, index: int, syntax: str, options: dict[str, Any]) -> Decoded:
    """Reads one frame of uncompressed pixel data.

    Args:
        file: At the value of the pixel data.
        index: The frame.
        syntax: (0002,0010) Transfer Syntax UID.
        options: What pydicom's `as_pixel_options` makes of the header.

    Returns:
        Cells as they are, see `cells`.

    Raises:
        Exception: Of any kind, if the data do not fit the options.
    """
    options = {**options, "correct_unused_bits": False}
    stored, properties = get_decoder(syntax).as_array(file, index=index, raw=True, **options)
    return Decoded(stored, str(properties["photometric_interpretation"]))


def decode_stream(src: bytes, syntax: str, options: dict[str, Any]) -> Decoded:
    """Decodes one frame of JPEG-LS, JPEG 2000, HTJ2K or RLE.

    Args:
        src: The codestream.
        syntax: (0002,0010) Transfer Syntax UID.
        options: What pydicom's `as_pixel_options` makes of the header.

    Returns:
        Of RLE cells as they are, see `cells`.

    Raises:
        Exception: Of any kind, if the codestream is damaged or does not fit the options.
    """
    _register()
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
    stored, properties = get_decoder(syntax).as_array(
        encapsulate([src], has_bot=False),
        index=0,
        raw=True,
        decoding_plugin=_PLUGIN,
        **options,
    )
    return Decoded(stored, str(properties["photometric_interpretation"]), flags)


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
    found.require_size(runner.rows, runner.columns)
    # CharLS 2 may count zeros for seconds behind the end of a stream that has no end marker.
    return pyjpegls._decode_frame(src + codestream.END_OF_IMAGE, runner)


def decode_jpeg_2000(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decodes one frame of JPEG 2000 or HTJ2K with OpenJPEG.

    Args:
        src: The codestream.
        runner: pydicom's state; told the size of a sample.

    Returns:
        The samples, interleaved.

    Raises:
        RuntimeError: Damaged.
        ValueError: The codestream's size is not Rows × Columns × Samples per Pixel.
    """
    found = codestream.jpeg_2000_frame(src)
    found.require_size(runner.rows, runner.columns)
    if found.components != runner.samples_per_pixel:
        raise ValueError("the codestream's components differ from Samples per Pixel")
    frame = openjpeg.decode_pixel_data(src, version=2)
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
