"""Evaluates a head on its held-out test set: measures, intervals, a table, pictures and a page.

`test.csv` and `test.html` name paths and patients, so only the user may read them.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tf_dicom_ce import metrics
from tf_dicom_ce.data.tasks import Task
from tf_dicom_ce.masks import colour, likeliest_classes
from tf_dicom_ce.preprocessing import resize_mask, standardise
from tf_dicom_ce.templates import fill
from tf_dicom_ce.training.panels import confusion_picture, on_page, segmentation_panel
from tf_dicom_ce.whole_files import write_table, write_text
from tf_dicom_ce.wording import describe, interval, number

#: Task -> its main measure, which is watched, and printed at the end.
HEADLINE = {"classification": "accuracy", "segmentation": "dice"}
_TOLERANCE = 0.01  # of the surface Dice, as a share of the image's diagonal
_WORST = 10

Answers = Iterable[Mapping[str, np.ndarray]]


def evaluate_classification(answers: Answers, task: Task, seed: int, run: Path) -> dict:
    """Measures a classifier; writes `test.csv`, `confusion.png` and `test.html`.

    There is one answer per test image, in order: `probabilities` [K], `class_id` and `logits`.
    Ordinal logits, [K − 1], are also measured for rank inconsistency. `seed` is that of the
    bootstrap.

    Returns:
        The result of `summarise` for every measure, with its `unit`.
    """
    answers = list(answers)
    ids, probabilities, logits = (
        np.stack([answer[name] for answer in answers])
        for name in ("class_id", "probabilities", "logits")
    )
    rows, classes = task.split.test, task.classes
    labels = task.targets[rows]
    ordinal = logits.shape[1] == len(classes) - 1

    def measure(at):
        found = metrics.classification_measures(labels[at], ids[at], probabilities[at], ordinal)
        if ordinal:
            found["rank_inconsistency"] = metrics.rank_inconsistency(logits[at])
        return found

    table = [
        {"true": classes[label], "predicted": classes[found]}
        | {f"p_{name}": f"{p:.4f}" for name, p in zip(classes, of_image, strict=True)}
        for label, found, of_image in zip(labels, ids, probabilities, strict=True)
    ]
    _write_table(task, table, run)
    from sklearn.metrics import confusion_matrix  # takes a second

    confusion = confusion_matrix(labels, ids, labels=range(len(classes)))
    Image.fromarray(confusion_picture(confusion, classes)).save(run / "confusion.png")
    measures = _summarise(measure, task, seed)
    of_truth = probabilities[np.arange(len(rows)), labels]
    worst = [
        {
            "example": task.examples[rows[k]],
            "words": f"true {classes[labels[k]]}, probability {number(of_truth[k])}; "
            f"predicted {classes[ids[k]]}, probability {number(probabilities[k, ids[k]])}",
            "pictures": {"image": on_page(*_image(task, rows[k]))},
        }
        for k in np.argsort(of_truth, kind="stable")[:_WORST]
    ]
    _write_page(run, task, measures, "the probability of the true class", worst)
    return measures


def evaluate_segmentation(answers: Answers, task: Task, seed: int, run: Path) -> dict:
    """Measures a U-Net at the sources' size; writes `test.csv`, `segmentations.png`, `test.html`.

    Arguments and result are as in `evaluate_classification`, but answers have `probabilities`
    float32 [h, w, C]. The measures are means over images: every measure by class, and `dice`, the
    mean over the classes that an image has.
    """
    rows, classes = task.split.test, task.classes[1:]
    truth = [task.source_masks[int(row)] for row in rows]
    masks = [
        likeliest_classes(answer["probabilities"], true.shape)
        for true, answer in zip(truth, answers, strict=True)
    ]
    table = [_of_image(true, mask, classes) for true, mask in zip(truth, masks, strict=True)]
    _write_table(task, table, run)
    columns = {name: np.array([row[name] for row in table]) for name in table[0]}

    def measure(at):
        return {name: _mean(values[at]) for name, values in columns.items()}

    measures = _summarise(measure, task, seed)
    dice = columns["dice"]
    order = np.argsort(dice, kind="stable")[: np.count_nonzero(~np.isnan(dice))]  # NaN comes last
    if len(order):
        shown = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
        _write_panel(task, shown, truth, masks, dice, run)
    worst = [
        {
            "example": task.examples[rows[k]],
            "words": f"Dice {number(dice[k])}" + _by_class(table[k], classes),
            "pictures": {
                "truth": on_page(*_image(task, rows[k]), truth[k]),
                "prediction": on_page(*_image(task, rows[k]), masks[k]),
            },
        }
        for k in order[:_WORST]
    ]
    false_positives = [
        {"example": task.examples[rows[k]], "name": name, "share": (masks[k] == label).mean()}
        for label, name in enumerate(classes, start=1)
        for k in np.flatnonzero(columns[f"false_positive_{name}"] == 1)
    ]
    _write_page(run, task, measures, "Dice", worst, false_positives)
    return measures


def _of_image(truth: np.ndarray, mask: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    """Every measure of an image by class, and the mean Dice of the classes in its truth."""
    row = {}
    for label, name in enumerate(classes, start=1):
        tolerance = _TOLERANCE * np.hypot(*truth.shape)
        found = metrics.mask_measures(truth == label, mask == label, tolerance)
        row |= {f"{measure}_{name}": value for measure, value in found.items()}
    return row | {"dice": _mean(np.array([row[f"dice_{name}"] for name in classes]))}


def _by_class(row: dict[str, float], classes: tuple[str, ...]) -> str:
    """The Dice of every class in the truth as text, if there are several classes."""
    dices = {name: row[f"dice_{name}"] for name in classes if not np.isnan(row[f"dice_{name}"])}
    words = ", ".join(f"{name} {number(value)}" for name, value in dices.items())
    return f" ({words})" if len(classes) > 1 else ""


def _mean(values: np.ndarray) -> float:
    """The mean of the values that are not NaN."""
    return np.nan if np.isnan(values).all() else float(np.nanmean(values))


def _summarise(measure: metrics.Measure, task: Task, seed: int) -> dict:
    found = metrics.summarise(measure, task.patients[task.split.test], seed)
    return {name: {**of, "unit": describe(name)[0]} for name, of in found.items()}


def _write_table(task: Task, table: list[dict], run: Path) -> None:
    rows = [named(task, k) | row for k, row in zip(task.split.test, table, strict=True)]
    write_table(run / "test.csv", tuple(rows[0]), rows, private=True)


def named(task: Task, row: int) -> dict:
    """Path and patient of an image as in the labels, and the frame if they name one."""
    example = task.examples[row]
    frame = {"frame": example.frame} if any(e.frame is not None for e in task.examples) else {}
    return {"path": example.path, **frame, "patient": example.patient}


def _image(task: Task, row: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The head's input, uint8 [h, w], and height and width of that part of the source."""
    _, region = task.frames.place(row)
    return task.frames.read(np.array([row])).numpy()[0, ..., 0], (region.height, region.width)


