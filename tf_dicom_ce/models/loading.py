"""Exported encoders, to put heads on."""

import json
from pathlib import Path

import keras

import tf_dicom_ce.models.backbones  # noqa: F401  what an encoder.keras may be made of
from tf_dicom_ce.saved_model.reading import (
    EncoderLayer,
    digest_of,
    json_of_encoder,
    read_encoder,
    with_digest,
)


def load_encoder(path: str | Path, trainable: bool = True) -> keras.Layer:
    """Loads an exported encoder, to put a head on it.

    Args:
        path: Folder of one version, or of all versions: then the newest, as a layer around the
            SavedModel, see `EncoderLayer`. Or its `encoder.keras`, as a Keras model.
        trainable: Whether `fit` changes it; if not, BatchNorm's statistics stay, too.

    Returns:
        From z-scored images, float [N, height, width, 1], to the dict of scales.

    Raises:
        UserError: There is none, or its weights are not those that were exported.
    """
    path = Path(path)
    if path.suffix != ".keras":
        return EncoderLayer(read_encoder(path)[0], trainable)
    encoder, _ = _of_file(path)
    encoder.trainable = trainable  # as an argument it would not reach the blocks
    return encoder


def describe_encoder(path: str | Path) -> dict:
    """What an exported encoder says of itself.

    Args:
        path: As for `load_encoder`.

    Returns:
        The content of its `encoder.json`, with `weights_digest` even if an older export lacks it.

    Raises:
        UserError: See `load_encoder`.
    """
    path = Path(path)
    return (_of_file(path) if path.suffix == ".keras" else read_encoder(path))[1]


def _of_file(path: Path) -> tuple[keras.Model, dict]:
    content = json.loads(json_of_encoder(path.parent).read_text())
    encoder = keras.saving.load_model(path)
    return encoder, with_digest(content, digest_of(encoder.get_weights()), path)
