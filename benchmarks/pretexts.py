"""Trains an encoder by any of the pretexts that were tried, given by its parts (5 min).

    python -m benchmarks pretexts distilled+masked --data POOL --labels POOL.csv --out export/a

trains an encoder as `train --preset quick` does and exports it. Measure it by `tf-dicom-ce probe`
and `python -m benchmarks encoders`. The best pretext became a setting of `train`; the others are
kept here only, so that their rows in docs/results/encoders.md can be reproduced. An arm is a
pretext

    ce         the paper's, without tags
    distilled  P2…P5 learn the standardised scales of EfficientNet-Lite0, which sees whole images
    alone      only the losses of the parts below

and parts of it, each after a plus:

    masked     the encoder sees images in which 40 % of the blocks of 8×8 are black
    beams      the same, columns of blocks, as a shadow along the beams of a linear probe is
    unseen     the encoder sees images with other gain, gamma, blur and noise; the teacher does not
    sector     only pixels of the ultrasound count
    cosine     the learning rate falls to 0
    long       twice the epochs
    wide       half of VGG16's width instead of a quarter
    warm       the encoder is EfficientNet-Lite0 with ImageNet weights; a tenth of the rate
    lite2      EfficientNet-Lite2 is the teacher; `both`: Lite0 and Lite2 are
    tags       tags predicted from P4 and P5 of the whole image, pooled by attention
    shuffled   the same with another patient's tags
"""

import argparse
from pathlib import Path

from tf_dicom_ce.config import PRESETS

#: Pretext -> its parts.
PARTS = {
    "ce": {"cosine", "long", "wide"},
    "alone": {"tags", "shuffled", "masked", "beams", "unseen", "cosine", "long", "wide", "warm"},
}
PARTS["distilled"] = PARTS["alone"] | {"sector", "lite2", "both"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arm", help="a pretext and its parts, as distilled+masked")
    parser.add_argument("--data", required=True, help="folder of images, without labels")
    parser.add_argument("--labels", help="CSV of their tags")
    parser.add_argument("--out", type=Path, required=True, help="folder of the exported encoder")
    parser.add_argument("--image-size", type=int, nargs=2, default=PRESETS["quick"].image_size)
    parser.add_argument("--steps", type=int, default=6320, help="of eight images (6320)")
    parser.add_argument("--count", type=int, help="images to learn from (all)")
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> None:
    pretext, *parts = options.arm.split("+")
    if not set(parts) <= PARTS.get(pretext, set()) or (pretext == "alone" and not parts):
        raise SystemExit(f"{options.arm}: no such arm; `--help` has the pretexts and their parts.")

    from benchmarks.learning import learn  # TensorFlow takes its time

    print(learn(options))
