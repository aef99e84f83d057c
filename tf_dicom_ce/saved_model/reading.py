"""Exported models: encoders to put heads on, heads to ask; once their weights are found theirs.

The digest of the weights tells two models apart that were trained on the same data. Before a model
is used, it is compared with the one that its `<name>.json` got at export.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.errors import UserError

_TASKS = ("segmentation", "classification")
_VARIABLE = re.compile(r"variables/(\d+)/\.ATTRIBUTES/VARIABLE_VALUE")


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
    """The `encoder.json` in the folder of a version; UserError if there is none."""
    file = folder / "encoder.json"
    if not file.is_file():
        raise UserError(
            f"{folder}: no exported encoder here. Train one with train.py, give the folder "
            "export/encoder, or none for a network that was not pretrained."
        )
    return file


def digest_of(values: Iterable[np.ndarray]) -> str:
    """SHA-256 (hex) of "0 ‖ form₀ ‖ bytes₀ ‖ 1 ‖ form₁ ‖ bytes₁ ‖ …", form and number as a line.

    The values are those of all variables of a model, in its order. The line of variable k is e.g.
    "0 float32 3x3x1x64"; its bytes are little-endian, in C order.
    """
    digest = hashlib.sha256()
    for k, value in enumerate(values):
        digest.update(f"{k} {value.dtype.name} {'x'.join(map(str, value.shape))}\n".encode())
        digest.update(value.astype(value.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def weights_digest(folder: Path) -> str:
    """`digest_of` an exported model, from the files of its version alone.

    The model's variables are in the SavedModel's checkpoint under `variables/<k>`, k being their
    place in Keras' `model.variables`, which the architecture alone decides: names, which depend on
    what else a process built, have no part in it. The checkpoint also holds each of them as
    `_all_variables/<n>`, in an order that no two exports share; no signature reads these.

    Raises:
        UserError: The checkpoint cannot be read.
    """
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        # All of it is read, so that a file that was cut anywhere is found.
        found = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # of many kinds, some of which are not TensorFlow's own
        raise UserError(
            f"{folder / 'variables'}: cannot be read ({type(error).__name__}). Copy the whole "
            "folder again, or export the model again."
        ) from None
    places = {int(match[1]): name for name in found if (match := _VARIABLE.fullmatch(name))}
    return digest_of(found[places[k]] for k in sorted(places))


def with_digest(content: dict, digest: str, file: Path) -> dict:
    """What a `<name>.json` says of a model, with `weights_digest`, which older exports lack.

    Raises:
        UserError: It is about other weights than those in the file, or folder, of this digest.
    """
    said = str(content.get("weights_digest", digest))
    if said != digest:
        raise UserError(
            f"{file}: the weights are not those of the JSON beside them: their digest is "
            f"{digest[:12]}…, and it says {said[:12]}…. Copy the whole folder again, or export "
            "the model again."
        )
    return {**content, "weights_digest": digest}
