"""Compares masks enlarged by nearest neighbour and by interpolated probabilities (1 min).

    python -m benchmarks enlarging export/segmentation/1
    python -m benchmarks enlarging export/segmentation/1 --data DIR --labels CSV

Both ways use the same probabilities on the same test images (without --data, those of the phantom).
Prints the mean over images of every measure by class, and the difference with its 95 % interval
from 1,000 resamples of whole patients.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from benchmarks.tables import aligned
from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.masks import likeliest_classes
from tf_dicom_ce.metrics import mask_measures, summarise
from tf_dicom_ce.phantom.cohort import default_cohort


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="folder of one version of a segmentation head")
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--labels", type=Path, metavar="CSV")


def run(options: argparse.Namespace) -> None:
    import tensorflow as tf

    from tf_dicom_ce.data.store_files import default_cache
    from tf_dicom_ce.data.tasks import load_task
    from tf_dicom_ce.preprocessing import resize_mask

    content = json.loads((options.model / "segmentation.json").read_text())
    names = {field.name for field in dataclasses.fields(FinetuneConfig)} & content.keys()
    config = FinetuneConfig(**{name: content[name] for name in names})
    config = dataclasses.replace(config, image_size=tuple(config.image_size))
    data = options.data or default_cohort("quick")
    labels = options.labels or data / "segmentation.csv"
    classes = content["classes"][1:]
    task = load_task(config, labels, data, tuple(classes), default_cache())
    signature = tf.saved_model.load(str(options.model)).signatures["serving_image"]
    nearest, interpolated = [], []
    for row in task.split.test:
        image = tf.cast(task.frames.read(np.array([row])), tf.float32)
        (p,) = signature(image=image)["probabilities"].numpy()
        truth = task.source_masks[int(row)]
        steps = resize_mask(p.argmax(-1).astype(np.uint8), truth.shape)
        nearest.append(measured(truth, steps, classes))
        interpolated.append(measured(truth, likeliest_classes(p, truth.shape), classes))
    a, b = (np.array([list(row.values()) for row in way]) for way in (nearest, interpolated))
    columns = list(nearest[0])

    def difference(positions):
        return dict(zip(columns, mean((b - a)[positions]), strict=True))

    found = summarise(difference, task.patients[task.split.test], seed=0)
    table = [["", "images", "nearest", "interpolated", "difference", "95 % interval"]]
    for name, of_a, of_b, n in zip(columns, mean(a), mean(b), (~np.isnan(a)).sum(0), strict=True):
        if found[name]["value"] is not None:
            low, high = found[name]["interval_95"]
            change = f"{found[name]['value']:+.4f}", f"{low:+.4f} to {high:+.4f}"
            table.append([name, str(n), f"{of_a:.4f}", f"{of_b:.4f}", *change])
    print(f"{len(task.split.test)} images, the model's size is {' x '.join(map(str, p.shape[:2]))}")
    print(aligned(table))


def measured(truth: np.ndarray, mask: np.ndarray, classes: list[str]) -> dict[str, float]:
    """Every measure of one image, by class, and the mean Dice of the classes it has."""
    tolerance = 0.01 * np.hypot(*truth.shape)
    row = {
        f"{measure}_{name}": value
        for label, name in enumerate(classes, start=1)
        for measure, value in mask_measures(truth == label, mask == label, tolerance).items()
    }
    return row | {"dice": mean(np.array([[row[f"dice_{name}"]] for name in classes]))[0]}


def mean(table: np.ndarray) -> list[float]:
    """The mean of the values that are not NaN, by column."""
    columns = (column[~np.isnan(column)] for column in table.T)
    return [float(column.mean()) if len(column) else np.nan for column in columns]
