"""Pretraining of the context encoder on given datasets (section 4.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.models.encoder import VGG16Encoder
from tf_dicom_ce.training.fitting import Watch, fit_and_keep_best
from tf_dicom_ce.training.gan import ContextEncoderGAN
from tf_dicom_ce.training.loop import Data, Schedule, evaluation
from tf_dicom_ce.training.panels import inpainting_panel, sensitivity_panel
from tf_dicom_ce.training.sentinel import Sentinel
from tf_dicom_ce.training.tensorboard import Draw

#: Metric -> name in TensorBoard, by group.
SCALARS = {
    "joint": "loss/joint (Eq. 3)",
    "rec": "loss/reconstruction",
    "rec_of_mean": "loss/reconstruction of the mean",
    "adv": "loss/adversarial",
    "disc": "loss/discriminator",
    "d_real": "discriminator/D(real)",
    "d_fake": "discriminator/D(fake)",
    "c_rf": "discriminator/size of C_rf",
    "p": "discriminator/size of P",
    "tags": "loss/tags by the encoder",
    "tags_accuracy": "tags/accuracy of the encoder",
    "tags_real": "loss/tags of true patches",
    "tags_fake": "loss/tags of predicted patches",
    "g_norm": "gradient norm/F",
    "d_norm": "gradient norm/D",
    "g_skipped": "loss scale/steps of F skipped",
    "d_skipped": "loss scale/steps of D skipped",
}


@dataclass(frozen=True)
class Pretrained:
    """What a run leaves: the encoder of the best epoch and how good it was.

    Attributes:
        encoder: With the weights of `epoch`.
        epoch: The epoch with the lowest joint loss on the validation images, from 1; the lowest
            L_rec where the encoder predicts tags as well.
        validation: That epoch's measures on the validation images.
    """

    encoder: VGG16Encoder
    epoch: int
    validation: dict[str, float]


@dataclass(frozen=True)
class Watched:
    """Validation images that are looked at after every epoch.

    Attributes:
        x: z-scored, float32 [N, H, W, 1].
        y: Their tags, float32 [N, L].
        tags: Name and labels of every tag, in the order of y.
        shown: How many of them, the first, the panels show.
    """

    x: np.ndarray
    y: np.ndarray
    tags: tuple[tuple[str, tuple[str, ...]], ...]
    shown: int = 6

    @property
    def spans(self) -> tuple[tuple[str, int, int], ...]:
        """Name, start and stop in y of every tag."""
        ends = np.cumsum([len(labels) for _, labels in self.tags]).tolist()
        return tuple(
            (name, end - len(labels), end)
            for (name, labels), end in zip(self.tags, ends, strict=True)
        )


def pretrain(
    config: PretrainConfig,
    data: Data,
    schedule: Schedule,
    watched: Watched,
    configuration: Mapping,
    run: Path,
    strategy: tf.distribute.Strategy,
    histograms: bool = False,
) -> Pretrained:
    """Trains F against D and keeps the epoch with the lowest validation joint loss.

    Args:
        config: Settings.
        data: Batches (x, y) or (x, y, present), see `tf_dicom_ce.data.datasets`; with `use_dicom`
            off, D does not look at y (Eq. 1).
        schedule: How long, and how often it is saved.
        watched: Validation images for panels and sentinel.
        configuration: Settings and provenance, to be shown.
        run: See `fit_and_keep_best`.
        strategy: See `devices`.
        histograms: Also the distribution of weights in TensorBoard.

    Returns:
        The best encoder, computing in float32.

    Raises:
        UserError: See `fit_and_keep_best`.
        StoppedError: See `fit_and_keep_best`.
    """
    with strategy.scope():
        model = ContextEncoderGAN(config, watched.y.shape[1])
        model.compile()
    tags = ("tags", "tags_accuracy") if config.predicts_tags else ()
    watch = Watch(
        # "The ones with the lowest joint loss" (section 4.3). With a head on the encoder, by L_rec:
        # tags that cannot be learnt, as shuffled ones, would else end the training early.
        monitor="val_rec" if config.inpaints and config.predicts_tags else "val_joint",
        scalars=SCALARS,
        optimizers={"F": "g_optimizer", **({"D": "d_optimizer"} if config.inpaints else {})},
        pictures=_pictures(model, watched),
        pictures_every=config.panel_every,
        shown=(*(("rec", "joint", "d_real", "d_fake") if config.inpaints else ()), *tags),
        configuration=configuration,
        histograms=histograms,
        guards=lambda run, writer: (
            [Sentinel(run, watched.x, watched.y, _spans(model, watched), writer)]
            if config.inpaints  # else there is nothing between F and D to watch
            else []
        ),
    )
    epoch = fit_and_keep_best(model, data, schedule, watch, run, strategy)
    measures = evaluation(model, data, strategy)()
    return Pretrained(model.context_encoder.encoder.in_float32(), epoch, measures)


def _spans(model: ContextEncoderGAN, watched: Watched) -> tuple[tuple[str, int, int], ...]:
    return watched.spans if model.discriminator.projects else ()


def _pictures(model: ContextEncoderGAN, watched: Watched) -> dict[str, Draw]:
    if not model.config.inpaints:
        return {}
    x, y = watched.x[: watched.shown], watched.y[: watched.shown]
    pictures = {"inpainting": lambda model: inpainting_panel(model, x)}
    if _spans(model, watched):
        pictures["sensitivity"] = lambda model: sensitivity_panel(model, x, y, watched.tags)
    return pictures
