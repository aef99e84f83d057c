"""Keeps a folder of results: one process at a time, one model, no half-written files."""

import contextlib
import csv
import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.decoding import ImageReader, Sample
from tf_dicom_ce.results.model import SOFTWARE, Model
from tf_dicom_ce.whole_files import as_csv, sole, write_json, write_table

#: Its folders, which are also columns of `predictions.csv`.
OUTPUTS = ("seg", "sr", "report", "overlay")
_LOCK = ".lock"
Row = dict[str, str]
_PART = re.compile(r"\.\d+\.part\.")  # names of temporary files of `whole_files.replacing`


@contextlib.contextmanager
def open_results(folder: Path, model: Model, reader: ImageReader, choice: str) -> Iterator[None]:
    """Makes the folder, or opens it to continue.

    `model.json` keeps the model of the results, how images are cropped, blackened and excluded, the
    choice of frames (a result is about all of them), and the version of this package.

    Raises:
        UserError: The folder cannot be written, now or within the context; another process uses it;
            it holds other files, or results of another model, version or setting, which the message
            names.
    """
    content = {**dataclasses.asdict(model), "frames": choice}
    content |= {"find_sector": reader.find_sector, "blank_outside": reader.blank_outside}
    content |= {"exclude": sorted(flag.slug for flag in reader.exclude), "software": SOFTWARE}
    content = json.loads(json.dumps(content))  # as when read: lists instead of tuples
    busy = f"--out {folder}: another process writes here. Wait for it, or choose another folder."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "model.json"
        foreign = {path.name for path in folder.iterdir()} - {_LOCK}
        if foreign and not path.exists():
            raise UserError(
                f"--out {folder}: holds other files than results ({min(foreign)}). Choose an "
                "empty folder, or a folder of earlier results."
            )
        with sole(folder / _LOCK, busy):
            if path.exists():
                _require_same(folder, _read(path), content)
            write_json(path, content)
            for place in (folder, *(folder / name for name in OUTPUTS)):
                place.mkdir(exist_ok=True)
                for part in place.iterdir():
                    if _PART.match(part.name):  # a killed process left it
                        part.unlink(missing_ok=True)
            yield
    except OSError as error:
        raise UserError(
            f"--out {folder}: cannot be written ({error.strerror}). Free space, or choose a folder "
            "that you can write. The same command continues where this one stopped."
        ) from None


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict) or not {"name", "version"} <= content.keys():
        raise UserError(f"{path}: tells of no model. Choose another folder.")
    return content


def _require_same(folder: Path, before: dict, now: dict) -> None:
    differences = [
        f"{key.replace('_', ' ')} {_short(before.get(key))}, but now {_short(now[key])}"
        for key in now
        if before.get(key) != now[key]
    ]
    if differences:
        raise UserError(
            f"--out {folder}: holds results of {before['name']} {before['version']} with "
            f"{'; '.join(differences)}. Choose another folder."
        )


def _short(value: object) -> str:
    """Returns a value for a message; a digest is shortened."""
    text = "not recorded" if value is None else str(value)
    return text[:12] + "…" if len(text) == 64 else text


def result_uid(path: Path) -> str:
    """Returns (0008,0018) SOP Instance UID of a DICOM result."""
    return str(read_file_meta_info(path).MediaStorageSOPInstanceUID)


class Journal:
    """A CSV that grows by whole rows: after a kill at any time, all added rows are complete.

    Attributes:
        rows: All rows; those found in the file come first.
    """

    def __init__(self, path: Path, columns: Sequence[str]):
        """Opens the file, or makes it.

        Raises:
            UserError: The file has other columns, as that of an earlier version.
        """
        self._path, self._columns = path, columns
        self.keep(_whole_rows(path, columns))

    def keep(self, rows: Iterable[Row]) -> None:
        """Has these rows alone, in the file, too."""
        self.rows = list(rows)
        write_table(self._path, self._columns, self.rows)

    def add(self, *rows: Row) -> None:
        """Adds rows, in the file, too."""
        with self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(as_csv(self._columns, rows))
        self.rows += rows


class Skips(Journal):
    """`skipped.csv`: files, frames and reports that are left out, and why.

    Args:
        folder: The folder of the results.
        names: Path to name of the file in the results; a file that is no image has none.
    """

    def __init__(self, folder: Path, names: Mapping[str, str]):
        """See `Journal`."""
        columns = ("file", "path", "frame", "code", "kind", "remedy")
        super().__init__(folder / "skipped.csv", columns)
        self._names = names

    def row(self, refusal: Refusal, path: str, frame: int | str = "") -> Row:
        """What is told of a file, or of one of its frames."""
        code = refusal.code
        kind = "skipped" if code.is_skip else "unreadable"
        values = (self._names.get(path, ""), path, str(frame), code.value, kind, code.remedy)
        return dict(zip(self._columns, values, strict=True))

    def note(self, refusal: Refusal, images: Iterable[Sample]) -> None:
        """Adds a row for each image."""
        self.add(*(self.row(refusal, image.path, image.frame) for image in images))


def _whole_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Returns the rows of the file, without a last row that was cut off."""
    if not path.exists():
        return []
    text = path.read_bytes().rpartition(b"\n")[0].decode(errors="replace")
    reader = csv.DictReader(io.StringIO(text))
    if list(reader.fieldnames or []) != list(columns):
        differ = sorted({*columns} ^ {*(reader.fieldnames or [])}) or ["their order"]
        raise UserError(
            f"{path}: an earlier version or another program wrote it; columns that differ: "
            f"{', '.join(differ)}. Choose another folder."
        )
    return [row for row in reader if None not in row and None not in row.values()]
