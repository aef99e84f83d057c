"""Finds tags that contradict the picture, and proposes values."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import track

from tf_dicom_ce.auditing.devices import single_sources
from tf_dicom_ce.auditing.finding import CONTRADICTED, Finding
from tf_dicom_ce.auditing.judging import judge
from tf_dicom_ce.auditing.page import write_page
from tf_dicom_ce.auditing.pictures import FOLDS
from tf_dicom_ce.auditing.summary import Audit, TagAudit, summary
from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.index import Row
from tf_dicom_ce.models.backbones import load_teacher
from tf_dicom_ce.models.linear import READ
from tf_dicom_ce.tags.rules import Tag
from tf_dicom_ce.tags.tag_table import AUDIT_COLUMNS
from tf_dicom_ce.user_tables import read_table
from tf_dicom_ce.whole_files import private, write_json, write_table

#: The files of a run's folder.
FILES = ("audit.html", "audit.csv", "audit.json")
#: Elements with one value per study, for any number of files (PS3.3 C.7.2).
_OF_STUDIES = {
    *("StudyDescription", "AdmittingDiagnosesDescription", "ReasonForVisit"),
    *("PatientAge", "PatientSize", "PatientWeight", "PatientSex"),
}
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class _Files:
    """The files of an audit, in the order of the index."""

    numbers: np.ndarray  # in the index, int [n]
    rows: Sequence[Row]
    patients: np.ndarray  # number of each file's patient, 0 to P − 1, int [n]
    features: np.ndarray  # float32 [n, F]
    seed: int


@private()
def audit(
    data: UltrasoundDataset,
    encoder: str | Path | keras.Layer = "imagenet",
    run: str | Path | None = None,
    seed: int = 0,
) -> Audit:
    """Judges every file's tags by its picture and by the other files of its study.

        audit(UltrasoundDataset.from_dicom("SRC", image_size=(128, 192)), run="runs/audit")

    A tag's groups are the sets of labels of its values. Pictures are judged by a logistic
    regression on the encoder's scales that saw no file of the same patient (`pictures`). The
    probability of mistakes is learned from the archive (`slips`).

    Args:
        data: Images of files, see `UltrasoundDataset.from_dicom`. A cine is judged by its first
            frame in the data set, by default the middle frame.
        encoder: `imagenet` for EfficientNet-Lite0 with the weights of an installed package; a path
            as in `load_encoder`; or a Keras model from z-scored images to the five scales. Do not
            use an encoder that learned from these tags: it would excuse their mistakes.
        run: Folder for `audit.html` (the page to decide on), `audit.csv` (one line per file and
            tag, for `--labels`) and `audit.json` (numbers, without values or paths); None to write
            nothing.
        seed: Seed of folds and resamples.

    Raises:
        UserError: There are no files, no tag with two groups of enough patients, or no such
            encoder.
    """
    index = data.source.index
    if index is None:
        raise UserError("An audit needs files with tags: UltrasoundDataset.from_dicom.")
    if run is not None:
        _require_undecided(Path(run) / "audit.csv")
    samples = data.decodable()
    numbers, first = np.unique([data.source.samples[k].row for k in samples], return_index=True)
    rows = [index.rows[number] for number in numbers]
    patients = np.unique([row.patient for row in rows], return_inverse=True)[1]
    groups = _groups(index.schema.tags, rows)
    judged = {name: _judged(own, patients) for name, own in groups.items()}
    chosen = [tag for tag in index.schema.tags if len(judged[tag.name]) > 1]
    if not chosen:
        raise UserError(
            f"No tag has two groups of {FOLDS} patients or more: there is nothing to compare. "
            "`tf-dicom-ce index` lists the values that were found."
        )
    if not isinstance(encoder, keras.Layer):
        size = tuple(data.source.settings["image_size"])
        encoder = load_teacher(str(encoder), size, "--encoder")
    features = _features(encoder, data, samples[first])
    files = _Files(numbers, rows, patients, features, seed)
    pairs = [_audit_tag(tag, files, groups[tag.name], judged[tag.name]) for tag in chosen]
    audited = Audit(tuple(found for found, _ in pairs), tuple(f for _, own in pairs for f in own))
    if run is not None:
        folder = Path(run)
        folder.mkdir(parents=True, exist_ok=True)
        lines = (finding.line() for finding in audited.findings)
        write_table(folder / "audit.csv", AUDIT_COLUMNS, lines, private=True)
        write_json(folder / "audit.json", [dataclasses.asdict(found) for found in audited.tags])
        told = summary(audited)
        write_page(folder / "audit.html", audited.findings, told, data, numbers, features)
    return audited


def _require_undecided(table: Path) -> None:
    """Raises UserError if the table holds decisions, which must not be overwritten."""
    if table.exists() and any(line.cells.get("accept") for line in read_table(table, "path")[1]):
        raise UserError(f"{table} holds decisions. Keep it, and choose another --run.")


def _groups(tags: Sequence[Tag], rows: Sequence[Row]) -> dict[str, list[str | None]]:
    """For every tag, the labels of each file's value as one text; None if nothing is known."""
    found, start = {}, 0
    for tag in tags:
        span = slice(start, start + len(tag.labels))
        found[tag.name] = [
            _words(itertools.compress(tag.labels, row.y[span])) if row.present[start] else None
            for row in rows
        ]
        start = span.stop
    return found


