"""A head on its held-out test set: measures, intervals, a table by image, and a picture."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics import confusion_matrix

from tf_dicom_ce.data.preprocessing import resize_mask
from tf_dicom_ce.metrics import (
    classification_measures,
    mask_measures,
    rank_inconsistency,
    summarise,
)
from tf_dicom_ce.training.pictures import confusion_picture, segmentation_panel

_TOLERANCE = 0.01  # of the surface Dice, as a share of the image's diagonal


def evaluate_classification(
    answers: dict[str, np.ndarray],
    labels: np.ndarray,
    patients: np.ndarray,
    classes: tuple[str, ...],
    seed: int,
    run: Path,
) -> dict:
    """Measures a classifier and writes `test.csv` and `confusion.png` into the run's folder.

    Args:
        answers: `probabilities` [N, K], `class_id` [N], and `logits`: [N, K − 1] where they are
            ordinal; then their rank inconsistency is measured too.
        labels: True classes, int [N].
        patients: Patient of each image, int [N].
        classes: Names.
        seed: Of the bootstrap.
        run: Folder to write to.

    Returns:
        What `summarise` gives for every measure.
    """
    ids, probabilities = answers["class_id"], answers["probabilities"]

    logits = answers["logits"]
    ordinal = logits.shape[1] == len(classes) - 1

    def measure(positions):
        found = classification_measures(
            labels[positions], ids[positions], probabilities[positions], ordinal
        )
        if ordinal:
            found["rank_inconsistency"] = rank_inconsistency(logits[positions])
        return found

    rows = [
        {"row": k, "patient": patients[k], "true": classes[labels[k]], "predicted": classes[ids[k]]}
        | {f"p_{name}": f"{p:.4f}" for name, p in zip(classes, probabilities[k], strict=True)}
        for k in range(len(labels))
    ]
    _write_table(run / "test.csv", rows)
    confusion = confusion_matrix(labels, ids, labels=range(len(classes)))
    Image.fromarray(confusion_picture(confusion, classes)).save(run / "confusion.png")
    return summarise(measure, patients, seed)


def evaluate_segmentation(
    answers: dict[str, np.ndarray],
    images: np.ndarray,
    truth: list[np.ndarray],
    patients: np.ndarray,
    classes: tuple[str, ...],
    seed: int,
    run: Path,
) -> dict:
    """Measures a U-Net at the sources' size; writes `test.csv` and `segmentations.png`.

    Args:
        answers: `mask` uint8 [N, h, w].
        images: z-scored, float [N, h, w, 1].
        truth: True classes, uint8 [H, W] each, as large as the source.
        patients: Patient of each image, int [N].
        classes: Names, background first.
        seed: Of the bootstrap.
        run: Folder to write to.

    Returns:
        What `summarise` gives for the mean over images of every measure, by class, and of `dice`,
        the mean over the classes.
    """
    rows = []
    for k, mask in enumerate(truth):
        predicted = resize_mask(answers["mask"][k], mask.shape)
        tolerance = _TOLERANCE * np.hypot(*mask.shape)
        row = {"row": k, "patient": patients[k]}
        for label, name in enumerate(classes[1:], start=1):
            found = mask_measures(mask == label, predicted == label, tolerance)
            row |= {f"{measure}_{name}": value for measure, value in found.items()}
        dices = np.array([row[f"dice_{name}"] for name in classes[1:]])
        row["dice"] = np.nan if np.isnan(dices).all() else float(np.nanmean(dices))
        rows.append(row)
    _write_table(run / "test.csv", rows)
    names = [name for name in rows[0] if name not in ("row", "patient")]
    table = {name: np.array([row[name] for row in rows], float) for name in names}

    def measure(positions):
        chosen = {name: values[positions] for name, values in table.items()}
        return {
            name: np.nan if np.isnan(values).all() else float(np.nanmean(values))
            for name, values in chosen.items()
        }

    order = np.argsort(-np.nan_to_num(table["dice"]))
    shown = [order[0], order[len(order) // 2], order[-1]]
    size = answers["mask"].shape[1:]
    panel = segmentation_panel(
        images[shown],
        np.stack([resize_mask(truth[k], size) for k in shown]),
        answers["mask"][shown],
        [
            f"{word}: Dice {table['dice'][k]:.3f}   (image, truth, prediction)"
            for word, k in zip(("best", "median", "worst"), shown, strict=True)
        ],
    )
    Image.fromarray(panel).save(run / "segmentations.png")
    return summarise(measure, patients, seed)


def _write_table(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
