"""Watches whether F and D keep learning from each other, and advises if they do not."""

import csv
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.models.gan import centre_patch

_AT_ONCE = 8  # images

#: Spans of the tags in y: (name, start, stop).
Spans = tuple[tuple[str, int, int], ...]


def spans_of(tags: Mapping[str, Sequence[str]]) -> Spans:
    """The spans of tags (name -> labels), whose labels follow one another in y."""
    ends = np.cumsum([len(labels) for labels in tags.values()]).tolist()
    return tuple((name, end - len(tags[name]), end) for name, end in zip(tags, ends, strict=True))


def diversity(predicted: np.ndarray, true: np.ndarray) -> float:
    """How much predicted patches [N, h, w, 1] vary between images, relative to true patches.

    Each pixel has a standard deviation over the images. The result is the mean of these over the
    pixels of the predicted patches, divided by the same mean for the true patches. 1: as diverse as
    the truth; 0: F paints the same patch for every image.
    """
    return _ratio(predicted.std(axis=0).mean(), true.std(axis=0).mean())


def contrast(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean standard deviation within a predicted patch, divided by that within a true patch."""
    within = (1, 2, 3)
    return _ratio(predicted.std(axis=within).mean(), true.std(axis=within).mean())


def cycled(y: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Shifts a tag's labels in a copy of y [N, L] by one place; the last becomes the first.

    A tag with a single label is switched between 1 and 0.
    """
    other = y.copy()
    span = y[:, start:stop]
    other[:, start:stop] = 1 - span if stop - start == 1 else np.roll(span, 1, axis=1)
    return other


def sensitivities(discriminator, x, y: np.ndarray, spans: Spans) -> dict[str, float]:
    """How much D's answer depends on each tag.

    The sensitivity to a tag is the mean of |D(x, y) − D(x, y')| in logits, where y' is y with that
    tag's labels `cycled`. The mean is over the images where y' differs from y, which excludes
    images without a label of the tag; it is NaN if there are none.

    x is the input of D, float [N, h, w, 1].
    """
    logit = np.asarray(discriminator(x, y)["logit"])
    found = {}
    for name, start, stop in spans:
        other = cycled(y, start, stop)
        moved = np.any(other != y, axis=1)
        change = np.abs(np.asarray(discriminator(x, other)["logit"]) - logit)[moved]
        found[name] = float(change.mean()) if len(change) else float("nan")
    return found


def measure(model, x: np.ndarray, y: np.ndarray, spans: Spans = ()) -> dict[str, float]:
    """All measures of a `ContextEncoderGAN` on images x, z-scored [N, H, W, 1], with tags y [N, L].

    - `d_real`, `d_fake`: mean σ(D) of true and of predicted patches.
    - `accuracy`: share of D's logits on the right side of 0.
    - `gap`: mean logit of the true patches minus mean logit of the predicted patches.
    - `adv`: mean −log σ(D(predicted)).
    - `diversity`, `contrast`: see these functions.
    - `c_rf`: mean |C_rf| over both kinds of patches.
    - `p_share`: |P| / (|P| + |C_rf|) of the means, 0 to 1.
    - `sensitivity <tag>`: `sensitivities` on the true patches.
    """
    patch = np.asarray(centre_patch(x))
    patch_hat = np.concatenate(
        [model.paint(x[k : k + _AT_ONCE]) for k in range(0, len(x), _AT_ONCE)]
    )
    seen, seen_hat = model.seen_by_d(x, patch), model.seen_by_d(x, patch_hat)
    real, fake = (
        {k: np.asarray(v, np.float64) for k, v in model.discriminator(of, y).items()}
        for of in (seen, seen_hat)
    )
    by_tag = sensitivities(model.discriminator, seen, y, spans)
    c_rf, p = (np.mean([np.abs(real[k]), np.abs(fake[k])]) for k in ("c_rf", "p"))
    return {
        "d_real": float(_sigmoid(real["logit"]).mean()),
        "d_fake": float(_sigmoid(fake["logit"]).mean()),
        "accuracy": float(np.mean([real["logit"] > 0, fake["logit"] < 0])),
        "gap": float(real["logit"].mean() - fake["logit"].mean()),
        "adv": float(np.logaddexp(0, -fake["logit"]).mean()),
        "diversity": diversity(patch_hat, patch),
        "contrast": contrast(patch_hat, patch),
        "c_rf": float(c_rf),
        "p_share": float(_ratio(p, p + c_rf)),
        **{f"sensitivity {tag}": value for tag, value in by_tag.items()},
    }


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else 0.0


def _sigmoid(logit):
    return np.exp(-np.logaddexp(0, -logit))


@dataclass(frozen=True)
class Rule:
    """When to warn, and with what advice."""

    name: str  # the problem in a few words
    holds: Callable[[dict[str, float]], bool]  # measures of an epoch -> whether they look wrong
    advice: str  # what it means and what to try
    epochs: int  # how many in a row it has to hold
    after: int = 0  # epochs at the start that do not count
    from_start: bool = False  # whether it must have held in every epoch of the run


def rules(spans: Spans) -> tuple[Rule, ...]:
    """The rules, including one for each tag that D should use.

    docs/monitoring.md names the runs from which the thresholds come.
    """
    return (
        Rule(
            "D has won",
            lambda m: m["accuracy"] >= 0.99 and m["adv"] >= 4.6,  # D(fake) about 0.01
            "D tells every true patch from every predicted one, so L_adv teaches F little. Try a "
            "lower --d-learning-rate, a higher --g-learning-rate, or --adversarial nonsaturating.",
            epochs=3,
        ),
        Rule(
            "F has collapsed",
            lambda m: m["diversity"] < 0.05,
            "F paints nearly the same patch for every image. Look at the inpainting panel. Try "
            "a higher --g-learning-rate, or a lower one if the loss jumps.",
            epochs=2,
            after=5,
        ),
        Rule(
            "D sees nothing",
            lambda m: abs(m["gap"]) < 0.1,
            "D cannot tell true patches from predicted ones so far, so L_adv teaches F nothing. "
            "Try a higher --d-learning-rate.",
            epochs=6,
            from_start=True,
        ),
        *(
            Rule(
                f"D ignores the tag '{tag}'",
                lambda m, tag=tag: m[f"sensitivity {tag}"] < 0.05 * m["c_rf"],
                "Another label hardly changes D's answer. Check in coverage.md whether the tag is "
                "mapped for enough images and says what they show. --no-use-dicom trains the "
                "control.",
                epochs=2,
                after=5,
            )
            for tag, _, _ in spans
        ),
    )


class Alarms:
    """The active warnings: each is raised once, and again only after it has cleared."""

    def __init__(self, rules: tuple[Rule, ...]):
        self._rules = rules
        #: Plain values from which `update` continues after a resume.
        self.state = {"streaks": {rule.name: 0 for rule in rules}, "raised": []}

    def update(self, epoch: int, measures: dict[str, float]) -> list[tuple[str, Rule]]:
        """Adds an epoch (from 1); returns ("raised" or "cleared", rule) for every change."""
        changed = []
        streaks, raised = self.state["streaks"], self.state["raised"]
        for rule in self._rules:
            if epoch <= rule.after:
                continue
            holds = rule.holds(measures)
            streak = streaks[rule.name] = streaks.get(rule.name, 0) + 1 if holds else 0
            due = streak >= rule.epochs and (not rule.from_start or streak == epoch)
            if due and rule.name not in raised:
                raised.append(rule.name)
                changed.append(("raised", rule))
            elif not holds and rule.name in raised:
                raised.remove(rule.name)
                changed.append(("cleared", rule))
        return changed


class Sentinel(keras.callbacks.Callback):
    """Measures after every epoch and warns: on the terminal, in TensorBoard and in files.

    Args:
        run: Folder that receives `sentinel.csv` (epoch and measures) and `warnings.jsonl`
            (epoch, `raised` or `cleared`, warning, advice).
        x: Validation images, z-scored, float32 [N, H, W, 1]; 32 are enough.
        y: The tags of these images, float32 [N, L].
        spans: Spans of the tags that D sees.
        writer: TensorBoard's writer for scalars "sentinel/…" and the text "sentinel".
        tell: Function that shows a line; standard error does not disturb a progress bar.
    """

    def __init__(
        self,
        run: Path,
        x: np.ndarray,
        y: np.ndarray,
        spans: Spans,
        writer: tf.summary.SummaryWriter,
        tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ):
        super().__init__()
        self._table, self._warnings = run / "sentinel.csv", run / "warnings.jsonl"
        self._x, self._y, self._spans = x, y, spans
        self._writer, self._tell = writer, tell
        self._alarms = Alarms(rules(spans))
        self._epoch = 0

    @property
    def state(self) -> dict:
        """Plain values: the last epoch and the active warnings."""
        return {"epoch": self._epoch, **self._alarms.state}

    @state.setter
    def state(self, state: dict) -> None:
        self._epoch = state["epoch"]
        self._alarms.state = {name: state[name] for name in ("streaks", "raised")}

    def on_train_begin(self, logs=None):
        """Drops the lines that a stopped run wrote after its last checkpoint."""
        for path, epoch_of in (
            (self._table, lambda line: int(line.partition(",")[0])),
            (self._warnings, lambda line: json.loads(line)["epoch"]),
        ):
            if path.exists():
                lines = path.read_text().splitlines(keepends=True)
                kept = [k for k in lines if k.startswith("epoch,") or epoch_of(k) <= self._epoch]
                path.write_text("".join(kept))

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        measures = measure(self.model, self._x, self._y, self._spans)
        new = not self._table.exists()
        with self._table.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(["epoch", *measures])
            writer.writerow([self._epoch, *(f"{value:.6g}" for value in measures.values())])
        with self._writer.as_default(step=self._epoch):
            for name, value in measures.items():
                if math.isfinite(value):
                    tf.summary.scalar(f"sentinel/{name}", value)
        for event, rule in self._alarms.update(self._epoch, measures):
            self._report(event, rule)

    def _report(self, event: str, rule: Rule):
        row = {"epoch": self._epoch, "event": event, "warning": rule.name, "advice": rule.advice}
        with self._warnings.open("a") as file:
            file.write(json.dumps(row) + "\n")
        line = f"{rule.name}. {rule.advice}" if event == "raised" else f"Cleared: {rule.name}."
        self._tell(f"epoch {self._epoch}  {line}")
        with self._writer.as_default(step=self._epoch):
            tf.summary.text("sentinel", line)
