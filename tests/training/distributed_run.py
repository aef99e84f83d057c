"""Twenty steps on one device and on two, in a process of its own: devices come before TensorFlow.

python distributed_run.py FOLDER

Writes `<case>-1.npz` and `<case>-2.npz` of "all options", "synchronised" and both heads, and
`batch norm-2.npz`. With TF_CONFIG in the environment
it is one of several workers, each with one device, and writes `workers.npz`, of the case "paper".
"""

import dataclasses
import os
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.config import TASKS, FinetuneConfig, PretrainConfig
from tf_dicom_ce.models.conv_bn_relu import Block, build_in_turn
from tf_dicom_ce.training.devices import host_parts, is_chief
from tf_dicom_ce.training.networks import build_head, build_pretraining

STEPS, LAST = 20, 5  # the last batch has fewer rows, and not as many on both devices
CASES = {
    "paper": {},
    "all options": {"spectral_norm": True, "conditioning": "auxiliary", "adversarial": "hinge"},
}


def one_and_two_devices():
    cpus = [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], cpus)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(names)


def at_moving_statistics(model):
    """BatchNorm at its moving statistics: on its batch it would see half of it on each device."""
    measure = model.measure
    model.measure = lambda x, y, known, training: measure(x, y, known, training=False)


def distributed(strategy, arrays):
    """Batches of six rows, cut among the replicas as the training loop does it."""

    def parts(context):
        first, count, total = host_parts(strategy, context)

        def generate():
            for start in range(0, len(arrays[0]), 6):
                cuts = np.array_split(np.arange(start, min(start + 6, len(arrays[0]))), total)
                for k in range(count):
                    rows = cuts[first + k]
                    yield tf.nest.map_structure(lambda array, rows=rows: array[rows], arrays)

        signature = tf.nest.map_structure(lambda a: tf.TensorSpec((None, *a.shape[1:])), arrays)
        return tf.data.Dataset.from_generator(generate, output_signature=signature)

    return strategy.distribute_datasets_from_function(parts)


def run(strategy, path, batch_norm=False, steps=STEPS, **changes):
    config = PretrainConfig(image_size=(32, 32), width=1 / 16, batch_size=6)
    config = dataclasses.replace(config, g_learning_rate=1e-3, d_learning_rate=1e-3, **changes)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = build_pretraining(config, labels=3)
    if not batch_norm:
        at_moving_statistics(model)

    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * 6, 32, 32, 1)).astype(np.float32)
    y, present = rng.integers(0, 2, (2, STEPS * 6, 3)).astype(np.float32)
    rows = 6 * (steps - 1) + LAST
    arrays = (x[:rows], {"tags": y[:rows], "known": present[:rows]})
    dataset = distributed(strategy, arrays)

    @tf.function(input_signature=[dataset.element_spec], autograph=False)
    def train(batch):
        strategy.run(model.train_step, args=(batch,))

    batches = list(dataset)
    for batch in batches:
        train(batch)
    logs = {f"train {k}": float(v) for k, v in model.get_metrics_result().items()}
    model.reset_metrics()
    for batch in batches[-2:]:
        strategy.run(model.test_step, args=(batch,))
    logs |= {f"test {k}": float(v) for k, v in model.get_metrics_result().items()}
    weights = {f"weight {k}": w for k, w in enumerate(model.get_weights())}
    optimizers = [*model.g_optimizer.variables, *model.d_optimizer.variables]
    slots = {f"slot {k}": np.asarray(v) for k, v in enumerate(optimizers)}
    if is_chief(strategy):
        np.savez(path, **logs, **weights, **slots)


class Encoder(keras.Layer):
    """One convolution a scale: VGG16's thirteen take longer to trace, and run in `run`."""

    def __init__(self):
        super().__init__(name="encoder")
        self.blocks = [Block(1, 4 * k, name=f"block{k}") for k in range(1, 6)]

    def build(self, shape):
        build_in_turn(self.blocks, shape)

    def call(self, x, training=False):
        scales = {}
        for k, block in enumerate(self.blocks, start=1):
            scales[f"P{k}"] = x = block(x, training=training)
        return scales


def run_head(strategy, path, task):
    """One step of a head from scratch on 3 + 2 rows: the gradients, by SGD of learning rate 1."""
    size = (64, 64)
    config = FinetuneConfig(task=task, image_size=size, width=1 / 16, sync_batchnorm=True)
    config = dataclasses.replace(config, dropout=0.0)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(LAST, *size, 1)).astype(np.float32)
    y = rng.integers(0, 3, (LAST, *size) if task == "segmentation" else LAST)
    with strategy.scope():
        model = build_head(config, Encoder(), 3)
        model.compile(keras.optimizers.SGD(1.0), jit_compile=False)
        model.test_on_batch(x, y)
    model.reset_metrics()
    before, dataset = model.get_weights(), distributed(strategy, (x, y))

    @tf.function(input_signature=[dataset.element_spec], autograph=False)
    def train(batch):
        strategy.run(model.train_step, args=(batch,))

    for batch in dataset:
        train(batch)
    changes = zip(before, model.get_weights(), strict=True)
    changes = {f"change {k}": new - old for k, (old, new) in enumerate(changes)}
    np.savez(path, loss=float(model.get_metrics_result()["loss"]), **changes)


def main(folder):
    if "TF_CONFIG" in os.environ:
        run(tf.distribute.MultiWorkerMirroredStrategy(), folder / "workers.npz", **CASES["paper"])
        return
    one, two = one_and_two_devices()
    for case, changes in CASES.items():
        run(one, folder / f"{case}-1.npz", **changes)
    run(two, folder / "all options-2.npz", **CASES["all options"])
    both = list(enumerate((one, two), start=1))
    for count, strategy in both:
        for task in TASKS:
            run_head(strategy, folder / f"{task}-{count}.npz", task)
    tf.config.run_functions_eagerly(True)  # to trace a step of so many parts takes longer
    sync = {"sync_batchnorm": True, "batch_norm": True, "steps": 1}
    for count, strategy in both:
        run(strategy, folder / f"synchronised-{count}.npz", **sync)
    run(two, folder / "batch norm-2.npz", batch_norm=True, steps=2, precision="float16")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
