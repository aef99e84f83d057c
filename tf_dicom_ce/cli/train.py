"""Pretrain the context encoder on ultrasound DICOM and export its encoder.

  python train.py --use-dicom                            on the embedded synthetic phantom
  python train.py --use-dicom --data DIR                 the paper's method and settings
  python train.py --use-dicom --data FILE.zip            the same on a zip or tar of DICOM
  python train.py --use-dicom --data https://HOST/dicom-web   the same on a PACS
  python train.py --use-dicom --data DIR --labels CSV    tags from a CSV; PNG and JPEG as well
  python train.py --use-dicom --data DIR --preset quick  minutes on two CPU cores
  python train.py --no-use-dicom --data DIR              the control without tags (Eq. 1)

The run's folder receives the coverage report, configuration, history, TensorBoard events and
inpainting panels; look at it with `tensorboard --logdir runs`. The encoder goes to
<export>/encoder/<version>/.
"""

import argparse
import dataclasses
from pathlib import Path

from tf_dicom_ce.cli.sources import TAGS_HELP, add_source_arguments, index_source
from tf_dicom_ce.config import PRESETS, PretrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments; a default of None means: as the preset says."""
    add = parser.add_argument
    flag = argparse.BooleanOptionalAction
    add("--data", metavar="SRC", help="folder, zip or tar of DICOM, or URL (default: the phantom)")
    add("--preset", choices=PRESETS, help="starting settings (default: paper; phantom: quick)")
    add("--use-dicom", action=flag, help="condition D on DICOM tags, Eq. 2 (default: yes)")
    add("--tags", metavar="NAME|TOML", help=TAGS_HELP)
    add("--epochs", type=int, metavar="N", help="passes over the training images")
    add("--batch-size", type=int, metavar="N", help="images a step")
    add("--image-size", type=int, nargs=2, metavar=("H", "W"), help="multiples of 32")
    add("--width", type=float, metavar="X", help="multiplies every channel count; 1 is VGG16")
    add("--adversarial", choices=("nonsaturating", "minimax"), help="F's loss on D")
    add("--discriminator-input", choices=("patch", "composite"), help="what D sees")
    add_source_arguments(parser)
    add("--frames", metavar="WHICH", help="of a cine: middle (default), all, or every:N")
    add("--split", choices=("patient", "image"), help="what stays on one side of the 80/20 split")
    add("--augment", action=flag, help="flip, shift and regrade the training images")
    add("--direct", action=flag, help="decode at every step instead of once into the store")
    add("--seed", type=int, metavar="N", help="of weights, split and order")
    add("--deterministic", action=flag, help="same seed, same weights, bit for bit (slower)")
    add("--allow-unreadable", action=flag, help="go on with more than half the files unreadable")
    add("--run", type=Path, metavar="DIR", help="the run's folder (default: runs/<time>-pretrain)")
    add("--export", type=Path, default=Path("export"), metavar="DIR", help="model repository")


def configure(options: argparse.Namespace) -> PretrainConfig:
    """The preset with the options that were given."""
    names = [field.name for field in dataclasses.fields(PretrainConfig)]
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    if "image_size" in given:
        given["image_size"] = tuple(given["image_size"])
    return dataclasses.replace(PRESETS[_preset(options)], **given)


def _preset(options: argparse.Namespace) -> str:
    return options.preset or ("paper" if options.data else "quick")


def run(options: argparse.Namespace) -> None:
    """Runs the command: index → store → split → datasets → training → export."""
    config = configure(options)

    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.dicom.tags import TagSchema
    from tf_dicom_ce.intake.coverage import require_readable, summary, write_coverage
    from tf_dicom_ce.intake.decoding import ImageReader
    from tf_dicom_ce.intake.frames import check_choice, choose_frames
    from tf_dicom_ce.phantom.cohort import default_cohort
    from tf_dicom_ce.training.run_folder import create_run_folder, environment, write_json

    check_choice(config.frames)
    schema = TagSchema.load(config.tags)
    source = options.data or str(default_cohort(_preset(options)) / "pretraining")
    index = index_source(source, options, schema)
    images = choose_frames(index.rows, config.frames)
    folder = create_run_folder(options.run, "pretrain")
    print("Configuration:", *(f"  {k}: {v}" for k, v in config.as_dict().items()), sep="\n")

    load_tensorflow()  # only now: every mistake in the input's form has shown before
    import numpy as np

    from tf_dicom_ce.data import datasets, splits, store
    from tf_dicom_ce.data.preprocessing import standardise
    from tf_dicom_ce.saved_model import write_encoder
    from tf_dicom_ce.training.pretrain import pretrain, seed_everything

    seed_everything(config.seed, config.deterministic)
    reader = ImageReader(index.root, schema.sop_classes, config.find_sector)
    if config.direct:
        frames = store.open_direct(reader, images, config.image_size)
    else:
        frames = store.open_store(reader, images, config.image_size, store.default_cache())
        print("Store:", "decoded anew" if frames.built else "ready from an earlier run")
    undecodable = {images[k].row: refusal for k, refusal in frames.refusals.items()}
    write_coverage(index, folder, undecodable)
    print(summary(index, undecodable), f"Coverage report: {folder / 'coverage.md'}", sep="\n")
    if not config.allow_unreadable:
        require_readable(index, undecodable)

    rows = np.array([k for k in range(len(images)) if k not in frames.refusals])
    patients = np.array([index.rows[images[k].row].patient for k in rows])
    y = np.array([index.rows[image.row].y for image in images], np.float32)
    split = splits.split_rows(
        rows,
        groups=patients if config.split == "patient" else rows,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
    )
    order = datasets.StepOrder(split.train, config.batch_size, config.seed)
    size = config.image_size
    provenance = {
        "data_fingerprint": store.data_fingerprint(images),
        "split_fingerprint": split.fingerprint,
        "schema": {"name": schema.name, "fingerprint": schema.fingerprint},
        "images": {"training": len(split.train), "validation": len(split.validation)},
        "environment": environment(),
    }
    write_json(folder / "config.json", {**config.as_dict(), **provenance})
    print(f"Training on {len(split.train)} images, validating on {len(split.validation)}.")

    pretrained = pretrain(
        config,
        labels=schema.size,
        training=datasets.training_dataset(
            frames.read, y, order, size, config.seed, config.augment
        ),
        steps_per_epoch=order.steps_per_epoch,
        validation=datasets.evaluation_dataset(
            frames.read, y, split.validation, config.batch_size, size
        ),
        panel_images=standardise(frames.read(datasets.spread(split.validation))).numpy(),
        run=folder,
    )
    result = {"best_epoch": pretrained.epoch, "validation": pretrained.validation}
    write_json(folder / "result.json", result)
    version = write_encoder(
        pretrained.encoder,
        options.export,
        size,
        {
            "use_dicom": config.use_dicom,
            "tag_vocabulary": list(schema.labels),
            "preset": _preset(options),
            "synthetic_data": options.data is None,
            "seed": config.seed,
            **provenance,
            **result,
        },
    )
    measures = pretrained.validation
    print(
        f"Best epoch {pretrained.epoch}: validation L_rec {measures['rec']:.4f} "
        f"(painting the mean: {measures['rec_of_mean']:.4f}), joint {measures['joint']:.4f}.\n"
        f"Run: {folder}   (tensorboard --logdir {folder})\nEncoder: {version}"
    )
