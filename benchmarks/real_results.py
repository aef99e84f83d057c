"""Stores SEG and SR of real files in a real Orthanc, fetches each, reads it elsewhere (3 min).

    python -m benchmarks real_results ../shared/data/real_us
    PATH=/env/bin:$PATH python -m benchmarks real_results FOLDER --python /env/bin/python

Untrained heads predict every frame that can be read. The sources are stored by STOW-RS, then the
results: one SEG and one SR per file, and a report per study of several files. The results are
fetched by WADO-RS and compared with the predictions, by pydicom and, for SRs, by DCMTK. If
installed, segimage2itkimage (dcmqi 1.5.7) reads every SEG, and --python names an environment with
the packages of `elsewhere.py`. PixelMed (Debian's libpixelmed-java, default-jre-headless) validates
results of up to 16 frames, which takes ten minutes. Prints counts by kind, and faults; exits with 1
if there are faults. Needs root, and Debian's orthanc, orthanc-dicomweb, dcmtk and dicom3tools.
Orthanc runs in its own network namespace, because it listens on every interface.
"""

import argparse
import contextlib
import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from pydicom import Dataset, dcmread

from benchmarks.served import CLASSES, export_untrained
from benchmarks.tables import aligned
from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.dicomweb_server import Credentials, RefusedError, Server
from tf_dicom_ce.intake.index import Index, scan
from tf_dicom_ce.prediction.folder import open_results
from tf_dicom_ce.prediction.sending import store
from tf_dicom_ce.results.measuring import Measured
from tf_dicom_ce.results.source import open_image
from tf_dicom_ce.tags.schema import TagSchema

URL = "http://127.0.0.1:8042"
INSIDE = "TF_DICOM_CE_IN_NAMESPACE"
_JARS = ("pixelmed", "slf4j-nop", "vecmath", "commons-codec")
_PIXELMED = [Path(f"/usr/share/java/{name}.jar") for name in _JARS]
_VALIDATED = 16  # frames; for the SR of 65, PixelMed ran out of 6 GB
_ELSEWHERE = Path(__file__).with_name("elsewhere.py")
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[None]:
    """Runs an empty one that asks for no password; it keeps its files below `folder`."""
    settings = {"StorageDirectory": str(folder), "IndexDirectory": str(folder)}
    settings |= {"DicomServerEnabled": False, "AuthenticationEnabled": False, "Plugins": [PLUGIN]}
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["Orthanc", configuration], stdout=log, stderr=log)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{URL}/system").close()
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


