"""Measures how well simple readouts tell the view quality from few labels (10 min).

    python -m benchmarks view_quality export/encoder imagenet --labels 15 30 60 120 300

The labels of the phantom's task `classification`, drawn as `tf-dicom-ce probe` does: by numbers of
images, spread over the patients. Readouts of the images at 16×24 pixels, and of the averages of the
scales P2 to P5 of each encoder, an exported one or `imagenet`. Prints Markdown: mean accuracy on
the test images over the draws, in brackets its 95 % interval.
"""

import argparse
import dataclasses
import warnings
from collections.abc import Iterator

import numpy as np

from benchmarks.tables import Table
from tf_dicom_ce.config import HEAD_PRESETS, finetune_config
from tf_dicom_ce.metrics import mean_interval

THUMBNAIL = (16, 24)
PENALTIES = (0.01, 0.1, 1.0, 10.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("encoders", nargs="+", metavar="ENCODER", help="folder, or imagenet")
    parser.add_argument("--preset", choices=HEAD_PRESETS, default="quick", help="of the phantom")
    parser.add_argument("--labels", type=int, nargs="+", default=(15, 30, 60, 120, 300))
    parser.add_argument("--draws", type=int, default=20)


def readouts() -> dict:
    """Name -> scikit-learn's classifier."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    found = {f"logistic, C = {c:g}": LogisticRegression(C=c, max_iter=1000) for c in PENALTIES} | {
        "support vectors": SVC(),
        "five neighbours": KNeighborsClassifier(metric="cosine"),
        "forest": RandomForestClassifier(500, random_state=0),
    }
    return {name: make_pipeline(StandardScaler(), model) for name, model in found.items()}


def features(encoders: list[str], config, preset: str) -> Iterator[tuple[str, object, np.ndarray]]:
    """Name, labelled images and features [N, n] of the images, then of each encoder."""
    import tensorflow as tf

    from tf_dicom_ce.data.datasets import evaluation_dataset
    from tf_dicom_ce.data.tasks import load_given
    from tf_dicom_ce.models.backbones import build_encoder, load_encoder
    from tf_dicom_ce.models.linear import READ, LinearClassifier
    from tf_dicom_ce.training.probe import scales_of

    labelled = load_given(config, None, None, None, None, preset)
    rows = np.arange(len(labelled.examples))
    images = evaluation_dataset(labelled.frames, labelled.targets, rows, 32)
    small = [tf.image.resize(x, THUMBNAIL, antialias=True).numpy() for x, *_ in images]
    yield "images", labelled, np.concatenate(small).reshape(len(rows), -1)
    for name in encoders:
        if name == "imagenet":
            encoder = build_encoder("efficientnetlite0", weights="imagenet")
        else:
            encoder = load_encoder(name, trainable=False)
        yield name, labelled, LinearClassifier.features(scales_of(encoder, images, READ))


def run(options: argparse.Namespace) -> None:
    config = finetune_config("classification", options.preset, {})
    models, table = readouts(), []
    warnings.filterwarnings("ignore", module="sklearn")  # of C without convergence
    for seen, labelled, x in features(options.encoders, config, options.preset):
        cells = {name: [] for name in models}
        for count in options.labels:
            found = {name: [] for name in models}
            for seed in range(options.draws):
                own = dataclasses.replace(config, label_count=count, seed=seed)
                split = labelled.drawn(own).split
                for name, model in models.items():
                    model.fit(x[split.train], labelled.targets[split.train])
                    hits = model.predict(x[split.test]) == labelled.targets[split.test]
                    found[name].append(hits.mean())
            for name, accuracies in found.items():
                mean, low, high = mean_interval(accuracies)
                cells[name].append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
                print(f"{seen}, {name}, {count} labels: {cells[name][-1]}", flush=True)
        table += ([seen, name, *row] for name, row in cells.items())
    title = f"Accuracy by number of labels, phantom `{options.preset}`, {options.draws} draws"
    print("\n" + Table(title, ("seen", "readout", *map(str, options.labels)), table).markdown())
