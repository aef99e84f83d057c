"""Pretrain the context encoder on ultrasound DICOM and export its encoder.

  python train.py --use-dicom                            on the embedded synthetic phantom
  python train.py --use-dicom --data DIR                 the paper's method at its size; wants a GPU
  python train.py --use-dicom --data DIR --preset paper  the paper to the letter
  python train.py --use-dicom --data FILE.zip            the same on a zip or tar of DICOM
  python train.py --use-dicom --data https://HOST/dicom-web   the same on a PACS
  python train.py --use-dicom --data DIR --labels CSV    tags from a CSV; PNG and JPEG as well
  python train.py --use-dicom --data DIR --preset quick  minutes on two CPU cores
  python train.py --no-use-dicom --data DIR              the control without tags (Eq. 1)
  python train.py --shuffle-tags --data DIR              the control with other patients' tags
  python train.py --no-use-dicom --lambda-tags 1 --data DIR   the encoder predicts the tags as well
  python train.py --lambda-rec 0 --lambda-adv 0 --lambda-tags 1 --data DIR   and paints nothing

The run's folder receives the coverage report, configuration, split.csv, history, TensorBoard events
and inpainting panels; look at it with `tensorboard --logdir runs`. The encoder goes to
<export>/encoder/<version>/.
"""

import argparse
import dataclasses
import hashlib
from pathlib import Path

