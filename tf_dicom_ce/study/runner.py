"""Runs a study's jobs, each in its own process; can be killed and resumed."""

import collections
import dataclasses
import enum
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from rich.console import Console

from tf_dicom_ce.child_process import Child, ChildError, python_module
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.study.protocol import PLACES, Job
from tf_dicom_ce.whole_files import sole, write_json

_POLL = 0.2  # seconds
_CHILD = python_module("tf_dicom_ce.cli.child")
# Entries of a run's `config.json` that identify the content of images, labels and tag schema.
_CONTENT = ("data_fingerprint", "labels_fingerprint", "schema", "classes")


class State(enum.StrEnum):
    """The state of a job."""

    DONE = "done"
    FAILED = "failed"
    BLOCKED = "blocked"
    """The job needs a job that failed."""
    OPEN = "open"


@dataclasses.dataclass(frozen=True)
class Study:
    """A study's folder."""

    folder: Path  # holds `jobs/<name>/` and the report
    jobs: tuple[Job, ...]  # all of them, in an order in which they can run

    def place(self, name: str) -> Path:
        """The folder of a job, which is the run's folder of `train` or `finetune`."""
        return self.folder / "jobs" / name

    def is_done(self, name: str) -> bool:
        """Whether the job of this name has finished without an error."""
        return (self.place(name) / "result.json").exists()

    def state(self, job: Job) -> State:
        """The state of a job, by the files in its folder."""
        if self.is_done(job.name):
            return State.DONE
        if (self.place(job.name) / "failed.txt").exists():
            return State.FAILED
        if job.needs and (self.place(job.needs) / "failed.txt").exists():
            return State.BLOCKED
        return State.OPEN

    def done(self, task: str | None = None) -> Iterator[tuple[Job, Path]]:
        """The finished jobs, all or those of a task, with their folders."""
        for job in self.jobs:
            if task in (None, job.cell["task"]) and self.is_done(job.name):
                yield job, self.place(job.name)

    def counts(self) -> str:
        """The number of jobs in each state, such as "3 done, 1 open"."""
        counts = collections.Counter(map(self.state, self.jobs))
        return ", ".join(f"{counts[state]} {state}" for state in State if counts[state])

    def require_same_data(self) -> None:
        """Checks that all finished jobs of a kind saw the same images and labels.

        Fingerprints of the content decide, not paths: a study continues after its data were moved
        or copied.

        Raises:
            UserError: Two jobs saw different data; the message names their folders.
        """
        first: dict[str, tuple[Path, dict]] = {}
        for job, folder in self.done():
            saw = read_json(folder / "config.json")
            other, its = first.setdefault(job.cell["task"], (folder, saw))
            for name in _CONTENT:
                if saw.get(name) != its.get(name):
                    raise UserError(
                        f"{folder}: its data are not those of {other}; {name} in config.json "
                        "differs. Remove the folders of the jobs that ran on the wrong data and "
                        "start the study again, or choose another --out."
                    )

    def command(self, job: Job) -> tuple[str, ...]:
        """The arguments of `tf-dicom-ce` for a job."""
        place = self.place(job.name)
        encoder = self.place(job.needs) / "export" / "encoder" if job.needs else "none"
        command, *words = job.command
        if command == "probe":
            words = [encoder, *words]
        elif command == "finetune":
            words += ["--encoder", encoder, "--no-export"]
        else:
            words += ["--export", place / "export"]
        return tuple(map(str, (command, *words, "--run", place, "--resume")))


