"""Pretraining of the context encoder (section 4.3): from a data set to an exported encoder."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from tf_dicom_ce.config import PRESETS, PretrainConfig
from tf_dicom_ce.data.datasets import spread
from tf_dicom_ce.data.splits import write_split
from tf_dicom_ce.data.ultrasound import Source, UltrasoundDataset
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.coverage import (
    require_readable,
    require_tags,
    summary,
    warn_of_rare_tags,
    write_coverage,
)
from tf_dicom_ce.saved_model import in_float32
from tf_dicom_ce.training import devices, run_folder
from tf_dicom_ce.training.fitting import fit_and_keep_best, seed_everything
from tf_dicom_ce.training.loop import Schedule, evaluation
from tf_dicom_ce.training.networks import build_pretraining
from tf_dicom_ce.training.projector import encoder_features, label_names, write_projector
from tf_dicom_ce.training.sides import Sides
from tf_dicom_ce.training.tensorboard import write_hparams
from tf_dicom_ce.training.watching import watch_of
from tf_dicom_ce.whole_files import private


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What a run leaves: the encoder of the best epoch and how good it was.

    Attributes:
        encoder: With the weights of `epoch`, computing in float32.
        epoch: The epoch with the lowest joint loss on the validation images, from 1; the lowest
            L_rec where the encoder predicts tags as well.
        validation: That epoch's measures on the validation images.
        run: The run's folder.
        version: Folder of the exported encoder; None where this call exported none.
    """

    encoder: keras.Model
    epoch: int
    validation: dict[str, float]
    run: Path
    version: Path | None = None


