"""The user's folders: a cache that can be deleted at any time, and one for lasting settings."""

import atexit
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

import platformdirs

_NAME = "tf-dicom-ce"


def cache_folder() -> Path:
    """The user's cache; if it cannot be written, a folder that is deleted with this process."""
    folder = platformdirs.user_cache_path(_NAME)
    try:
        make_folder(folder)
    except OSError as error:
        return _temporary(f"{folder}: {error.strerror}")
    return folder


def config_folder() -> Path:
    """The user's folder for lasting settings."""
    return platformdirs.user_config_path(_NAME)


def make_folder(folder: Path) -> None:
    """Makes a folder of the user if it is missing; OSError if it cannot be used."""
    if not folder.is_absolute():  # "~" stays as it is for a user without a home
        raise OSError(0, "you have no home folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(0, "you cannot write there")


@functools.cache
def _temporary(problem: str) -> Path:
    folder = tempfile.mkdtemp(prefix=f"{_NAME}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    print(
        f"{problem}. The cache is in {folder} and will be deleted at the end. To keep it, set "
        "XDG_CACHE_HOME to a folder you can write.",
        file=sys.stderr,
    )
    return Path(folder)
