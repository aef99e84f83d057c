"""Artefacts: exported models as `<root>/<name>/<version>/`, read by heads and by servers.

A folder holds the SavedModel and `<name>.json` (what the network expects, and where it comes
from); an encoder's also `encoder.keras`. Every SavedModel has two signatures with the preprocessing
inside,

    serving_default   image_bytes: string [N], PNG or JPEG files
    serving_image     image: float32 [N, H, W, 1], gray levels 0…255, any H and W

and an encoder's has two endpoints on z-scored images at the model's own size, float32
[N, height, width, 1],

    serve             BatchNorm at its moving statistics
    train             BatchNorm on the batch, moving statistics updated

An encoder answers with the five scales by name, `P1`…`P5`.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from tf_dicom_ce.data.preprocessing import decode_image_bytes, resize, standardise
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.encoder import VGG16Encoder

Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]


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


def read_encoder(path: Path) -> tuple[Path, dict]:
    """Finds an exported encoder and what it says of itself.

    Args:
        path: Folder of one version, or of all versions: then the newest.

    Returns:
        Folder of the version, and the content of its `encoder.json`.

    Raises:
        UserError: There is none.
    """
    versions = [int(p.name) for p in path.glob("*") if p.name.isdecimal()] if path.is_dir() else []
    folder = path / str(max(versions)) if versions else path
    if not (folder / "encoder.json").is_file():
        raise UserError(
            f"--encoder {path}: no exported encoder here. Train one with train.py, give the folder "
            "export/encoder, or train from scratch with --encoder none."
        )
    return folder, json.loads((folder / "encoder.json").read_text())


def open_encoder(
    name: str,
) -> tuple[Callable[[float, bool], keras.Layer], dict | None]:
    """Finds the encoder that a head is to stand on.

    Args:
        name: Folder of an exported encoder, an `encoder.keras` file, or `none`.

    Returns:
        A function (width, trainable) -> layer from z-scored images to the five scales, and what
        the encoder says of itself (None from scratch).

    Raises:
        UserError: There is no such encoder.
    """
    if name == "none":

        def build(width, trainable):
            encoder = VGG16Encoder(width)
            encoder.trainable = trainable  # as an argument it would not reach the blocks
            return encoder

        return build, None
    path = Path(name)
    if path.suffix == ".keras":
        folder, metadata = read_encoder(path.parent)

        def load(width, trainable):
            encoder = keras.saving.load_model(path)
            encoder.trainable = trainable
            return encoder

        return load, metadata
    folder, metadata = read_encoder(path)
    return lambda width, trainable: EncoderLayer(folder, trainable), metadata


def write_encoder(
    encoder: VGG16Encoder, root: Path, image_size: tuple[int, int], metadata: dict
) -> Path:
    """Exports an encoder as the next version; nothing is overwritten, nothing half-written stays.

    Args:
        encoder: A built encoder.
        root: The model repository; `encoder/<version>/` is made below it.
        image_size: Height and width that the encoder was trained at.
        metadata: More for `encoder.json`; plain values without identifiers.

    Returns:
        The folder of the new version.
    """

    def write(folder: Path) -> None:
        archive = keras.export.ExportArchive()
        archive.track(encoder)
        _add_signatures(archive, lambda x: encoder(x, training=False), image_size)
        at_size = [tf.TensorSpec((None, *image_size, 1), tf.float32, name="x")]
        archive.add_endpoint("serve", lambda x: encoder(x, training=False), at_size)
        archive.add_endpoint("train", lambda x: encoder(x, training=True), at_size)
        archive.write_out(folder, verbose=False)
        encoder.save(folder / "encoder.keras")

    content = {"image_size": list(image_size), "width": encoder.width, **metadata}
    return _write_version(root, "encoder", write, content)


def write_head(
    model: keras.Model,
    answer: Answer,
    root: Path,
    name: str,
    image_size: tuple[int, int],
    metadata: dict,
) -> Path:
    """Exports a head with the encoder inside: nothing of the encoder's folder is needed.

    Args:
        model: From z-scored images to logits.
        answer: From logits to what is answered.
        root: The model repository.
        name: `classification` or `segmentation`.
        image_size: Height and width that the model works at.
        metadata: For `<name>.json`; plain values without identifiers.

    Returns:
        The folder of the new version.
    """

    def write(folder: Path) -> None:
        archive = keras.export.ExportArchive()
        archive.track(model)
        _add_signatures(archive, lambda x: answer(model(x, training=False)), image_size)
        archive.write_out(folder, verbose=False)

    return _write_version(root, name, write, {"image_size": list(image_size), **metadata})


def _add_signatures(
    archive: keras.export.ExportArchive, answer: Answer, image_size: tuple[int, int]
) -> None:
    """Adds the two signatures, from raw images to what `answer` gives for z-scored ones."""

    def from_image(image):
        return answer(standardise(resize(image, image_size)))

    def from_bytes(image_bytes):
        images = tf.map_fn(
            lambda contents: resize(decode_image_bytes(contents), image_size),
            image_bytes,
            fn_output_signature=tf.TensorSpec((*image_size, 1), tf.float32),
        )
        return answer(standardise(images))

    archive.add_endpoint(
        "serving_default", from_bytes, [tf.TensorSpec((None,), tf.string, name="image_bytes")]
    )
    archive.add_endpoint(
        "serving_image",
        from_image,
        [tf.TensorSpec((None, None, None, 1), tf.float32, name="image")],
    )


def _write_version(root: Path, name: str, write: Callable[[Path], None], content: dict) -> Path:
    models = root / name
    models.mkdir(parents=True, exist_ok=True)
    # A dot keeps the unfinished folder out of sight of a server that looks for versions.
    beside = models / f".{os.getpid()}.part"
    try:
        write(beside)
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (beside / f"{name}.json").write_text(text + "\n")
        return _rename_to_next_version(beside, models)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _rename_to_next_version(folder: Path, models: Path) -> Path:
    while True:
        versions = [int(path.name) for path in models.iterdir() if path.name.isdecimal()]
        target = models / str(max(versions, default=0) + 1)
        try:
            return folder.rename(target)
        except OSError:  # another run took that number in the meantime
            if not target.exists():
                raise
