"""The labelled images of a task: frames, targets and splits."""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.data import splits, store
from tf_dicom_ce.data.labels import Example, class_labels, read_labels, read_mask
from tf_dicom_ce.data.preprocessing import resize_mask
from tf_dicom_ce.dicom.sop_classes import ULTRASOUND
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.decoding import ImageReader


@dataclasses.dataclass(frozen=True)
class Task:
    """Labelled images.

    Attributes:
        examples: The rows of the labels.
        frames: Frames by row.
        targets: Classes int32 [N], or masks uint8 [N, height, width] at the model's size.
        source_masks: Masks as large as their (cropped) sources, for the test rows; else empty.
        classes: Names; in segmentation with `background` first.
        patients: Patient of each row, int [N].
        split: Rows of the three sides; of the training side, the labelled fraction.
        fingerprint: Of the image files.
    """

    examples: tuple[Example, ...]
    frames: store.Store
    targets: np.ndarray
    source_masks: dict[int, np.ndarray]
    classes: tuple[str, ...]
    patients: np.ndarray
    split: splits.ThreeWaySplit
    fingerprint: str


def load_task(
    config: FinetuneConfig,
    labels: Path,
    data: Path,
    class_names: tuple[str, ...] | None,
    cache: Path,
) -> Task:
    """Reads labels, images and masks.

    Args:
        config: Settings.
        labels: The labels CSV.
        data: Folder that its paths are relative to.
        class_names: Classes in their order (segmentation: without background), or None.
        cache: Folder of all stores.

    Raises:
        UserError: Any mistake in labels, images or masks; the message names the line.
    """
    segmentation = config.task == "segmentation"
    examples = read_labels(labels, data, "mask" if segmentation else "label")
    reader = ImageReader(data, ULTRASOUND, config.find_sector)
    frames = store.open_store(reader, examples, config.image_size, cache)
    for row, refusal in frames.refusals.items():
        where = examples[row].where
        raise UserError(f"{where}: the image cannot be read. {refusal.code}: {refusal.code.remedy}")
    _, patients = np.unique([example.patient for example in examples], return_inverse=True)
    if segmentation:
        masks = [
            read_mask(example, data, place)
            for example, place in zip(examples, frames.places, strict=True)
        ]
        classes = _mask_classes(examples, masks, class_names)
        targets = np.stack([resize_mask(mask, config.image_size) for mask in masks])
        strata = np.zeros(len(examples), int)
    else:
        masks = []
        classes, targets = class_labels(examples, class_names)
        strata = targets
    split = _split(config, examples, patients, strata)
    if not segmentation:
        _check_classes(classes, targets, split)
    return Task(
        examples,
        frames,
        targets,
        {int(row): masks[row] for row in split.test} if segmentation else {},
        classes,
        patients,
        split,
        store.data_fingerprint(examples),
    )


def _split(config, examples: tuple[Example, ...], patients, strata) -> splits.ThreeWaySplit:
    if examples[0].split is None:
        split = splits.split_labelled(patients, strata, config.seed)
    else:
        sides = np.array([example.split for example in examples])
        split = splits.ThreeWaySplit(
            *(np.flatnonzero(sides == side) for side in ("train", "validation", "test"))
        )
        for side in ("train", "validation", "test"):
            if not len(getattr(split, side)):
                raise UserError(f"The column 'split' of the labels has no row for {side}.")
    train = splits.nested_fraction(
        split.train,
        patients[split.train],
        strata[split.train],
        config.label_fraction,
        config.seed,
    )
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


def _mask_classes(examples, masks, class_names) -> tuple[str, ...]:
    highest = max(int(mask.max()) for mask in masks)
    if highest == 0:
        raise UserError("All masks are empty: 0 is background, classes count from 1.")
    names = class_names or tuple(f"class_{k}" for k in range(1, highest + 1))
    for example, mask in zip(examples, masks, strict=True):
        if int(mask.max()) > len(names):
            raise UserError(
                f"{example.where}: mask '{example.target}' has class {int(mask.max())}, "
                f"and there are {len(names)}: {', '.join(names)}."
            )
    return ("background", *names)
