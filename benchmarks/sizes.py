"""The sizes of all benchmarks: `FULL`, and `TRIAL` for a quick check."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from tf_dicom_ce.config import PRESETS, PretrainConfig

LABELS = 10  # of the schema `ultrasound`


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes and durations of benchmarks.

    Attributes:
        configs: Name -> settings of the training step.
        shapes: Name -> settings whose cost per image is compared, by the setting that grows.
        product: n of the n×n matrices whose product is the machine's limit.
        frames: Sizes of the generated stores.
        dicom: Height and width of the generated DICOM images.
        dicom_files: Number of those that are decoded.
        header_files: Number of those that are indexed.
        waiting_files: Number of those that are indexed by a command as a whole.
        patients: Patients whom the phantom renders, with two images each.
        least: Least number of rounds.
        patience: Multiplies the seconds that a measurement may take after these rounds.
    """

    configs: Mapping[str, PretrainConfig]
    shapes: Mapping[str, Mapping[str, PretrainConfig]]
    product: int
    frames: tuple[int, ...]
    dicom: tuple[int, int]
    dicom_files: int
    header_files: int
    waiting_files: int
    patients: int
    least: int
    patience: float


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a benchmark is run with.

    Attributes:
        sizes: `FULL` or `TRIAL`.
        folder: An empty folder to work in, the same for all stages of a benchmark.
        device: `cpu` or `gpu`.
        against: Folder of another checkout, which is compared with this one; None for none.
    """

    sizes: Sizes
    folder: Path
    device: str = "cpu"
    against: Path | None = None


def _growing(config: PretrainConfig, **settings: tuple) -> dict[str, dict[str, PretrainConfig]]:
    return {
        setting: {_name(v): dataclasses.replace(config, **{setting: v}) for v in values}
        for setting, values in settings.items()
    }


def _with_others(configs: dict[str, PretrainConfig]) -> dict[str, PretrainConfig]:
    """The sizes, and the quick one with a teacher and with another backbone."""
    teacher = dataclasses.replace(configs["quick"], teacher="imagenet")
    resnet50 = dataclasses.replace(configs["quick"], backbone="resnet50")
    return configs | {"teacher": teacher, "resnet50": resnet50}


def _name(value: float | tuple[int, int]) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


FULL = Sizes(
    configs=_with_others({"paper": PRESETS["paper"], "quick": PRESETS["quick"]}),
    shapes=_growing(
        PRESETS["quick"],
        batch_size=(1, 2, 4, 8, 16, 32),
        image_size=((32, 64), (64, 96), (128, 192), (256, 384)),
        width=(0.125, 0.25, 0.5, 1.0),
    ),
    product=2048,
    frames=(1_000, 10_000, 100_000),
    dicom=(600, 800),
    dicom_files=300,
    header_files=4000,
    waiting_files=10_000,
    patients=24,
    least=3,
    patience=1.0,
)

_TINY = dataclasses.replace(PRESETS["quick"], image_size=(32, 32), width=1 / 16, batch_size=2)
TRIAL = Sizes(
    configs=_with_others(
        {"paper": dataclasses.replace(_TINY, image_size=(64, 64)), "quick": _TINY}
    ),
    shapes=_growing(_TINY, batch_size=(1, 2), image_size=((32, 32), (64, 64)), width=(1 / 16,)),
    product=256,
    frames=(50, 100),
    dicom=(60, 80),
    dicom_files=20,
    header_files=320,
    waiting_files=320,
    patients=2,
    least=2,
    patience=0.0,
)


def as_json(config: PretrainConfig) -> dict:
    """Settings as an argument of a contender."""
    return dataclasses.asdict(config)


def from_json(settings: Mapping) -> PretrainConfig:
    """The settings that `as_json` gave."""
    return PretrainConfig(**{**settings, "image_size": tuple(settings["image_size"])})
