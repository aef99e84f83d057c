"""Pretraining of the context encoder (section 4.3): from a data set to an exported encoder."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.config import PRESETS, PretrainConfig
from tf_dicom_ce.data import datasets, shuffling
from tf_dicom_ce.data.splits import Split, write_split
from tf_dicom_ce.data.ultrasound import Source, UltrasoundDataset
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import coverage, coverage_report
from tf_dicom_ce.preprocessing import standardise
from tf_dicom_ce.saved_model.writing import in_float32
from tf_dicom_ce.training import devices, run_folder, tensorboard
from tf_dicom_ce.training.loop import Data, Schedule, fit
from tf_dicom_ce.training.networks import build_pretraining
from tf_dicom_ce.training.panels import inpainting_panel, sensitivity_panel
from tf_dicom_ce.training.progress import History, ProgressBar
from tf_dicom_ce.training.sentinel import Sentinel, spans_of
from tf_dicom_ce.whole_files import private

#: Metric -> name in TensorBoard, by group.
_SCALARS = {
    "joint": "loss/joint (Eq. 3)",
    "rec": "loss/reconstruction",
    "rec_of_mean": "loss/reconstruction of the mean",
    "adv": "loss/adversarial",
    "disc": "loss/discriminator",
    "d_real": "discriminator/D(real)",
    "d_fake": "discriminator/D(fake)",
    "c_rf": "discriminator/size of C_rf",
    "p": "discriminator/size of P",
    "teacher": "loss/teacher",
    "tags": "loss/tags by the encoder",
    "tags_accuracy": "tags/accuracy of the encoder",
    "tags_real": "loss/tags of true patches",
    "tags_fake": "loss/tags of predicted patches",
    "g_norm": "gradient norm/F",
    "d_norm": "gradient norm/D",
    "g_skipped": "loss scale/steps of F skipped",
    "d_skipped": "loss scale/steps of D skipped",
}


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The result of a run: the encoder of the best epoch, and its measures.

    The best epoch has the lowest joint loss on the validation images, or the lowest L_rec if the
    encoder predicts tags as well.
    """

    encoder: keras.Model  # with the weights of `epoch`, computing in float32
    epoch: int  # from 1
    validation: dict[str, float]  # that epoch's measures on the validation images
    run: Path  # the run's folder
    version: Path | None = None  # of the exported encoder; None if this call exported none


@private()
def pretrain(
    data: UltrasoundDataset,
    preset: str = "full",
    *,
    run: str | Path | None = None,
    export: str | Path | None = "export",
    resume: bool = False,
    checkpoint_minutes: float = 10.0,
    checkpoint_steps: int | None = None,
    strategy: str = "none",
    histograms: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **settings: Any,
) -> Pretrained:
    """Pretrains an encoder, keeps its best epoch and exports it.

        pretrain(data, "quick", epochs=5, lambda_adv=0.02, run="runs/a").encoder

    Args:
        data: The images; they are split into a training and a validation side.
        preset: Settings to start from: a key of `PRESETS`.
        run: The run's folder, for coverage report, configuration, split.csv, history, checkpoints
            and TensorBoard; None for `runs/<time>-pretrain`.
        export: Model repository, which gets the encoder as `encoder/<version>/`; None to export
            nothing.
        resume: Continue the run in `run`, or begin it. A finished run is only read.
        checkpoint_minutes: Minutes between two checkpoints within an epoch.
        checkpoint_steps: Steps between two checkpoints, in addition; None for minutes only.
        strategy: See `devices.open_strategy`.
        histograms: Also write the distribution of weights to TensorBoard.
        callbacks: Keras callbacks. On a resume they start anew, unless they have a `state`.
        **settings: Fields of `PretrainConfig`; they override the preset's. `data` decides how
            images are read.

    Raises:
        UserError: Settings, data and the content of `run` do not fit; see also `loop.train`.
        StoppedError: See `loop.train`.
    """
    config = _configure(data, preset, settings)
    scope = devices.open_strategy(strategy, config.batch_size)
    writes = devices.is_chief(scope)
    with run_folder.open_run_folder(run and Path(run), "pretrain", resume, writes) as folder:
        if run_folder.is_finished(folder, config.as_dict()):
            model = build_pretraining(config, len(data.labels))
            result = run_folder.read_result(folder, model)
            encoder = in_float32(model.encoder)
            return Pretrained(encoder, result["best_epoch"], result["validation"], folder)
        run_folder.begin(config, export and Path(export))
        if data.source.index:
            _decode(data.source, config, folder, writes)
        sides = _Sides(data, config)
        provenance = {**sides.provenance, "environment": run_folder.environment()}
        configuration = {**config.as_dict(), **provenance}
        if writes:
            run_folder.write_configuration(folder, configuration)
            names = data.source.pseudonyms
            write_split(folder / "split.csv", data.source.samples, names, sides.split)
            callbacks = [*_watch(config, sides, configuration, histograms, folder), *callbacks]
        counts = provenance["images"]
        print(f"Training on {counts['training']} images, validating on {counts['validation']}.")

        with scope.scope():
            model = build_pretraining(config, len(data.labels))
        steps = sides.order.steps_per_epoch
        schedule = Schedule(config.epochs, steps, checkpoint_minutes, checkpoint_steps)
        # "The ones with the lowest joint loss" (section 4.3). With a tag head, the lowest L_rec:
        # otherwise tags that cannot be learned, such as shuffled ones, would choose an early epoch.
        monitor = "val_rec" if config.inpaints and config.predicts_tags else "val_joint"
        batches = sides.batches()
        if config.teacher:
            model.standardise(
                x for x, _ in sides.validation(datasets.spread(sides.split.train, 512))
            )
        epoch, measures = fit(model, batches, schedule, monitor, callbacks, folder, scope)
        pretrained = Pretrained(in_float32(model.encoder), epoch, measures, folder)
        if not writes:
            return pretrained
        _show(pretrained, sides, configuration)
        known = {"tags_known": provenance["tags_known"]}
        result = {"best_epoch": epoch, "validation": measures, **known}
        metadata = {
            **config.as_dict(),
            "tag_vocabulary": list(data.labels),
            "preset": preset,
            "synthetic_data": data.source.synthetic,
            **provenance,
            **result,
        }
        version = None
        if export:
            folder_of = Path(export) / "encoder"
            version = pretrained.encoder.export(folder_of, config.image_size, metadata)
        run_folder.write_result(folder, config.epochs, result)
        pretrained = dataclasses.replace(pretrained, version=version)
        _tell(pretrained, config)
        return pretrained


