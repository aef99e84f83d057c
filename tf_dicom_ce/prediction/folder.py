"""The folder of results: one process at a time, one model, and nothing half-written."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.whole_files import sole, write_json

#: Folders in it, which are columns of `predictions.csv`, too.
OUTPUTS = ("dicom", "overlay")


@contextlib.contextmanager
def open_results(folder: Path, model: Model, find_sector: bool) -> Iterator[None]:
    """Makes the folder, or opens it to go on.

    Args:
        folder: The folder.
        model: Whose results they are; kept in `model.json`.
        find_sector: How images are cropped; kept, too.

    Raises:
        UserError: The folder cannot be written, now or while the context lasts; another process
            is at work in it; or it holds the results of another model.
    """
    content = {**dataclasses.asdict(model), "classes": list(model.classes)}
    content["find_sector"] = find_sector
    busy = f"--out {folder}: another process writes here. Wait for it, or choose another folder."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with sole(folder / ".lock", busy):
            path = folder / "model.json"
            if path.exists() and (other := json.loads(path.read_text())) != content:
                raise UserError(
                    f"--out {folder}: holds results of {other['name']} {other['version']}, trained "
                    "on other data or used with other settings. Choose another folder."
                )
            write_json(path, content)
            for name in OUTPUTS:
                (folder / name).mkdir(exist_ok=True)
            for part in folder.rglob(".*.part.*"):  # left behind by a kill
                part.unlink(missing_ok=True)
            yield
    except OSError as error:
        raise UserError(
            f"--out {folder}: cannot be written ({error.strerror}). Make room, or choose a folder "
            "you can write; the same command goes on where it stopped."
        ) from None
