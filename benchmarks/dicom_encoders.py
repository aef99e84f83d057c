"""Writes one picture in every transfer syntax that the reader supports."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jpeg_ls
import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.valuerep import VR

NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
#: Near-lossless JPEG-LS: the largest error of a sample.
NEAR = 2
#: Lossy JPEG 2000: the peak signal-to-noise ratio.
DECIBEL = 45


class Sample(NamedTuple):
    """A file in memory, and the picture that was put into it."""

    name: str
    dataset: Dataset
    original: np.ndarray
    lossless: bool


def picture(rows: int = 80, columns: int = 96) -> np.ndarray:
    """A part of a real ultrasound screen with tissue, text and colour, (H, W, 3) uint8."""
    path = get_testdata_file("examples_rgb_color.dcm", download=False)
    screen = dcmread(path).pixel_array
    return np.ascontiguousarray(screen[20 : 20 + rows, 60 : 60 + columns])


def luma(rgb: np.ndarray) -> np.ndarray:
    """What Pillow takes for the luminance."""
    return np.asarray(Image.fromarray(rgb).convert("L"))


def jpeg_lossless(values: np.ndarray) -> bytes:
    """Writes JPEG lossless: predictor 1, one Huffman code of 4 bits for each category."""
    planes = np.atleast_3d(values).astype(int)
    height, width, count = planes.shape
    predicted = np.empty_like(planes)
    predicted[:, 1:] = planes[:, :-1]
    predicted[1:, 0], predicted[0, 0] = planes[:-1, 0], 128
    parts = []
    for difference in (planes - predicted).ravel().tolist():
        size = abs(difference).bit_length()
        low = difference if difference > 0 else difference + (1 << size) - 1
        parts.append(f"{size:04b}" + (f"{low:0{size}b}" if size else ""))
    bits = "".join(parts)
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")
    ids = range(1, count + 1)
    sof = b"\x08" + height.to_bytes(2) + width.to_bytes(2) + bytes([count])
    sof += b"".join(bytes([i, 0x11, 0]) for i in ids)
    sos = bytes([count]) + b"".join(bytes([i, 0]) for i in ids) + b"\x01\x00\x00"
    # Nine categories, 0 to 8, with the codes 0000 to 1000.
    dht = b"\x00" + bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9))
    segments = [(b"\xff\xc3", sof), (b"\xff\xc4", dht), (b"\xff\xda", sos)]
    head = b"".join(marker + (len(body) + 2).to_bytes(2) + body for marker, body in segments)
    return b"\xff\xd8" + head + scan + b"\xff\xd9"


def run_length(values: np.ndarray) -> bytes:
    """Writes RLE without a run: a packet holds up to 128 bytes behind its length less one."""
    segments = []
    for plane in np.moveaxis(np.atleast_3d(values), -1, 0):
        raw = plane.tobytes()
        parts = [raw[i : i + 100] for i in range(0, len(raw), 100)]
        segment = b"".join(bytes([len(part) - 1]) + part for part in parts)
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = [64 + sum(map(len, segments[:i])) for i in range(len(segments))]
    header = np.array([len(segments), *offsets, *[0] * (15 - len(segments))], "<u4")
    return header.tobytes() + b"".join(segments)


def pillow(values: np.ndarray, kind: str, **options: object) -> bytes:
    """Writes JPEG or JPEG 2000 with Pillow."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, **options)
    return file.getvalue()


