"""The folder of a run: configuration, environment and split, written before training starts."""

import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

from tf_dicom_ce import __version__
from tf_dicom_ce.errors import UserError

_PACKAGES = ("tensorflow", "keras", "numpy", "pydicom", "pillow", "pyjpegls", "pylibjpeg-openjpeg")


def create_run_folder(path: Path | None, name: str) -> Path:
    """Creates the folder of a new run.

    Args:
        path: The folder, or None for `runs/<time>-<name>`.
        name: What kind of run it is.

    Raises:
        UserError: The folder holds something, or cannot be written.
    """
    path = path or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"--run {path}: the folder is not empty. Choose another name.")
        (path / "tensorboard").mkdir()
    except OSError as error:
        raise UserError(f"--run {path}: {error.strerror}. Choose a folder you can write.") from None
    return path


def write_json(path: Path, content: dict) -> None:
    """Writes `content` as JSON so that the file is whole at any moment."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    beside.replace(path)


def environment() -> dict:
    """Versions and machine type that a result may depend on; no names of host or user."""
    return {
        "tf_dicom_ce": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
    }