class _Sides:
    """Images split in two, in the order of steps, with right tags, or wrong ones as a control.

    Decodes images that are not in the store. `provenance` describes data, labels and split, without
    identifiers.
    """

    def __init__(self, data: UltrasoundDataset, config: PretrainConfig):
        train, validation = data.split(config.split, config.validation_fraction, config.seed)
        self.source, self._config = data.source, config
        self.split = Split(train.rows, validation.rows)
        y, known = self.source.y, self.source.known
        rows = (train.rows, validation.rows)
        self.provenance = {
            "data_fingerprint": self.source.frames.fingerprint,
            "labels_fingerprint": hashlib.sha256(y.tobytes() + known.tobytes()).hexdigest(),
            "split_fingerprint": self.split.fingerprint,
            "tags_known": UltrasoundDataset(self.source, np.concatenate(rows)).tags_known,
            "schema": dict(self.source.schema),
            "images": {"training": len(train), "validation": len(validation)},
        }
        if self.source.reader:
            self.provenance["sop_classes"] = sorted(self.source.reader.classes)
        if config.shuffle_tags:
            patients = self.source.patients
            y, known = shuffling.shuffle_among_patients(y, known, patients, rows, config.seed)
        if config.tag_noise:
            spans, rate = self.source.spans, config.tag_noise
            y, known = shuffling.add_tag_noise(y, known, spans, rows, rate, config.seed)
        self.targets = {"tags": y, "known": known}
        balanced = datasets.balanced(y[train.rows]) if config.balance_tags else None
        self.order = datasets.StepOrder(train.rows, config.batch_size, config.seed, balanced)

    def batches(self) -> Data:
        """The data of the training."""
        config = self._config
        return Data(
            lambda first, parts: datasets.training_dataset(
                self.source.frames,
                self.targets,
                self.order,
                config.seed,
                config.augment,
                first,
                parts,
                self.source.spans,
                config.tag_dropout,
            ),
            self.validation(self.split.validation),
            lambda step: self.files(self.order.rows_at(step)),
        )

    def validation(self, rows: np.ndarray) -> tf.data.Dataset:
        """One pass over some rows, in batches."""
        return datasets.evaluation_dataset(
            self.source.frames, self.targets, rows, self._config.batch_size
        )

    def files(self, rows: np.ndarray) -> list[int]:
        """The numbers in files.csv of the files of some rows."""
        return [self.source.samples[row].row for row in rows]


