"""VGG16 with batch normalisation, without its classifier (section 4.2)."""

from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import tensorflow as tf

from tf_dicom_ce.models.conv_bn_relu import Block, build_in_turn
from tf_dicom_ce.saved_model.writing import write_model

#: Convolutions per block and their channels at width 1 (Simonyan & Zisserman, 2014, column D).
VGG16_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))

#: Names of the five scales; P_k has stride 2^k.
SCALES = ("P1", "P2", "P3", "P4", "P5")


def channels(count: int, width_multiplier: float) -> int:
    """A channel count times `width_multiplier`, at least 1."""
    return max(1, round(count * width_multiplier))


class Exportable(keras.Model):
    """A network that can be written as a SavedModel: an encoder, or a head with its encoder inside.

    A subclass has `task`, its kind, and `description`, the content of its JSON file beside the
    metadata.
    """

    task: str
    familiarity: Callable[[Mapping], tf.Tensor] | None = None  # of a head: see `Familiarity`

    def answer(self, found):
        """Turns the output of a call into the answers of the SavedModel."""
        return found

    def export(
        self,
        path: str | Path,
        image_size: tuple[int, int] | None = None,
        metadata: dict | None = None,
    ) -> Path:
        """Writes the next version of the SavedModel that export/README.md describes, in float32.

        Args:
            path: Folder of all versions, such as `export/encoder`. Its name is the model's name.
            image_size: Height and width that images are resized to; by default those of `build`.
            metadata: Further entries of `<task>.json`, such as `classes`, the names of the classes
                (default: their numbers). Plain values without identifiers.

        Returns:
            The folder of the version, `path`/<version>.

        Raises:
            UserError: No size is given, and the model was built for any size.
        """
        content = {**self.description(), **(metadata or {})}
        how = {"answer": self.answer, "familiarity": self.familiarity}
        return write_model(self, Path(path), self.task, image_size, content, **how)


class Encoder(Exportable):
    """A network from z-scored images, float [N, H, W, 1], to the dict of scales `P1`…`P5`.

    Attributes:
        width_multiplier: That of the encoder's channels; decoder and heads read it.
    """

    task = "encoder"
    width_multiplier = 1.0

    def description(self):
        return {"width": self.width_multiplier}


@keras.saving.register_keras_serializable("tf_dicom_ce")
class VGG16Encoder(Encoder):
    """Five blocks of [3×3 convolution, BatchNorm, ReLU] × n and a 2×2 max pool.

    Args:
        width_multiplier: Multiplies every channel count; 1.0 is VGG16.
        trainable: Whether the weights and BatchNorm's statistics are trained.
        dtype: Keras' dtype policy, by default the global one: `float32`, `mixed_bfloat16` or
            `mixed_float16`. The variables are float32 under every policy.

    Call:
        x: float [N, H, W, 1], z-scored, H and W multiples of 32.

    Returns:
        dict of the five scales `P1`…`P5`: float [N, H/2^k, W/2^k, C_k] with
        C = 64, 128, 256, 512, 512 times `width_multiplier`, in the policy's compute dtype. At
        256×384 `P5` is 8×12×512.
    """

    def __init__(
        self, width_multiplier: float = 1.0, trainable: bool = True, name="encoder", dtype=None
    ):
        super().__init__(name=name, dtype=dtype)
        self.width_multiplier = width_multiplier
        self.blocks = [
            Block(n, channels(count, width_multiplier), name=f"block{k}", dtype=self.dtype_policy)
            for k, (n, count) in enumerate(VGG16_BLOCKS, start=1)
        ]
        self.trainable = trainable

    def build(self, input_shape):
        build_in_turn(self.blocks, (None, None, None, input_shape[-1]))

    def call(self, x, training=False):
        scales = {}
        for name, block in zip(SCALES, self.blocks, strict=True):
            x = scales[name] = block(x, training=training)
        return scales

    def get_config(self):
        return {**super().get_config(), "width_multiplier": self.width_multiplier}
