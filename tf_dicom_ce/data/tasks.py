"""The labelled images of a task: frames, targets and splits."""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.data import splits, store
from tf_dicom_ce.data.labels import Example, class_labels, match_masks, read_labels, read_masks
from tf_dicom_ce.data.patients import with_patients
from tf_dicom_ce.dicom.reader import ULTRASOUND
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.contents import digests
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.preprocessing import resize_mask


@dataclasses.dataclass(frozen=True)
class Task:
    """Labelled images.

    Attributes:
        examples: The rows of the labels that count, each with its patient.
        frames: Frames by row.
        targets: Classes int32 [N], or masks uint8 [N, height, width] at the model's size.
        source_masks: Masks as large as their (cropped) sources, for the test rows; else empty.
        classes: Names; in segmentation with `background` first.
        patients: Patient of each row, int [N].
        split: Rows of the three sides; of the training side, the labelled fraction.
        labels_fingerprint: SHA-256 (hex) of targets and of who is of one patient; that of the
            images is the frames'.
    """

    examples: tuple[Example, ...]
    frames: store.Store
    targets: np.ndarray
    source_masks: dict[int, np.ndarray]
    classes: tuple[str, ...]
    patients: np.ndarray
    split: splits.Split
    labels_fingerprint: str


def load_task(
    config: FinetuneConfig,
    labels: Path | None,
    data: Path,
    class_names: tuple[str, ...] | None,
    cache: Path,
    masks: Path | None = None,
) -> Task:
    """Reads labels, images and masks.

    Args:
        config: Settings.
        labels: The labels CSV; None takes all images that have a mask in `masks`.
        data: Folder that its paths are relative to.
        class_names: Classes in their order (segmentation: without background), or None.
        cache: Folder of all stores.
        masks: Folder of masks that are found by the names of their images.

    Raises:
        UserError: Any mistake in labels, images or masks; the message names the line.
    """
    if class_names and len(set(class_names)) < len(class_names):
        raise UserError(f"--class-names {' '.join(class_names)}: a name stands twice.")
    segmentation = config.task == "segmentation"
    found = match_masks(data, masks) if masks else None
    examples = read_labels(labels, data, "mask" if segmentation else "label", found)
    names = [example.target for example in examples]
    targets = digests(data, names) if segmentation else dict(zip(names, names, strict=True))
    examples, patients = with_patients(examples, data, targets)
    held = [targets[example.target] for example in examples]
    reader = ImageReader(data, ULTRASOUND, config.find_sector, config.blank_outside)
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
        {int(row): masks[row] for row in split.test} if segmentation else {},
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
    train = splits.nested_fraction(*of_train, config.label_fraction, config.seed)
    return dataclasses.replace(split, train=train)


def _check_classes(classes, targets, split) -> None:
    if len(classes) < 2:
        raise UserError(f"All labels are '{classes[0]}'; a classifier needs two classes.")
    absent = [name for k, name in enumerate(classes) if not (targets[split.train] == k).any()]
    remedy = "Add labels, use a larger --label-fraction, or another --seed."
    if len(absent) > len(classes) - 2:
        raise UserError(f"All training examples are of one class. {remedy}")
    if absent:  # so it is with few labels
        print(
            f"No training example of class {', '.join(absent)}: it will hardly be found. {remedy}",
            file=sys.stderr,
        )
