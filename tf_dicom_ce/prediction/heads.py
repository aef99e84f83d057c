"""An exported head, ready to answer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_dicom_ce.masks import likeliest_classes
from tf_dicom_ce.preprocessing import resize
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.saved_model import ExportedHead, load_head


class Head:
    """A head with the encoder inside, for images of mixed sizes.

    Args:
        head: What is asked.

    Attributes:
        model: How results name it.
        find_sector: Whether it was trained on images that were cropped by looking.
        blank_outside: Whether what lies outside of the ultrasound was blackened.
    """

    def __init__(self, head: ExportedHead):
        self.model = Model.of(head.folder.parent.name, head.folder.name, head.content)
        self.find_sector = head.content.get("find_sector", False)
        self.blank_outside = head.content.get("blank_outside", False)
        self._head = head

    def answer(self, pixels: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Answers some images in one batch.

        Each is brought to the model's size as training's store does it, which the signature then
        leaves as it is: so sizes may be mixed, and memory is bounded by the model's size.

        Args:
            pixels: Gray levels, uint8 [H, W] each; at least one image.

        Returns:
            For each image `mask` uint8 [H, W], or `class_id` int32 and `probabilities` float32 [K].
        """
        images = tf.stack(
            [resize(image[..., np.newaxis], self._head.image_size) for image in pixels]
        )
        found = self._head(images)
        if self.model.task == "segmentation":
            return [
                {"mask": likeliest_classes(p, image.shape)}
                for p, image in zip(found["probabilities"], pixels, strict=True)
            ]
        return [{name: found[name][k] for name in found} for k in range(len(pixels))]


def open_head(path: Path) -> Head:
    """Opens an exported head; see `load_head`."""
    return Head(load_head(path))
