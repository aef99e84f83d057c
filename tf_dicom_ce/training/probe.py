"""Probes: how well a simple model reads frozen scales, over many draws of few labels."""

import contextlib
import csv
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import track

from tf_dicom_ce import metrics
from tf_dicom_ce.config import FinetuneConfig, finetune_config, preset_of
from tf_dicom_ce.data import datasets
from tf_dicom_ce.data.tasks import Task, load_given
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.masks import likeliest_classes
from tf_dicom_ce.models.backbones import build_encoder, describe_encoder, load_encoder
from tf_dicom_ce.models.linear import READ, LinearHead
from tf_dicom_ce.preprocessing import resize_mask
from tf_dicom_ce.saved_model.writing import built_size
from tf_dicom_ce.training import run_folder
from tf_dicom_ce.training.evaluation import HEADLINE, named
from tf_dicom_ce.training.networks import build_head
from tf_dicom_ce.whole_files import private, write_json, write_table

Scales = Mapping[str, np.ndarray]

#: Most pixels that a regression is solved on; every image gives equally many.
MOST_PIXELS = 20_000
#: Number of nearest neighbours that vote.
NEIGHBOURS = 5
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Probed:
    """The result of a probe: for every readout and amount of labels, the mean over the draws."""

    rows: tuple[dict, ...]  # one per draw, as in probe.csv
    means: tuple[dict, ...]  # readout, labels, draws, mean, and low and high of its 95 % interval
    measure: str  # `dice` or `accuracy`


@private()
def probe(
    task: str,
    encoder: str | Path | keras.Layer = "export/encoder",
    data: str | Path | None = None,
    labels: str | Path | None = None,
    masks: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    label_fractions: Sequence[float] = (0.05, 1.0),
    label_counts: Sequence[int] = (),
    draws: int = 20,
    preset: str | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    **settings,
) -> Probed:
    """Measures an encoder by a linear model on its frozen scales; prints a table.

    Draw k splits and chooses labels as `finetune(…, head="linear", seed=k)` does, and solves the
    same regression. It is measured on the test images at the size of their sources. Classification
    is also probed by nearest neighbours.

    Args:
        task: `classification` or `segmentation`.
        encoder: A path as in `load_encoder`; a Keras model from z-scored images to the five scales;
            `none` for random weights with BatchNorm set to the images; or `imagenet` for
            EfficientNet-Lite0.
        data: Folder of the images; None for the phantom.
        labels: CSV with the labels of the images in `data`.
        masks: Folder of masks (PNG), named as the images in `data`.
        class_names: Classes, in their order.
        label_fractions: Shares of the labelled training patients; ignored with `label_counts`.
        label_counts: Numbers of labelled training images.
        draws: How often labels are drawn.
        preset: `paper`, `full` or `quick`: the image size, the width of `none`, and the phantom;
            None for `full`, or `quick` with the phantom.
        run: Folder for `config.json`, `probe.csv` (one row per draw), `test.csv` (for each test
            image, the mean of the linear readout over the draws that tested it) and `result.json`;
            None to write nothing.
        resume: Read the result in `run` if the probe is finished; else begin it anew.
        **settings: Fields of `FinetuneConfig`, such as `image_size`, or `width` and `seed` of
            `none`.

    Raises:
        UserError: A mistake in the arguments, labels, images or masks.
    """
    if draws < 2:
        raise UserError(f"--draws {draws}: an interval needs 2 or more.")
    if any(count < 1 for count in label_counts):
        raise UserError(f"--label-counts {min(label_counts)}: choose 1 or more.")
    preset = preset_of(preset, data)
    config, sop_classes = _configure(task, encoder, preset, settings)
    configs = [dataclasses.replace(config, label_count=count) for count in label_counts] or [
        dataclasses.replace(config, label_fraction=share) for share in label_fractions
    ]
    content = config.as_dict() | {"draws": draws, "labels": [_words(own) for own in configs]}
    with contextlib.ExitStack() as stack:
        opened = run and run_folder.open_run_folder(Path(run), "probe", resume)
        folder = opened and stack.enter_context(opened)
        if folder and run_folder.is_finished(folder, content):
            return _read(folder)
        labelled = load_given(config, data, labels, masks, class_names, preset, sop_classes)
        layer = _layer(encoder, labelled, config)
        stack.enter_context(_as_it_was(layer))
        head = build_head(config, layer, len(labelled.classes))
        scales = scales_of(layer, _batches(labelled, np.arange(len(labelled.examples))), head.reads)
        found, tested = [], []
        for own in configs:
            rows, of_images = _draws(head, scales, labelled, own, draws)
            found += rows
            tested += of_images
        probed = Probed(tuple(found), tuple(_means(found, HEADLINE[task])), HEADLINE[task])
        if folder:
            _write(folder, content, labelled, probed, tested)
    _tell(probed)
    return probed