class Remembering:
    """A head that keeps what it answered."""

    def __init__(self, head):
        self.model, self.find_sector, self._head = head.model, head.model.find_sector, head
        self.answers: list[dict[str, np.ndarray]] = []

    def answer(self, pixels: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        found = self._head.answer(pixels)
        self.answers += found
        return found


def seg_faults(result: Dataset, rows: list[dict[str, str]], path: Path, answers: list) -> set[str]:
    """What of a SEG is not as the head said, frame by frame."""
    classes = range(1, len(CLASSES["segmentation"]))
    expected = [
        open_image(path, frame=int(row["frame"])).in_file(answer["mask"]) == k
        for row, answer in zip(rows, answers, strict=True)
        for k in classes
    ]
    pixels = result.pixel_array.reshape(-1, result.Rows, result.Columns)
    found = set() if np.array_equal(pixels, expected) else {"other pixels"}
    if int(result.get("NumberOfFrames", 1)) > len(classes):
        named = [
            item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber - 1
            for item in result.PerFrameFunctionalGroupsSequence
        ]
        if named != [int(row["frame"]) for row in rows for _ in classes]:
            found.add("other frames")
    return found


def sr_faults(file: Path, rows: list[dict[str, str]]) -> set[str]:
    """What of an SR, as DCMTK reads it, is not as in the table."""
    done = subprocess.run(["dsr2xml", file], capture_output=True)
    if done.returncode:
        return {"dsr2xml cannot read it"}
    numbers = ElementTree.fromstring(done.stdout).iter("num")
    said = [float(number.findtext("value")) for number in numbers]
    expected = []
    for row in rows:
        if "class" in row:
            names = CLASSES["classification"]
            probabilities = [float(row[f"probability {name}"]) for name in names]
            certainty = round(100 * float(row[f"probability {row['class']}"]), 4)
            expected += [certainty, *probabilities]
            continue
        for name in CLASSES["segmentation"][1:]:
            if float(row[f"share {name}"]):
                measured = [row[f"{kind} {name}"] for kind in Measured._fields]
                expected += map(float, measured if all(measured) else [row[f"share {name}"]])
    return set() if sorted(said) == sorted(expected) else {"other numbers"}


def validity(file: Path) -> set[str]:
    """The errors of dciodvfy."""
    done = subprocess.run(["dciodvfy", file], capture_output=True, errors="replace", text=True)
    return {line for line in done.stderr.splitlines() if line.startswith("Error")}


def pixelmed_faults(file: Path, kind: str) -> set[str]:
    """The errors of PixelMed's validators.

    They want an empty Laterality in a SEG, which dciodvfy calls an error: that one does not count.
    """
    # Their stylesheets are larger than what Java takes by default.
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprOp", "TotalOp", "ExprGrp")]
    name = "DicomInstanceValidator" if kind == "seg" else "DicomSRValidator"
    command = ["java", "-Xss512m", *limits, "-cp", ":".join(map(str, _PIXELMED))]
    command += [f"com.pixelmed.validate.{name}", file]
    said = subprocess.run(command, capture_output=True, errors="replace", text=True)
    lines = (said.stdout + said.stderr).splitlines()
    if "IOD validation complete" not in lines:
        return {f"PixelMed: {lines[-1]}"}
    errors = (line for line in lines if line.startswith("Error"))
    return {f"PixelMed: {line}" for line in errors if "/Laterality/" not in line}


def dcmqi_faults(file: Path) -> set[str]:
    """Whether dcmqi's volumes hold the masks; nothing where it is not installed."""
    if not shutil.which("segimage2itkimage"):
        return set()
    with tempfile.TemporaryDirectory() as folder:
        words = ["segimage2itkimage", "--inputDICOM", file, "--outputDirectory", folder]
        done = subprocess.run([*words, "--outputType", "nrrd"], capture_output=True)
        dataset, found = dcmread(file), set()
        classes = len(dataset.SegmentSequence)
        masks = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        for k in range(classes):
            volume = Path(folder, f"{k + 1}.nrrd")
            if masks[k::classes].any() and not (
                volume.exists() and np.array_equal(nrrd(volume) > 0, masks[k::classes] > 0)
            ):
                found.add(f"dcmqi reads another mask ({done.returncode})")
    return found


def nrrd(path: Path) -> np.ndarray:
    """A volume of NRRD with gzip, [slices, rows, columns]."""
    head, _, content = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    kinds = {"short": "<i2", "unsigned short": "<u2", "unsigned char": "u1", "uint8": "u1"}
    if fields["encoding"] == "gzip":
        content = gzip.decompress(content)
    sizes = [int(size) for size in fields["sizes"].split()]
    return np.frombuffer(content, kinds[fields["type"]]).reshape(sizes[::-1])


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def compare(
    task: str, index: Index, folder: Path, counts: Counter, python: str | None
) -> Iterator[str]:
    """Predicts, stores, fetches and compares; counts, and yields what was wrong."""
    from tf_dicom_ce.prediction.batch import Head, predict  # TensorFlow takes its time

    version = export_untrained(folder, FinetuneConfig(task=task, image_size=(64, 96), width=1 / 16))
    head, out = Remembering(Head(version)), folder / f"out-{task}"
    reader = ImageReader(index.root, index.schema.sop_classes, head.model.find_sector)
    with open_results(out, head.model, reader, "all"):
        done = predict(index, head, out, "all", reader)
    stored = store(f"{URL}/dicom-web", Credentials(), out, done.dicom, progress=False)
    counts.update(frames=done.new, results=len(done.dicom), refused=stored.refused)
    paths = {row["file"]: index.root / row["path"] for row in rows_of(out / "files.csv")}
    rows = rows_of(out / "predictions.csv")
    counts.update(sources=len({row["file"] for row in rows}))
    back = folder / "back.dcm"
    with Server(f"{URL}/dicom-web") as server:
        for file in done.dicom:
            kind = file.partition("/")[0]
            of_result = [
                one for one in zip(rows, head.answers, strict=True) if one[0][kind] == file
            ]
            of_file, answers = zip(*of_result, strict=True)
            path, written = paths[of_file[0]["file"]], out / file
            ids = dcmread(written, stop_before_pixels=True)
            place = f"{ids.StudyInstanceUID}/series/{ids.SeriesInstanceUID}"
            try:
                server.save(f"/studies/{place}/instances/{ids.SOPInstanceUID}", back)
            except RefusedError as error:
                yield f"{task} {path.name} {kind}: not given back ({error})"
                continue
            with quiet():
                source = dcmread(path, stop_before_pixels=True)
                if kind == "seg":
                    wrong = seg_faults(dcmread(back), of_file, path, answers)
                    wrong |= dcmqi_faults(back)
                else:
                    wrong = sr_faults(back, of_file)
                wrong |= validity(back)
                if _PIXELMED[0].exists() and len(of_file) <= _VALIDATED:
                    wrong |= pixelmed_faults(back, kind)
                    counts.update(by_pixelmed=1)
                same_study = ids.StudyInstanceUID == source.StudyInstanceUID
            same = back.read_bytes() == written.read_bytes()
            counts.update(fetched=1, identical=same, right=not wrong, in_study=same_study)
            yield from (f"{task} {path.name} {kind}: {fault}" for fault in sorted(wrong))
    if python and task == "segmentation":
        segs = sorted((out / "seg").iterdir())
        done = subprocess.run([python, _ELSEWHERE, *segs], stdout=subprocess.PIPE, text=True)
        counts.update(elsewhere=len(segs))
        yield from done.stdout.splitlines()
        if done.returncode:
            yield f"{_ELSEWHERE.name} ended with {done.returncode}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="FOLDER")
    parser.add_argument("--python", help="of an environment that `elsewhere.py` can run in")


def run(options: argparse.Namespace) -> int:
    if INSIDE not in os.environ:
        again = [sys.executable, "-m", "benchmarks", "real_results", str(options.source)]
        again += ["--python", options.python] if options.python else []
        alone = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
        os.execvpe(alone[0], [*alone, *again], {**os.environ, INSIDE: "1"})
    if options.python:
        subprocess.run([options.python, _ELSEWHERE], check=True)  # whether it has its packages
    columns = ("sources", "frames", "results", "refused", "fetched", "identical", "right")
    columns += ("in_study", "by_pixelmed", "elsewhere")
    table, faults = [["", *columns]], 0
    with tempfile.TemporaryDirectory() as name, orthanc(Path(name)):
        sources = Path(name) / "sources"
        shutil.copytree(options.source, sources)
        index = scan(sources, TagSchema.load("ultrasound"), progress=False)
        files = sorted({row.path for row in index.rows})
        store(f"{URL}/dicom-web", Credentials(), sources, files, progress=False)
        for task in CLASSES:
            counts = Counter()
            for fault in compare(task, index, Path(name), counts, options.python):
                print(fault, flush=True)
                faults += 1
            table.append([task, *(str(counts[column]) for column in columns)])
    print(f"{len(files)} files")
    print(aligned(table))
    by_name = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
    return 1 if faults or any(row["results"] != row["identical"] for row in by_name) else 0
