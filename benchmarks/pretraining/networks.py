"""The networks' shapes, for modules that must not import TensorFlow; `agreement` checks them."""

ENCODER = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # 3×3 convolutions, channels; a pool
DECODER = (256, 128, 64, 32)  # channels of the 3×3 up-convolutions
DISCRIMINATOR = (64, 128, 256, 512)  # channels of the 4×4 convolutions of stride 2


def channels(count: int, width: float) -> int:
    """A channel count at a width."""
    return max(1, round(count * width))