def _words(labels: Iterable[str]) -> str:
    return ", ".join(labels) or "none of the labels"


def _judged(groups: Sequence[str | None], patients: np.ndarray) -> list[str]:
    """The groups with enough patients for every fold."""
    return [name for name, n in _patients_of(groups, patients).items() if n >= FOLDS]


def _patients_of(groups: Sequence[str | None], patients: np.ndarray) -> dict[str, int]:
    pairs = set(zip(groups, patients.tolist(), strict=True))
    count = collections.Counter(group for group, _ in pairs if group is not None)
    return dict(sorted(count.items()))


def _features(encoder: keras.Layer, data: UltrasoundDataset, samples: np.ndarray) -> np.ndarray:
    """The averages of the scales that linear heads read, float32 [n, Σ C_k]."""

    @tf.function(autograph=False)
    def read(x):
        scales = encoder(x, training=False)
        averages = [tf.reduce_mean(scales[k], axis=[1, 2]) for k in READ]
        return tf.cast(tf.concat(averages, axis=-1), tf.float32)

    batches = UltrasoundDataset(data.source, samples).batches(_BATCH)
    shown = {"total": len(batches), "console": Console(stderr=True), "transient": True}
    return np.concatenate([read(x).numpy() for x, _ in track(batches, "encoding", **shown)])


def _audit_tag(
    tag: Tag, files: _Files, groups: Sequence[str | None], names: Sequence[str]
) -> tuple[TagAudit, list[Finding]]:
    number = {name: k for k, name in enumerate(names)}
    ids = np.array([number.get(name, -1) for name in groups])
    units = _units(tag, files.rows)
    judged = judge(files.features, ids, files.patients, units, files.seed)
    truth, wrong = judged.truth, judged.wrong
    values = _commonest(tag, files.rows, groups)
    findings = []
    for k in np.lexsort((-truth.max(axis=1), -wrong)):
        if groups[k] is not None and ids[k] < 0:
            continue  # too few patients
        likeliest = names[truth[k].argmax()]
        findings.append(
            Finding(
                row=int(files.numbers[k]),
                path=files.rows[k].path,
                tag=tag.name,
                value=files.rows[k].states[tag.name][1],
                group=groups[k],
                proposed="" if likeliest == groups[k] else values[likeliest],
                proposed_group=likeliest,
                wrong=None if ids[k] < 0 else float(wrong[k]),
                right=float(truth[k].max()),
                unit=int(units[k]),
            )
        )
    contradicted = wrong > CONTRADICTED
    held = judged.counts.sum(axis=0)
    found = TagAudit(
        tag.name,
        tuple(names),
        (*held.tolist(), int(held.sum())),
        *judged.estimate_wrong(files.seed),
        dataclasses.asdict(judged.slips),
        int(contradicted.sum()),
        len(set(units[contradicted])),
        len(set(files.patients[contradicted])),
        groups.count(None),
        {name: n for name, n in _patients_of(groups, files.patients).items() if n < FOLDS},
        tuple(single_sources(files.rows, groups)),
    )
    return found, findings


def _units(tag: Tag, rows: Sequence[Row]) -> np.ndarray:
    """Number of each file's unit, the files that are judged together: its study, or itself."""
    of_study = tag.elements[0].spec in _OF_STUDIES
    keys = [(of_study and row.study) or f"file {row.path}" for row in rows]
    first = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([first[key] for key in keys])


def _commonest(tag: Tag, rows: Sequence[Row], groups: Sequence[str | None]) -> dict[str, str]:
    """The most frequent value of each group, alphabetically the first of several; or ""."""
    count = collections.Counter(
        (group, row.states[tag.name][1]) for row, group in zip(rows, groups, strict=True)
    )
    by_name = sorted(count, key=lambda pair: pair[1], reverse=True)
    # The last value of a group wins; the empty value only if there is no other.
    return dict(sorted(by_name, key=lambda pair: (pair[1] != "", count[pair])))
