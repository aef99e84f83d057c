"""Pretraining of the context encoder on given datasets (section 4.3)."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.models.encoder import VGG16Encoder
from tf_dicom_ce.training.fitting import fit_and_keep_best
from tf_dicom_ce.training.gan import ContextEncoderGAN
from tf_dicom_ce.training.panels import inpainting_panel

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
    "g_norm": "gradient norm/F",
    "d_norm": "gradient norm/D",
}


@dataclass(frozen=True)
class Pretrained:
    """What a run leaves: the encoder of the best epoch and how good it was.

    Attributes:
        encoder: With the weights of `epoch`.
        epoch: The epoch with the lowest joint loss on the validation images, from 1.
        validation: That epoch's measures on the validation images.
    """

    encoder: VGG16Encoder
    epoch: int
    validation: dict[str, float]


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seeds Python, NumPy and TensorFlow; `deterministic` also fixes the order of every sum."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def pretrain(
    config: PretrainConfig,
    labels: int,
    training: tf.data.Dataset,
    steps_per_epoch: int,
    validation: tf.data.Dataset,
    panel_images: np.ndarray,
    run: Path,
) -> Pretrained:
    """Trains F against D and keeps the epoch with the lowest validation joint loss.

    Args:
        config: Settings.
        labels: Length L of y; with `use_dicom` off, y is not looked at (Eq. 1).
        training: Endless batches (x, y), see `tf_dicom_ce.data.datasets`.
        steps_per_epoch: Steps of an epoch.
        validation: Batches (x, y), one pass.
        panel_images: z-scored validation images for the panel, float [N, H, W, 1].
        run: Folder that receives `history.csv`, `best.weights.h5`, `tensorboard/`, `panels/`.

    Returns:
        The best encoder.

    Raises:
        UserError: No epoch had a finite validation loss.
    """
    model = ContextEncoderGAN(config, labels if config.use_dicom else 0)
    model.compile()
    epoch = fit_and_keep_best(
        model,
        training,
        steps_per_epoch,
        validation,
        config.epochs,
        monitor="val_joint",  # "the ones with the lowest joint loss" (section 4.3)
        scalars=SCALARS,
        optimizers={"F": "g_optimizer", "D": "d_optimizer"},
        panel=("inpainting", lambda model: inpainting_panel(model, panel_images)),
        panel_every=config.panel_every,
        shown=("rec", "joint", "d_real", "d_fake"),
        run=run,
    )
    return Pretrained(
        encoder=model.context_encoder.encoder,
        epoch=epoch,
        validation=model.evaluate(validation, verbose=0, return_dict=True),
    )
