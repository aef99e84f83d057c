"""Builds encoders by name or from a file, and turns other networks into encoders."""

import contextlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras

from tf_dicom_ce.config import require_weights
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.conv_bn_relu import with_fused_norms
from tf_dicom_ce.models.efficientnet_lite import SCALE_LAYERS, efficientnet_lite0
from tf_dicom_ce.models.encoder import SCALES, Encoder, VGG16Encoder
from tf_dicom_ce.saved_model.reading import (
    EncoderLayer,
    digest_of,
    json_of_encoder,
    read_encoder,
    with_digest,
)
from tf_dicom_ce.user_folders import cache_folder
from tf_dicom_ce.whole_files import sole

#: Mean and sd of the pixels of ImageNet on a scale of 0…1, each the mean over the three channels
#: (0.485, 0.456, 0.406 and 0.229, 0.224, 0.225; `keras.applications.imagenet_utils`).
MEAN, SD = 0.449, 0.226

#: Preprocessing -> scale and offset that turn z-scores into its values.
PREPROCESSING = {
    "torch": (1.0, 0.0),
    "caffe": (255 * SD, 0.0),
    "tf": (2 * SD, 2 * MEAN - 1),
    "raw": (255 * SD, 255 * MEAN),
    "lite": (255 * SD / 128, (255 * MEAN - 127) / 128),
}

#: Backbone -> its constructor, and the preprocessing that its weights were trained with.
APPLICATIONS = {
    "vgg16": (keras.applications.VGG16, "caffe"),
    "resnet50": (keras.applications.ResNet50, "caffe"),
    "densenet121": (keras.applications.DenseNet121, "torch"),
    "mobilenetv2": (keras.applications.MobileNetV2, "tf"),
    "efficientnetv2b0": (keras.applications.EfficientNetV2B0, "raw"),
}


