"""The labelled images of a task: frames, targets, patients and splits."""

import collections
import dataclasses
import hashlib
import json
import operator
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.data import splits, store
from tf_dicom_ce.data.labels import Example, class_labels, match_masks, read_labels, read_masks
from tf_dicom_ce.data.store_files import default_cache
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.reader import ULTRASOUND
from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.contents import digests, find_copies
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.examination import examine_all
from tf_dicom_ce.intake.file_cache import stamps_of
from tf_dicom_ce.intake.identity import Identity, Patient, Told, tell_apart
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.phantom.cohort import default_cohort, tables
from tf_dicom_ce.preprocessing import resize_mask
from tf_dicom_ce.tags.schema import TagSchema


@dataclasses.dataclass(frozen=True)
class Task:
    """Labelled images."""

    examples: tuple[Example, ...]  # the rows of the labels in use, each with its patient
    frames: store.Store
    targets: np.ndarray  # classes int32 [N], or masks uint8 [N, height, width] at the model's size
    source_masks: list[np.ndarray]  # for segmentation, at the size of the (cropped) sources
    classes: tuple[str, ...]  # names; in segmentation with `background` first
    patients: np.ndarray  # patient of each row, int [N]
    split: splits.Split  # rows of the sides; the training side has the labelled fraction only
    labels_fingerprint: str  # SHA-256 (hex) of targets and of the grouping by patient

    def drawn(self, config: FinetuneConfig) -> Self:
        """The same images, split and drawn by other settings."""
        strata = np.zeros(len(self.examples), int) if self.source_masks else self.targets
        return dataclasses.replace(self, split=_split(config, self.examples, self.patients, strata))


def load_given(
    config: FinetuneConfig,
    data: str | Path | None,
    labels: str | Path | None,
    masks: str | Path | None,
    class_names: Iterable[str] | None,
    preset: str,
    sop_classes: Iterable[str] | None = None,
) -> Task:
    """Loads labelled images of the user or, without `data`, of the phantom.

    Args:
        config: Settings.
        data: Folder of the images; None for the phantom of the preset.
        labels: CSV with the labels of the images in `data`. Without `data`: the name of a table of
            the phantom; None for the task's table.
        masks: Folder of masks (PNG), named as the images in `data`.
        class_names: Classes, in their order (segmentation: without background).
        preset: Preset of the phantom.
        sop_classes: UIDs of the SOP classes that are read; None: ultrasound.

    Raises:
        UserError: The arguments do not go together, or there is a mistake in the data.
    """
    if masks and config.task != "segmentation":
        raise UserError("--masks is for --task segmentation; for classes give --labels.")
    if masks if data is None else labels is None and masks is None:
        raise UserError("--data needs --labels or --masks. Without all three, the phantom is used.")
    if data and not Path(data).is_dir():
        raise UserError(f"--data {data}: no such folder.")
    if data is None:
        name = str(labels or f"{config.task}.csv")
        if name not in tables(preset):
            raise UserError(
                f"--labels {name}: without --data, choose a table of the phantom: "
                f"{', '.join(tables(preset))} (--preset {preset}; standard has the most)."
            )
        data = default_cohort(preset)
        labels = data / name
        class_names = ("liver", "kidney") if config.task == "segmentation" else class_names
    labels, data, masks = (path and Path(path) for path in (labels, data, masks))
    names, classes = tuple(class_names or ()) or None, frozenset(sop_classes or ULTRASOUND)
    return load_task(config, labels, data, names, default_cache(), masks, classes)


def load_task(
    config: FinetuneConfig,
    labels: Path | None,
    data: Path,
    class_names: tuple[str, ...] | None,
    cache: Path,
    masks: Path | None = None,
    sop_classes: frozenset[str] = ULTRASOUND,
) -> Task:
    """Reads labels, images and masks.

    Args:
        config: Settings.
        labels: The labels CSV; None takes all images with a mask in `masks`.
        data: Folder that the paths of the CSV are relative to.
        class_names: Classes in their order (segmentation: without background), or None.
        cache: Folder of all stores.
        masks: Folder of masks named as their images.
        sop_classes: UIDs of the SOP classes that are read.

    Raises:
        UserError: A mistake in labels, images or masks; the message names the line.
    """
    if class_names and len(set(class_names)) < len(class_names):
        raise UserError(f"--class-names {' '.join(class_names)}: a name occurs twice.")
    segmentation = config.task == "segmentation"
    found = match_masks(data, masks) if masks else None
    examples = read_labels(labels, data, "mask" if segmentation else "label", found)
    names = [example.target for example in examples]
    targets = digests(data, names) if segmentation else dict(zip(names, names, strict=True))
    examples, patients = _with_patients(examples, data, targets, sop_classes)
    held = [targets[example.target] for example in examples]
    reader = ImageReader(data, sop_classes, config.find_sector, config.blank_outside)
    frames = store.open_store(reader, examples, config.image_size, cache)
    for row, refusal in frames.refusals.items():
        where = examples[row].where
        raise UserError(f"{where}: the image cannot be read. {refusal.code}: {refusal.code.remedy}")
    if segmentation:
        places = map(frames.place, range(len(examples)))
        masks, classes = read_masks(examples, data, places, class_names)
        targets = np.stack([resize_mask(mask, config.image_size) for mask in masks])
        strata = np.zeros(len(examples), int)
    else:
        masks = []
        classes, targets = class_labels(examples, class_names, config.label_encoding == "ordinal")
        strata = targets
    split = _split(config, examples, patients, strata)
    if not segmentation:
        _check_classes(classes, targets, split)
    content = json.dumps([held, patients.tolist()])
    return Task(
        examples,
        frames,
        targets,
        masks,
        classes,
        patients,
        split,
        hashlib.sha256(content.encode()).hexdigest(),
    )


