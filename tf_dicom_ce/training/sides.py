"""The two sides of a pretraining: which images train and which choose the epoch, and their tags."""

import hashlib

import numpy as np
import tensorflow as tf

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.data import datasets, shuffling
from tf_dicom_ce.data.splits import Split
from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.training.loop import Data


class Sides:
    """Images split in two, in the order of steps, with tags as they are or wrong as a control.

    Args:
        data: The images; decoded here where that has not been done.
        config: Settings.

    Attributes:
        source: Of the images.
        split: Row numbers of both sides.
        targets: `tags` and which are `known`, by row.
        order: Rows of every training step.
        provenance: What data, labels and split are, without identifiers.
    """

    def __init__(self, data: UltrasoundDataset, config: PretrainConfig):
        train, validation = data.split(config.split, config.validation_fraction, config.seed)
        self.source, self._config = data.source, config
        self.split = Split(train.rows, validation.rows)
        y, known = self.source.y, self.source.known
        rows = (train.rows, validation.rows)
        self.provenance = {
            "data_fingerprint": self.source.frames.fingerprint,
            "labels_fingerprint": hashlib.sha256(y.tobytes() + known.tobytes()).hexdigest(),
            "split_fingerprint": self.split.fingerprint,
            "tags_known": UltrasoundDataset(self.source, np.concatenate(rows)).tags_known,
            "schema": dict(self.source.schema),
            "images": {"training": len(train), "validation": len(validation)},
        }
        if config.shuffle_tags:
            patients = self.source.patients
            y, known = shuffling.shuffle_among_patients(y, known, patients, rows, config.seed)
        if config.tag_noise:
            spans, rate = self.source.spans, config.tag_noise
            y, known = shuffling.add_tag_noise(y, known, spans, rows, rate, config.seed)
        self.targets = {"tags": y, "known": known}
        balanced = datasets.balanced(y[train.rows]) if config.balance_tags else None
        self.order = datasets.StepOrder(train.rows, config.batch_size, config.seed, balanced)

    def batches(self) -> Data:
        """What a model is fitted on."""
        config = self._config
        return Data(
            lambda first, parts: datasets.training_dataset(
                self.source.frames,
                self.targets,
                self.order,
                config.seed,
                config.augment,
                first,
                parts,
                self.source.spans,
                config.tag_dropout,
            ),
            self.validation(self.split.validation),
            lambda step: self.files(self.order.rows_at(step)),
        )

    def validation(self, rows: np.ndarray) -> tf.data.Dataset:
        """Some rows once, in batches."""
        return datasets.evaluation_dataset(
            self.source.frames, self.targets, rows, self._config.batch_size
        )

    def files(self, rows: np.ndarray) -> list[int]:
        """Numbers of these rows' files in files.csv."""
        return [self.source.samples[row].row for row in rows]
