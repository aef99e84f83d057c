"""The next version of a model in a repository: whole, or not there."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import tensorflow as tf

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.preprocessing import decode_image_bytes, resize, standardise
from tf_dicom_ce.saved_model.card import model_card
from tf_dicom_ce.saved_model.digest import weights_digest
from tf_dicom_ce.saved_model.golden import write_golden
from tf_dicom_ce.saved_model.precision import in_float32
from tf_dicom_ce.whole_files import public, write_json, write_text

Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def write_encoder(
    encoder: keras.Model,
    root: Path,
    image_size: tuple[int, int] | None = None,
    metadata: Mapping | None = None,
    name: str = "encoder",
) -> Path:
    """Exports an encoder as the next version; nothing is overwritten, nothing half-written stays.

    It is exported in float32.

    Args:
        encoder: Built; from z-scored images to the dict of scales.
        root: The model repository; `<name>/<version>/` is made below it.
        image_size: Height and width that the exported endpoints take; None for those that the
            encoder was built with.
        metadata: More for `encoder.json`, which also gets `weights_digest`; plain values without
            identifiers.
        name: Of the model.

    Returns:
        The folder of the new version.

    Raises:
        UserError: There is no `image_size`, and the encoder was built for any.
    """
    image_size, encoder = image_size or _required_size(encoder), in_float32(encoder)

    def write(folder: Path) -> None:
        archive = keras.export.ExportArchive()
        archive.track(encoder)
        _add_signatures(archive, lambda x: encoder(x, training=False), image_size)
        at_size = [tf.TensorSpec((None, *image_size, 1), tf.float32, name="x")]
        archive.add_endpoint("serve", lambda x: encoder(x, training=False), at_size)
        archive.add_endpoint("train", lambda x: encoder(x, training=True), at_size)
        archive.write_out(folder, verbose=False)
        encoder.save(folder / "encoder.keras")

    content = {"image_size": list(image_size), **(metadata or {})}
    return _write_version(Path(root) / name, "encoder", write, content)


def write_head(
    model: keras.Model,
    answer: Answer,
    root: Path,
    task: str,
    image_size: tuple[int, int] | None = None,
    metadata: Mapping | None = None,
    name: str | None = None,
) -> Path:
    """Exports a head with the encoder inside: nothing of the encoder's folder is needed.

    Args:
        model: Built; from z-scored images to logits.
        answer: From logits to what is answered.
        root: See `write_encoder`.
        task: `classification` or `segmentation`.
        image_size: See `write_encoder`.
        metadata: For `<task>.json`, see `write_encoder`.
        name: Of the model; None for its task.

    Returns:
        The folder of the new version.

    Raises:
        UserError: See `write_encoder`.
    """
    image_size, model = image_size or _required_size(model), in_float32(model)

    def write(folder: Path) -> None:
        archive = keras.export.ExportArchive()
        archive.track(model)
        _add_signatures(archive, lambda x: answer(model(x, training=False)), image_size)
        archive.write_out(folder, verbose=False)

    content = {"image_size": list(image_size), "task": task, **(metadata or {})}
    return _write_version(Path(root) / (name or task), task, write, content)


def built_size(model: keras.Layer) -> tuple[int, int] | None:
    """Height and width that a model was built for; None where it is for any."""
    shape = getattr(model, "input_shape", None) or (model.get_build_config() or {}).get(
        "input_shape"
    )
    return None if shape is None or None in shape[1:3] else tuple(shape[1:3])


def _required_size(model: keras.Model) -> tuple[int, int]:
    size = built_size(model)
    if size is None:
        raise UserError(
            f"export of {model.name}: it was built for images of any size. Give one as "
            "image_size=(height, width)."
        )
    return size


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


def _write_version(models: Path, kind: str, write: Callable[[Path], None], content: dict) -> Path:
    with public():  # a model shows no patient, and a server may be another user
        return _write_publicly(models, kind, write, content)


def _write_publicly(models: Path, kind: str, write: Callable[[Path], None], content: dict) -> Path:
    models.mkdir(parents=True, exist_ok=True)
    # A dot keeps the unfinished folder out of sight of a server that looks for versions.
    beside = models / f".{os.getpid()}.part"
    try:
        write(beside)
        content = {**content, "weights_digest": weights_digest(beside)}
        write_json(beside / f"{kind}.json", content)
        write_text(beside / "MODEL_CARD.md", model_card(kind, content))
        write_golden(beside, models.name)
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
