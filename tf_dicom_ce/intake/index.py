"""A folder of DICOM files to an index of its ultrasound files."""

import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID
from rich.console import Console
from rich.progress import Progress

from tf_dicom_ce.dicom.quiet import quiet
from tf_dicom_ce.dicom.reader import number_of_frames, read_header
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.dicom.tags import Encoding, TagSchema
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.coverage_counts import Coverage, measure

PATIENT_BY_STUDY = "no Patient ID, patient taken from the study"
PATIENT_BY_FILE = "no Patient ID and no study, file taken as a patient of its own"

# Below this, starting processes costs more than it saves.
_IN_PROCESS = 500
_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Row:
    """One ultrasound file.

    Attributes:
        path: Relative to the root, POSIX.
        size: Bytes.
        mtime_ns: Time of the last change.
        patient: Number of the patient, by first appearance in the order of paths.
        frames: (0028,0008) Number of Frames, at least 1.
        y: The multi-hot labels, (L,) of 0.0 or 1.0.
        present: (L,), True over the span of each tag that mapped.
        kind: What the file is, e.g. "480×640 RGB, 30 frames, JPEG Baseline".
        flags: How the patient was told apart, if not by (0010,0020) Patient ID.
    """

    path: str
    size: int
    mtime_ns: int
    patient: int
    frames: int
    y: tuple[float, ...]
    present: tuple[bool, ...]
    kind: str
    flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Index:
    """The ultrasound files below a folder.

    Attributes:
        root: The folder.
        schema: What encoded the tags.
        rows: The ultrasound files, in the order of paths.
        refusals: (relative path, Refusal) of all others, in the order of paths.
        coverage: The counts.
    """

    root: Path
    schema: TagSchema
    rows: tuple[Row, ...]
    refusals: tuple[tuple[str, Refusal], ...]
    coverage: Coverage


def scan(
    root: str | os.PathLike[str],
    schema: TagSchema,
    workers: int | None = None,
    progress: bool = True,
) -> Index:
    """Indexes a folder, recursively; reads headers only and follows no links.

    Args:
        root: The folder.
        schema: Encodes the tags.
        workers: Processes; None for one per CPU core. The result does not depend on it.
        progress: Shows a bar on standard error.

    Returns:
        The index.

    Raises:
        UserError: `root` is no folder, is empty, or holds no readable ultrasound image.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root} does not exist; give a folder of DICOM files")
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; give the folder that holds the DICOM files")
    paths, unlistable = _list_files(root)
    if not paths and not unlistable:
        raise UserError(f"{root} is empty; give a folder that holds DICOM files")
    results = _examine_all(root, schema, paths, workers, progress)
    found = [(p, r) for p, r in zip(paths, results, strict=True) if isinstance(r, _Examined)]
    refusals = [(p, r) for p, r in zip(paths, results, strict=True) if isinstance(r, Refusal)]
    refusals = sorted((*refusals, *unlistable), key=lambda pair: pair[0])
    patients: dict[tuple[str, str], int] = {}
    rows = tuple(
        _to_row(path, examined, patients.setdefault(examined.patient_key, len(patients)))
        for path, examined in found
    )
    coverage = measure(
        schema,
        (examined.encoding for _, examined in found),
        patients=len(patients),
        without_patient_id=sum(bool(row.flags) for row in rows),
        refusals=(refusal for _, refusal in refusals),
    )
    if not rows:
        counts = ", ".join(f"{n} {code.value}" for code, n in coverage.refusals.items())
        raise UserError(
            f"{root} holds no readable ultrasound image; its {coverage.files} files are: {counts}"
        )
    return Index(root, schema, rows, tuple(refusals), coverage)


@dataclasses.dataclass(frozen=True)
class _Examined:
    """What a worker reports of one file; `patient_key` never leaves `scan`."""

    size: int
    mtime_ns: int
    patient_key: tuple[str, str]
    frames: int
    encoding: Encoding
    kind: str


def _list_files(root: Path) -> tuple[list[str], list[tuple[str, Refusal]]]:
    """All files below `root`, in the order of their relative POSIX paths."""
    paths: list[str] = []
    unlistable: list[tuple[str, Refusal]] = []

    def relative(path: Path) -> str:
        return path.relative_to(root).as_posix()

    def refuse(error: OSError) -> None:
        refusal = Refusal(Code.OS_ERROR, type(error).__name__)
        unlistable.append((relative(Path(error.filename)), refusal))

    for folder, subfolders, names in os.walk(root, onerror=refuse):
        # `os.walk` does not enter linked folders; they are listed so that they are reported.
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        paths += (relative(Path(folder, name)) for name in (*names, *links))
    return sorted(paths), unlistable


def _examine_all(
    root: Path, schema: TagSchema, paths: list[str], workers: int | None, progress: bool
) -> list[_Examined | Refusal]:
    workers = workers or os.cpu_count() or 1
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("Reading headers", total=len(paths))
        results: list[_Examined | Refusal] = []
        for chunk in _map_chunks(root, schema, chunks, workers if len(paths) > _IN_PROCESS else 1):
            results += chunk
            bar.advance(task, len(chunk))
    return results


def _map_chunks(
    root: Path, schema: TagSchema, chunks: list[list[str]], workers: int
) -> Iterator[list[_Examined | Refusal]]:
    """Examines chunk by chunk, in order."""
    if workers == 1:
        yield from (_examine_chunk(root, schema, chunk) for chunk in chunks)
        return
    # Forking a process in which TensorFlow runs threads would deadlock.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(
            _examine_chunk, itertools.repeat(root), itertools.repeat(schema), chunks
        )


def _examine_chunk(
    root: Path, schema: TagSchema, paths: Iterable[str]
) -> list[_Examined | Refusal]:
    return [_examine(root, schema, path) for path in paths]


def _examine(root: Path, schema: TagSchema, path: str) -> _Examined | Refusal:
    header = read_header(root / path)
    if isinstance(header, Refusal):
        return header
    with quiet():
        try:
            status = os.lstat(root / path)
            return _Examined(
                status.st_size,
                status.st_mtime_ns,
                _patient_key(header, path),
                number_of_frames(header),
                schema.encode(header),
                _kind(header),
            )
        except OSError as error:
            return Refusal(Code.OS_ERROR, type(error).__name__)
        # A lazily converted element may be malformed in any way.
        except Exception as error:
            return Refusal(Code.DAMAGED_HEADER, type(error).__name__)


def _patient_key(header: Dataset, path: str) -> tuple[str, str]:
    """Tells patients apart; without any identifier every file is a patient of its own."""
    for keyword in ("PatientID", "StudyInstanceUID"):
        value = str(header.get(keyword) or "").strip()
        if value:
            return keyword, value
    return "path", path


def _kind(header: Dataset) -> str:
    frames = number_of_frames(header)
    name = UID(header.file_meta.TransferSyntaxUID).name.split(",")[0].split(" (")[0]
    return ", ".join(
        (
            f"{header.Rows}×{header.Columns} {header.PhotometricInterpretation}",
            *((f"{frames} frames",) if frames > 1 else ()),
            name,
        )
    )


def _to_row(path: str, examined: _Examined, patient: int) -> Row:
    flags = {
        "PatientID": (),
        "StudyInstanceUID": (PATIENT_BY_STUDY,),
        "path": (PATIENT_BY_FILE,),
    }
    return Row(
        path,
        examined.size,
        examined.mtime_ns,
        patient,
        examined.frames,
        tuple(examined.encoding.y.tolist()),
        tuple(examined.encoding.present.tolist()),
        examined.kind,
        flags[examined.patient_key[0]],
    )
