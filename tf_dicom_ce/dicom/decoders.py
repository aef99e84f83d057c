"""Which decoder reads which transfer syntax; extra decoders registered with pydicom."""

import functools
import io

import openjpeg
import rle
from PIL import Image
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders import pyjpegls
from pydicom.pixels.decoders.base import DecodeRunner

_JPEG = (
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
_NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)

# Plugins by name, in order of preference. Without a name pydicom tries GDCM first, which ends the
# whole process on some damaged streams. The names with a prefix are registered below.
_PLUGINS: dict[uid.UID, tuple[str, ...]] = {
    **dict.fromkeys(_NATIVE, ("",)),
    **dict.fromkeys(_JPEG, ("checked-pillow",)),
    **dict.fromkeys(_JPEG_LS, ("checked-pyjpegls",)),
    **dict.fromkeys(_JPEG_2000, ("checked-openjpeg",)),
    uid.RLELossless: ("pylibjpeg-rle", "pydicom"),
}


def is_available(transfer_syntax: str) -> bool:
    """Called by pydicom's registry: the decoders of this module are hard dependencies."""
    return True


def plugins_for(transfer_syntax: str) -> tuple[str, ...]:
    """Names the decoding plugins to try, best first.

    Args:
        transfer_syntax: (0002,0010) Transfer Syntax UID.

    Returns:
        Names for pydicom's `decoding_plugin`; `("",)` for uncompressed pixels, `()` if nothing
        reads this transfer syntax.
    """
    _register()
    return _PLUGINS.get(uid.UID(transfer_syntax), ())


@functools.cache
def _register() -> None:
    """Adds the decoders below to pydicom's registry, once per process."""
    for syntaxes, name, function in (
        (_JPEG, "checked-pillow", decode_jpeg),
        (_JPEG_LS, "checked-pyjpegls", decode_jpeg_ls),
        (_JPEG_2000, "checked-openjpeg", decode_jpeg_2000),
        ((uid.RLELossless,), "pylibjpeg-rle", decode_rle),
    ):
        for syntax in syntaxes:
            get_decoder(syntax).add_plugin(name, (__name__, function.__name__))


def decode_jpeg(src: bytes, runner: DecodeRunner) -> bytes:
    """Decodes one frame of 8-bit JPEG, lossy or lossless, with Pillow.

    Args:
        src: The codestream.
        runner: pydicom's state; told the colour space and the size of a sample.

    Returns:
        The samples, interleaved.

    Raises:
        OSError: Damaged, or more than 8 bits per sample.
        ValueError: The codestream's size is not Rows × Columns.
    """
    image = Image.open(io.BytesIO(src), formats=("JPEG",))
    _check_size(runner, *image.size)
    if runner.samples_per_pixel == 3:
        if "adobe_transform" in image.info:
            # The marker makes Pillow convert to RGB, whatever the header says.
            runner.set_option("photometric_interpretation", "RGB")
        else:
            # Pillow takes unmarked components for YCbCr and would convert them to RGB.
            image.draft("YCbCr", image.size)
    runner.set_option("bits_allocated", 8)
    return image.tobytes()


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
    # The SOF55 segment: marker, length, precision, height, width.
    sof = src.find(b"\xff\xf7")
    height, width = (int.from_bytes(src[sof + i : sof + i + 2]) for i in (5, 7))
    _check_size(runner, width, height)
    return pyjpegls._decode_frame(src, runner)


def decode_jpeg_2000(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decodes one frame of JPEG 2000 or HTJ2K with OpenJPEG.

    Args:
        src: The codestream.
        runner: pydicom's state; told the colour space and the size of a sample.

    Returns:
        The samples, interleaved.

    Raises:
        RuntimeError: Damaged.
        ValueError: The codestream's size is not Rows × Columns.
    """
    # The SIZ segment, behind the start of the codestream.
    siz = src.find(b"\xff\x4f\xff\x51")
    x1, y1, x0, y0 = (int.from_bytes(src[siz + i : siz + i + 4]) for i in (8, 12, 16, 20))
    _check_size(runner, x1 - x0, y1 - y0)
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


def _check_size(runner: DecodeRunner, width: int, height: int) -> None:
    """A codestream may promise gigabytes behind a small (0028,0010) Rows."""
    if (width, height) != (runner.columns, runner.rows):
        raise ValueError("the codestream's size differs from Rows and Columns")