@contextlib.contextmanager
def _as_it_was(layer: keras.Layer) -> Iterator[None]:
    """Restores `trainable` of a user's encoder, which a head freezes."""
    before = [(part, part.trainable) for part in layer._flatten_layers()]
    try:
        yield
    finally:
        for part, trainable in before:
            part.trainable = trainable


def _draws(
    head: LinearHead, scales: Scales, labelled: Task, config: FinetuneConfig, draws: int
) -> tuple[list[dict], list[dict]]:
    """The rows of probe.csv and test.csv for one amount of labels."""
    amount = _words(config)
    console = Console(stderr=True)
    found, scores = [], np.full((draws, len(labelled.examples)), np.nan)
    for seed in track(range(draws), f"probing, {amount}", console=console, transient=True):
        own = dataclasses.replace(config, seed=seed)
        drawn = labelled.drawn(own)
        train = drawn.split.train
        row = {"labels": amount, "draw": seed, "images": len(train)}
        row |= {"patients": len(set(drawn.patients[train]))}
        for readout, measures, of_images in _measures(head, scales, drawn, own):
            found.append({"readout": readout} | row | measures)
            if readout == "linear":
                scores[seed, drawn.split.test] = of_images
    times = np.count_nonzero(~np.isnan(scores), axis=0)
    tested = []
    for k in np.flatnonzero(times):
        truth = {} if labelled.source_masks else {"true": labelled.classes[labelled.targets[k]]}
        score = {"draws": times[k], HEADLINE[head.task]: np.nanmean(scores[:, k])}
        tested.append({"labels": amount, **named(labelled, k), **truth, **score})
    return found, tested


def _configure(
    task: str, encoder: str | Path | keras.Layer, preset: str, settings: Mapping
) -> tuple[FinetuneConfig, list[str] | None]:
    """The settings, and the SOP classes that the encoder was trained on, where it says so."""
    settings, described = {"head": "linear"} | settings, None
    if isinstance(encoder, keras.Layer):
        size = built_size(encoder)
        settings = ({"image_size": size} if size else {}) | settings
    elif encoder == "imagenet":
        settings = {"backbone": "efficientnetlite0", "encoder_weights": "imagenet"} | settings
    elif encoder != "none":
        described = describe_encoder(encoder)
    config = finetune_config(task, preset, settings, described)
    return config, (described or {}).get("sop_classes")


def _layer(
    encoder: str | Path | keras.Layer, labelled: Task, config: FinetuneConfig
) -> keras.Layer:
    """Loads the encoder; with random weights, sets BatchNorm's statistics to the images."""
    if isinstance(encoder, keras.Layer):
        return encoder
    if encoder not in ("none", "imagenet"):
        return load_encoder(encoder, trainable=False)
    keras.utils.set_random_seed(config.seed)
    layer = build_encoder(config.backbone, config.width, config.encoder_weights)
    layer.build((None, *config.image_size, 1))
    if not config.encoder_weights:
        rows = np.random.default_rng(config.seed).permutation(len(labelled.examples))
        for x, _ in _batches(labelled, np.tile(rows[: 20 * _BATCH], 4)):
            layer(x, training=True)
    return layer


def _batches(labelled: Task, rows: np.ndarray) -> tf.data.Dataset:
    """One pass over the images of some rows, in batches."""
    return datasets.evaluation_dataset(labelled.frames, labelled.targets, rows, _BATCH)


