"""Floating-point operations of a pretraining step, counted from the shapes of the convolutions.

A k×k convolution from c to d channels takes 2 k² c d operations for each position: of its output,
or of its input if it is an up-convolution. Its gradient with respect to the weights takes as many,
and that with respect to the input as many again. Everything else is below one per cent.
"""

from benchmarks.pretraining.networks import DECODER, DISCRIMINATOR, ENCODER, channels
from tf_dicom_ce.config import PretrainConfig


def operations(config: PretrainConfig) -> dict[str, int]:
    """Operations of a step for one image, by part of the networks; D sees the patch."""
    encoder, decoder, d = _encoder(config), _decoder(config), _discriminator(config)
    return {
        # The gradient with respect to images and real patches is not needed …
        "encoder": 3 * sum(encoder) - encoder[0],
        "decoder": 3 * sum(decoder),
        # … and the predicted patch has two losses: L_D, and L_adv, which leaves D's weights alone.
        "discriminator": (3 * sum(d) - d[0]) + (3 * sum(d) - d[0]) + sum(d),
    }


def _encoder(config: PretrainConfig) -> list[int]:
    """Operations of each convolution, forward."""
    (height, width), c, found = config.image_size, 1, []
    for convolutions, count in ENCODER:
        for _ in range(convolutions):
            before, c = c, channels(count, config.width)
            found.append(2 * 9 * before * c * height * width)
        height, width = height // 2, width // 2
    return found


def _decoder(config: PretrainConfig) -> list[int]:
    height, width = (side // 32 for side in config.image_size)
    c, found = channels(ENCODER[-1][1], config.width), []
    for count in DECODER:
        before, c = c, channels(count, config.width)
        found.append(2 * 9 * before * c * height * width)
        height, width = 2 * height, 2 * width
    return [*found, 2 * 9 * c * height * width]


def _discriminator(config: PretrainConfig) -> list[int]:
    height, width = (side // 2 for side in config.image_size)
    c, found = 1, []
    for count in DISCRIMINATOR:
        height, width = height // 2, width // 2
        before, c = c, channels(count, config.width)
        found.append(2 * 16 * before * c * height * width)
    return found
