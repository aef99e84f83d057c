"""What U-Net and classifier have in common: a network on an encoder that answers about images."""

from pathlib import Path

import keras
import tensorflow as tf

from tf_dicom_ce.saved_model.writing import write_model


class Head(keras.Model):
    """A network on an encoder: Keras' `Model`, which knows its loss and its answers.

    A call gives logits; `predict` gives the answers by name. `compile` takes the paper's loss and a
    metric to watch where none are given, and `export` writes the SavedModel of export/README.md.
    A subclass has `task`, `default_loss`, `default_metric` and `answer`.

    Args:
        encoder: Any Keras model or layer from z-scored images, float [N, H, W, 1], to the dict of
            scales `P1`…`P5` of stride 2…32. Where its `trainable` is False, it stays as it is.
        classes: Number of classes.
        width_multiplier: Multiplies the head's channel counts, not the encoder's.
        dtype: Keras' dtype policy of the head; its logits are float32 under every one.
        name: Of the model.
    """

    def __init__(self, encoder, classes, width_multiplier, dtype, name, **kwargs):
        # Layer by layer inputs are cast, and the image itself is none of them.
        super().__init__(name=name, dtype=dtype, autocast=False, **kwargs)
        self.encoder = encoder
        self.classes = classes
        self.width_multiplier = width_multiplier

    def build(self, input_shape):
        """Creates all variables, the encoder's too."""
        self.compute_output_spec(keras.KerasTensor(input_shape))

    def compile(self, optimizer="adam", loss=None, *, metrics=None, **kwargs):
        """As Keras'; None is `default_loss` and `default_metric`."""
        loss = self.default_loss() if loss is None else loss
        metrics = [self.default_metric()] if metrics is None else metrics
        super().compile(optimizer, loss, metrics=metrics, **kwargs)

    def compile_from_config(self, config):
        """As Keras', which leaves it out where `compile` is overridden."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def predict_step(self, data):
        """Answers to a batch (x, …) or x."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self.answer(self(x, training=False))

    def answer(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """What logits mean, by name."""
        raise NotImplementedError

    def export(
        self,
        path: str | Path,
        image_size: tuple[int, int] | None = None,
        metadata: dict | None = None,
    ) -> Path:
        """Writes the next version `<path>/<n>/`, in float32, with the encoder inside.

        Args:
            path: Folder of the model's versions, e.g. `export/segmentation`.
            image_size: Height and width that it works at; None for those it was built with.
            metadata: More for `<task>.json`, such as `classes`, their names (else their numbers);
                plain values without identifiers.

        Returns:
            The folder of the new version.

        Raises:
            UserError: There is no `image_size`, and it was built for any.
        """
        content = {"classes": [str(k) for k in range(self.classes)], **(metadata or {})}
        return write_model(self, Path(path), self.task, image_size, content, self.answer)

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "classes": self.classes,
            "width_multiplier": self.width_multiplier,
        }

    @classmethod
    def from_config(cls, config):
        encoder = keras.saving.deserialize_keras_object(config["encoder"])
        return cls(**{**config, "encoder": encoder})
