"""An exported head, ready to answer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.masks import likeliest_classes
from tf_dicom_ce.preprocessing import resize
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.saved_model import newest_version, read_metadata

_TASKS = ("segmentation", "classification")


class Head:
    """A head with the encoder inside.

    Attributes:
        model: How results name it.
        find_sector: Whether it was trained on images that were cropped by looking.
        blank_outside: Whether what lies outside of the ultrasound was blackened.
    """

    def __init__(self, folder: Path, content: dict):
        """Loads the network.

        Args:
            folder: Of one version.
            content: `read_metadata` of its `<task>.json`.

        Raises:
            OSError: There is no SavedModel in the folder.
        """
        self.model = Model.of(folder.parent.name, folder.name, content)
        self.find_sector = content["find_sector"]
        self.blank_outside = content.get("blank_outside", False)
        self._size = tuple(content["image_size"])
        self._loaded = tf.saved_model.load(str(folder))  # kept: its variables go with it

    def answer(self, pixels: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Answers some images in one batch.

        Each is brought to the model's size as training's store does it, which the signature then
        leaves as it is: so sizes may be mixed, and memory is bounded by the model's size.

        Args:
            pixels: Gray levels, uint8 [H, W] each; at least one image.

        Returns:
            For each image `mask` uint8 [H, W], or `class_id` int32 and `probabilities` float32 [K].
        """
        images = tf.stack([resize(image[..., np.newaxis], self._size) for image in pixels])
        found = self._loaded.signatures["serving_image"](image=images)
        if self.model.task == "segmentation":
            maps = found["probabilities"].numpy()
            return [
                {"mask": likeliest_classes(p, image.shape)}
                for p, image in zip(maps, pixels, strict=True)
            ]
        answers = {name: found[name].numpy() for name in ("class_id", "probabilities")}
        return [{name: answers[name][k] for name in answers} for k in range(len(pixels))]


def open_head(path: Path) -> Head:
    """Opens an exported head.

    Args:
        path: Folder of one version, or of all versions: then the newest.

    Raises:
        UserError: There is none, it cannot be loaded, or its weights are not those that were
            exported.
    """
    path = path.resolve()
    folder = newest_version(path)
    file = next((f for task in _TASKS if (f := folder / f"{task}.json").is_file()), None)
    if file is None:
        raise UserError(
            f"--model {path}: no exported head here. Train one with finetune.py, or give a folder "
            "like export/segmentation or export/segmentation/1."
        )
    try:
        return Head(folder, read_metadata(file))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"--model {folder}: cannot be loaded ({type(error).__name__}). Copy the whole folder "
            "again, or export the head again with finetune.py."
        ) from None
