"""The protocol of a study: turns a TOML file into a list of jobs, each a separate command.

An arm is a way to pretrain. Every arm and seed has a pretraining. Every pretraining, task, readout
and amount of labels has a probe, or a head trained with the pretraining's seed. A seed fixes
weights, order, the split of the pretraining images and, for heads, the choice of the few labels,
which is the same in all arms. The test images are always the same. With several learning rates, a
head is trained for each, and the validation images choose one.
"""

import collections
import dataclasses
import itertools
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tf_dicom_ce.config import TASKS, FinetuneConfig, PretrainConfig, problem
from tf_dicom_ce.config_file import check_settings, read_toml
from tf_dicom_ce.errors import UserError

_TAGS_ALONE = ("--no-use-dicom", "--lambda-rec", "0", "--lambda-adv", "0", "--lambda-tags", "1")
#: Arm -> options of `train`; None: no pretraining, the paper's first row or weights from elsewhere.
ARMS: dict[str, tuple[str, ...] | None] = {
    "none": None,
    "ce": ("--no-use-dicom",),
    "ce+dicom": ("--use-dicom",),
    "ce+shuffled": ("--use-dicom", "--shuffle-tags"),
    "tags": _TAGS_ALONE,
    "tags shuffled": (*_TAGS_ALONE, "--shuffle-tags"),
    "ce+tags": ("--no-use-dicom", "--lambda-tags", "1"),
    "ce+tags shuffled": ("--no-use-dicom", "--lambda-tags", "1", "--shuffle-tags"),
    "ce+acgan": ("--use-dicom", "--conditioning", "auxiliary"),
    "ce+dicom noise 10": ("--use-dicom", "--tag-noise", "0.1"),
    "ce+dicom noise 30": ("--use-dicom", "--tag-noise", "0.3"),
    "ce+dicom noise 50": ("--use-dicom", "--tag-noise", "0.5"),
    "distilled": ("--teacher", "imagenet"),
    "imagenet": None,
}
# Default settings of the heads of the arm `imagenet`.
_IMAGENET = {"backbone": "efficientnetlite0", "encoder_weights": "imagenet"}
#: The arms of the paper's Table 2, and the control.
BASIC_ARMS = ("none", "ce", "ce+dicom", "ce+shuffled", "tags", "ce+tags")
#: Ways to measure an encoder: the mean of many linear models, a head on the frozen encoder, or a
#: head that trains the encoder, too.
READOUTS = ("probe", "frozen", "tuned")
#: Kind of task -> the score of a test image.
MEASURES = {"classification": "accuracy", "segmentation": "Dice"}
#: Options that locate data; the runs' fingerprints identify the content.
PLACES = {"data", "labels", "masks", "config"}
_KEYS = {"name", "arms", "seeds", "fractions", "counts", "readouts", "tasks", "effect"}
_LISTS = {*_KEYS, "learning_rates"} - {"name", "effect"}
#: Δ, the gain that a study may exclude: the paper's gain by tags (Table 2, Dice, frozen, 5 %).
EFFECT = 0.048
# Options that take one of several values each time they are given.
_REPEATED = {f.name for f in dataclasses.fields(PretrainConfig) if f.type == tuple[str, ...]}
_DECIDED = {
    *("seed", "freeze", "head", "label_fraction", "label_count", "use_dicom", "shuffle_tags"),
    *("tag_noise", "run", "resume", "export", "encoder"),
}
# The keys of a task's table that are not options of `finetune`, and those that a probe has.
_OF_TASK = ("fractions", "counts", "draws", "learning_rates")
_PROBED = ("task", "draws", "data", "labels", "masks", "class_names", "preset")
_PROBED += ("image_size", "backbone", "encoder_weights", "width", "find_sector", "blank_outside")


def decided(part: str) -> set[str]:
    """The options of a table that the study decides; the arm decides a head's weights."""
    of_arm = {"pretraining": set(), "imagenet": {"task"}}
    return _DECIDED | of_arm.get(part, {"encoder_weights"})


