"""Every setting of a pretraining run on one screen, and the presets `paper` and `quick`."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import PurePath

from tf_dicom_ce.errors import UserError

ENCODER_STRIDE = 32  # five blocks that halve (section 4.2)


def _require_positive(config, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {getattr(config, name)}: choose 1 or more.")


def _require_choice(config, name: str, *choices: str) -> None:
    if getattr(config, name) not in choices:
        flag = "--" + name.replace("_", "-")
        raise UserError(f"{flag} {getattr(config, name)}: choose one of {', '.join(choices)}.")


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of one pretraining run; the defaults are the paper's.

    Attributes:
        use_dicom: Condition D on the encoded tags (Eq. 2); without, Eq. 1. `lambda_tags` does
            not depend on it.
        tags: Tag schema: `ultrasound`, `ultrasound-paper` or a path to a TOML file (section 3.2).
        image_size: Height and width of the network's input in pixels (section 4.3).
        width: Multiplies every channel count of the networks; 1.0 is VGG16 (section 4.2).
        batch_size: Images per step (section 4.3).
        epochs: Passes over the training images, without early stopping (section 4.3).
        lambda_rec: Weight of L_rec in Eq. 3 (section 4.3).
        lambda_adv: Weight of L_adv in Eq. 3 (section 4.3).
        lambda_tags: Weight of the loss on tags of a linear head on the encoder, added to Eq. 3.
            With `lambda_rec` and `lambda_adv` both 0 the encoder predicts the tags of whole images
            and nothing else: nothing is painted, D is not trained.
        g_learning_rate: Adam's learning rate for the context encoder F (section 4.3).
        d_learning_rate: Adam's learning rate for the discriminator D (section 4.3).
        adversarial: F's loss on D's logits: `nonsaturating` −log D, or `minimax` as in Eq. 1;
            `hinge` for both sides (Miyato & Koyama, 2018).
        discriminator_input: `patch`, or `composite`: the whole image with the patch in place.
        conditioning: How D learns of the tags: `projection` (section 3.1.1), or `auxiliary`: it
            predicts them (AC-GAN, Odena et al., 2017).
        spectral_norm: Divide every weight of D by its largest singular value (Miyato et al., 2018).
        tag_dropout: Probability with which a tag of a training example is taken as absent.
        balance_tags: Draw training images so that all combinations of labels are equally likely.
        shuffle_tags: Give every patient another patient's tags: the control of `use_dicom`.
        tag_noise: Probability with which a tag of an image is replaced by that of another image,
            once for all of the training.
        precision: What F and D compute in: `float32`, `bfloat16` or `float16`; weights and losses
            are float32 in any case.
        split: Keep each `patient` on one side, or split by `image` as in section 4.3.
        validation_fraction: Share of the images held out (section 4.3).
        augment: Random flip, gain, contrast and shift of the training images; not in the paper.
        frames: Of a cine: the `middle` frame, `all`, or `every:N`.
        find_sector: Look for the ultrasound in the picture where no region is given.
        direct: Read each file through pydicom at every step instead of from the store.
        panel_every: Epochs between two inpainting panels.
        seed: Seeds weights, split, order and augmentation.
        deterministic: Bit-for-bit the same weights for the same seed on the same machine.
        allow_unreadable: Go on where more than half of the images cannot be read.
    """

    use_dicom: bool = True
    tags: str = "ultrasound"
    image_size: tuple[int, int] = (256, 384)
    width: float = 1.0
    batch_size: int = 8
    epochs: int = 200
    lambda_rec: float = 0.99
    lambda_adv: float = 0.01
    lambda_tags: float = 0.0
    g_learning_rate: float = 1e-4
    d_learning_rate: float = 1e-5
    adversarial: str = "nonsaturating"
    discriminator_input: str = "patch"
    conditioning: str = "projection"
    spectral_norm: bool = False
    tag_dropout: float = 0.0
    balance_tags: bool = False
    shuffle_tags: bool = False
    tag_noise: float = 0.0
    precision: str = "float32"
    split: str = "patient"
    validation_fraction: float = 0.2
    augment: bool = False
    frames: str = "middle"
    find_sector: bool = False
    direct: bool = False
    panel_every: int = 5
    seed: int = 0
    deterministic: bool = False
    allow_unreadable: bool = False

    def __post_init__(self):
        height, width = self.image_size
        for side in (height, width):
            if side < ENCODER_STRIDE or side % ENCODER_STRIDE:
                below = max(side // ENCODER_STRIDE, 1) * ENCODER_STRIDE
                raise UserError(
                    f"--image-size {height} {width}: {side} is not a multiple of "
                    f"{ENCODER_STRIDE}, and the encoder halves five times. "
                    f"The nearest are {below} and {below + ENCODER_STRIDE}."
                )
        if not 0 < self.width <= 4:
            raise UserError(f"--width {self.width}: choose a number above 0, at most 4.")
        _require_positive(self, "batch_size", "epochs", "panel_every")
        _require_choice(self, "adversarial", "nonsaturating", "minimax", "hinge")
        _require_choice(self, "discriminator_input", "patch", "composite")
        _require_choice(self, "conditioning", "projection", "auxiliary")
        _require_choice(self, "precision", "float32", "bfloat16", "float16")
        _require_choice(self, "split", "patient", "image")
        for name in ("lambda_rec", "lambda_adv", "lambda_tags"):
            if not 0 <= getattr(self, name) < math.inf:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} {getattr(self, name)}: choose 0 or more.")
        if not (self.inpaints or self.predicts_tags):
            raise UserError("--lambda-rec, --lambda-adv and --lambda-tags are all 0: raise one.")
        if not 0 <= self.tag_dropout < 1:
            raise UserError(f"--tag-dropout {self.tag_dropout}: choose 0 or more, below 1.")
        if not 0 <= self.tag_noise <= 1:
            raise UserError(f"--tag-noise {self.tag_noise}: choose 0 to 1.")
        self._require_tags()

    def _require_tags(self):
        if self.use_dicom:
            return
        without_head = not self.predicts_tags
        for flag, refused in (
            ("--conditioning auxiliary", self.conditioning == "auxiliary"),
            ("--tag-dropout", self.tag_dropout > 0 and without_head),
            ("--shuffle-tags", self.shuffle_tags and without_head),
            ("--tag-noise", self.tag_noise > 0 and without_head),
        ):
            if refused:
                raise UserError(f"{flag} is about the tags, which --no-use-dicom leaves out.")

    @property
    def inpaints(self) -> bool:
        """Whether F paints and D judges; without, the encoder only predicts tags."""
        return self.lambda_rec > 0 or self.lambda_adv > 0

    @property
    def predicts_tags(self) -> bool:
        """Whether a head on the encoder predicts the tags."""
        return self.lambda_tags > 0

    @property
    def has_small_steps(self) -> bool:
        """Whether a step is of less than some 32 GFLOP, as of `quick`; see `load_tensorflow`."""
        height, width = self.image_size
        return self.batch_size * height * width * self.width**2 <= 16384

    def as_dict(self) -> dict:
        """All settings as plain values, in the order in which they are declared.

        Of a tag schema's file only the name, for a path may name a patient.
        """
        return {**dataclasses.asdict(self), "tags": PurePath(self.tags).name}


