"""Mutates DICOM files of every transfer syntax and watches the reader (2 min).

Tells the number of results with each code, by transfer syntax. Fails if a process died, took more
than 5 seconds or grew by more than 1 GB, if an exception escaped, or if header and frame disagree.
Every run goes on with the next mutations.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from pydicom import Dataset, dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from benchmarks import dicom_encoders
from benchmarks.rounds import Measuring, Stage
from benchmarks.sizes import Setup
from benchmarks.tables import Goal, Table, none_of
from benchmarks.turns import Round
from tf_dicom_ce.dicom import reader
from tf_dicom_ce.dicom.header import SECONDARY_CAPTURE, ULTRASOUND

STAGES = {"mutations": 60.0}
SECONDS = 5
GROWTH_KB = 1 << 20
SHIPPED = (
    "examples_jpeg2k.dcm",
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "examples_ybr_color.dcm",
    "ExplVR_BigEnd.dcm",
)
# Refusals that only decoding can find.
LATE = (reader.Code.DECODE_FAILED, reader.Code.UNSUPPORTED_TRANSFER_SYNTAX)
_SEED = 0
EXTREMES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\x01")


CLASSES = ULTRASOUND | SECONDARY_CAPTURE
VIDEOS = (
    (uid.MPEG2MPML, "mpeg2video", "vob"),
    (uid.MPEG4HP41, "libx264", "mp4"),
    (uid.MPEG4HP42STEREO, "libx264", "mpegts"),
    (uid.HEVCMP51, "libx265 -x265-params log-level=none", "mp4"),
)


class Seed(NamedTuple):
    """A whole file, and where its pixel data start."""

    syntax: str
    content: bytes
    pixels: int


class Result(NamedTuple):
    """The result of one mutation: a code, and a violation if there is one."""

    number: int
    syntax: str
    code: str
    violation: str


def furnish(dataset: Dataset) -> None:
    """Adds other elements that change the picture: regions, lookup tables, window, overlay."""
    table = Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.add_new("LUTData", "OW", bytes(range(256)))
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        setattr(dataset, keyword, [table])
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = "99", "50", "SIGMOID"
    dataset.add_new(0x60000102, "US", 12)
    regions = []
    for kind, left, right in ((1, 0, 47), (1, 48, 95), (3, 0, 95)):
        regions.append(region := Dataset())
        region.RegionSpatialFormat = region.RegionDataType = kind
        region.RegionLocationMinX0, region.RegionLocationMaxX1 = left, right
        region.RegionLocationMinY0, region.RegionLocationMaxY1 = 5, 70
    dataset.SequenceOfUltrasoundRegions = regions


def seeds() -> list[Seed]:
    """Files of every transfer syntax, plain and furnished, and those that pydicom ships."""
    contents = [Path(get_testdata_file(name, download=False)).read_bytes() for name in SHIPPED]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        for sample in dicom_encoders.samples():
            contents.append(dicom_encoders.save(sample, path).read_bytes())
            if sample.dataset.SamplesPerPixel == 1:
                furnish(sample.dataset)
                contents.append(dicom_encoders.save(sample, path).read_bytes())
        for dataset in more_files():
            dataset.save_as(path, enforce_file_format=True)
            contents.append(path.read_bytes())
        found = []
        for content in contents:
            path.write_bytes(content)
            syntax = dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
            places = (content.rfind(tag) for tag in (b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10"))
            place = max(places)
            # A deflated file has no such place; its header is short.
            found.append(Seed(syntax.keyword, content, place if place > 0 else 700))
    return found


def more_files() -> Iterator[Dataset]:
    """JPEG of 12 bits, a volume, a captured screen, and, where there is ffmpeg, video."""
    values = dicom_encoders.luma(dicom_encoders.picture())
    wide = values.astype(np.uint16) << 4
    for lossless, syntax in ((False, uid.JPEGExtended12Bit), (True, uid.JPEGLosslessSV1)):
        stream = imagecodecs.jpeg8_encode(wide, bitspersample=12, lossless=lossless)
        dataset = dicom_encoders.build_image(values, syntax, "MONOCHROME2", encapsulate([stream]))
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        yield dataset
    plain = (values, uid.ExplicitVRLittleEndian, "MONOCHROME2")
    yield (volume := dicom_encoders.build_image(*plain, values.tobytes() * 3))
    volume.SOPClassUID, volume.NumberOfFrames = "1.2.840.10008.5.1.4.1.1.6.2", 3
    item, group = Dataset(), Dataset()
    item.DataType, group.ImageDataTypeSequence = "TISSUE_INTENSITY", [item]
    volume.SharedFunctionalGroupsSequence = volume.PerFrameFunctionalGroupsSequence = [group] * 3
    yield (screen := dicom_encoders.build_image(*plain, values.tobytes()))
    screen.SOPClassUID, screen.Modality = "1.2.840.10008.5.1.4.1.1.7", "US"
    for syntax, coder, container in VIDEOS if shutil.which("ffmpeg") else ():
        command = f"ffmpeg -v error -f lavfi -i testsrc2=size=96x80:duration=1 -c:v {coder}"
        command += f" -pix_fmt yuv420p -movflags frag_keyframe+empty_moov -f {container} -"
        stream = subprocess.run(command.split(), check=True, stdout=subprocess.PIPE).stdout
        colour = dicom_encoders.picture()
        data = encapsulate([stream], has_bot=False)
        yield (video := dicom_encoders.build_image(colour, syntax, "YBR_PARTIAL_420", data))
        video.NumberOfFrames = 25


def mutate(content: bytes, start: int, end: int, other: bytes, rng: random.Random) -> bytes:
    """Damages the bytes from `start` to `end` in one way, once or several times."""
    data = bytearray(content)
    kind = rng.choice(("flip", "run", "length", "cut", "insert", "splice", "swap", "delete"))
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(start, max(min(end, len(data)), start + 1))
        size = rng.choice((1, 2, 4, 16, 200))
        if kind == "flip":
            data[at : at + 1] = bytes([(data[at] if at < len(data) else 0) ^ 1 << rng.randrange(8)])
        elif kind == "run":
            data[at : at + size] = rng.choice(EXTREMES) * size
        elif kind == "length":
            width, order = rng.choice((2, 4)), rng.choice(("little", "big"))
            value = rng.choice((0, 1, 2, 255, 65535, 2**31 - 1, 2**32 - 1, rng.randrange(2**32)))
            data[at : at + width] = (value % 256**width).to_bytes(width, order)
        elif kind == "cut":
            return bytes(data[:at])
        elif kind == "insert":
            data[at:at] = rng.randbytes(size)
        elif kind == "splice":
            place = rng.randrange(len(other))
            data[at : at + size] = other[place : place + size]
        elif kind == "swap":
            place = rng.randrange(start, max(min(end, len(data)), start + 1))
            data[at : at + 4], data[place : place + 4] = data[place : place + 4], data[at : at + 4]
        else:
            del data[at : at + size]
    return bytes(data)


def mutation(number: int, seed: int, files: list[Seed]) -> tuple[str, bytes]:
    """The transfer syntax and the bytes of a mutation; depends on the two numbers only."""
    rng = random.Random(f"{seed} {number}")
    file, other = rng.choice(files), rng.choice(files)
    bounds = (128, file.pixels) if number % 2 else (file.pixels, len(file.content))
    return file.syntax, mutate(file.content, *bounds, other.content, rng)


def check(path: Path) -> tuple[str, str]:
    """Reads a file; returns its code, and a violation or ""."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            header = reader.inspect(path, CLASSES)
            frame = reader.read_frame(path, classes=CLASSES)
            flags = () if isinstance(header, reader.Refusal) else header[1]
    except BaseException as error:
        return "escaped", f"{type(error).__name__} escaped"
    code = frame.code.value if isinstance(frame, reader.Refusal) else "read"
    if time.perf_counter() - start > SECONDS:
        return code, "too slow"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > GROWTH_KB:
        return code, "too much memory"
    if isinstance(frame, reader.Refusal):
        agree = header == frame or (frame.code in LATE and not isinstance(header, reader.Refusal))
    else:
        slices = zip(frame.region.slices, frame.source_shape, strict=True)
        sides = tuple(len(range(*s.indices(n))) for s, n in slices)
        agree = frame.flags[: len(flags)] == flags and frame.pixels.shape == sides
    return code, "" if agree else "header and frame disagree"