def _write_panel(task: Task, shown: dict[str, int], truth, masks, dice, run: Path) -> None:
    chosen = list(shown.values())
    frames = task.frames.read(task.split.test[chosen])
    size = tuple(frames.shape[1:3])
    panel = segmentation_panel(
        standardise(frames),
        *(np.stack([resize_mask(of[k], size) for k in chosen]) for of in (truth, masks)),
        [f"{word}: Dice {dice[k]:.3f}   (image, truth, prediction)" for word, k in shown.items()],
    )
    Image.fromarray(panel).save(run / "segmentations.png")


def _write_page(
    run: Path,
    task: Task,
    measures: Mapping[str, Mapping],
    score: str,
    worst: Sequence[Mapping],
    false_positives: Sequence[Mapping] = (),
) -> None:
    """Writes the self-contained `test.html`: the measures, and the images worst by `score`.

    Each of the worst images has its example, words and pictures by caption. A false positive is an
    example without the class `name` where the head found it on a `share` of the pixels.
    """
    outlined = task.classes[1:] if task.source_masks else ()
    rows = []
    for name, of in measures.items():
        unit, meaning = describe(name, task.classes)
        rows.append((name, number(of["value"]), unit, interval(*of["interval_95"]), meaning))
    content = {
        "images": len(task.split.test),
        "patients": len(np.unique(task.patients[task.split.test])),
        "measures": rows,
        "score": score,
        "worst": worst,
        "legend": [(name, f"rgb{colour(k)}") for k, name in enumerate(outlined, start=1)],
        "false_positives": false_positives,
    }
    html = fill("training/result_page.html.jinja", content, {"jpeg": _jpeg})
    write_text(run / "test.html", html, private=True)


def _jpeg(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88, subsampling=0)  # thin lines stay sharp
    return base64.b64encode(file.getvalue()).decode()
