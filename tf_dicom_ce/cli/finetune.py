"""Train a head on an exported encoder: ordinal classification, or segmentation.

  python finetune.py --task segmentation                       on the phantom's labels
  python finetune.py --task classification --freeze            the encoder stays as it is
  python finetune.py --task segmentation --label-fraction 0.05 with 5 % of the labelled patients
  python finetune.py --task classification --encoder none      from scratch, the paper's first row
  python finetune.py --task classification --data DIR --labels CSV --label-encoding categorical
  python finetune.py --task segmentation --data DIR --masks DIR   masks found by the images' names

The labels CSV has a column path (relative to --data: DICOM, PNG or JPEG), a column label (a class
name or an integer) or mask (an 8-bit indexed PNG of the image's size, 0 is background), and may
have columns frame (of a cine, from 0), patient, and split (train, validation, test). Without
patient, the DICOM header tells patients apart. Without split, 80/10/10 by patient.

The run's folder receives configuration, history, TensorBoard events, pictures and result.json with
the measures on the test set; test.csv has them by image, test.html shows the worst images, and
split.csv says which image went where (these three name paths and patients, and only you can read
them). The head goes to <export>/<task>/<version>/.
"""

import argparse
import dataclasses
from pathlib import Path

from tf_dicom_ce.cli.runs import add_run_arguments, schedule_of
from tf_dicom_ce.cli.settings import add_settings, given_settings
from tf_dicom_ce.config import FINETUNE_PRESETS, FinetuneConfig, flag
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.wording import interval, number

