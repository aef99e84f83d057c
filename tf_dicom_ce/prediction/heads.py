"""An exported head, ready to answer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_dicom_ce.masks import likeliest_classes
from tf_dicom_ce.preprocessing import resize
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.saved_model.reading import load_head


class Head:
    """A head with the encoder inside, for images of mixed sizes.

    Args:
        path: As for `load_head`, which may raise UserError.

    Attributes:
        model: How results name it.
    """

    def __init__(self, path: Path):
        self._head = load_head(path)
        folder = self._head.folder
        self.model = Model.of(folder.parent.name, folder.name, self._head.content)

    def answer(self, pixels: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Answers some images in one batch.

        Each is brought to the model's size as training's store does it, which the signature then
        leaves as it is: so sizes may be mixed, and memory is bounded by the model's size.

        Args:
            pixels: Gray levels, uint8 [H, W] each; at least one image.

        Returns:
            For each image `mask` uint8 [H, W], or `class_id` int32 and `probabilities` float32 [K].
        """
        size = self._head.image_size
        found = self._head(tf.stack([resize(image[..., np.newaxis], size) for image in pixels]))
        if self.model.task == "segmentation":
            return [
                {"mask": likeliest_classes(p, image.shape)}
                for p, image in zip(found["probabilities"], pixels, strict=True)
            ]
        return [{name: found[name][k] for name in found} for k in range(len(pixels))]
