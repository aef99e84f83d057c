"""The next version of a model in a repository: whole, or not there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from tf_dicom_ce.preprocessing import decode_image_bytes, resize, standardise
from tf_dicom_ce.saved_model.card import model_card
from tf_dicom_ce.saved_model.digest import weights_digest
from tf_dicom_ce.saved_model.golden import write_golden
from tf_dicom_ce.whole_files import public, write_json, write_text

Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def write_encoder(
    encoder: keras.Model, root: Path, image_size: tuple[int, int], metadata: dict
) -> Path:
    """Exports an encoder as the next version; nothing is overwritten, nothing half-written stays.

    Args:
        encoder: A built encoder.
        root: The model repository; `encoder/<version>/` is made below it.
        image_size: Height and width that the encoder was trained at.
        metadata: More for `encoder.json`, which also gets `weights_digest`; plain values without
            identifiers.

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

    content = {"image_size": list(image_size), "width": encoder.width_multiplier, **metadata}
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
        metadata: For `<name>.json`, which also gets `weights_digest`; plain values without
            identifiers.

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
        # An eager call does not look at the signature: three channels would come as three rows.
        image = tf.ensure_shape(image, (None, None, None, 1))
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
    with public():  # a model shows no patient, and a server may be another user
        return _write_publicly(root / name, name, write, content)


def _write_publicly(models: Path, name: str, write: Callable[[Path], None], content: dict) -> Path:
    models.mkdir(parents=True, exist_ok=True)
    # A dot keeps the unfinished folder out of sight of a server that looks for versions.
    beside = models / f".{os.getpid()}.part"
    try:
        write(beside)
        content = {**content, "weights_digest": weights_digest(beside)}
        write_json(beside / f"{name}.json", content)
        write_text(beside / "MODEL_CARD.md", model_card(name, content))
        write_golden(beside, name)
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
