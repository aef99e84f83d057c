"""What a study compares: a TOML file to a list of jobs, each a command of its own.

An arm is a way to pretrain. For every arm and seed there is a pretraining; for every pretraining,
task, state of the encoder (frozen or tuned) and label fraction there is a head, trained with the
pretraining's seed. So seeds vary weights, order, split of the pretraining images and which labels
are among the few, the same in all arms; the test images are always the same.
"""

import dataclasses
import itertools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tf_dicom_ce.config import FinetuneConfig, PretrainConfig
from tf_dicom_ce.config_file import check_settings, read_toml
from tf_dicom_ce.errors import UserError

#: Arm -> options of `train`; None: no pretraining, the paper's first row or weights from elsewhere.
ARMS: dict[str, tuple[str, ...] | None] = {
    "none": None,
    "ce": ("--no-use-dicom",),
    "ce+dicom": ("--use-dicom",),
    "ce+shuffled": ("--use-dicom", "--shuffle-tags"),
    "tags": ("--no-use-dicom", "--lambda-rec", "0", "--lambda-adv", "0", "--lambda-tags", "1"),
    "ce+tags": ("--no-use-dicom", "--lambda-tags", "1"),
    "ce+tags shuffled": ("--no-use-dicom", "--lambda-tags", "1", "--shuffle-tags"),
    "ce+acgan": ("--use-dicom", "--conditioning", "auxiliary"),
    "ce+dicom noise 10": ("--use-dicom", "--tag-noise", "0.1"),
    "ce+dicom noise 30": ("--use-dicom", "--tag-noise", "0.3"),
    "ce+dicom noise 50": ("--use-dicom", "--tag-noise", "0.5"),
    "distilled": ("--teacher", "imagenet"),
    "imagenet": None,
}
# What sets the heads of the arm `imagenet` apart, where the table of that name does not say else.
_IMAGENET = {"backbone": "efficientnetlite0", "encoder_weights": "imagenet"}
#: The arms of the paper's Table 2, and the control.
BASIC_ARMS = ("none", "ce", "ce+dicom", "ce+shuffled", "tags", "ce+tags")
TASKS = ("classification", "segmentation")
#: Options that say where something lies; what lies there, the runs' fingerprints say.
PLACES = {"data", "labels", "masks", "config"}
PARTS = ("pretraining", *TASKS, "imagenet")
_KEYS = {"name", "arms", "seeds", "fractions", "freeze", "tasks", *PARTS}
# Options that take one of several values each time they are given.
_REPEATED = {f.name for f in dataclasses.fields(PretrainConfig) if f.type == tuple[str, ...]}
_DECIDED = {
    *("seed", "freeze", "label_fraction", "task", "use_dicom", "shuffle_tags", "tag_noise"),
    *("run", "resume", "export", "encoder"),
}


def decided(part: str) -> set[str]:
    """The options of one of `PARTS` that the study decides; the weights of a head, its arm does."""
    return _DECIDED | ({"encoder_weights"} if part in TASKS else set())


