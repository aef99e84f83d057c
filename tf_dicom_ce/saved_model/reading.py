"""Exported models: encoders to put heads on, heads to ask."""

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.saved_model.digest import weights_digest, with_digest

_TASKS = ("segmentation", "classification")


@keras.saving.register_keras_serializable("tf_dicom_ce")
class EncoderLayer(keras.layers.TFSMLayer):
    """An exported encoder as a layer: truly frozen, or truly tuned; it computes in float32.

    Two faults of the stock layer are mended: variable names that Adam refuses, and BatchNorm
    statistics that move although `trainable` is False. A model on it saves as `.keras`, with the
    weights; as that file names the folder, whose graph is run, Keras loads it with
    `safe_mode=False` alone (and so `clone_model`: `keras.config.enable_unsafe_deserialization()`).

    Args:
        filepath: Folder of one version.
        trainable: Whether `fit` changes it.
        name: Of the layer.

    Call:
        x: float [N, height, width, 1], z-scored, at the encoder's size.

    Returns:
        dict of the five scales.
    """

    def __init__(self, filepath: str | Path, trainable: bool = True, name: str = "encoder"):
        super().__init__(
            str(filepath),
            call_endpoint="serve",
            call_training_endpoint="train",
            trainable=trainable,
            name=name,
            dtype="float32",
        )

    def _add_existing_weight(self, weight):
        variable = keras.Variable(
            weight,
            trainable=weight.trainable,
            dtype=weight.dtype,
            name=weight.name.replace("/", "_").replace(":", "_"),
        )
        self._track_variable(variable)

    def call(self, x, training=False):
        """Uses the endpoint `train` only where the layer may change."""
        return super().call(x, training=training and self.trainable)

    def get_config(self):
        """The arguments; the endpoints are always the same."""
        return {"filepath": self.filepath, "trainable": self.trainable, "name": self.name}


class ExportedHead:
    """An exported head with the encoder inside, to be asked.

    Attributes:
        folder: Of the version.
        content: What it says of itself, see `read_metadata`.
        task: `segmentation` or `classification`.
        classes: Their names in the order of the answers; segmentation: background first.
        image_size: Height and width that the network sees.

    Call:
        images: Gray levels 0…255, any dtype [N, H, W, 1], any H and W.

    Returns:
        The answers by name, NumPy arrays: `probabilities` float32 [N, K] and `class_id` int32 [N],
        or `probabilities` float32 [N, height, width, C] and `mask` uint8 [N, height, width].
    """

    def __init__(self, folder: Path, content: dict):
        self.folder, self.content = folder, content
        self.task, self.classes = content["task"], tuple(content["classes"])
        self.image_size = tuple(content["image_size"])
        self._loaded = tf.saved_model.load(str(folder))  # kept: its variables go with it

    def __call__(self, images) -> dict[str, np.ndarray]:
        """Asks it."""
        found = self._loaded.signatures["serving_image"](image=tf.cast(images, tf.float32))
        return {name: values.numpy() for name, values in found.items()}


def load_head(path: str | Path) -> ExportedHead:
    """Loads an exported head.

    Args:
        path: Folder of one version, or of all versions: then the newest.

    Raises:
        UserError: There is none, it cannot be loaded, or its weights are not those that were
            exported.
    """
    path = Path(path).resolve()
    folder = newest_version(path)
    file = next((f for task in _TASKS if (f := folder / f"{task}.json").is_file()), None)
    if file is None:
        raise UserError(
            f"--model {path}: no exported head here. Train one with finetune.py, or give a folder "
            "like export/segmentation or export/segmentation/1."
        )
    try:
        return ExportedHead(folder, read_metadata(file))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"--model {folder}: cannot be loaded ({type(error).__name__}). Copy the whole folder "
            "again, or export the head again with finetune.py."
        ) from None


def newest_version(path: Path) -> Path:
    """The newest version in a folder of versions; any other path as it is."""
    versions = [int(p.name) for p in path.glob("*") if p.name.isdecimal()] if path.is_dir() else []
    return path / str(max(versions)) if versions else path


def read_metadata(file: Path) -> dict:
    """What a version says of itself, once its weights have been found to be those it tells of.

    Returns:
        The content of its `<name>.json`, the file, with `weights_digest` even if an older export
        lacks it. What has no `image_size` is not from here, and comes as it is.

    Raises:
        UserError: The weights are others, or cannot be read.
    """
    content = json.loads(file.read_text())
    if "image_size" not in content:
        return content
    return with_digest(content, weights_digest(file.parent), file.parent)


def read_encoder(path: Path) -> tuple[Path, dict]:
    """Finds an exported encoder: the folder of its (newest) version, and what that says of itself.

    Raises:
        UserError: There is none, or its weights are not those that were exported.
    """
    file = json_of_encoder(newest_version(path))
    return file.parent, read_metadata(file)


def json_of_encoder(folder: Path) -> Path:
    """The `encoder.json` of a version.

    Raises:
        UserError: There is none.
    """
    file = folder / "encoder.json"
    if not file.is_file():
        raise UserError(
            f"--encoder {folder}: no exported encoder here. Train one with train.py, give the "
            "folder export/encoder, or train from scratch with --encoder none."
        )
    return file
