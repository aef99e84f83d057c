"""The folder of a run: one process at a time and fixed settings; only epochs may be added."""

import contextlib
import dataclasses
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
_DEFAULTS = {
    field.name: field.default
    for config in (FinetuneConfig, PretrainConfig)
    for field in dataclasses.fields(config)
}
_PACKAGES = ("tensorflow", "keras", "numpy", "pydicom", "pillow", "pyjpegls", "pylibjpeg-openjpeg")


@contextlib.contextmanager
def open_run_folder(
    path: Path | None, name: str, resume: bool, is_chief: bool = True
) -> Iterator[Path]:
    """Creates the folder of a run, or opens the folder of a run to resume.

    Without a path the folder is `runs/<time>-<name>`. No other process can open it until the
    context is left or this process ends. Workers other than the chief only read it.

    Raises:
        UserError: The folder is not empty and `resume` is not set, another process uses it, it
            cannot be written, or `resume` is set without a folder.
    """
    if resume and path is None:
        raise UserError("--resume: give the folder of the run to resume, --run DIR.")
    if not is_chief:
        if path is None:
            raise UserError("--run: give all workers the same folder on a shared disk.")
        yield path
        return
    path = path or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    busy = "another process is using this folder. Wait for it, or choose another --run."
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(sole(path / _LOCK, f"--run {path}: {busy}"))
            if not resume and any(p.name != _LOCK for p in path.iterdir()):
                raise UserError(
                    f"--run {path}: the folder is not empty. Choose another folder, or add "
                    "--resume to continue the run in it."
                )
            (path / "tensorboard").mkdir(exist_ok=True)
        except OSError as error:
            message = f"--run {path}: {error.strerror}. Choose a folder you can write."
            raise UserError(message) from None
        yield path


def begin(config: PretrainConfig | FinetuneConfig, export: Path | None) -> None:
    """Checks that `export` can be written, prints the settings and seeds all random numbers.

    The setting `deterministic` also fixes the order of every sum.
    """
    if export is not None:
        require_writable(export, "--export")
    print("Configuration:", *(f"  {k}: {v}" for k, v in config.as_dict().items()), sep="\n")
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()


def write_configuration(folder: Path, content: dict) -> None:
    """Writes `config.json`; a resumed run must have the same one, with the same or fewer `epochs`.

    Otherwise a UserError names the first setting that differs.
    """
    path = folder / _CONFIG
    if path.exists():
        _require_same(folder, json.loads(path.read_text()), content)
    write_json(path, content)


def write_result(folder: Path, epochs: int, content: dict) -> None:
    """Writes `result.json`, which marks the run as finished after `epochs` epochs."""
    write_json(folder / _RESULT, {"epochs": epochs, **content})


def is_finished(folder: Path, settings: dict) -> bool:
    """Whether the run in the folder has finished `settings["epochs"]` epochs; prints it if so.

    Raises UserError if it finished with other settings or with more epochs.
    """
    if not (folder / _RESULT).exists():
        return False
    before = json.loads((folder / _CONFIG).read_text())
    _require_same(folder, before, {**before, **settings})
    # A result of an earlier version has no epochs, but then no epochs could be added.
    done = json.loads((folder / _RESULT).read_text()).get("epochs", before["epochs"])
    if done < settings["epochs"]:
        return False
    print(f"The run in {folder} is finished. To continue it, give more --epochs.")
    return True


def read_result(folder: Path, model: keras.Model) -> dict:
    """Gives a model the best weights of a finished run; returns its `result.json`."""
    model.load_weights(folder / "best.weights.h5")
    return json.loads((folder / _RESULT).read_text())


def _require_same(folder: Path, before: dict, now: dict) -> None:
    """Raises UserError if settings or data have changed; versions may change, epochs may grow.

    A setting that the run's version did not have yet counts as left at its default.
    """
    added = {key: _DEFAULTS[key] for key in now.keys() - before.keys() if key in _DEFAULTS}
    before, now = json.loads(json.dumps([added | before, now]))
    if now["epochs"] < before["epochs"]:
        raise UserError(
            f"--epochs {now['epochs']}: the run in {folder} has {before['epochs']} epochs. Give "
            "as many or more with --resume, or choose another --run."
        )
    for key in [*now, *before]:
        if key not in ("environment", "epochs") and now.get(key) != before.get(key):
            raise UserError(
                f"--run {folder}: the run in this folder has {key} {before.get(key)}, this command "
                f"has {now.get(key)}. Repeat the run's command with --resume, or choose another "
                "--run."
            )


def require_writable(folder: Path, option: str) -> None:
    """Makes the folder of the results before the work begins; UserError if that is impossible."""
    try:
        with public():
            folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        message = f"{option} {folder}: {error.strerror}. Choose a folder you can write."
        raise UserError(message) from None


def environment() -> dict:
    """Versions and machine type, which may change a result; no names of host or user."""
    return {
        "tf_dicom_ce": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
    }