def serve(pipe: Connection, seed: int, files: list[Seed]) -> None:
    """A worker: for each number that comes, gives the result of that mutation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        while (number := pipe.recv()) is not None:
            path.write_bytes(mutation(number, seed, files)[1])
            pipe.send(check(path))


class Worker:
    """A process that is replaced when it dies or hangs."""

    def __init__(self, seed: int, files: list[Seed]) -> None:
        self._arguments = (seed, files)
        self._start()

    def _start(self) -> None:
        self._pipe, end = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=serve, args=(end, *self._arguments), daemon=True)
        self._process.start()
        end.close()

    def run(self, number: int) -> Result:
        """Tries one mutation."""
        syntax, _ = mutation(number, *self._arguments)
        try:
            self._pipe.send(number)
            if self._pipe.poll(SECONDS + 30):
                return Result(number, syntax, *self._pipe.recv())
            violation = "hangs"
        except (EOFError, OSError):
            violation = "process died"
        self._process.kill()
        self._process.join()
        self._start()
        return Result(number, syntax, "none", violation)

    def close(self) -> None:
        """Lets the process end."""
        self._pipe.send(None)
        self._process.join()


def measure(stage: Measuring, setup: Setup) -> None:
    """Tries mutations, each number once, in one process a core."""
    files, workers = seeds(), os.cpu_count() or 1
    count = setup.sizes.header_files

    def share(worker: Worker, numbers: range) -> list[Result]:
        return [worker.run(number) for number in numbers]

    def rounds() -> Iterator[Round]:
        first = stage.facts.get("next", 0)
        with (
            concurrent.futures.ThreadPoolExecutor(workers) as pool,
            contextlib.ExitStack() as stack,
        ):
            team = [Worker(_SEED, files) for _ in range(workers)]
            for worker in team:
                stack.callback(worker.close)
            while True:
                start = time.perf_counter()
                numbers = [range(first + k, first + count, workers) for k in range(workers)]
                results = [result for of in pool.map(share, team, numbers) for result in of]
                first += count
                stage.tell(next=first)
                yield time.perf_counter() - start, {"reader": [_told(results)]}

    stage.keep(rounds())


def _told(results: list[Result]) -> dict:
    """The number of results by transfer syntax and code, and the violations."""
    counts = collections.Counter(f"{r.syntax} {r.code}" for r in results)
    wrong = [f"mutation {r.number} of {r.syntax}: {r.violation}" for r in results if r.violation]
    return {"counts": counts, "violations": wrong}


def tables(stages: Mapping[str, Stage]) -> list[Table]:
    """The number of results with each code, by transfer syntax."""
    return [_table(stage) for stage in stages.values()]


def _table(stage: Stage) -> Table:
    counts: collections.Counter = collections.Counter()
    for found in stage.of("reader", "counts"):
        counts.update(found)
    cells = {tuple(name.split()): count for name, count in counts.items()}
    codes = sorted({code for _, code in cells})
    rows = [
        [syntax, *(str(cells.get((syntax, code), 0)) for code in codes)]
        for syntax in sorted({syntax for syntax, _ in cells})
    ]
    note = "; ".join(_violations(stage)[:50])
    title = f"The reader: {counts.total():,} damaged files"
    return Table(title, ("", *(f"`{code}`" for code in codes)), rows, note)


def goals(stages: Mapping[str, Stage]) -> list[Goal]:
    """No violation."""
    return [none_of("Damaged files: violations", _violations(s)) for s in stages.values()]


def _violations(stage: Stage) -> list[str]:
    return [words for found in stage.of("reader", "violations") for words in found]
