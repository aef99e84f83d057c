"""Files made to exhaust a machine: each ends in a code, soon and in little memory."""

import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

# Of the processor, however busy it is; what is allowed is 2 s, but a machine may be slow.
SECONDS = 10
MEGABYTES = 300

READ = """
import json, re, sys, time
from tf_dicom_ce.dicom.reader import Frame, read_frame, read_header
header, frame = read_header(sys.argv[1]), read_frame(sys.argv[1])
# Not getrusage, which counts what the parent of the process held too.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
codes = [getattr(result, "code", "read") for result in (header, frame)]
detail = frame.detail if codes[1] != "read" else ""
print(json.dumps([*codes, detail, peak, time.process_time()]))
"""


def read(path):
    """The codes of header and frame from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True,
        text=True,
        timeout=20 * SECONDS,
        check=True,
    )
    header, frame, detail, megabytes, seconds = json.loads(done.stdout)
    print(f"{path.name}: {header}, {frame} {detail}, {megabytes:.0f} MB, {seconds:.2f} s")
    assert megabytes < MEGABYTES
    assert seconds < SECONDS
    return header, frame


def end_of_meta(content):
    return 144 + int.from_bytes(content[140:144], "little")


def insert(path, element, before=b"\x28\x00\x02\x00"):
    """Puts bytes before (0028,0002), so that all tags stay in order; returns the path."""
    content = path.read_bytes()
    place = content.index(before, end_of_meta(content))
    path.write_bytes(content[:place] + element + content[place:])
    return path


def sparse(path, size):
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def test_deflated_zeros(write, ramp):
    path = write("a", ramp, syntax=DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    packer = zlib.compressobj(9, wbits=-15)
    zeros = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = zeros * 1500 + packer.flush()
    path.write_bytes(content[: end_of_meta(content)] + bomb)
    assert read(path) == ("too-large", "too-large")


def test_deflated_sparse_file(write, ramp):
    path = write("a", ramp, syntax=DeflatedExplicitVRLittleEndian)
    assert read(sparse(path, 100 << 30)) == ("read", "read")
    with path.open("rb") as file:
        content = file.read(1000)
    path.write_bytes(content[: end_of_meta(content)])
    assert read(sparse(path, 100 << 30)) == ("damaged-header", "damaged-header")


def test_deflated_empty_blocks(write, ramp):
    path = write("a", ramp, syntax=DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    # Each block of 5 bytes inflates to nothing.
    path.write_bytes(content[: end_of_meta(content)] + b"\0\0\0\xff\xff" * (30 << 20))
    assert read(path) == ("too-large", "too-large")


def jpeg_header(marker, rows, columns, components):
    body = struct.pack(">BHHB", 8, rows, columns, components)
    body += b"".join(bytes([i + 1, 0x11, 0]) for i in range(components))
    scan = bytes([components]) + b"".join(bytes([i + 1, 0]) for i in range(components)) + b"\0\0\0"
    return (
        b"\xff\xd8\xff"
        + bytes([marker])
        + struct.pack(">H", len(body) + 2)
        + body
        + b"\xff\xda"
        + struct.pack(">H", len(scan) + 2)
        + scan
        + b"\0" * 1000
        + b"\xff\xd9"
    )


def jpeg_2000_header(rows, columns, components):
    siz = struct.pack(">H8LH", 0, columns, rows, 0, 0, columns, rows, 0, 0, components)
    siz += b"\x07\x01\x01" * components
    cod = b"\0\0\0\x01\0\x05\x04\x04\0\x01"
    qcd = b"\x40" + b"\x40" * 16
    segments = b"".join(
        marker + struct.pack(">H", len(body) + 2) + body
        for marker, body in ((b"\xff\x51", siz), (b"\xff\x52", cod), (b"\xff\x5c", qcd))
    )
    tile = b"\xff\x90\0\x0a\0\0\0\0\0\0\0\x01\xff\x93" + b"\0" * 100
    return b"\xff\x4f" + segments + tile + b"\xff\xd9"


STREAMS = {
    JPEGBaseline8Bit: jpeg_header(0xC0, 20000, 20000, 3),
    JPEGLSLossless: jpeg_header(0xF7, 20000, 20000, 1),
    JPEG2000Lossless: jpeg_2000_header(20000, 20000, 1),
}


@pytest.mark.parametrize("syntax", STREAMS, ids=lambda syntax: syntax.keyword)
def test_huge_codestream(write, ramp, syntax):
    stream = encapsulate([STREAMS[syntax]])
    path = write("small", ramp, syntax=syntax, PixelData=stream)
    assert read(path) == ("read", "decode-failed")
    path = write("large", ramp, syntax=syntax, PixelData=stream, Rows=20000, Columns=20000)
    assert read(path) == ("too-large", "too-large")


@pytest.mark.parametrize("syntax", [*STREAMS, RLELossless], ids=lambda syntax: syntax.keyword)
def test_largest_frame_from_nothing(write, ramp, syntax):
    side = 5792  # just below the limit
    streams = {
        JPEGBaseline8Bit: jpeg_header(0xC0, side, side, 1),
        JPEGLSLossless: jpeg_header(0xF7, side, side, 1),
        JPEG2000Lossless: jpeg_2000_header(side, side, 1),
        RLELossless: struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * 1000,
    }
    stream = encapsulate([streams[syntax]])
    path = write("a", ramp, syntax=syntax, PixelData=stream, Rows=side, Columns=side)
    assert read(path)[0] == "read"


def test_many_scans(write, ramp):
    scan = b"\xff\xda\0\x08\x01\x01\0\0\0\0"
    header = jpeg_header(0xC2, 5000, 5000, 1)[:-1014]
    stream = encapsulate([header + scan * 100_000 + b"\xff\xd9"])
    path = write("a", ramp, syntax=JPEGBaseline8Bit, PixelData=stream, Rows=5000, Columns=5000)
    assert read(path) == ("read", "decode-failed")


def nested(depth, defined):
    """Sequences within each other, the innermost empty."""
    if not defined:
        start = b"\x18\0\x11\x60SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
        end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        return start * depth + end * depth
    starts, size = [], 0
    for _ in range(depth):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, size)
        start = b"\x18\0\x11\x60SQ\0\0" + struct.pack("<L", size + 8) + item
        starts.append(start)
        size += len(start)
    return b"".join(reversed(starts))


@pytest.mark.parametrize("depth", [500, 100_000])
def test_nested_sequences(write, ramp, depth):
    refused = ("damaged-header", "damaged-header")
    assert read(insert(write("a", ramp), nested(depth, defined=False))) == refused
    # Of a known length it is opened when it is looked at, and too large if it is deep.
    assert read(insert(write("b", ramp), nested(depth, defined=True))) == ("read", "read")


def test_many_items(write, ramp):
    start = b"\x18\0\x11\x60SQ\0\0\xff\xff\xff\xff"
    items = b"\xfe\xff\0\xe0\0\0\0\0" * 2_000_000
    path = insert(write("a", ramp), start + items + b"\xfe\xff\xdd\xe0\0\0\0\0")
    assert read(path) == ("too-large", "too-large")


def test_many_elements(write, ramp):
    elements = [struct.pack("<HH2sH", 0x19, 0x1000 + i, b"LO", 0) for i in range(50_000)]
    assert read(insert(write("a", ramp), b"".join(elements) * 40)) == ("too-large", "too-large")


@pytest.mark.parametrize("length", [3 << 30, 0xFFFFFFFF])
def test_huge_private_element(write, ramp, length):
    content = write("a", ramp).read_bytes()
    place = content.index(b"\x28\0\x02\0", end_of_meta(content))
    path = write("a", ramp)
    size = 3 << 30
    with path.open("wb") as file:
        file.write(content[:place] + b"\x19\0\x10\x10OB\0\0" + struct.pack("<L", length))
        file.seek(size, os.SEEK_CUR)
        if length == 0xFFFFFFFF:
            file.write(b"\xfe\xff\xdd\xe0\0\0\0\0")
        file.write(content[place:])
    expected = "too-large" if length == 0xFFFFFFFF else "read"
    assert read(path) == (expected, expected)


def test_huge_element_within_a_sequence(write, ramp):
    element = b"\x19\0\x10\x10OB\0\0" + struct.pack("<L", 3 << 30)
    start = b"\x18\0\x11\x60SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    path = insert(write("a", ramp), start + element)
    assert read(sparse(path, 4 << 30)) == ("too-large", "too-large")


def test_fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert read(tmp_path / "fifo") == ("not-regular", "not-regular")


def test_loop_of_links(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read(tmp_path / "a") == ("not-regular", "not-regular")
    (tmp_path / "c").symlink_to(tmp_path)
    assert read(tmp_path / "c" / "c" / "c") == ("not-regular", "not-regular")


@pytest.mark.parametrize("fragments", [1, 10**6])
@pytest.mark.parametrize("frames", [1, 10**6])
def test_many_fragments(write, ramp, fragments, frames):
    data = b"\xfe\xff\0\xe0\0\0\0\0" + b"\xfe\xff\0\xe0\x02\0\0\0\xff\xd8" * fragments
    path = write("a", ramp, syntax=JPEGBaseline8Bit, NumberOfFrames=frames, PixelData=data)
    few = (frames, fragments) == (1, 1)
    assert read(path) == (("read", "decode-failed") if few else ("too-large", "too-large"))


def test_many_native_frames(write, ramp):
    path = write("a", ramp, NumberOfFrames=10**6)
    assert read(path) == ("too-large", "too-large")
    path = write("b", ramp, NumberOfFrames=60_000)
    assert read(path) == ("truncated", "truncated")
    huge = {"Rows": 5000, "Columns": 5000, "NumberOfFrames": 60_000}
    assert read(write("c", ramp, **huge)) == ("too-large", "too-large")


def test_native_frames_of_a_sparse_file(write, ramp):
    path = write("a", ramp, Rows=5000, Columns=5000, NumberOfFrames=100)
    content = path.read_bytes()
    place = content.index(b"\xe0\x7f\x10\0OB\0\0") + 8
    path.write_bytes(content[:place] + struct.pack("<L", 2_500_000_000))
    assert read(sparse(path, 3 << 30)) == ("read", "read")


def test_dicomdir_is_something_else(write, ramp):
    path = write("DICOMDIR", ramp, SOPClassUID="1.2.840.10008.1.3.10", PixelData=None)
    assert read(path) == ("not-ultrasound", "not-ultrasound")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_length_beyond_the_file(write, ramp, syntax):
    path = write("a", ramp, syntax=syntax)
    content = path.read_bytes()
    place = content.index(b"\x10\0\x20\0", end_of_meta(content))
    for length in (0x7FFFFFFF, 0xFFFFFFFE):
        element = b"\x09\0\x01\x10"
        element += b"" if syntax.is_implicit_VR else b"UN\0\0"
        path.write_bytes(content[:place] + element + struct.pack("<L", length) + content[place:])
        assert read(path) == ("truncated", "truncated")


def test_palette_that_announces_much(write):
    luts = {}
    for colour in ("Red", "Green", "Blue"):
        luts[f"{colour}PaletteColorLookupTableDescriptor"] = [0, 0, 16]
        # Each discrete segment of the segmented palette repeats nothing, 60,000 times.
        luts[f"Segmented{colour}PaletteColorLookupTableData"] = b"\x01\0\xff\xff\0\0" * 20_000
    values = np.zeros((20, 30), np.uint16)
    path = write("a", values, PhotometricInterpretation="PALETTE COLOR", **luts)
    assert read(path) == ("read", "decode-failed")


def test_many_regions(write, ramp):
    items = b"\xfe\xff\0\xe0\0\0\0\0" * 32_000
    element = b"\x18\0\x11\x60SQ\0\0" + struct.pack("<L", len(items)) + items
    assert read(insert(write("a", ramp), element)) == ("read", "read")


def test_many_digits(write, ramp):
    path = write("a", ramp, NumberOfFrames="1")
    content = path.read_bytes()
    digits = b"\x28\0\x08\0IS" + struct.pack("<H", 60_000) + b"9" * 60_000
    path.write_bytes(content.replace(b"\x28\0\x08\0IS\x02\x001 ", digits))
    assert read(path) == ("damaged-header", "damaged-header")