def read_json(path: Path) -> dict:
    """The content of a JSON file; empty if there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def run_job(study: Study, job: Job) -> State:
    """Runs one job to its end, or continues it; does nothing if it is finished.

    The job that it needs has to be done. Returns DONE or FAILED.

    Raises:
        UserError: The job saw other data than earlier jobs of its kind.
    """
    if study.is_done(job.name):
        study.require_same_data()
        return State.DONE
    child = _start(study, job, os.environ)
    try:
        return _finish(study, job, child)
    except KeyboardInterrupt:
        child.stop()
        raise


def _start(study: Study, job: Job, environment: Mapping[str, str]) -> Child:
    place = study.place(job.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    log = place.with_name(place.name + ".log")
    return Child((*_CHILD, *study.command(job)), log, environment)


def _finish(study: Study, job: Job, child: Child) -> State:
    """Waits for the end of a job; writes the last message of a failed job to `failed.txt`.

    The first job on other data stops the study, before more such jobs waste hours.
    """
    try:
        child.wait()
    except ChildError as error:
        study.place(job.name).mkdir(exist_ok=True)
        (study.place(job.name) / "failed.txt").write_text(f"{error}\n")
        return State.FAILED
    study.require_same_data()
    return State.DONE


def run_all(study: Study, parallel: int, retry_failed: bool) -> None:
    """Runs all open jobs, several at a time, and reports each when it ends.

    Each of the `parallel` simultaneous jobs gets an equal share of the cores.

    Raises:
        UserError: Another process runs this study, or a job saw other data than earlier jobs.
    """
    study.folder.mkdir(parents=True, exist_ok=True)
    with sole(study.folder / ".lock", f"{study.folder}: another process runs this study."):
        if retry_failed:
            for job in study.jobs:
                (study.place(job.name) / "failed.txt").unlink(missing_ok=True)
        _run_open(study, parallel)


def _run_open(study: Study, parallel: int) -> None:
    """Starts jobs as soon as they can run, until no job is left."""
    threads = str(max(1, (os.cpu_count() or 1) // parallel))
    threads = {"TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads}
    environment = os.environ | threads | {"TF_NUM_INTEROP_THREADS": "1"}
    console = Console(stderr=True, highlight=False)
    seconds = []
    open_jobs = [job for job in study.jobs if study.state(job) is State.OPEN]
    if ended := len(study.jobs) - len(open_jobs):
        console.print(f"{ended} of {len(study.jobs)} jobs ended before.")
    running: dict[Child, tuple[Job, float]] = {}
    try:
        while True:
            possible = [job for job in open_jobs if not job.needs or study.is_done(job.needs)]
            for job in possible[: parallel - len(running)]:
                open_jobs.remove(job)
                running[_start(study, job, environment)] = (job, time.monotonic())
            if not running:
                return  # the remaining jobs need failed ones
            time.sleep(_POLL)
            for child in [child for child in running if child.has_ended]:
                job, start = running.pop(child)
                state = _finish(study, job, child)
                seconds.append(time.monotonic() - start)
                left = len(open_jobs) + len(running)
                minutes = left * sum(seconds) / len(seconds) / parallel / 60
                console.print(f"{state}: {job.name}   ({left} left, about {minutes:.0f} min)")
                open_jobs = [job for job in open_jobs if study.state(job) is State.OPEN]
    finally:
        for child in running:
            child.stop()


def settle(folder: Path, protocol: dict) -> None:
    """Writes `protocol.json`, or checks that a resumed study has the same settings.

    Paths of data, labels and tag schema may change (`Study.require_same_data`).

    Raises:
        UserError: The settings differ.
    """
    path = folder / "protocol.json"
    now = json.loads(json.dumps(protocol))
    if path.exists():
        before = json.loads(path.read_text())
        # Arms, seeds, fractions and tasks may be added; finished jobs stay valid.
        old, new = _settings(before), _settings(now)
        if any(old[part] != new[part] for part in old.keys() & new.keys()):
            raise UserError(
                f"{folder}: the study in this folder has other settings. Choose another --out, or "
                "restore the settings."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, now)


def _settings(protocol: dict) -> dict[str, dict]:
    """Δ, which must not be chosen after the first results, and the options without paths.

    A tag schema or weights are given by name only.
    """
    return {"": {"effect": protocol.get("effect")}} | {
        part: {
            name: PurePath(value).name if name in ("tags", "encoder_weights") else value
            for name, value in options.items()
            if name not in PLACES
        }
        for part, options in protocol["options"].items()
    }
