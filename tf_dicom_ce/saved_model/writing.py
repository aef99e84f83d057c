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
from tf_dicom_ce.saved_model.golden import write_golden
from tf_dicom_ce.saved_model.reading import weights_digest
from tf_dicom_ce.whole_files import public, write_json, write_text

Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]

_HALVES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")


def write_model(
    model: keras.Model,
    path: Path,
    kind: str,
    image_size: tuple[int, int] | None = None,
    metadata: Mapping | None = None,
    answer: Answer = lambda scales: scales,
    familiarity: Callable[[Mapping], tf.Tensor] | None = None,
) -> Path:
    """Exports a model, in float32, as the next version; a head has its encoder inside.

    Nothing is overwritten, nothing half-written stays.

    Args:
        model: Built; from z-scored images to the dict of scales, or to logits.
        path: Folder of all versions; its name is the model's.
        kind: `encoder`, `classification` or `segmentation`.
        image_size: Height and width that it works at; None for those that it was built with.
        metadata: More for `<kind>.json`, which also gets `weights_digest`; plain values without
            identifiers.
        answer: Of a head: from logits to what is answered.
        familiarity: Of a head: from what its `see` gives to one more answer, float32 [N].

    Returns:
        The folder of the new version.

    Raises:
        UserError: There is no `image_size`, and the model was built for any.
    """
    if (image_size := image_size or built_size(model)) is None:
        raise UserError(
            f"export of {model.name}: it was built for images of any size. Give one as "
            "image_size=(height, width)."
        )
    model = in_float32(model)
    task = {} if kind == "encoder" else {"task": kind}
    content = {"image_size": list(image_size), **task, **(metadata or {})}
    with public():  # a model shows no patient, and a server may be another user
        path.mkdir(parents=True, exist_ok=True)
        # A dot keeps the unfinished folder out of sight of a server that looks for versions.
        beside = path / f".{os.getpid()}.part"
        try:
            _write_saved_model(beside, model, kind, image_size, answer, familiarity)
            content["weights_digest"] = weights_digest(beside)
            write_json(beside / f"{kind}.json", content)
            write_text(beside / "MODEL_CARD.md", model_card(kind, content))
            write_golden(beside, path.name)
            return _rename_to_next_version(beside, path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def in_float32(model: keras.Layer) -> keras.Layer:
    """A copy that computes in float32, with the same weights; the model itself where it does.

    The configuration is taken through its round trip with every dtype policy replaced: the model
    has to be built, and one that can be saved as `.keras`.
    """
    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers()):
        return model
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # of layers without their own policy
    try:
        # The model is in memory already, so its parts are trusted.
        copy = keras.saving.deserialize_keras_object(_replaced(config), safe_mode=False)
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def _replaced(config):
    if isinstance(config, list | tuple):
        return type(config)(map(_replaced, config))
    if not isinstance(config, dict):
        return "float32" if isinstance(config, str) and config in _HALVES else config
    return {key: _replaced(value) for key, value in config.items()}


def built_size(model: keras.Layer) -> tuple[int, int] | None:
    """Height and width that a model was built for; None where it is for any."""
    shape = getattr(model, "input_shape", None) or (model.get_build_config() or {}).get(
        "input_shape"
    )
    return None if shape is None or None in shape[1:3] else tuple(shape[1:3])


def _write_saved_model(
    folder: Path,
    model: keras.Model,
    kind: str,
    image_size: tuple[int, int],
    answer: Answer,
    familiarity: Callable[[Mapping], tf.Tensor] | None,
) -> None:
    """Writes the SavedModel, its signatures from raw images to what `answer` gives."""
    files = tf.TensorSpec((None,), tf.string, name="image_bytes")

    # A function is traced once, however many signatures call it.
    @tf.function(input_signature=[tf.TensorSpec((None, *image_size, 1))], autograph=False)
    def from_resized(images):
        x = standardise(images)
        if familiarity is None:
            return answer(model(x, training=False))
        seen = model.see(x)
        return {**answer(model(seen, training=False)), "familiarity": familiarity(seen)}

    def from_image(image):
        # An eager call does not look at the signature: three channels would come as three rows.
        return from_resized(resize(tf.ensure_shape(image, (None, None, None, 1)), image_size))

    @tf.function(input_signature=[files], autograph=False)
    def from_bytes(image_bytes):
        images = tf.map_fn(
            lambda contents: resize(decode_image_bytes(contents), image_size),
            image_bytes,
            fn_output_signature=tf.TensorSpec((*image_size, 1), tf.float32),
        )
        return from_resized(images)

    def mask(image_bytes):
        answers = from_bytes(image_bytes)
        return {name: answers[name] for name in answers if name != "probabilities"}

    def mask_png(image_bytes):
        answers = mask(image_bytes)
        masks = answers.pop("mask")[..., tf.newaxis]
        files = tf.map_fn(
            lambda one: tf.io.encode_png(one, compression=1), masks, fn_output_signature=tf.string
        )
        return {"mask_bytes": files, **answers}

    images = tf.TensorSpec((None, None, None, 1), tf.float32, name="image")
    at_size = tf.TensorSpec((None, *image_size, 1), tf.float32, name="x")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", from_bytes, [files])
    archive.add_endpoint("serving_image", from_image, [images])
    if kind == "segmentation":
        archive.add_endpoint("serving_mask", mask, [files])
        archive.add_endpoint("serving_mask_png", mask_png, [files])
    if kind == "encoder":
        archive.add_endpoint("serve", lambda x: model(x, training=False), [at_size])
        archive.add_endpoint("train", lambda x: model(x, training=True), [at_size])
    archive.write_out(folder, verbose=False)
    if kind == "encoder":
        model.save(folder / "encoder.keras")


def _rename_to_next_version(folder: Path, models: Path) -> Path:
    while True:
        versions = [int(path.name) for path in models.iterdir() if path.name.isdecimal()]
        target = models / str(max(versions, default=0) + 1)
        try:
            return folder.rename(target)
        except OSError:  # another run took that number in the meantime
            if not target.exists():
                raise
