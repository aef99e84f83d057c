"""Pretraining of the context encoder (section 4.3): from a data set to an exported encoder."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.config import PRESETS, PretrainConfig
from tf_dicom_ce.data import datasets, shuffling
from tf_dicom_ce.data.source import Source
from tf_dicom_ce.data.splits import Split, write_split
from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.coverage import summary, write_coverage
from tf_dicom_ce.intake.requirements import require_readable, require_tags, warn_of_rare_tags
from tf_dicom_ce.models.encoder import VGG16Encoder
from tf_dicom_ce.preprocessing import standardise
from tf_dicom_ce.saved_model import write_encoder
from tf_dicom_ce.training import devices, run_folder
from tf_dicom_ce.training.fitting import fit_and_keep_best
from tf_dicom_ce.training.gan import ContextEncoderGAN
from tf_dicom_ce.training.loop import Data, Schedule, evaluation
from tf_dicom_ce.training.projector import encoder_features, label_names, write_projector
from tf_dicom_ce.training.tensorboard import write_hparams
from tf_dicom_ce.training.watching import Watched, watch_of
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

    encoder: VGG16Encoder
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
        sides = data.split(config.split, config.validation_fraction, config.seed)
        split = Split(*(side.rows for side in sides))
        targets = _targets(data.source, split, config)
        order = datasets.StepOrder(
            split.train,
            config.batch_size,
            config.seed,
            datasets.balanced(targets["tags"][split.train]) if config.balance_tags else None,
        )
        provenance = _provenance(data.source, split)
        configuration = {**config.as_dict(), **provenance}
        if writes:
            run_folder.write_config(folder, configuration)
            write_split(folder / "split.csv", data.source.samples, data.source.pseudonyms, split)
        print(f"Training on {len(split.train)} images, validating on {len(split.validation)}.")

        with scope.scope():
            model = _build(config, len(data.labels))
        batches = _batches(data.source, targets, split, order, config)
        epoch = fit_and_keep_best(
            model,
            batches,
            Schedule(config.epochs, order.steps_per_epoch, checkpoint_minutes, checkpoint_steps),
            watch_of(config, _watched(data.source, targets, split), configuration, histograms),
            folder,
            scope,
            callbacks,
        )
        measures = evaluation(model, batches, scope)()
        pretrained = Pretrained(_encoder(model), epoch, measures, folder)
        if not writes:
            return pretrained
        _show(pretrained, data.source, targets, split, configuration)
        result = {
            "best_epoch": epoch,
            "validation": measures,
            "tags_known": provenance["tags_known"],
        }
        metadata = {
            **config.as_dict(),
            "tag_vocabulary": list(data.labels),
            "preset": preset,
            "synthetic_data": data.source.synthetic,
            **provenance,
            **result,
        }
        version = write_encoder(pretrained.encoder, Path(export), config.image_size, metadata)
        run_folder.write_result(folder, config.epochs, result)
        _tell(pretrained, version, config)
        return dataclasses.replace(pretrained, version=version)


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seeds Python, NumPy and TensorFlow; `deterministic` also fixes the order of every sum."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


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


def _targets(source: Source, split: Split, config: PretrainConfig) -> dict[str, np.ndarray]:
    """Tags by row, and which are known: as they are, or made wrong as a control."""
    y, known, sides = source.y, source.known, (split.train, split.validation)
    if config.shuffle_tags:
        y, known = shuffling.shuffle_among_patients(y, known, source.patients, sides, config.seed)
    if config.tag_noise:
        y, known = shuffling.add_tag_noise(
            y, known, source.spans, sides, config.tag_noise, config.seed
        )
    return {"tags": y, "known": known}


def _provenance(source: Source, split: Split) -> dict:
    """What the run is made from, without identifiers."""
    readable = UltrasoundDataset(source, np.concatenate([split.train, split.validation]))
    return {
        "data_fingerprint": source.frames.fingerprint,
        "labels_fingerprint": hashlib.sha256(
            source.y.tobytes() + source.known.tobytes()
        ).hexdigest(),
        "split_fingerprint": split.fingerprint,
        "tags_known": readable.tags_known,
        "schema": dict(source.schema),
        "images": {"training": len(split.train), "validation": len(split.validation)},
        "environment": run_folder.environment(),
    }


def _build(config: PretrainConfig, labels: int) -> ContextEncoderGAN:
    model = ContextEncoderGAN(config, labels)
    model.compile()
    return model


def _encoder(model: ContextEncoderGAN) -> VGG16Encoder:
    return model.context_encoder.encoder.in_float32()


def _batches(
    source: Source,
    targets: dict[str, np.ndarray],
    split: Split,
    order: datasets.StepOrder,
    config: PretrainConfig,
) -> Data:
    return Data(
        lambda first, parts: datasets.training_dataset(
            source.frames,
            targets,
            order,
            config.seed,
            config.augment,
            first,
            parts,
            source.spans,
            config.tag_dropout,
        ),
        datasets.evaluation_dataset(source.frames, targets, split.validation, config.batch_size),
        lambda step: [source.samples[k].row for k in order.rows_at(step)],
    )


def _watched(source: Source, targets: dict[str, np.ndarray], split: Split) -> Watched:
    shown, watched = datasets.spread(split.validation), datasets.spread(split.validation, 32)
    rows = np.array([*shown, *(row for row in watched if row not in shown)])
    x = standardise(source.frames.read(rows)).numpy()
    return Watched(x, targets["tags"][rows], tuple(source.tags.items()), len(shown))


def _show(
    pretrained: Pretrained,
    source: Source,
    targets: dict[str, np.ndarray],
    split: Split,
    configuration: Mapping,
) -> None:
    """TensorBoard's pages on a finished run: HParams and the projector."""
    board = pretrained.run / "tensorboard"
    settings = {k: v for k, v in configuration.items() if not isinstance(v, dict)}
    for name in ("allow_unreadable", "deterministic", "direct", "panel_every"):
        del settings[name]
    write_hparams(board, pretrained.run.name, settings, pretrained.validation, pretrained.epoch)
    rows = datasets.spread(split.validation, 1000)
    batches = datasets.evaluation_dataset(source.frames, targets, rows, configuration["batch_size"])
    features, thumbnails = encoder_features(pretrained.encoder, batches)
    numbers = [source.samples[k].row for k in rows]
    names = label_names(targets["tags"][rows], tuple(source.tags.items()))
    write_projector(board / "validation", features, numbers, names, thumbnails)


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
    model = _build(config, labels)
    model.load_weights(folder / "best.weights.h5")
    return Pretrained(_encoder(model), result["best_epoch"], result["validation"], folder)