def streams(values: np.ndarray) -> Iterator[tuple[str, str, str, bytes, bool]]:
    """Gives a name, transfer syntax, photometric interpretation, codestream, and if lossless."""
    colour = values.ndim == 3
    plain = "RGB" if colour else "MONOCHROME2"
    yield "rle", uid.RLELossless, plain, run_length(values), True
    for kind in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        yield "jpeg lossless", kind, plain, jpeg_lossless(values), True
    for mode in (0, 1, 2) if colour else (0,):
        planes = np.ascontiguousarray(np.moveaxis(values, -1, 0)) if colour and not mode else values
        stream = bytes(jpeg_ls.encode_array(planes, interleave_mode=mode))
        yield f"jpeg-ls {mode}", uid.JPEGLSLossless, plain, stream, True
        stream = bytes(jpeg_ls.encode_array(planes, lossy_error=NEAR, interleave_mode=mode))
        yield f"jpeg-ls near {mode}", uid.JPEGLSNearLossless, plain, stream, False
    for transform in (0, 1) if colour else (0,):
        kind = "YBR_RCT" if transform else plain
        options = {"no_jp2": True, "mct": transform}
        stream = pillow(values, "JPEG2000", irreversible=False, **options)
        yield f"jpeg 2000 {transform}", uid.JPEG2000Lossless, kind, stream, True
        options |= {"quality_mode": "dB", "quality_layers": [DECIBEL]}
        kind = "YBR_ICT" if transform else plain
        stream = pillow(values, "JPEG2000", irreversible=True, **options)
        yield f"jpeg 2000 lossy {transform}", uid.JPEG2000, kind, stream, False
    for kind in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        lossy = "YBR_FULL_422" if colour else plain
        yield "jpeg", kind, lossy, pillow(values, "JPEG", quality=95), False
        if colour:
            stream = pillow(values, "JPEG", quality=95, keep_rgb=True)
            yield "jpeg rgb", kind, "RGB", stream, False


def samples() -> Iterator[Sample]:
    """Gives the picture in gray, colour and with a palette, in every transfer syntax."""
    rgb = picture()
    gray = luma(rgb)
    image = Image.fromarray(rgb).quantize(256)
    indices = np.asarray(image)
    table = np.asarray(image.getpalette(), np.uint8).reshape(-1, 3)
    palette = {}
    for i, colour in enumerate(("Red", "Green", "Blue")):
        wide = table[:, i].astype("<u2") << 8
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [len(table), 0, 16]
        palette[f"{colour}PaletteColorLookupTableData"] = wide
    for kind, values, original in (
        ("gray", gray, gray),
        ("colour", rgb, gray),
        ("palette", indices, luma(table[indices])),
    ):
        more = palette if kind == "palette" else {}
        photometric = {"gray": "MONOCHROME2", "colour": "RGB", "palette": "PALETTE COLOR"}[kind]
        for syntax in NATIVE:
            for planar in (0, 1) if kind == "colour" else (0,):
                stored = np.moveaxis(values, -1, 0) if planar else values
                dataset = build_image(values, syntax, photometric, stored.tobytes(), more)
                if kind == "colour":
                    dataset.PlanarConfiguration = planar
                yield Sample(f"{kind} {syntax.keyword} {planar}", dataset, original, True)
        for name, syntax, found, stream, lossless in streams(values):
            if kind == "palette" and not lossless:
                continue  # an error of an index is an error of any size
            dataset = build_image(
                values,
                syntax,
                "PALETTE COLOR" if kind == "palette" else found,
                encapsulate([stream]),
                more,
            )
            yield Sample(f"{kind} {name} {syntax.keyword}", dataset, original, lossless)


def save(sample: Sample, path: Path) -> Path:
    """Writes a sample to a file."""
    sample.dataset.save_as(path, enforce_file_format=True)
    return path


def build_image(
    values: np.ndarray,
    syntax: uid.UID,
    photometric: str,
    data: bytes,
    more: Mapping = MappingProxyType({}),
) -> Dataset:
    """A data set around a picture of 8 bits, whose pixel data are given."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    dataset.SOPInstanceUID = "1.2.3"  # the same in each run
    dataset.PatientID, dataset.StudyDescription = "P1", "ABDOMEN"
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 3 if values.ndim == 3 else 1
    dataset.PhotometricInterpretation = photometric
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    for keyword, value in more.items():
        if isinstance(value, np.ndarray):
            order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
            value = value.astype(f"{order}u2").tobytes()
        setattr(dataset, keyword, value)
    dataset.add_new(0x7FE00010, VR.OB, data)
    return dataset
