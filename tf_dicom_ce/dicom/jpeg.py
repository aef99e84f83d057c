"""8-bit JPEG to samples, lossy or lossless, with Pillow."""

import io
import random
import re

import numpy as np
from PIL import Image

from tf_dicom_ce.dicom import codestream
from tf_dicom_ce.dicom.decoded import Decoded
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Code, Refusal

# A progressive stream of few bytes may have thousands of scans, each over the whole image.
_MAX_SCANS = 100
# What a scan could go on with: libjpeg makes up zeros.
_OTHER_SAMPLES = tuple(random.Random(k).randbytes(200).replace(b"\xff", b"") for k in range(6))
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


def decode_jpeg(
    src: bytes, rows: int, columns: int, samples: int, photometric: str
) -> Decoded | Refusal:
    """Decodes one frame of 8-bit JPEG, lossy or lossless, with Pillow.

    Of YCbCr only the luminance is decoded, without a conversion of colours.

    Args:
        src: The codestream.
        rows: (0028,0010) Rows.
        columns: (0028,0011) Columns.
        samples: (0028,0002) Samples per Pixel.
        photometric: (0028,0004) Photometric Interpretation.

    Returns:
        uint8 samples; or a refusal of more than 8 bits.

    Raises:
        OSError: Damaged.
        ValueError: The codestream's size is not Rows × Columns, it has too many scans, or it ends
            before its last pixel.
    """
    found = codestream.jpeg_frame(src)
    if found.precision != 8:
        return Refusal(Code.UNSUPPORTED_TRANSFER_SYNTAX, f"{found.precision}-bit JPEG")
    found.require_size(rows, columns)
    if src.count(b"\xff\xda") > _MAX_SCANS:
        raise ValueError("too many scans")
    flags = () if found.components == samples else (Flag.SAMPLES,)
    if codestream.has_end(src):
        decoded = _decode_jpeg(src, found, photometric)
    else:
        # libjpeg makes up what is missing before the end marker: other samples would show there,
        # unless whole scans are missing.
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
    return decoded._replace(flags=(*decoded.flags, *flags))


def _unpadded(src: bytes) -> bytes:
    """Without half a marker and padding, which would be taken for samples; a 0 behind FF is one."""
    src = src.rstrip(b"\xff")
    bare = src.rstrip(b"\0")
    return bare + b"\0" if bare.endswith(b"\xff") else bare


def _continuation(src: bytes, samples: bytes) -> bytes:
    """Samples, and behind each of the next restart markers the same once more."""
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
        # libjpeg converts no colours here, and unless told otherwise takes them for RGB.
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