@private()
def pretrain(
    data: UltrasoundDataset,
    preset: str = "full",
    *,
    run: str | Path | None = None,
    export: str | Path = "export",
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
        data: The images, which are split into training and validation side.
        preset: Settings to start from: a key of `PRESETS`.
        run: The run's folder, for coverage report, configuration, split.csv, history, checkpoints
            and TensorBoard; None for `runs/<time>-pretrain`.
        export: Model repository; the encoder goes to `encoder/<version>/` in it.
        resume: Go on with the run in `run`, or begin it. One that has ended is only read.
        checkpoint_minutes: Minutes between two checkpoints within an epoch.
        checkpoint_steps: Steps between two, besides.
        strategy: One of `devices.STRATEGIES`.
        histograms: Also the distribution of weights in TensorBoard.
        callbacks: As of Keras' `fit`. On a resume they start anew, unless they have a `state`.
        **settings: Fields of `PretrainConfig` that stand above the preset's; how images are read,
            the data have settled.

    Raises:
        UserError: Settings, data and what is in `run` do not fit; see also `loop.train`.
        StoppedError: See `loop.train`.
    """
    config = _configure(data, preset, settings)
    scope = devices.open_strategy(strategy, config.batch_size)
    writes = devices.is_chief(scope)
    with run_folder.open_run_folder(run and Path(run), "pretrain", resume, writes) as folder:
        if run_folder.is_finished(folder, config.as_dict()):
            print(f"The run in {folder} has ended already. More --epochs would go on with it.")
            return _read(folder, config, len(data.labels))
        run_folder.require_writable(Path(export), "--export")
        print("Configuration:", *(f"  {k}: {v}" for k, v in config.as_dict().items()), sep="\n")
        seed_everything(config.seed, config.deterministic)
        if data.source.index:
            _decode(data.source, config, folder, writes)
        sides = Sides(data, config)
        provenance = {**sides.provenance, "environment": run_folder.environment()}
        configuration = {**config.as_dict(), **provenance}
        if writes:
            run_folder.write_config(folder, configuration)
            names = data.source.pseudonyms
            write_split(folder / "split.csv", data.source.samples, names, sides.split)
        print(
            "Training on {training} images, validating on {validation}.".format_map(
                provenance["images"]
            )
        )

        with scope.scope():
            model = build_pretraining(config, len(data.labels))
        steps = sides.order.steps_per_epoch
        batches = sides.batches()
        epoch = fit_and_keep_best(
            model,
            batches,
            Schedule(config.epochs, steps, checkpoint_minutes, checkpoint_steps),
            watch_of(config, sides.watched(), configuration, histograms),
            folder,
            scope,
            callbacks,
        )
        measures = evaluation(model, batches, scope)()
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
        version = pretrained.encoder.export(Path(export) / "encoder", config.image_size, metadata)
        run_folder.write_result(folder, config.epochs, result)
        _tell(pretrained, version, config)
        return dataclasses.replace(pretrained, version=version)


def _configure(data: UltrasoundDataset, preset: str, settings: Mapping) -> PretrainConfig:
    """The preset with the settings that were given, on the data's; checks that these fit."""
    if preset not in PRESETS:
        raise UserError(f"preset {preset}: choose from {', '.join(PRESETS)}.")
    config = dataclasses.replace(PRESETS[preset], **settings)
    for name, value in data.source.settings.items():
        if name in settings and getattr(config, name) != value:
            raise UserError(
                f"{name} {settings[name]}: the data set has {value}. Leave it out here, and make "
                "the data set with it."
            )
    config = dataclasses.replace(config, **data.source.settings)
    if config.use_dicom or config.predicts_tags:
        require_tags(data.tags_known)
        warn_of_rare_tags(data.tags_known)
    return config


def _decode(source: Source, config: PretrainConfig, folder: Path, writes: bool) -> None:
    """Decodes the files; the coverage report, and a stop if too little can be read."""
    frames, index = source.frames, source.index
    if not config.direct:
        print("Store:", "decoded anew" if frames.built else "ready from an earlier run")
    if not writes:
        return
    undecodable = {source.samples[k].row: refusal for k, refusal in frames.refusals.items()}
    told = {}
    for k, flags in frames.flags.items():
        told.setdefault(source.samples[k].row, []).extend(flags)
    index = index.with_decoded(told)
    write_coverage(index, folder, undecodable, source.reader)
    print(summary(index, undecodable), f"Coverage report: {folder / 'coverage.html'}", sep="\n")
    if not config.allow_unreadable:
        require_readable(index, undecodable)


def _show(pretrained: Pretrained, sides: Sides, configuration: Mapping) -> None:
    """TensorBoard's pages on a finished run: HParams and the projector."""
    board = pretrained.run / "tensorboard"
    settings = {k: v for k, v in configuration.items() if not isinstance(v, dict)}
    for name in ("allow_unreadable", "deterministic", "direct", "panel_every"):
        del settings[name]
    write_hparams(board, pretrained.run.name, settings, pretrained.validation, pretrained.epoch)
    rows = spread(sides.split.validation, 1000)
    features, thumbnails = encoder_features(pretrained.encoder, sides.validation(rows))
    names = label_names(sides.targets["tags"][rows], tuple(sides.source.tags.items()))
    write_projector(board / "validation", features, sides.files(rows), names, thumbnails)


def _tell(pretrained: Pretrained, version: Path, config: PretrainConfig) -> None:
    shown = {
        "L_rec {rec:.4f} (painting the mean: {rec_of_mean:.4f})": config.inpaints,
        "L_tags {tags:.4f} (accuracy {tags_accuracy:.4f})": config.predicts_tags,
        "joint {joint:.4f}": True,
    }
    measures = ", ".join(text for text, wanted in shown.items() if wanted)
    print(
        f"Best epoch {pretrained.epoch}: validation "
        f"{measures.format(**pretrained.validation)}.\n"
        f"Run: {pretrained.run}   (tensorboard --logdir {pretrained.run})\nEncoder: {version}"
    )


def _read(folder: Path, config: PretrainConfig, labels: int) -> Pretrained:
    """What a run that has ended left in its folder."""
    result = json.loads((folder / "result.json").read_text())
    model = build_pretraining(config, labels)
    model.load_weights(folder / "best.weights.h5")
    encoder = in_float32(model.encoder)
    return Pretrained(encoder, result["best_epoch"], result["validation"], folder)
