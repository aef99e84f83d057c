"""Measures the parts of a training step, each alone, as the step runs it."""

from collections.abc import Callable

import tensorflow as tf

from benchmarks.pretraining.ours import batch, compiled
from benchmarks.sizes import LABELS, from_json
from tf_dicom_ce.models.gan import ContextEncoderGAN, centre_patch, mask_centre
from tf_dicom_ce.models.losses import adversarial_loss, discriminator_loss


def tasks(preset: dict) -> dict:
    """The contender: forward and backward through `encoder`, `decoder` and `discriminator`.

    The task `optimizers` runs both updates on prepared gradients.
    """
    config = from_json(preset)
    model, (x, tags) = compiled(config, LABELS), batch(config, LABELS)
    encoder, decoder, y = model.encoder, model.decoder, tags["tags"]
    x_hat, patch = mask_centre(x), centre_patch(x)
    p5 = encoder(x_hat)["P5"]
    return {
        "encoder": _network(lambda x: encoder(x, training=True)["P5"], encoder, x_hat, False),
        "decoder": _network(lambda p5: decoder(p5, training=True), decoder, p5, True),
        "discriminator": _discriminator(model.discriminator, patch, y),
        "optimizers": _optimizers(model),
    }


def _network(call: Callable, network, x: tf.Tensor, with_input: bool) -> Callable:
    """Forward and backward pass, to the weights and, unless it is the first part, to the input."""

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = call(x)
        return tape.gradient(found, [*network.trainable_variables, *([x] if with_input else [])])

    return lambda: _done(run(x))


def _discriminator(discriminator, patch: tf.Tensor, y: tf.Tensor) -> Callable:
    @tf.function(autograph=False)
    def run(real, fake):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(fake)
            logits = [discriminator(patch, y)["logit"] for patch in (real, fake)]
            disc, adv = discriminator_loss(*logits), adversarial_loss(logits[1])
        return tape.gradient(disc, discriminator.trainable_variables), tape.gradient(adv, fake)

    return lambda: _done(run(patch, -patch))


def _optimizers(model: ContextEncoderGAN) -> Callable:
    both = (
        (model.g_optimizer, model.variables_of("g")),
        (model.d_optimizer, model.variables_of("d")),
    )
    gradients = [[tf.ones_like(v.value) for v in variables] for _, variables in both]

    @tf.function(autograph=False)
    def run(gradients):
        norms = []
        for (optimizer, variables), its in zip(both, gradients, strict=True):
            norms.append(tf.linalg.global_norm(its))
            optimizer.apply(its, variables)
        return norms

    return lambda: _done(run(gradients))


def _done(found) -> None:
    """Waits for all results."""
    for tensor in tf.nest.flatten(found):
        tensor.numpy()
