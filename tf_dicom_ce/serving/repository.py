"""A model repository, `<root>/<name>/<version>/saved_model.pb`, watched while it is served.

Every version is loaded; the newest answers unless another is asked for. A version that is
overwritten is loaded anew and takes over when it is ready; the one before, like one that is
removed, ends with the last request that uses it.
"""

import collections
import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.servable import Servable

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"[0-9]{1,18}")
_Key = tuple[str, int]  # name and version
_Seen = tuple[Path, frozenset]  # a version's folder, and what tells its files from earlier ones


@dataclass
class _Version:
    """What is known of a version."""

    state: str = "START"  # as in TensorFlow Serving's ModelVersionStatus
    seen: _Seen | None = None  # what was loaded, or tried, last; None if that is gone
    servable: Servable | None = None  # what answers, if anything does
    error: tuple[str, str] = ("OK", "")  # code and message of what was wrong with the files


class Repository:
    """The versions below a folder, which a thread of its own looks for again and again.

    A change counts once two looks in a row agree on it: a copy that is under way is left alone,
    and a folder that is gone for a moment is not missed.
    """

    def __init__(self, root: Path, poll_seconds: float = 2.0):
        self._root, self._poll_seconds = root, poll_seconds
        self._versions: dict[_Key, _Version] = {}
        # The requests that use each, and the repository itself.
        self._users: collections.Counter[Servable] = collections.Counter()
        self._lock = threading.Lock()  # of these two and of all in them
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
        """Stops watching, and ends every version as soon as its last request is done."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for version in list(self._versions.values()):
            self._put(version, None)

    def names(self) -> list[str]:
        """The models that can be asked, in order."""
        with self._lock:
            return sorted({name for (name, _), v in self._versions.items() if v.servable})

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
        """Gives a version, by default the newest, and keeps it loaded within the context.

        Raises:
            RequestError: There is no such model or version (404).
        """
        with self._lock:
            numbers = [n for (of, n), v in self._versions.items() if of == name and v.servable]
            number = max(numbers, default=None) if version is None else version
            if number not in numbers:
                raise _unknown(name, version)
            found = self._versions[name, number]
            servable = found.servable
            self._users[servable] += 1
        try:
            yield servable
        finally:
            self._release(found, servable)

    def _watch(self) -> None:
        before = self._look()
        self._follow(before, before)
        self._looked = True
        while not self._stop.wait(self._poll_seconds):
            now = self._look()
            self._follow(before, now)
            before = now

    def _look(self) -> dict[_Key, _Seen] | None:
        """The versions that are there; None where the folder cannot be read at the moment."""
        found = {}
        try:
            for model in self._root.iterdir():
                for folder in model.glob("*") if _NAME.fullmatch(model.name) else ():
                    if _VERSION.fullmatch(folder.name) and (stamp := _stamp(folder)):
                        found[model.name, int(folder.name)] = folder, stamp
        except OSError:
            return None
        return found

    def _follow(self, before: dict[_Key, _Seen] | None, now: dict[_Key, _Seen] | None) -> None:
        """Makes what is served agree with what two looks agree on; newest versions first."""
        if before is None or now is None:
            return
        for key in sorted({*now, *self._versions}, key=lambda key: key[1], reverse=True):
            seen, known = now.get(key), self._versions.get(key)
            if seen != before.get(key) or seen == (known and known.seen):
                continue
            if seen is None:
                known.seen = None
                self._put(known, None)
            else:
                self._load(key, seen)
            if self._stop.is_set():
                return

    def _load(self, key: _Key, seen: _Seen) -> None:
        with self._lock:
            version = self._versions.setdefault(key, _Version())
            version.seen = seen
            if not version.servable:
                version.state = "LOADING"
        folder, stamp = seen
        try:
            servable = Servable(folder)
            if _stamp(folder) != stamp:
                servable.close()
                raise OSError("the files changed while they were read")
        except Exception as error:
            with self._lock:
                first, _, _ = f"{type(error).__name__}: {error}".partition("\n")
                version.error = "UNKNOWN", first
                if not version.servable:
                    version.state = "END"
            return
        self._put(version, servable)

    def _put(self, version: _Version, servable: Servable | None) -> None:
        """Has this answer from now on, or nothing; what did before ends with its last request."""
        with self._lock:
            old, version.servable = version.servable, servable
            version.state = "UNLOADING" if old else "END"
            if servable:
                self._users[servable] = 1
                version.state, version.error = "AVAILABLE", ("OK", "")
        if old:
            self._release(version, old)

    def _release(self, version: _Version, servable: Servable) -> None:
        """Ends one use of it; the last one closes it."""
        with self._lock:
            self._users[servable] -= 1
            if self._users[servable]:
                return
            del self._users[servable]
            if version.state == "UNLOADING":
                version.state = "END"
        servable.close()


def _unknown(name: str, version: int | None) -> RequestError:
    which = f"model {name}" if version is None else f"version {version} of a model {name}"
    return RequestError(404, f"There is no {which} that can be asked.")


def _stamp(folder: Path) -> frozenset | None:
    """What changes if a version is overwritten; None if there is none (yet)."""
    try:
        files = [folder / "saved_model.pb", *folder.glob("*.json"), *folder.glob("variables/*")]
        stats = [(path.name, path.stat()) for path in files]
    except OSError:
        return None
    return frozenset((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in stats)
