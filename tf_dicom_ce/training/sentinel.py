"""Watches that F and D keep learning from each other, and says what to try where they do not."""

import csv
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.training.alarms import Alarms, Rule, rules
from tf_dicom_ce.training.measures import Spans, measure


class Sentinel(keras.callbacks.Callback):
    """Measures after every epoch and warns: on the terminal, in TensorBoard and in files.

    Args:
        run: Folder that receives `sentinel.csv` (epoch and measures) and `warnings.jsonl`
            (epoch, `raised` or `cleared`, warning, advice).
        x: Validation images, z-scored, float32 [N, H, W, 1]; 32 are enough.
        y: Their tags, float32 [N, L].
        spans: Name, start and stop of each tag in y; () without tags.
        writer: TensorBoard's writer for scalars "sentinel/…" and the text "sentinel".
        tell: Shows a line; standard error keeps it clear of a progress bar.
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
        """Plain values: the last epoch and the warnings that stand."""
        return {"epoch": self._epoch, **self._alarms.state}

    @state.setter
    def state(self, state: dict) -> None:
        self._epoch = state["epoch"]
        self._alarms.state = state

    def on_train_begin(self, logs=None):
        _cut(self._table, lambda line: line.startswith("epoch,") or _first(line) <= self._epoch)
        _cut(self._warnings, lambda line: json.loads(line)["epoch"] <= self._epoch)

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


def _cut(path: Path, keep: Callable[[str], bool]) -> None:
    """Drops the lines that a stopped run wrote after its last checkpoint."""
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if keep(line)))


def _first(line: str) -> int:
    return int(line.partition(",")[0])