@dataclasses.dataclass(frozen=True)
class Job:
    """One command."""

    name: str  # path of its folder below `jobs/`, e.g. "segmentation/ce/frozen/0.05/seed-0"
    command: tuple[str, ...]  # words after `tf-dicom-ce`, without those that name folders
    needs: str | None  # name of the job whose encoder it uses
    cell: dict[str, Any]  # arm, task (or "pretraining"), frozen, fraction, seed


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A study.

    `options` are, of "pretraining" and of each task, those of the command; of "imagenet", where
    that is an arm, those of its heads, above their task's.
    """

    name: str
    arms: tuple[str, ...]  # names of `ARMS`
    seeds: tuple[int, ...]  # of pretraining and head
    freeze: tuple[bool, ...]  # states of the encoder
    tasks: tuple[str, ...]  # names of `TASKS`
    fractions: dict[str, tuple[float, ...]]  # task -> shares of its labelled patients
    options: dict[str, dict[str, Any]]

    def jobs(self) -> tuple[Job, ...]:
        """All jobs; a job stands behind the one that it needs."""
        jobs = []
        for seed, arm in itertools.product(self.seeds, self.arms):
            needs, of_arm = None, {"arm": arm, "seed": seed}
            if ARMS[arm] is not None:
                needs = f"pretraining/{arm}/seed-{seed}"
                # An arm is what its name says, whatever the options are: its words come last.
                options = _words(self.options["pretraining"])
                words = ("train", *options, *ARMS[arm], "--seed", str(seed))
                jobs.append(Job(needs, words, None, of_arm | {"task": "pretraining"}))
            for task in self.tasks:
                for frozen, fraction in itertools.product(self.freeze, self.fractions[task]):
                    state = "frozen" if frozen else "tuned"
                    words = (
                        *("finetune", "--task", task, "--freeze" if frozen else "--no-freeze"),
                        *("--label-fraction", f"{fraction:g}", "--seed", str(seed)),
                        *_words(self.options[task]),
                        *_words(self.options.get(arm, {})),
                    )
                    name = f"{task}/{arm}/{state}/{fraction:g}/seed-{seed}"
                    cell = of_arm | {"task": task, "frozen": frozen, "fraction": fraction}
                    jobs.append(Job(name, words, needs, cell))
        return tuple(jobs)


def read_protocol(path: Path, options_of: Mapping[str, Collection[str]]) -> Protocol:
    """Reads a study's TOML file.

    Args:
        path: The file; `data` and `labels` in it are relative to the current folder, as on the
            command line.
        options_of: "pretraining" and each task -> all options that its command has; the table
            `imagenet` has settings alone.

    Raises:
        UserError: Unreadable, or an unknown key, arm, task or setting; the message names the file.
    """
    content = read_toml(path)
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{path}: unknown key '{key}'; there are: {', '.join(sorted(_KEYS))}.")
    options = {name: dict(content.get(name, {})) for name in ("pretraining", *TASKS)}
    arms = tuple(content.get("arms", BASIC_ARMS))
    if "imagenet" in arms:
        options["imagenet"] = _IMAGENET | content.get("imagenet", {})
    fractions = content.get("fractions", (0.05, 1.0))
    protocol = Protocol(
        content.get("name", path.stem),
        arms,
        tuple(content.get("seeds", (0, 1, 2))),
        tuple(content.get("freeze", (True, False))),
        tuple(content.get("tasks", TASKS)),
        {task: tuple(options[task].pop("fractions", fractions)) for task in TASKS},
        options,
    )
    for what, found, known in (("arm", protocol.arms, ARMS), ("task", protocol.tasks, TASKS)):
        for name in found:
            if name not in known:
                raise UserError(f"{path}: no {what} '{name}'; there are: {', '.join(known)}.")
    shares = (protocol.fractions[task] for task in protocol.tasks)
    if not all((protocol.arms, protocol.seeds, protocol.tasks, *shares)):
        raise UserError(f"{path}: arms, seeds, fractions and tasks need at least one entry each.")
    for part in PARTS:
        content_of_part = content.get(part, {})
        for name in content_of_part.keys() & decided(part):
            raise UserError(f"{path}: [{part}] '{name}' is what the study itself decides.")
        check_settings(
            content_of_part,
            PretrainConfig if part == "pretraining" else FinetuneConfig,
            lambda key, part=part: f"{path}: [{part}]",
            others={*options_of.get(part, ()), *(("fractions",) if part in TASKS else ())},
        )
    return protocol


def _words(options: dict[str, Any]) -> tuple[str, ...]:
    """Options as on the command line: {"image_size": [64, 96]} -> --image-size 64 96."""
    words: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            values = value if isinstance(value, list) else [value]
            groups = [[text] for text in values] if name in _REPEATED else [values]
            words += (word for group in groups for word in (f"--{flag}", *map(str, group)))
    return tuple(words)