def scales_of(
    layer: keras.Layer, images: tf.data.Dataset, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The named scales of all images in batches (x, …), float32 [N, h, w, C_k] each."""

    @tf.function(input_signature=[images.element_spec[0]], autograph=False)
    def read(x):
        scales = layer(x, training=False)
        return {k: tf.cast(scales[k], tf.float32) for k in names}

    shown = {"total": len(images), "console": Console(stderr=True), "transient": True}
    found = [
        {k: values.numpy() for k, values in read(x).items()}
        for x, *_ in track(images, "encoding", **shown)
    ]
    return {k: np.concatenate([batch[k] for batch in found]) for k in names}


def solve(head: LinearHead, scales: Scales, task: Task, rows: np.ndarray, seed: int) -> None:
    """Solves a linear head on some rows of a task; `scales` has these rows only."""
    head.solve(*_examples(head, scales, task, rows, seed))


def _examples(
    head: LinearHead, scales: Scales, task: Task, rows: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features and classes of images, or of randomly drawn pixels at stride 4."""
    if head.task == "classification":
        return head.features(scales), task.targets[rows]
    rng = np.random.default_rng(seed)
    size = scales[READ[0]].shape[1:3]
    each = min(size[0] * size[1], max(1, MOST_PIXELS // len(rows)))
    features, classes = [], []
    for k, row in enumerate(rows):
        at = rng.choice(size[0] * size[1], each, replace=False)
        pixels = head.features({name: of[[k]] for name, of in scales.items()})
        features.append(pixels.reshape(-1, pixels.shape[-1])[at])
        classes.append(resize_mask(task.source_masks[row], size).reshape(-1)[at])
    return np.concatenate(features), np.concatenate(classes)


def _measures(
    head: LinearHead, scales: Scales, drawn: Task, config: FinetuneConfig
) -> Iterator[tuple[str, dict[str, float], np.ndarray]]:
    """Every readout with its measures on the test images, and each image's Dice or hit.

    `scales` has all rows. The Dice of an image without a class is NaN.
    """
    train, test = drawn.split.train, drawn.split.test
    examples = _examples(head, _of_rows(scales, train), drawn, train, config.seed)
    head.solve(*examples)
    if head.task == "segmentation":
        yield "linear", *_dice(head, scales, drawn, config)
        return
    of_test = _of_rows(scales, test)
    linear = head.answer(head.read(of_test, config.image_size))["probabilities"].numpy()
    neighbours = _neighbours(*examples, head.features(of_test), head.classes)
    labels = drawn.targets[test]
    for readout, shares in (("linear", linear), ("nearest neighbours", neighbours)):
        ids = shares.argmax(axis=-1)
        measures = metrics.classification_measures(labels, ids, shares, ordinal=False)
        yield readout, measures, ids == labels


def _of_rows(scales: Scales, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {k: of[rows] for k, of in scales.items()}


def _neighbours(
    features: np.ndarray, labels: np.ndarray, others: np.ndarray, classes: int
) -> np.ndarray:
    """Shares of the classes among the nearest training images, float [n, classes]."""
    from sklearn.neighbors import KNeighborsClassifier  # takes a second
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    vote = KNeighborsClassifier(min(NEIGHBOURS, len(labels)), metric="cosine")
    vote.fit(scaler.transform(features), labels)
    shares = np.zeros((len(others), classes))
    shares[:, vote.classes_] = vote.predict_proba(scaler.transform(others))
    return shares


def _dice(
    head: LinearHead, scales: Scales, drawn: Task, config: FinetuneConfig
) -> tuple[dict[str, float], np.ndarray]:
    """Dice as in `evaluate_segmentation`: by class, and the mean over an image's classes."""
    rows, names = drawn.split.test, drawn.classes[1:]
    table = []
    for part in np.array_split(rows, -(-len(rows) // _BATCH)):
        logits = head.read(_of_rows(scales, part), config.image_size)
        for row, answer in zip(part, head.answer(logits)["probabilities"].numpy(), strict=True):
            truth = drawn.source_masks[row]
            mask = likeliest_classes(answer, truth.shape)
            table.append(
                [
                    metrics.dice(truth == k, mask == k) if (truth == k).any() else np.nan
                    for k in range(1, head.classes)
                ]
            )
    table = np.array(table)
    known = ~np.isnan(table).all(axis=1)
    of_images = np.full(len(table), np.nan)
    of_images[known] = np.nanmean(table[known], axis=1)
    of_class = {
        f"dice_{name}": float(np.nanmean(column)) if not np.isnan(column).all() else np.nan
        for name, column in zip(names, table.T, strict=True)
    }
    return {"dice": float(of_images[known].mean()), **of_class}, of_images


def _means(found: list[dict], measure: str) -> Iterator[dict]:
    """The mean over the draws with its interval, for every readout and amount of labels."""
    for readout, labels in dict.fromkeys((row["readout"], row["labels"]) for row in found):
        values = [
            row[measure] for row in found if (row["readout"], row["labels"]) == (readout, labels)
        ]
        mean, low, high = metrics.mean_interval(values)
        amount = {"readout": readout, "labels": labels, "draws": len(values)}
        yield amount | {"mean": mean, "low": low, "high": high}


def _words(config: FinetuneConfig) -> str:
    if config.label_count:
        return f"{config.label_count} images"
    return f"{100 * config.label_fraction:g} % of the patients"


def _write(
    folder: Path, content: dict, labelled: Task, probed: Probed, tested: Sequence[Mapping]
) -> None:
    content |= {
        "classes": list(labelled.classes),
        "data_fingerprint": labelled.frames.fingerprint,
        "labels_fingerprint": labelled.labels_fingerprint,
        "environment": run_folder.environment(),
    }
    run_folder.write_configuration(folder, content)
    write_table(folder / "probe.csv", tuple(probed.rows[0]), probed.rows)
    write_table(folder / "test.csv", tuple(tested[0]), tested, private=True)
    write_json(folder / "result.json", {"measure": probed.measure, "means": probed.means})


def _read(folder: Path) -> Probed:
    """Reads the files of `_write`."""
    result = json.loads((folder / "result.json").read_text())
    with (folder / "probe.csv").open(newline="") as file:
        words = ("readout", "labels")
        rows = [
            {name: text if name in words else float(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]
    return Probed(tuple(rows), tuple(result["means"]), result["measure"])


def _tell(probed: Probed) -> None:
    for row in probed.means:
        print(
            f"{row['readout']}, {row['labels']}: {probed.measure} {row['mean']:.4f} "
            f"(95 % {row['low']:.4f} to {row['high']:.4f}, {row['draws']} draws)"
        )