def _configure(data: UltrasoundDataset, preset: str, settings: Mapping) -> PretrainConfig:
    """The preset with `settings` and the data's settings; checks that they agree."""
    if preset not in PRESETS:
        raise UserError(f"preset {preset}: choose from {', '.join(PRESETS)}.")
    config = dataclasses.replace(PRESETS[preset], **settings)
    for name, value in data.source.settings.items():
        if name in settings and getattr(config, name) != value:
            raise UserError(
                f"{name} {settings[name]}: the data set has {value}. Leave it out here, or make "
                "the data set with it."
            )
    config = dataclasses.replace(config, **data.source.settings)
    config.require_teacher()
    if config.uses_tags:
        coverage.require_tags(data.tags_known)
        coverage.warn_of_rare_tags(data.tags_known)
    return config


def _decode(source: Source, config: PretrainConfig, folder: Path, writes: bool) -> None:
    """Decodes the files, writes the coverage report, and stops if too few can be read."""
    frames = source.frames
    if not config.direct:
        print(f"Store: {frames.decoded} images decoded; the others were there already.")
    if not writes:
        return
    index, undecodable = source.decoded_index()
    coverage_report.write_coverage(index, folder, undecodable, source.reader)
    print(coverage_report.summary(index, undecodable))
    print(f"Coverage report: {folder / 'coverage.html'}")
    if not config.allow_unreadable:
        coverage_report.require_readable(index, undecodable)


def _watch(
    config: PretrainConfig, sides: _Sides, configuration: Mapping, histograms: bool, run: Path
) -> list[keras.callbacks.Callback]:
    """The callbacks of a pretraining: history, terminal, sentinel and TensorBoard."""
    # Six validation images for the panels, and more for the sentinel.
    few, more = (datasets.spread(sides.split.validation, count) for count in (6, 32))
    rows = np.array([*few, *(row for row in more if row not in few)])
    x, y = standardise(sides.source.frames.read(rows)).numpy(), sides.targets["tags"][rows]
    x_few, y_few, tags = x[: len(few)], y[: len(few)], sides.source.tags
    optimizers, pictures, shown = {"F": "g_optimizer"}, {}, ()
    d_sees_tags = config.use_dicom and config.conditioning == "projection"
    if config.inpaints:
        optimizers["D"] = "d_optimizer"
        shown = ("rec", "joint", "d_real", "d_fake")
        pictures["inpainting"] = lambda model: inpainting_panel(model, x_few)
        if d_sees_tags and tags:
            pictures["sensitivity"] = lambda model: sensitivity_panel(model, x_few, y_few, tags)
    if config.predicts_tags:
        shown += ("tags", "tags_accuracy")
    if config.teacher:
        shown += ("teacher",)
    board = tensorboard.TensorBoard(
        run, _SCALARS, optimizers, pictures, config.panel_every, configuration, histograms
    )
    watch = [History(run / "history.csv"), ProgressBar(shown)]
    if config.inpaints:  # else there are no F and D to watch
        spans = spans_of(tags) if d_sees_tags else ()
        watch.append(Sentinel(run, x, y, spans, board.validation))
    return [*watch, board]  # last: it closes the writer that the sentinel shares


def _show(pretrained: Pretrained, sides: _Sides, configuration: Mapping) -> None:
    """Writes TensorBoard's pages for a finished run: HParams and the projector."""
    run, encoder = pretrained.run, pretrained.encoder
    settings = {k: v for k, v in configuration.items() if not isinstance(v, dict)}
    for name in ("allow_unreadable", "deterministic", "direct", "panel_every"):
        del settings[name]
    tensorboard.write_hparams(run, settings, pretrained.validation, pretrained.epoch)
    rows = datasets.spread(sides.split.validation, 1000)
    features, thumbnails = tensorboard.encoder_features(encoder, sides.validation(rows))
    names = tensorboard.label_names(sides.targets["tags"][rows], sides.source.tags)
    events = run / "tensorboard" / "validation"
    tensorboard.write_projector(events, features, sides.files(rows), names, thumbnails)


def _tell(pretrained: Pretrained, config: PretrainConfig) -> None:
    rec = "L_rec {rec:.4f} (painting the mean: {rec_of_mean:.4f}), " if config.inpaints else ""
    tags = "L_tags {tags:.4f} (accuracy {tags_accuracy:.4f}), " if config.predicts_tags else ""
    teacher = "L_teacher {teacher:.4f} (knowing nothing: 1), " if config.teacher else ""
    measures = f"{rec}{tags}{teacher}joint {{joint:.4f}}".format(**pretrained.validation)
    print(
        f"Best epoch {pretrained.epoch}: validation {measures}.\n"
        f"Run: {pretrained.run}   (tensorboard --logdir {pretrained.run})"
        + (f"\nEncoder: {pretrained.version}" if pretrained.version else "")
    )
    if not config.teacher:
        print("Hint: on real images a teacher gave better encoders; see --preset distilled.")