from tf_dicom_ce.cli.runs import add_run_arguments, schedule_of
from tf_dicom_ce.cli.settings import add_settings, given_settings
from tf_dicom_ce.cli.sources import add_labels_argument, add_pacs_arguments, index_source
from tf_dicom_ce.config import PRESETS, PretrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments; a default of None means: as the preset says."""
    add = parser.add_argument
    add("--data", metavar="SRC", help="folder, zip or tar of DICOM, or URL (default: the phantom)")
    add("--preset", choices=PRESETS, help="starting settings (default: full; phantom: quick)")
    add_settings(parser, PretrainConfig)
    add_labels_argument(parser)
    add_pacs_arguments(parser)
    add(
        "--strategy",
        choices=("none", "mirrored", "multiworker"),
        default="none",
        help="one device, all of this machine, or several machines (TF_CONFIG); docs/devices.md",
    )
    add(
        "--histograms",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also weights in TensorBoard",
    )
    add_run_arguments(parser, "pretrain")


def configure(options: argparse.Namespace) -> PretrainConfig:
    """The preset with the settings that were given."""
    given = given_settings(options, PretrainConfig)
    return dataclasses.replace(PRESETS[_preset(options)], **given)


def _preset(options: argparse.Namespace) -> str:
    return options.preset or ("full" if options.data else "quick")


def run(options: argparse.Namespace) -> None:
    """Runs the command: source → index → run folder → training → export."""
    config = configure(options)

    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.dicom.flags import flags_named
    from tf_dicom_ce.dicom.tags import TagSchema
    from tf_dicom_ce.intake.frames import choose_frames
    from tf_dicom_ce.intake.requirements import known_tags, require_tags
    from tf_dicom_ce.phantom.cohort import default_cohort

    schema = TagSchema.load(config.tags)
    source = options.data or str(default_cohort(_preset(options)) / "pretraining")
    index = index_source(source, options, schema, flags_named(config.exclude))
    if config.use_dicom or config.predicts_tags:
        require_tags(known_tags(schema, [row.present for row in index.rows]))
    images = choose_frames(index.rows, config.frames)

    # Only now: every mistake in the input's form has shown before.
    load_tensorflow(options.strategy != "multiworker", config.has_small_steps)
    from tf_dicom_ce.training import devices, run_folder

    strategy = devices.open_strategy(options.strategy, config.batch_size)
    with run_folder.open_run_folder(
        options.run, "pretrain", options.resume, devices.is_chief(strategy)
    ) as folder:
        if run_folder.is_finished(folder, config.as_dict()):
            print(f"The run in {folder} has ended already. More --epochs would go on with it.")
        else:
            run_folder.require_writable(options.export, "--export")
            _train(options, config, index, images, folder, strategy)


def _train(
    options: argparse.Namespace, config: PretrainConfig, index, images, folder: Path, strategy
) -> None:
    """Store → split → datasets → training → export."""
    import numpy as np

    from tf_dicom_ce.data import datasets, shuffling, splits, store
    from tf_dicom_ce.dicom.flags import flags_named
    from tf_dicom_ce.intake.decoding import ImageReader
    from tf_dicom_ce.intake.requirements import known_tags
    from tf_dicom_ce.preprocessing import standardise
    from tf_dicom_ce.training import devices, run_folder
    from tf_dicom_ce.training.fitting import seed_everything
    from tf_dicom_ce.training.loop import Data
    from tf_dicom_ce.training.pretrain import Watched, pretrain

    schema, writes = index.schema, devices.is_chief(strategy)
    print("Configuration:", *(f"  {k}: {v}" for k, v in config.as_dict().items()), sep="\n")
    seed_everything(config.seed, config.deterministic)
    exclude = flags_named(config.exclude)
    reader = ImageReader(
        index.root, schema.sop_classes, config.find_sector, config.blank_outside, exclude
    )
    if config.direct:
        frames = store.open_direct(reader, images, config.image_size)
    else:
        frames = store.open_store(reader, images, config.image_size, store.default_cache())
        print("Store:", "decoded anew" if frames.built else "ready from an earlier run")
    if writes:
        _report(index, images, frames, reader, config, folder)

    rows = np.array([k for k in range(len(images)) if k not in frames.refusals])
    files = np.array([image.row for image in images])
    patients = np.array([row.patient for row in index.rows])[files]
    y = np.array([row.y for row in index.rows], np.float32)[files]
    known = present = np.array([row.present for row in index.rows], np.float32)[files]
    labels_fingerprint = hashlib.sha256(y.tobytes() + present.tobytes()).hexdigest()
    split = splits.split_rows(
        rows,
        # Frames of one file are one image of section 4.3: they stay together.
        groups=(patients if config.split == "patient" else files)[rows],
        validation_fraction=config.validation_fraction,
        seed=config.seed,
    )
    tags = tuple((tag.name, tag.labels) for tag in schema.tags)
    spans, sides = [len(labels) for _, labels in tags], (split.train, split.validation)
    if config.shuffle_tags:
        y, present = shuffling.shuffle_among_patients(y, present, patients, sides, config.seed)
    if config.tag_noise:
        y, present = shuffling.add_tag_noise(
            y, present, spans, sides, config.tag_noise, config.seed
        )
    if config.conditioning == "projection" and not config.predicts_tags:
        present = None
    order = datasets.StepOrder(
        split.train,
        config.batch_size,
        config.seed,
        datasets.balanced(y[split.train]) if config.balance_tags else None,
    )
    provenance = {
        "data_fingerprint": frames.fingerprint,
        "labels_fingerprint": labels_fingerprint,
        "split_fingerprint": split.fingerprint,
        "tags_known": known_tags(schema, known[rows]),
        "schema": {"name": schema.name, "fingerprint": schema.fingerprint},
        "images": {"training": len(split.train), "validation": len(split.validation)},
        "environment": run_folder.environment(),
    }
    configuration = {**config.as_dict(), **provenance}
    if writes:
        run_folder.write_config(folder, configuration)
        names = [index.rows[image.row].pseudonym for image in images]
        splits.write_split(folder / "split.csv", images, names, split)
    print(f"Training on {len(split.train)} images, validating on {len(split.validation)}.")

    shown, watched = datasets.spread(split.validation), datasets.spread(split.validation, 32)
    watched = np.array([*shown, *(row for row in watched if row not in shown)])
    pretrained = pretrain(
        config,
        Data(
            lambda first, parts: datasets.training_dataset(
                frames,
                y,
                order,
                config.seed,
                config.augment,
                first,
                parts,
                present,
                spans,
                config.tag_dropout,
            ),
            datasets.evaluation_dataset(frames, y, split.validation, config.batch_size, present),
            lambda step: [images[k].row for k in order.rows_at(step)],
        ),
        schedule_of(options, config.epochs, order.steps_per_epoch),
        Watched(standardise(frames.read(watched)).numpy(), y[watched], tags, len(shown)),
        configuration,
        folder,
        strategy,
        options.histograms,
    )
    if writes:
        features = datasets.spread(split.validation, 1000)
        batches = datasets.evaluation_dataset(frames, y, features, config.batch_size)
        numbers = [images[k].row for k in features]
        _show(pretrained, batches, numbers, y[features], tags, configuration, folder)
        _export(options, config, pretrained, schema.labels, provenance, folder)


def _report(index, images, frames, reader, config: PretrainConfig, folder: Path) -> None:
    """The coverage report, and a stop if too little can be read."""
    from tf_dicom_ce.intake.coverage import summary, write_coverage
    from tf_dicom_ce.intake.requirements import require_readable

    undecodable = {images[k].row: refusal for k, refusal in frames.refusals.items()}
    told = {}
    for k, flags in frames.flags.items():
        told.setdefault(images[k].row, []).extend(flags)
    index = index.with_decoded(told)
    write_coverage(index, folder, undecodable, reader)
    print(summary(index, undecodable), f"Coverage report: {folder / 'coverage.html'}", sep="\n")
    if not config.allow_unreadable:
        require_readable(index, undecodable)


def _show(pretrained, batches, rows, y, tags, configuration: dict, folder: Path) -> None:
    """TensorBoard's pages on a finished run: HParams and the projector."""
    from tf_dicom_ce.training.projector import encoder_features, label_names, write_projector
    from tf_dicom_ce.training.tensorboard import write_hparams

    board, epoch = folder / "tensorboard", pretrained.epoch
    settings = {k: v for k, v in configuration.items() if not isinstance(v, dict)}
    for name in ("allow_unreadable", "deterministic", "direct", "panel_every"):
        del settings[name]
    write_hparams(board, folder.name, settings, pretrained.validation, epoch)
    features, thumbnails = encoder_features(pretrained.encoder, batches)
    write_projector(board / "validation", features, rows, label_names(y, tags), thumbnails)


def _export(options, config, pretrained, labels, provenance: dict, folder: Path) -> None:
    """The encoder to the model repository; the run has ended with its result."""
    from tf_dicom_ce.saved_model import write_encoder
    from tf_dicom_ce.training.run_folder import write_result

    measures = pretrained.validation
    known = provenance["tags_known"]
    result = {"best_epoch": pretrained.epoch, "validation": measures, "tags_known": known}
    version = write_encoder(
        pretrained.encoder,
        options.export,
        config.image_size,
        {
            **config.as_dict(),
            "tag_vocabulary": list(labels),
            "preset": _preset(options),
            "synthetic_data": options.data is None,
            **provenance,
            **result,
        },
    )
    write_result(folder, config.epochs, result)
    shown = {
        "L_rec {rec:.4f} (painting the mean: {rec_of_mean:.4f})": config.inpaints,
        "L_tags {tags:.4f} (accuracy {tags_accuracy:.4f})": config.predicts_tags,
        "joint {joint:.4f}": True,
    }
    print(
        f"Best epoch {pretrained.epoch}: validation "
        f"{', '.join(text for text, wanted in shown.items() if wanted).format(**measures)}.\n"
        f"Run: {folder}   (tensorboard --logdir {folder})\nEncoder: {version}"
    )
