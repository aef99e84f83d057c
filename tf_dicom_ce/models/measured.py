"""The base of the pretraining models: means of measures, and updates with known gradient norms."""

import inspect
from types import MappingProxyType

import keras
import tensorflow as tf
from keras.optimizers import LossScaleOptimizer


class MeasuredModel(keras.Model):
    """A model with one or two optimizers whose step logs its measures.

    A batch is images, float [N, H, W, 1], or (images, {"tags": y, "known": mask}) with y and mask
    float [N, L]. Without `known` all tags are known; without y none is.

    Under tf.distribute, every replica runs a step on its part of the batch and needs at least one
    example. Losses are sums over the part, divided by the actual size of the whole batch. Gradients
    are summed over replicas. BatchNorm takes its batch statistics over the part. A step returns the
    measures of its replica; `get_metrics_result()` outside of `strategy.run` gives the measures
    over all replicas.

    Args:
        measures: Names of the measures of a step.
        sides: The sides that have an optimizer: `g` (`g_optimizer`), `d` (`d_optimizer`) or both.
        labels: Length L of y.

    A subclass has an attribute for each of its arguments, from which `get_config` is made, and

    - `variables_of(side)`: the variables that a side trains;
    - `step(x, y, known)`: updates them, and returns the means of all measures so far;
    - `measure(x, y, known, training)`: losses and other measures of a batch by name, float32 [N]
      each, except `tags_accuracy`, 0 or 1, [N, L]; and the weights of weighted measures.
    """

    def __init__(self, measures: tuple[str, ...], sides: tuple[str, ...], labels: int, name: str):
        super().__init__(name=name, dtype="float32")
        self.sides, self.labels = sides, labels
        updates = [f"{side}_{what}" for side in sides for what in ("norm", "skipped")]
        self.trackers = {name: keras.metrics.Mean(name=name) for name in (*measures, *updates)}

    def build_parts(self, parts: dict[keras.Model, tuple]) -> None:
        """Builds the parts that are not built yet; a part loaded from a file is built."""
        for part, shape in parts.items():
            if not part.built:
                part.build(shape)

    def compile(self, g_optimizer="adam", d_optimizer="adam", **kwargs):
        """Sets F's optimizer and, if there is a D, D's: Keras optimizers or their names.

        If the encoder computes in float16, each optimizer scales its loss and skips steps whose
        gradient is not finite. `kwargs` are those of `keras.Model.compile`, except `loss` and
        `metrics`.
        """
        super().compile(optimizer=None, **kwargs)
        given = {"g": g_optimizer, "d": d_optimizer}
        self.optimizer = _Optimizers(self)
        for side in self.sides:
            optimizer = keras.optimizers.get(given[side])
            half = self.encoder.compute_dtype == "float16"
            if half and not isinstance(optimizer, LossScaleOptimizer):
                optimizer = LossScaleOptimizer(optimizer, name=f"{side}_loss_scale")
            setattr(self, f"{side}_optimizer", optimizer)
        if self.built:
            self.optimizer.build()

    def get_compile_config(self):
        config = super().get_compile_config()
        if not config:
            return config
        kept = {key: config[key] for key in ("run_eagerly", "steps_per_execution", "jit_compile")}
        return kept | {
            f"{side}_optimizer": keras.saving.serialize_keras_object(optimizer)
            for side, optimizer in zip(self.sides, self.optimizer.optimizers, strict=True)
        }

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))

    @property
    def metrics(self):
        return list(self.trackers.values())

    def train_step(self, data):
        """One `step`; under float16, a step that F skips does not change BatchNorm's statistics."""
        batch = self.unpack(data)
        if not isinstance(self.g_optimizer, LossScaleOptimizer):
            return self.step(*batch)
        taken = self.g_optimizer.inner_optimizer.iterations
        statistics = [v for v in self.non_trainable_variables if v.name.startswith("moving_")]
        before = [tf.identity(v.value) for v in (taken, *statistics)]
        logs = self.step(*batch)
        for v, old in zip(statistics, before[1:], strict=True):
            v.assign(tf.where(taken.value > before[0], v.value, old))
        return logs

    def test_step(self, data):
        """The same measures without an update, with BatchNorm's moving statistics."""
        return self.log(*self.measure(*self.unpack(data), training=False))

    def unpack(self, data):
        """Splits a batch into images, y and the mask of known y; the first builds the model."""
        x, tags, _ = keras.utils.unpack_x_y_sample_weight(data)
        x = tf.cast(x, tf.float32)
        if not self.built:
            self.build((None, *x.shape[1:]))
            self.optimizer.build()
        if tags is None:
            nothing = tf.zeros((tf.shape(x)[0], self.labels))
            return x, nothing, nothing
        y = tf.cast(tags["tags"], tf.float32)
        return x, y, tf.cast(tags["known"], tf.float32) if "known" in tags else tf.ones_like(y)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """The sum of `values` divided by the number of examples of the batch on all replicas."""
        count = _sum_over_replicas(tf.cast(tf.shape(values)[0], tf.float32))
        return tf.reduce_sum(values) / count

    def update(self, side: str, gradients: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Applies gradients, summed over replicas; returns their norm over the whole batch.

        Keras' optimizer would sum over replicas too. But LossScaleOptimizer looks for infinities
        before the sum, in the first replica only. So every replica passes an equal part of the sum.
        """
        optimizer = getattr(self, f"{side}_optimizer")
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        gradients = _sum_over_replicas(gradients)
        norm = tf.linalg.global_norm(gradients) / optimizer.scale_loss(1.0)
        if replicas > 1:
            gradients = [g / replicas for g in gradients]
        optimizer.apply(gradients, self.variables_of(side))
        if not isinstance(optimizer, LossScaleOptimizer):
            return self.log({f"{side}_norm": norm})
        finite = tf.math.is_finite(norm)
        share = tf.cast(finite, tf.float32)
        logs = {f"{side}_norm": tf.where(finite, norm, 0.0), f"{side}_skipped": 1.0 - share}
        return self.log(logs, {f"{side}_norm": share})

    def log(self, values: dict[str, tf.Tensor], weights=MappingProxyType({})):
        """Adds values to their running means, some with weights; returns the means by name."""
        for name, value in values.items():
            self.trackers[name].update_state(value, weights.get(name))
        return {name: self.trackers[name].result() for name in values}

    def get_config(self):
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**keras.saving.deserialize_keras_object(config, custom_objects))


class _Optimizers:
    """Both optimizers as one, for Keras' callbacks: a scheduler sets the rate of each."""

    def __init__(self, model: MeasuredModel):
        self._model = model

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        return [getattr(self._model, f"{side}_optimizer") for side in self._model.sides]

    @property
    def built(self) -> bool:
        return all(optimizer.built for optimizer in self.optimizers)

    def build(self, variables=None) -> None:
        for side, optimizer in zip(self._model.sides, self.optimizers, strict=True):
            optimizer.build(self._model.variables_of(side))


def _sum_over_replicas(values):
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
