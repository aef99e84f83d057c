"""A model repository, `<root>/<name>/<version>/saved_model.pb`, watched while it is served.

Every version is loaded; the newest answers unless another is asked for. A version that is
overwritten is loaded anew and takes over when it is ready. A version lives as long as somebody
holds it: the repository, or a request. So one that is overwritten or removed ends with the last
request that uses it.
"""

import contextlib
import re
import threading
import weakref
from collections.abc import Callable
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

    seen: _Seen | None = None  # what was loaded, or tried, last; None if that is gone
    is_loading: bool = False
    servable: Servable | None = None  # what answers, if anything does
    last: Callable[[], Servable | None] = lambda: None  # what answered last, while it lives
    error: str = ""  # what was wrong with the files

    @property
    def state(self) -> str:
        """As in TensorFlow Serving's ModelVersionStatus."""
        if self.servable:
            return "AVAILABLE"
        if self.is_loading:
            return "LOADING"
        return "UNLOADING" if self.last() else "END"


class Repository:
    """The versions below a folder, which a thread of its own looks for again and again.

    A change counts once two looks in a row agree on it: a copy that is under way is left alone,
    and a folder that is gone for a moment is not missed.
    """

    def __init__(self, root: Path, poll_seconds: float = 2.0):
        self._root, self._poll_seconds = root, poll_seconds
        self._versions: dict[_Key, _Version] = {}  # replaced as a whole: readers need no lock
        self._stop = threading.Event()
        self._looked = False
        self._thread = threading.Thread(target=self._watch, name="repository", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether all that was there at the start has been tried, and something can be asked."""
        return self._looked and bool(self.newest())

    def start(self) -> None:
        """Begins to load; does not wait for it."""
        self._thread.start()

    def close(self) -> None:
        """Stops watching, and forgets every version."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._versions = {}

    def newest(self) -> dict[str, Servable]:
        """The newest version of each model that can be asked, by name and in order."""
        ordered = sorted(self._versions.items())
        return {name: servable for (name, _), v in ordered if (servable := v.servable)}

    def status(self, name: str, version: int | None = None) -> dict:
        """TensorFlow Serving's GetModelStatusResponse as JSON: one version, or all, newest first.

        Raises:
            RequestError: There is no such model or version (404).
        """
        found = {
            number: {
                "version": str(number),
                "state": v.state,
                "status": {
                    "error_code": "UNKNOWN" if v.error else "OK",
                    "error_message": v.error,
                },
            }
            for (model, number), v in self._versions.items()
            if model == name and version in (None, number)
        }
        if not found:
            raise _unknown(name, version)
        return {"model_version_status": [found[n] for n in sorted(found, reverse=True)]}

    def get(self, name: str, version: int | None = None) -> Servable:
        """A version, by default the newest, which stays loaded while the caller holds it.

        Raises:
            RequestError: There is no such model or version (404).
        """
        if version is None:
            found = self.newest().get(name)
        else:
            found = self._versions.get((name, version), _Version()).servable
        if found is None:
            raise _unknown(name, version)
        return found

    def _watch(self) -> None:
        before = {}
        while not self._stop.is_set():
            with contextlib.suppress(OSError):  # the folder cannot be read at the moment
                now = self._look()
                self._follow(before if self._looked else now, now)
                before = now
            self._looked = True
            self._stop.wait(self._poll_seconds)

    def _look(self) -> dict[_Key, _Seen]:
        """The versions that are there."""
        found = {}
        for model in self._root.iterdir():
            for folder in model.glob("*") if _NAME.fullmatch(model.name) else ():
                if _VERSION.fullmatch(folder.name) and (stamp := _stamp(folder)):
                    found[model.name, int(folder.name)] = folder, stamp
        return found

    def _follow(self, before: dict[_Key, _Seen], now: dict[_Key, _Seen]) -> None:
        """Makes what is served agree with what two looks agree on; newest versions first."""
        for key in sorted({*now, *self._versions}, key=lambda key: key[1], reverse=True):
            seen, known = now.get(key), self._versions.get(key)
            if seen != before.get(key) or seen == (known and known.seen):
                continue
            if seen:
                self._load(key, seen)
            else:
                known.seen = known.servable = None
            if self._stop.is_set():
                return

    def _load(self, key: _Key, seen: _Seen) -> None:
        version = self._versions.get(key) or _Version()
        version.seen, version.is_loading = seen, True
        self._versions = {**self._versions, key: version}
        folder, stamp = seen
        try:
            servable = Servable(folder)
            if _stamp(folder) != stamp:
                raise OSError("the files changed while they were read")
            version.last, version.error = weakref.ref(servable), ""
            version.servable = servable
        except Exception as error:
            version.error, _, _ = f"{type(error).__name__}: {error}".partition("\n")
        version.is_loading = False


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