@dataclasses.dataclass(frozen=True)
class Job:
    """One command."""

    name: str  # path of its folder below `jobs/`, e.g. "thyroid/ce/frozen/0.05/seed-0"
    command: tuple[str, ...]  # words after `tf-dicom-ce`, without those that name folders
    needs: str | None  # name of the job that trains its encoder
    cell: dict[str, Any]  # arm, task (or "pretraining"), its measure, readout, labels, seed


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A study.

    `options` has the options of the command for "pretraining" and for each task, including `task`.
    If "imagenet" is an arm, its entry has the options of its heads, which override the task's.
    """

    name: str
    arms: tuple[str, ...]  # names of `ARMS`
    seeds: tuple[int, ...]  # of pretraining and head
    readouts: tuple[str, ...]  # of `READOUTS`
    labels: dict[str, tuple[float, ...]]  # task -> shares of its patients, or above 1 images
    effect: float  # Δ
    options: dict[str, dict[str, Any]]

    def jobs(self) -> tuple[Job, ...]:
        """All jobs; a job comes after the job that it needs."""
        jobs = []
        for seed, arm in itertools.product(self.seeds, self.arms):
            needs, of_arm = None, {"arm": arm, "seed": seed}
            if ARMS[arm] is not None:
                needs = f"pretraining/{arm}/seed-{seed}"
                # The arm overrides the options, so its words come last.
                options = _words(self.options["pretraining"])
                words = ("train", *options, *ARMS[arm], "--seed", str(seed))
                jobs.append(Job(needs, words, None, of_arm | {"task": "pretraining"}))
            for task, readout in itertools.product(self.labels, self.readouts):
                measure = MEASURES[self.options[task]["task"]]
                cell = of_arm | {"task": task, "measure": measure, "readout": readout}
                for amount in self.labels[task]:
                    words = (*self._readout(task, readout, arm, amount), "--seed", str(seed))
                    name = f"{task}/{arm}/{readout}/{amount:g}/seed-{seed}"
                    rates = self.options[task].get("learning_rates", ())
                    rates = () if readout == "probe" else rates
                    own = cell | {"labels": amount}
                    for rate in rates:
                        more = ("--learning-rate", f"{rate:g}")
                        jobs.append(Job(f"{name}/rate-{rate:g}", (*words, *more), needs, own))
                    if not rates:
                        jobs.append(Job(name, words, needs, own))
        return tuple(jobs)

    def _readout(self, task: str, readout: str, arm: str, amount: float) -> tuple[str, ...]:
        """The command line of a probe or a head, without its seed."""
        options = self.options[task] | self.options.get(arm, {})
        what = "count" if amount > 1 else "fraction"
        if readout == "probe":
            words = {k: v for k, v in options.items() if k in _PROBED}
            return ("probe", *_words(words | {f"label_{what}s": f"{amount:g}"}))
        words = {k: v for k, v in options.items() if k not in ("draws", "learning_rates")}
        state = {"freeze": readout == "frozen", f"label_{what}": f"{amount:g}"}
        return ("finetune", *_words(words | state))


def read_protocol(path: Path, options_of: Mapping[str, Collection[str]]) -> Protocol:
    """Reads a study's TOML file.

    Args:
        path: The file; `data` and `labels` in it are relative to the current folder, as on the
            command line.
        options_of: "train" and "finetune" -> all options of that command; the table `imagenet` may
            only have settings.

    Raises:
        UserError: The file is unreadable, or has an unknown key, arm, task or setting; the message
            names the file.
    """
    content = read_toml(path)
    _check_lists(path, content)
    tasks = tuple(content.get("tasks", TASKS))
    for task in tasks:  # its name becomes a folder beside `pretraining`
        if task in ("pretraining", "imagenet", *_KEYS) or not re.fullmatch(r"[\w -]+", str(task)):
            raise UserError(f"{path}: tasks: '{task}' cannot be a task's name. Choose another.")
    tables = ("pretraining", *tasks, "imagenet")
    for key in content.keys() - {*_KEYS, *tables}:
        known = ", ".join(sorted({*_KEYS, *tables}))
        raise UserError(f"{path}: unknown key '{key}'; there are: {known}.")
    arms, readouts = (
        tuple(content.get(name, default))
        for name, default in (("arms", BASIC_ARMS), ("readouts", ("frozen", "tuned")))
    )
    for what, found, known in (("arm", arms, ARMS), ("readout", readouts, READOUTS)):
        for name in found:
            if str(name) not in known:
                raise UserError(f"{path}: no {what} '{name}'; there are: {', '.join(known)}.")
    for part in tables:
        if not isinstance(content.get(part, {}), dict):
            raise UserError(f"{path}: {part} = {content[part]}: give a table, [{part}].")
        _check(path, part, content.get(part, {}), options_of, readouts)
    options = {part: dict(content.get(part, {})) for part in ("pretraining", *tasks)}
    for task in tasks:
        if options[task].setdefault("task", task) not in TASKS:
            words = f'give its kind, {" or ".join(TASKS)}, such as: task = "segmentation".'
            raise UserError(f"{path}: [{task}] {words}")
    labels = {task: _labels(path, task, content, options[task]) for task in tasks}
    if "imagenet" in arms:
        options["imagenet"] = _IMAGENET | content.get("imagenet", {})
    seeds = tuple(content.get("seeds", (0, 1, 2)))
    for seed in seeds:
        if type(seed) is not int or seed < 0:
            raise UserError(f"{path}: seeds {seed}: whole, 0 or more.")
    if not all((arms, seeds, tasks, readouts, *labels.values())):
        raise UserError(
            f"{path}: arms, seeds, tasks, readouts, and fractions or counts need at least one "
            "entry each."
        )
    effect = content.get("effect", EFFECT)
    if type(effect) not in (int, float) or not 0 < effect < 1:
        raise UserError(f"{path}: effect = {effect}: choose a number above 0, below 1.")
    name = str(content.get("name", path.stem))
    protocol = Protocol(name, arms, seeds, readouts, labels, effect, options)
    for job, count in collections.Counter(job.name for job in protocol.jobs()).items():
        if count > 1:
            raise UserError(f"{path}: the job '{job}' is there {count} times. Repeat no value.")
    return protocol


def _check_lists(path: Path, table: Mapping[str, Any]) -> None:
    """Checks that the keys with several values are lists, here and in the tables below."""
    for key, value in table.items():
        if isinstance(value, dict):
            _check_lists(path, value)
        elif key in _LISTS and not isinstance(value, list):
            raise UserError(f"{path}: {key} = {value}: give a list, {key} = [{value!r}].")


def _labels(path: Path, task: str, content: dict, table: dict) -> tuple[float, ...]:
    """A task's amounts of labels: shares of its patients, and numbers of images, which are above 1.

    They are given in its table, or else at the top of the file.
    """
    own = {name: table.pop(name) for name in ("fractions", "counts") if name in table}
    given = own or {name: content[name] for name in ("fractions", "counts") if name in content}
    given = given or {"fractions": (0.05, 1.0)}
    shares, counts = given.get("fractions", ()), given.get("counts", ())
    for name, found, right in (
        ("fractions", shares, lambda share: type(share) in (int, float) and 0 < share <= 1),
        ("counts", counts, lambda count: type(count) is int and count > 1),
    ):
        for value in found:
            if not right(value):
                allowed = "above 0, at most 1" if name == "fractions" else "whole, 2 or more"
                raise UserError(f"{path}: {task}: {name} {value}: {allowed}.")
    return (*shares, *counts)


def _check(
    path: Path,
    part: str,
    table: dict,
    options_of: Mapping[str, Collection[str]],
    readouts: Collection[str],
) -> None:
    """Checks the keys and values of one table."""
    for name in table.keys() & decided(part):
        raise UserError(f"{path}: [{part}] '{name}': the study sets it. Leave it out.")
    is_task = part not in ("pretraining", "imagenet")
    others = {*options_of["finetune"], *_OF_TASK} if is_task else set()
    check_settings(
        table,
        PretrainConfig if part == "pretraining" else FinetuneConfig,
        lambda key: f"{path}: [{part}]",
        others=others or (options_of["train"] if part == "pretraining" else ()),
    )
    for rate in table.get("learning_rates", ()):
        field = next(f for f in dataclasses.fields(FinetuneConfig) if f.name == "learning_rate")
        if wrong := problem(field, rate):
            raise UserError(f"{path}: [{part}]: learning_rates = {rate}: {wrong}.")
    if is_task and "config" in table and "probe" in readouts:
        raise UserError(f"{path}: [{part}] 'config': give a probe's settings in this table.")


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
