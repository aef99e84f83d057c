"""Exported encoders, to put heads on."""

import json
from collections.abc import Callable
from pathlib import Path

import keras

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.saved_model.digest import digest_of, weights_digest, with_digest


class EncoderLayer(keras.layers.TFSMLayer):
    """An exported encoder as a layer: truly frozen, or truly tuned.

    Two faults of the stock layer are mended: variable names that Adam refuses, and BatchNorm
    statistics that move although `trainable` is False.

    Args:
        folder: Folder of one version.
        trainable: Whether `fit` changes it.

    Call:
        x: float [N, height, width, 1], z-scored, at the encoder's size.

    Returns:
        dict of the five scales.
    """

    def __init__(self, folder: Path, trainable: bool):
        super().__init__(
            str(folder),
            call_endpoint="serve",
            call_training_endpoint="train",
            trainable=trainable,
            name="encoder",
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


def newest_version(path: Path) -> Path:
    """The newest version in a folder of versions; any other path as it is."""
    versions = [int(p.name) for p in path.glob("*") if p.name.isdecimal()] if path.is_dir() else []
    return path / str(max(versions)) if versions else path


def read_metadata(file: Path) -> dict:
    """What a version says of itself, once its weights have been found to be those it tells of.

    Args:
        file: The version's `<name>.json`.

    Returns:
        The content, with `weights_digest` even if an older export lacks it. What has no
        `image_size` is not from here, and comes as it is.

    Raises:
        UserError: The weights are others, or cannot be read.
    """
    content = json.loads(file.read_text())
    if "image_size" not in content:
        return content
    return with_digest(content, weights_digest(file.parent), file.parent)


def read_encoder(path: Path) -> tuple[Path, dict]:
    """Finds an exported encoder and what it says of itself.

    Args:
        path: Folder of one version, or of all versions: then the newest.

    Returns:
        Folder of the version, and `read_metadata` of its `encoder.json`.

    Raises:
        UserError: There is none, or its weights are not those that were exported.
    """
    file = _json_of_encoder(newest_version(path))
    return file.parent, read_metadata(file)


def _json_of_encoder(folder: Path) -> Path:
    file = folder / "encoder.json"
    if not file.is_file():
        raise UserError(
            f"--encoder {folder}: no exported encoder here. Train one with train.py, give the "
            "folder export/encoder, or train from scratch with --encoder none."
        )
    return file


def open_encoder(
    name: str,
) -> tuple[Callable[..., keras.Layer], dict | None]:
    """Finds the encoder that a head is to stand on.

    Args:
        name: Folder of an exported encoder, an `encoder.keras` file, or `none`.

    Returns:
        A function (width, trainable, policy) -> layer from z-scored images to the five scales, and
        what the encoder says of itself (None from scratch). Keras' dtype policy is that of an
        encoder from scratch; an exported one computes in float32.

    Raises:
        UserError: There is no such encoder, or its weights are not those that were exported.
    """
    if name == "none":

        def build(width, trainable, policy="float32"):
            from tf_dicom_ce.models.encoder import VGG16Encoder

            encoder = VGG16Encoder(width, dtype=policy)
            encoder.trainable = trainable  # as an argument it would not reach the blocks
            return encoder

        return build, None
    path = Path(name)
    if path.suffix == ".keras":
        content = json.loads(_json_of_encoder(path.parent).read_text())
        digest = digest_of(keras.saving.load_model(path).get_weights())

        def load(width, trainable, policy="float32"):
            encoder = keras.saving.load_model(path)
            encoder.trainable = trainable
            return encoder

        return load, with_digest(content, digest, path)
    folder, metadata = read_encoder(path)
    return lambda width, trainable, policy="float32": EncoderLayer(folder, trainable), metadata
