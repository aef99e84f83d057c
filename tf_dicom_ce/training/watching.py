"""What is watched in a pretraining: measures by group, pictures of a few images, the sentinel."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.training.fitting import Watch
from tf_dicom_ce.training.panels import inpainting_panel, sensitivity_panel
from tf_dicom_ce.training.sentinel import Sentinel

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


def watch_of(
    config: PretrainConfig, watched: Watched, configuration: Mapping, histograms: bool
) -> Watch:
    """What is shown of a pretraining, and what chooses its epoch.

    Args:
        config: Settings.
        watched: Validation images for panels and sentinel.
        configuration: Settings and provenance, to be shown.
        histograms: Also the distribution of weights in TensorBoard.
    """
    seen = config.use_dicom and config.conditioning == "projection"
    spans = watched.spans if seen else ()
    x, y = watched.x[: watched.shown], watched.y[: watched.shown]
    pictures = {}
    if config.inpaints:
        pictures["inpainting"] = lambda model: inpainting_panel(model, x)
        if spans:
            pictures["sensitivity"] = lambda model: sensitivity_panel(model, x, y, watched.tags)
    tags = ("tags", "tags_accuracy") if config.predicts_tags else ()
    return Watch(
        # "The ones with the lowest joint loss" (section 4.3). With a head on the encoder, by L_rec:
        # tags that cannot be learnt, as shuffled ones, would else end the training early.
        monitor="val_rec" if config.inpaints and config.predicts_tags else "val_joint",
        scalars=SCALARS,
        optimizers={"F": "g_optimizer", **({"D": "d_optimizer"} if config.inpaints else {})},
        pictures=pictures,
        pictures_every=config.panel_every,
        shown=(*(("rec", "joint", "d_real", "d_fake") if config.inpaints else ()), *tags),
        configuration=configuration,
        histograms=histograms,
        guards=lambda run, writer: (
            [Sentinel(run, watched.x, watched.y, spans, writer)]
            if config.inpaints  # else there is nothing between F and D to watch
            else []
        ),
    )
