"""A model repository, `<root>/<name>/<version>/saved_model.pb`, watched while it is served.

Every version is loaded; the newest answers unless another is asked for. A version that is
overwritten is loaded anew and takes over when it is ready; the one before, like one that is
removed, ends with the last request that uses it.
"""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.servable import Servable

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"[0-9]{1,18}")
_Key = tuple[str, int]  # name and version
_Stamp = frozenset  # of what tells a file from the one that was there before
_Look = dict[_Key, tuple[_Stamp, Path]]  # the versions that were seen at one time


@dataclass
class _Loaded:
    """A servable, and how many use it: the requests, and the repository itself."""

    servable: Servable
    users: int = 1


@dataclass
class _Version:
    """What is known of a version."""

    state: str = "START"  # as in TensorFlow Serving's ModelVersionStatus
    stamp: _Stamp | None = None  # of what was loaded, or tried, last; None if that is gone
    loaded: _Loaded | None = None  # what answers, if anything does
    error: tuple[str, str] = ("OK", "")  # code and message of what was wrong with the files


class Repository:
    """The versions below a folder, looked for again and again in a thread of its own.

    What changed has to stay as it is for two looks in a row: a copy that is under way is left
    alone, and a folder that is gone for a moment is not missed.
    """

    def __init__(self, root: Path, poll_seconds: float = 2.0):
        self._root, self._poll_seconds = root, poll_seconds
        self._versions: dict[_Key, _Version] = {}
        self._lock = threading.Lock()  # of _versions and of all in it
        self._stop = threading.Event()
        self._looked = False
        self._thread = threading.Thread(target=self._watch, name="repository", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether all that was there at the start has been tried, and something can be asked."""
        return self._looked and not self._stop.is_set() and bool(self.names())

    def start(self) -> None:
        """Begins to load; does not wait for it."""
        self._thread.start()

    def close(self) -> None:
        """Ends the watching, and every version as soon as its last request is done."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for version in list(self._versions.values()):
            self._put(version, None)

    def names(self) -> list[str]:
        """The models that can be asked, in order."""
        with self._lock:
            return sorted({name for (name, _), v in self._versions.items() if v.loaded})

    def status(self, name: str, version: int | None = None) -> dict:
        """TensorFlow Serving's GetModelStatusResponse as JSON: one version, or all, newest first.

        Raises:
            RequestError: There is no such model or version (404).
        """
        with self._lock:
            found = {
                number: {
                    "version": str(number),
                    "state": v.state,
                    "status": {"error_code": v.error[0], "error_message": v.error[1]},
                }
                for (model, number), v in self._versions.items()
                if model == name and version in (None, number)
            }
        if not found:
            raise _unknown(name, version)
        return {"model_version_status": [found[n] for n in sorted(found, reverse=True)]}

    @contextlib.contextmanager
    def acquire(self, name: str, version: int | None = None) -> Iterator[Servable]:
        """Gives a version, by default the newest, which the context keeps loaded.

        Raises:
            RequestError: There is no such model or version (404).
        """
        with self._lock:
            numbers = [n for (model, n), v in self._versions.items() if model == name and v.loaded]
            number = max(numbers, default=None) if version is None else version
            if number not in numbers:
                raise _unknown(name, version)
            found = self._versions[name, number]
            loaded = found.loaded
            loaded.users += 1
        try:
            yield loaded.servable
        finally:
            self._release(found, loaded)

    def _watch(self) -> None:
        before = self._look()
        self._follow(before, before)
        self._looked = True
        while not self._stop.wait(self._poll_seconds):
            now = self._look()
            self._follow(before, now)
            before = now

    def _follow(self, before: _Look | None, now: _Look | None) -> None:
        """Makes what is served agree with what two looks agree on; newest versions first."""
        if before is None or now is None:  # the folder cannot be read at the moment
            return
        for key in sorted({*now, *self._versions}, key=lambda key: key[1], reverse=True):
            stamp, folder = now.get(key, (None, None))
            known = self._versions.get(key)
            if stamp != before.get(key, (None,))[0] or stamp == (known and known.stamp):
                continue
            if stamp is None:
                known.stamp = None
                self._put(known, None)
            else:
                self._load(key, folder, stamp)
            if self._stop.is_set():
                return

    def _look(self) -> _Look | None:
        try:
            models = [model for model in self._root.iterdir() if _NAME.fullmatch(model.name)]
        except OSError:
            return None
        folders = [f for model in models for f in model.glob("*") if _VERSION.fullmatch(f.name)]
        return {
            (folder.parent.name, int(folder.name)): (stamp, folder)
            for folder in folders
            if (stamp := _stamp(folder)) is not None
        }

    def _load(self, key: _Key, folder: Path, stamp: _Stamp) -> None:
        with self._lock:
            version = self._versions.setdefault(key, _Version())
            version.stamp = stamp
            if not version.loaded:
                version.state = "LOADING"
        try:
            servable = Servable(folder)
            if _stamp(folder) != stamp:
                servable.close()
                raise tf.errors.AbortedError(None, None, "the files changed while they were read")
        except Exception as error:
            with self._lock:
                version.error = _error(error)
                if not version.loaded:
                    version.state = "END"
            return
        self._put(version, _Loaded(servable))

    def _put(self, version: _Version, loaded: _Loaded | None) -> None:
        """Has this answer from now on, or nothing; what did before ends with its last request."""
        with self._lock:
            old, version.loaded = version.loaded, loaded
            version.state = "UNLOADING" if old else "END"
            if loaded:
                version.state, version.error = "AVAILABLE", ("OK", "")
        if old:
            self._release(version, old)

    def _release(self, version: _Version, loaded: _Loaded) -> None:
        """Ends one use of it; the last one closes it."""
        with self._lock:
            loaded.users -= 1
            if loaded.users:
                return
            if version.state == "UNLOADING":
                version.state = "END"
        loaded.servable.close()


def _unknown(name: str, version: int | None) -> RequestError:
    which = f"model {name}" if version is None else f"version {version} of a model {name}"
    return RequestError(404, f"There is no {which} that can be asked.")


def _stamp(folder: Path) -> _Stamp | None:
    """What changes if a version is overwritten; None if there is none (yet)."""
    try:
        files = [folder / "saved_model.pb", *folder.glob("*.json"), *folder.glob("variables/*")]
        stats = [(path.name, path.stat()) for path in files]
    except OSError:
        return None
    return frozenset((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in stats)


def _error(error: Exception) -> tuple[str, str]:
    """A code of `google.rpc.Code` and a message."""
    if isinstance(error, tf.errors.OpError):
        codes = {getattr(tf.errors, name): name for name in dir(tf.errors) if name.isupper()}
        return codes.get(error.error_code, "UNKNOWN"), str(error.message).partition("\n")[0]
    code = "NOT_FOUND" if isinstance(error, FileNotFoundError) else "UNKNOWN"
    return code, f"{type(error).__name__}: {error}"