#: What a head takes from the encoder it stands on.
_OF_ENCODER = ("image_size", "width", "find_sector", "blank_outside")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments; a default of None means: as the preset says."""
    add = parser.add_argument
    add(
        "--encoder",
        default="export/encoder",
        metavar="DIR",
        help="exported encoder (default: export/encoder, its newest version), an encoder.keras, "
        "or none: train from scratch",
    )
    add("--data", type=Path, metavar="DIR", help="folder of the images (default: the phantom)")
    add("--labels", type=Path, metavar="CSV", help="labels of the images in --data")
    add("--masks", type=Path, metavar="DIR", help="masks (PNG), named as the images in --data")
    add("--class-names", nargs="+", metavar="NAME", help="classes, in their order")
    add(
        "--preset",
        choices=("paper", "full", "quick"),
        help="starting settings (default: full, which is paper here; phantom: quick)",
    )
    add_settings(parser, FinetuneConfig)
    add_run_arguments(parser, "<task>")
    add(
        "--no-export",
        dest="export",
        action="store_const",
        const=None,
        help="measure the head and keep its weights, but no SavedModel",
    )


def configure(options: argparse.Namespace, encoder: dict | None) -> FinetuneConfig:
    """The preset with the settings that were given, on the encoder's size, width and crop.

    Args:
        options: Parsed arguments.
        encoder: What the exported encoder says of itself, or None from scratch.

    Raises:
        UserError: A size, width or way to crop that is not the encoder's.
    """
    preset = options.preset or ("full" if options.data else "quick")
    given = given_settings(options, FinetuneConfig)
    if encoder:
        its = {name: encoder[name] for name in _OF_ENCODER if name in encoder}
        its["image_size"] = tuple(encoder["image_size"])
        for name, value in its.items():
            if given.get(name, value) != value:
                raise UserError(
                    f"{flag(name)} {given[name]}: the encoder has {value}. Leave the option out, "
                    "or use --encoder none."
                )
        given |= its
    return dataclasses.replace(FINETUNE_PRESETS[preset, options.task], **given)


def run(options: argparse.Namespace) -> None:
    """Runs the command: labels → store → split → run folder → head → test → export."""
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.phantom.cohort import default_cohort

    if options.masks and options.task != "segmentation":
        raise UserError("--masks is for --task segmentation; classes stand in --labels.")
    if (options.data is None) != (options.labels is None and options.masks is None):
        raise UserError(
            "--data goes with --labels or --masks; without all of them, the phantom is used."
        )
    if options.data and not options.data.is_dir():
        raise UserError(f"--data {options.data}: no such folder.")
    if options.task is None:
        raise UserError("--task: classification or segmentation?")
    load_tensorflow()

    from tf_dicom_ce.data.store import default_cache
    from tf_dicom_ce.data.tasks import load_task
    from tf_dicom_ce.saved_model import open_encoder
    from tf_dicom_ce.training import run_folder

    build_encoder, metadata = open_encoder(options.encoder)
    config = configure(options, metadata)
    data = options.data or default_cohort(options.preset or "quick")
    labels = options.labels if options.data else data / f"{config.task}.csv"
    class_names = tuple(options.class_names) if options.class_names else None
    if options.data is None and config.task == "segmentation":
        class_names = ("liver", "kidney")
    task = load_task(config, labels, data, class_names, default_cache(), options.masks)
    with run_folder.open_run_folder(options.run, config.task, options.resume) as folder:
        if run_folder.is_finished(folder, config.as_dict()):
            print(f"The run in {folder} has ended already. More --epochs would go on with it.")
        else:
            if options.export:
                run_folder.require_writable(options.export, "--export")
            _finetune(options, config, build_encoder, metadata, task, folder)


def _finetune(
    options: argparse.Namespace,
    config: FinetuneConfig,
    build_encoder,
    metadata: dict | None,
    task,
    folder: Path,
) -> None:
    """Head → training → test → export."""
    from tf_dicom_ce.data import datasets
    from tf_dicom_ce.data.splits import write_split
    from tf_dicom_ce.models.encoder import POLICIES
    from tf_dicom_ce.saved_model import write_head
    from tf_dicom_ce.training import run_folder
    from tf_dicom_ce.training.finetune import build_head, finetune, in_float32
    from tf_dicom_ce.training.loop import Data
    from tf_dicom_ce.training.pretrain import seed_everything

    seed_everything(config.seed, config.deterministic)
    sides = {name: len(rows) for name, rows in task.split.sides.items()}
    provenance = {
        "classes": list(task.classes),
        "images": sides,
        "encoder": {k: v for k, v in (metadata or {}).items() if k != "environment"} or None,
        "data_fingerprint": task.frames.fingerprint,
        "labels_fingerprint": task.labels_fingerprint,
        "split_fingerprint": task.split.fingerprint,
        "synthetic_data": options.data is None,
        "environment": run_folder.environment(),
    }
    print("Configuration:", *(f"  {k}: {v}" for k, v in config.as_dict().items()), sep="\n")
    print(f"Classes: {', '.join(task.classes)}.  Images: {sides}")
    run_folder.write_config(folder, {**config.as_dict(), **provenance})
    patients = [example.patient for example in task.examples]
    write_split(folder / "split.csv", task.examples, patients, task.split)

    def encoder(policy="float32"):
        return build_encoder(config.width, not config.freeze, policy)

    classes = len(task.classes)
    head = build_head(config, encoder(POLICIES[config.precision]), classes)
    order = datasets.StepOrder(task.split.train, config.batch_size, config.seed)

    def passes(rows):
        return datasets.evaluation_dataset(task.frames, task.targets, rows, config.batch_size)

    shown = datasets.spread(task.split.validation)
    epoch = finetune(
        config,
        head,
        Data(
            lambda first, parts: datasets.training_dataset(
                task.frames, task.targets, order, config.seed, config.augment, first, parts
            ),
            passes(task.split.validation),
            lambda step: order.rows_at(step).tolist(),
        ),
        schedule_of(options, config.epochs, max(order.steps_per_epoch, config.epoch_steps)),
        _panel(config, head, task, shown, passes(shown)),
        {**config.as_dict(), **provenance},
        folder,
    )
    if config.precision != "float32":
        head = in_float32(config, head, encoder(), classes)
    measures, headline = _measure(config, head, task, passes(task.split.test), folder)
    result = {"best_epoch": epoch, "test": measures}
    if options.export:
        patients = {side: len(set(task.patients[rows])) for side, rows in task.split.sides.items()}
        content = {**config.as_dict(), **provenance, "patients": patients, **result}
        version = write_head(
            head.model, head.answer, options.export, config.task, config.image_size, content
        )
    run_folder.write_result(folder, config.epochs, result)
    for name, m in measures.items():
        shown = f"{number(m['value']):>9} {m['unit']:20}"
        print(f"  {name:24}{shown} 95 % {interval(*m['interval_95'])}")
    print(
        f"Best epoch {epoch}: test {headline} {number(measures[headline]['value'])}.\n"
        f"Run: {folder}   (tensorboard --logdir {folder})"
    )
    if options.export:
        print(f"Model: {version}")


def _panel(config: FinetuneConfig, head, task, shown, batches):
    """How to draw the predictions on a few validation images."""
    from tf_dicom_ce.training import pictures

    images = next(iter(batches.unbatch().batch(len(shown))))[0].numpy()

    def draw(model):
        found = head.answer(model(images, training=False))
        if config.task == "segmentation":
            titles = ["image, truth, prediction"] * len(shown)
            masks = found["mask"].numpy()
            return pictures.segmentation_panel(images, task.targets[shown], masks, titles)
        pairs = zip(task.targets[shown], found["class_id"].numpy(), strict=True)
        titles = [f"true {task.classes[a]}, predicted {task.classes[b]}" for a, b in pairs]
        return pictures.classification_panel(images, titles)

    return draw


def _measure(config: FinetuneConfig, head, task, batches, folder: Path) -> tuple[dict, str]:
    """Measures on the test set, and the name of the one to print."""
    from tf_dicom_ce.training import evaluation
    from tf_dicom_ce.training.finetune import predict

    answers = predict(head, batches)
    if config.task == "classification":
        measures = evaluation.evaluate_classification(answers, task, config.seed, folder)
        return measures, "accuracy"
    return evaluation.evaluate_segmentation(answers, task, config.seed, folder), "dice"