def _split(config, examples: tuple[Example, ...], patients, strata) -> splits.Split:
    if examples[0].split is None:
        split = splits.split_labelled(patients, strata, config.seed)
    else:
        sides = np.array([example.split for example in examples])
        names = ("train", "validation", "test")
        split = splits.Split(*(np.flatnonzero(sides == side) for side in names))
        for side, rows in split.sides.items():
            if not len(rows):
                raise UserError(f"The column 'split' of the labels has no row for {side}.")
    of_train = (split.train, patients[split.train], strata[split.train])
    if config.label_count > len(split.train):
        raise UserError(
            f"--label-count {config.label_count}: the training side has {len(split.train)} "
            "labelled images. Choose this number or less."
        )
    if config.label_count:
        train = splits.nested_count(*of_train, config.label_count, config.seed)
    else:
        train = splits.nested_fraction(*of_train, config.label_fraction, config.seed)
    return dataclasses.replace(split, train=train)


def _check_classes(classes, targets, split) -> None:
    if len(classes) < 2:
        raise UserError(f"All labels are '{classes[0]}', but a classifier needs two classes.")
    absent = [name for k, name in enumerate(classes) if not (targets[split.train] == k).any()]
    remedy = "Add labels, use a larger --label-fraction, or another --seed."
    if len(absent) > len(classes) - 2:
        raise UserError(f"All training examples are of one class. {remedy}")
    if absent:  # not an error: common with few labels
        print(
            f"No training example has the class {', '.join(absent)}. {remedy}",
            file=sys.stderr,
        )


def _with_patients(
    examples: Sequence[Example],
    data: Path,
    targets: Mapping[str, str],
    sop_classes: frozenset[str] = ULTRASOUND,
) -> tuple[tuple[Example, ...], np.ndarray]:
    """Finds the patient of every example; copies of an image with the same target count once.

    `targets` maps `Example.target` to its content, equal for equal targets. Files that are not in
    the labels are not read. Findings are printed on standard error. Returns the examples with
    `patient` filled in (from the labels, or the pseudonym of the header's patient), and the number
    of each example's patient, int [N], by first appearance.
    """
    files, copies = _files(examples, data, sop_classes)
    found = tell_apart(files, copies)
    _tell(found, files)
    kept = _without_copies(examples, copies, targets)
    keys = [found[example.path].pseudonym for example in kept]
    own = list(zip(keys, kept, strict=True))
    names = {key: example.patient for key, example in reversed(own) if example.patient}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    firsts: dict[str, Example] = {}
    for key, example in own:
        first = firsts.setdefault(key, example)
        if first.split != example.split:
            raise UserError(
                f"{example.where}: this patient is in {example.split}, and in {first.split} in "
                f"{first.where}. Keep all images of a patient in one split."
            )
    named = (dataclasses.replace(example, patient=names.get(key, key)) for key, example in own)
    return tuple(named), np.array([numbers[key] for key in keys])


def _files(
    examples: Sequence[Example], data: Path, sop_classes: frozenset[str]
) -> tuple[dict[str, Identity], dict[str, str]]:
    """Path -> identity by header and labels; and path of a copy -> path of its original."""
    schema, secret = TagSchema.load("ultrasound").of_classes(sop_classes), load_secret()
    stamps = stamps_of(data, (example.path for example in examples))
    facts, _ = examine_all(data, schema, stamps)
    images = {path: found for path, found in facts.items() if not isinstance(found, Refusal)}
    files = {path: Identity(pseudonym(secret, "path", path)) for path in facts}
    files |= {path: found.identity for path, found in images.items()}
    given: dict[str, Example] = {}
    for example in filter(operator.attrgetter("patient"), examples):
        first = given.setdefault(example.path, example)
        if first.patient != example.patient:
            raise UserError(
                f"{example.where}: '{example.path}' has another patient than in {first.where}. "
                "Correct one of them."
            )
        files[example.path] = files[example.path].given_by_table(example.patient, secret)
    return files, find_copies(ImageReader(data, schema.sop_classes), images)


def _tell(found: Mapping[str, Patient], files: Mapping[str, Identity]) -> None:
    without = [path for path, file in files.items() if not (file.patient or file.study)]
    alone = sum(found[path].told is Told.FILE for path in without)
    if alone:
        print(
            f"WARNING: {alone} images have no patient, neither in a header nor in the labels. Each "
            "counts as a patient of its own. If some have the same patient, give the labels a "
            "column patient.",
            file=sys.stderr,
        )
    untold = (Flag.FROM_TABLE, Flag.BY_FILE)
    flags = (flag for patient in found.values() for flag in patient.flags if flag not in untold)
    for flag, count in collections.Counter(flags).most_common():
        print(f"{count} files: {flag}", file=sys.stderr)


def _without_copies(
    examples: Sequence[Example], copies: Mapping[str, str], targets: Mapping[str, str]
) -> list[Example]:
    firsts: dict[tuple, Example] = {}
    kept = []
    for example in examples:
        image = (copies.get(example.path, example.path), example.frame)
        first = firsts.setdefault(image, example)
        same = targets[first.target] == targets[example.target]
        if first is example or not same:
            kept.append(example)
        if not same:
            print(
                f"WARNING: {example.where}: the same image as in {first.where} with another "
                "target. Both are kept, on the same side of the split.",
                file=sys.stderr,
            )
    if len(kept) < len(examples):
        number = len(examples) - len(kept)
        print(f"{number} images are copies of others and do not count.", file=sys.stderr)
    return kept