@keras.saving.register_keras_serializable("tf_dicom_ce")
class Backbone(Encoder):
    """A functional Keras model as an encoder of five scales.

    A model with three input channels gets the gray channel three times. A z-score z is scaled to
    the mean and sd that the model's preprocessing gives ImageNet's pixels, whose gray levels are
    255 · (0.449 ± 0.226):

    - `caffe` (gray levels minus their mean): z · 57.6
    - `torch` (z-scores): z
    - `tf` (−1…1): z · 0.452 − 0.102
    - `raw` (0…255; the model has its preprocessing inside): z · 57.6 + 114.5
    - `lite` ((x − 127) / 128): z · 0.450 − 0.098

    A frozen backbone (`trainable = False`) runs in inference mode during training: BatchNorm's
    statistics stay and nothing is dropped.

    Args:
        network: A model with one input [N, H, W, 1 or 3], H and W fixed or not. It is used, not
            copied, and its layers keep their dtype policies.
        layers: Names of the layers that give P1…P5; None for the last layer of each stride.
        preprocessing: What the weights were trained with: `caffe`, `torch`, `tf`, `raw` or `lite`.

    Call:
        x: float [N, H, W, 1], z-scored, H and W multiples of 32.

    Returns:
        dict of the five scales `P1`…`P5`: float [N, H/2^k, W/2^k, C_k] in the compute dtype of
        `network`'s layers.

    Raises:
        UserError: `network` has no layer with one of the strides, or `layers` have other strides.
    """

    def __init__(
        self,
        network: keras.Model,
        layers: Sequence[str] | None = None,
        preprocessing: str = "torch",
        name: str = "encoder",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        strides = _strides(network)
        last = {stride: layer for layer, stride in strides.items()}
        self.scale_layers = tuple(layers or (last.get(2**k) for k in range(1, 6)))
        for k, layer in enumerate(self.scale_layers, start=1):
            if strides.get(layer) != 2**k:
                what = f"layer {layer} does not have" if layer else "no layer has"
                raise UserError(f"{network.name}: {what} the stride {2**k} of P{k}.")
        outputs = [network.get_layer(layer).output for layer in self.scale_layers]
        self.network = keras.Model(
            network.inputs, dict(zip(SCALES, outputs, strict=True)), name=network.name
        )
        for layer in self.network.layers:  # checkpoints address variables by path
            if seed := getattr(layer, "seed_generator", None):
                seed.state._path = f"{layer.name}/seed"
        self.preprocessing = preprocessing

    def build(self, input_shape):
        """Creates nothing: the network has its variables."""

    def call(self, x, training=False):
        scale, offset = PREPROCESSING[self.preprocessing]
        x = keras.ops.repeat(scale * x + offset, self.network.input_shape[-1], axis=-1)
        return self.network(x, training=training and self.trainable)

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "layers": self.scale_layers,
            "preprocessing": self.preprocessing,
        }

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def _strides(network: keras.Model) -> dict[str, int]:
    """Layer -> its stride, for layers whose output is an image 2, 4, … 32 times as small."""
    height, width = (side or 256 for side in network.input_shape[1:3])
    by_size = {(height // 2**k, width // 2**k): 2**k for k in range(1, 6)}
    layers = [at for at in network.layers if isinstance(at.output, keras.KerasTensor)]
    whole = keras.Model(network.inputs, [layer.output for layer in layers])
    image = keras.KerasTensor((1, height, width, network.input_shape[-1]))
    sizes = [tuple(spec.shape[1:-1]) for spec in whole.compute_output_spec(image)]
    return {
        layer.name: by_size[size]
        for layer, size in zip(layers, sizes, strict=True)
        if size in by_size
    }


def build_encoder(
    backbone: str, width: float = 1.0, weights: str | None = None, dtype=None
) -> keras.Model:
    """Builds an encoder by its name in `--backbone`, with its initial weights.

    Args:
        backbone: `vgg16bn` (`VGG16Encoder`), `efficientnetlite0` or a key of `APPLICATIONS`.
        width: Multiplies the channel counts of vgg16bn; other backbones ignore it.
        weights: Empty or None for random weights. `imagenet` for ImageNet weights:
            `keras.applications` downloads them, efficientnetlite0 reads an installed package. Or a
            `.keras` file of the same network: an exported `encoder.keras`, or a saved model of
            `keras.applications`, with or without its classifier.
        dtype: Keras' dtype policy; None for the global one.

    Raises:
        UserError: The weights do not exist, or belong to another network.
    """
    require_weights(backbone, weights or "")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or before)
    try:
        if backbone == "vgg16bn":
            encoder = VGG16Encoder(width)
        elif backbone == "efficientnetlite0":
            network = efficientnet_lite0(weights == "imagenet")
            encoder = Backbone(network, SCALE_LAYERS, "lite")
        else:
            encoder = _application(backbone, weights == "imagenet")
    finally:
        keras.config.set_dtype_policy(before)
    if weights and weights != "imagenet":
        encoder.build((None, None, None, 1))
        _copy_weights(Path(weights), encoder)
    return encoder


def load_encoder(path: str | Path, trainable: bool = True) -> keras.Layer:
    """Loads an exported encoder, to put a head on it.

    Args:
        path: Folder of one version, or of all versions (the newest is loaded): gives a layer around
            the SavedModel, see `EncoderLayer`. Or an `encoder.keras`: gives a Keras model.
        trainable: Whether `fit` trains it. If not, BatchNorm's statistics stay, too.

    Returns:
        A layer from z-scored images, float [N, height, width, 1], to the dict of scales.

    Raises:
        UserError: There is no encoder, or its weights are not those that were exported.
    """
    path = Path(path)
    if path.suffix != ".keras":
        return EncoderLayer(read_encoder(path)[0], trainable)
    encoder, _ = _of_file(path)
    encoder.trainable = trainable  # as an argument it would not reach the blocks
    return encoder


def load_teacher(name: str, image_size: tuple[int, int], option: str = "--teacher") -> keras.Layer:
    """Loads the teacher of a distillation for images of one size.

    Args:
        name: `imagenet` for EfficientNet-Lite0 with the weights of an installed package, or a path
            as in `load_encoder`.
        image_size: Height and width.
        option: The option that gave the name, for messages.

    Raises:
        UserError: There is no such teacher, or it was exported for another size.
    """
    if name == "imagenet":
        return build_encoder("efficientnetlite0", weights="imagenet")
    path = Path(name)
    if not path.exists():
        raise UserError(
            f"{option} {name}: neither imagenet nor an exported encoder. Give a folder like "
            "export/encoder, or its encoder.keras."
        )
    size = tuple(describe_encoder(path)["image_size"])
    if path.suffix != ".keras" and size != image_size:
        raise UserError(
            f"{option} {name}: exported for images of {size[0]} × {size[1]}. Give its "
            f"encoder.keras, which takes any size, or --image-size {size[0]} {size[1]}."
        )
    return load_encoder(path, trainable=False)


def describe_encoder(path: str | Path) -> dict:
    """Reads the `encoder.json` of an exported encoder.

    `weights_digest` is always there, even if an older export lacks it. `path` and errors are as in
    `load_encoder`.
    """
    path = Path(path)
    return (_of_file(path) if path.suffix == ".keras" else read_encoder(path))[1]


def _of_file(path: Path) -> tuple[keras.Model, dict]:
    content = json.loads(json_of_encoder(path.parent).read_text())
    encoder = keras.saving.load_model(path)
    return encoder, with_digest(content, digest_of(encoder.get_weights()), path)


def _application(backbone: str, imagenet: bool) -> Backbone:
    """Builds a network of `keras.applications`; one process downloads, the others wait."""
    create, preprocessing = APPLICATIONS[backbone]
    like = {"include_top": False, "input_shape": (None, None, 3)}
    if not imagenet:
        network = create(weights=None, **like)
        return Backbone(with_fused_norms(network), preprocessing=preprocessing)
    try:
        with sole(cache_folder() / "download.lock", busy=None):
            network = create(weights="imagenet", **like)
    except Exception as error:  # Keras has no class for a download that fails
        raise UserError(
            f"--encoder-weights imagenet: the download failed ({error}). On a computer with a "
            f"network, run keras.applications.{create.__name__}(include_top=False)"
            f'.save("{backbone}.keras"); here, give --encoder-weights {backbone}.keras.'
        ) from None
    return Backbone(with_fused_norms(network), preprocessing=preprocessing)


def _copy_weights(path: Path, encoder: keras.Model) -> None:
    try:
        saved = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"--encoder-weights {path}: not a Keras model ({reason}).") from None
    if not isinstance(saved, type(encoder)):
        with contextlib.suppress(UserError, AttributeError, TypeError, ValueError):
            saved = Backbone(saved)  # a network of keras.applications, without its classifier
    ours, theirs = ({v.path: v for v in model.weights} for model in (encoder, saved))
    for name in [*ours, *theirs]:
        here, there = (
            tuple(found[name].shape) if name in found else "no such variable"
            for found in (ours, theirs)
        )
        if here != there:
            raise UserError(
                f"--encoder-weights {path}: weights of another network. {name}: {there} in the "
                f"file, {here} here. Choose the file's --backbone (for vgg16bn also its --width), "
                "or another file."
            )
    for name, variable in ours.items():
        variable.assign(theirs[name])
