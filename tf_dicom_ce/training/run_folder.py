"""The folder of a run: one process at a time, and settings that stay; only epochs may be added."""

import contextlib
import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

from tf_dicom_ce import __version__
from tf_dicom_ce.config import FinetuneConfig, PretrainConfig
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.whole_files import public, sole, write_json

_LOCK, _CONFIG, _RESULT = ".lock", "config.json", "result.json"
_PACKAGES = ("tensorflow", "keras", "numpy", "pydicom", "pillow", "pyjpegls", "pylibjpeg-openjpeg")


@contextlib.contextmanager
def open_run_folder(
    path: Path | None, name: str, resume: bool, is_chief: bool = True
) -> Iterator[Path]:
    """Creates the folder of a run, or opens that of a run to go on with.

    Without a path it is `runs/<time>-<name>`. Nobody else can open it until the context is left, or
    the process has ended; but a worker, not the chief, only reads what the chief writes.

    Raises:
        UserError: The folder holds something and `resume` is not set, another process has it, it
            cannot be written, or `resume` is set without a folder.
    """
    if resume and path is None:
        raise UserError("--resume: give the folder of the run to go on with, --run DIR.")
    if not is_chief:
        if path is None:
            raise UserError("--run: give all workers the same folder, on a disk that they share.")
        yield path
        return
    path = path or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    busy = "another process is at work in this folder. Wait for it, or choose another --run."
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(sole(path / _LOCK, f"--run {path}: {busy}"))
            if not resume and any(p.name != _LOCK for p in path.iterdir()):
                raise UserError(
                    f"--run {path}: the folder is not empty. Choose another name, or --resume to "
                    "go on with the run in it."
                )
            (path / "tensorboard").mkdir(exist_ok=True)
        except OSError as error:
            message = f"--run {path}: {error.strerror}. Choose a folder you can write."
            raise UserError(message) from None
        yield path


def begin(config: PretrainConfig | FinetuneConfig, export: Path | None) -> None:
    """Checks that results can go to `export`, shows the settings and seeds everything.

    `deterministic` also fixes the order of every sum.
    """
    if export is not None:
        require_writable(export, "--export")
    print("Configuration:", *(f"  {k}: {v}" for k, v in config.as_dict().items()), sep="\n")
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()


def write_configuration(folder: Path, content: dict) -> None:
    """Writes `config.json`; of a run to go on with it has to be the same, perhaps fewer `epochs`.

    Else a UserError names the first setting that differs.
    """
    path = folder / _CONFIG
    if path.exists():
        _require_same(folder, json.loads(path.read_text()), content)
    write_json(path, content)


def write_result(folder: Path, epochs: int, content: dict) -> None:
    """Writes `result.json`: the run has come to the end of so many epochs."""
    write_json(folder / _RESULT, {"epochs": epochs, **content})


def is_finished(folder: Path, settings: dict) -> bool:
    """Whether the run in the folder has come to the end of `settings["epochs"]` epochs; says so.

    If it has, but with other settings or with more epochs, this is a UserError.
    """
    if not (folder / _RESULT).exists():
        return False
    before = json.loads((folder / _CONFIG).read_text())
    _require_same(folder, before, {**before, **settings})
    # A result of an earlier version does not say, but then no epochs could be added.
    done = json.loads((folder / _RESULT).read_text()).get("epochs", before["epochs"])
    if done < settings["epochs"]:
        return False
    print(f"The run in {folder} has ended already. More --epochs would go on with it.")
    return True


def read_result(folder: Path, model: keras.Model) -> dict:
    """Gives a model the best weights of a run that has ended; returns its `result.json`."""
    model.load_weights(folder / "best.weights.h5")
    return json.loads((folder / _RESULT).read_text())


def _require_same(folder: Path, before: dict, now: dict) -> None:
    """Versions may change between two starts, and epochs be added; settings and data stay."""
    now = json.loads(json.dumps(now))
    if now["epochs"] < before["epochs"]:
        raise UserError(
            f"--epochs {now['epochs']}: the run in {folder} has {before['epochs']} epochs. Repeat "
            "its command with --resume, or with more epochs to go on; or choose another --run."
        )
    for key in [*now, *before]:
        if key not in ("environment", "epochs") and now.get(key) != before.get(key):
            raise UserError(
                f"--run {folder}: the run in this folder has {key} {before.get(key)}, and now "
                f"it would be {now.get(key)}. Repeat its command with --resume, or choose "
                "another --run."
            )


def require_writable(folder: Path, option: str) -> None:
    """Makes a folder that results will go to, before the work is done; or a UserError names it."""
    try:
        with public():
            folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        message = f"{option} {folder}: {error.strerror}. Choose a folder you can write."
        raise UserError(message) from None


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