PRESETS = {
    "paper": PretrainConfig(),
    # Two CPU cores, about 1,500 images, under 15 minutes. The learning rates grow with the
    # narrower networks and the far fewer steps.
    "quick": PretrainConfig(
        image_size=(64, 96),
        width=0.25,
        epochs=20,
        g_learning_rate=1e-3,
        d_learning_rate=1e-4,
    ),
}


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of one head; the defaults are the paper's, for what both tasks share.

    Attributes:
        task: `classification` (Appendix A.2.1) or `segmentation` (Appendix A.2.2).
        freeze: Keep the encoder as it is, BatchNorm statistics included (Table 2).
        label_fraction: Share of the training patients whose labels are used (Table 2).
        label_encoding: Classes in an order (`ordinal`), or without one (`categorical`).
        positive_weight: Weight of a 1 against a 0 in the ordinal codes' loss (A.2.1).
        dropout: Rate in the classifier's head; not given in the paper.
        batch_size: Images per step: 4 for classification, 8 for segmentation.
        epochs: 300 for classification, 500 for segmentation.
        epoch_steps: Least number of steps of an epoch: few images are passed several times.
        learning_rate: Adam's (A.2).
        image_size: Height and width; an exported encoder brings its own.
        width: Multiplies every channel count; an exported encoder brings its own.
        find_sector: Look for the ultrasound in the picture where no region is given.
        panel_every: Epochs between two panels.
        seed: Seeds weights, split, label fraction, order and bootstrap.
        deterministic: Bit-for-bit the same weights for the same seed on the same machine.
    """

    task: str = "classification"
    freeze: bool = False
    label_fraction: float = 1.0
    label_encoding: str = "ordinal"
    positive_weight: float = 2.0
    dropout: float = 0.5
    batch_size: int = 4
    epochs: int = 300
    epoch_steps: int = 1
    learning_rate: float = 1e-4
    image_size: tuple[int, int] = (256, 384)
    width: float = 1.0
    find_sector: bool = False
    panel_every: int = 10
    seed: int = 0
    deterministic: bool = False

    def __post_init__(self):
        PretrainConfig(image_size=self.image_size, width=self.width)  # the same rules
        if not 0 < self.label_fraction <= 1:
            raise UserError(f"--label-fraction {self.label_fraction}: above 0, at most 1.")
        _require_positive(self, "batch_size", "epochs", "epoch_steps")
        _require_choice(self, "task", "classification", "segmentation")
        _require_choice(self, "label_encoding", "ordinal", "categorical")

    def as_dict(self) -> dict:
        """All settings as plain values, in the order in which they are declared."""
        return dataclasses.asdict(self)


FINETUNE_PRESETS = {
    ("paper", "classification"): FinetuneConfig(),
    ("paper", "segmentation"): FinetuneConfig(task="segmentation", batch_size=8, epochs=500),
    # Minutes on two CPU cores, at the size of the quick encoder.
    ("quick", "classification"): FinetuneConfig(
        epochs=40, epoch_steps=50, learning_rate=1e-3, image_size=(64, 96), width=0.25
    ),
    ("quick", "segmentation"): FinetuneConfig(
        task="segmentation",
        batch_size=8,
        epochs=40,
        epoch_steps=25,
        learning_rate=3e-3,
        image_size=(64, 96),
        width=0.25,
    ),
}
