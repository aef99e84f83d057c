"""The encoder as an artefact: `<root>/encoder/<version>/`, read by heads and by servers.

The folder holds the SavedModel, `encoder.json` (what the network expects, and where it comes from)
and `encoder.keras`. The SavedModel has two signatures with the preprocessing inside,

    serving_default   image_bytes: string [N], PNG or JPEG files
    serving_image     image: float32 [N, H, W, 1], gray levels 0…255, any H and W

and two endpoints on z-scored images at the model's own size, float32 [N, height, width, 1],

    serve             BatchNorm at its moving statistics
    train             BatchNorm on the batch, moving statistics updated

All four answer with the five scales by name, `P1`…`P5`.
"""

import json
import os
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from tf_dicom_ce.data.preprocessing import decode_image_bytes, resize, standardise
from tf_dicom_ce.models.encoder import VGG16Encoder


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
    models = root / "encoder"
    models.mkdir(parents=True, exist_ok=True)
    # A dot keeps the unfinished folder out of sight of a server that looks for versions.
    beside = models / f".{os.getpid()}.part"
    try:
        _write_saved_model(encoder, image_size, beside)
        encoder.save(beside / "encoder.keras")
        content = {"image_size": list(image_size), "width": encoder.width, **metadata}
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (beside / "encoder.json").write_text(text + "\n")
        return _rename_to_next_version(beside, models)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_saved_model(encoder: VGG16Encoder, image_size: tuple[int, int], folder: Path) -> None:
    height, width = image_size

    def from_image(image):
        return encoder(standardise(resize(image, image_size)), training=False)

    def from_bytes(image_bytes):
        images = tf.map_fn(
            lambda contents: resize(decode_image_bytes(contents), image_size),
            image_bytes,
            fn_output_signature=tf.TensorSpec((height, width, 1), tf.float32),
        )
        return encoder(standardise(images), training=False)

    at_size = [tf.TensorSpec((None, height, width, 1), tf.float32, name="x")]
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint(
        "serving_default", from_bytes, [tf.TensorSpec((None,), tf.string, name="image_bytes")]
    )
    archive.add_endpoint(
        "serving_image",
        from_image,
        [tf.TensorSpec((None, None, None, 1), tf.float32, name="image")],
    )
    archive.add_endpoint("serve", lambda x: encoder(x, training=False), at_size)
    archive.add_endpoint("train", lambda x: encoder(x, training=True), at_size)
    archive.write_out(folder, verbose=False)


def _rename_to_next_version(folder: Path, models: Path) -> Path:
    while True:
        versions = [int(path.name) for path in models.iterdir() if path.name.isdecimal()]
        target = models / str(max(versions, default=0) + 1)
        try:
            return folder.rename(target)
        except OSError:  # another run took that number in the meantime
            if not target.exists():
                raise
