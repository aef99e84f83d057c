"""Train a head on an exported encoder: ordinal classification, or segmentation.

  python finetune.py --task segmentation                       on the phantom's labels
  python finetune.py --task classification --freeze            the encoder stays as it is
  python finetune.py --task segmentation --label-fraction 0.05 with 5 % of the labelled patients
  python finetune.py --task classification --encoder none      from scratch, the paper's first row
  python finetune.py --task classification --data DIR --labels CSV --label-encoding categorical

The labels CSV has a column path (relative to --data: DICOM, PNG or JPEG), a column label (a class
name or an integer) or mask (an 8-bit indexed PNG of the image's size, 0 is background), and may
have columns frame (of a cine, from 0), patient, and split (train, validation, test). Without split,
80/10/10 by patient.

The run's folder receives configuration, history, TensorBoard events, pictures, test.csv and
result.json with the measures on the test set; the head goes to <export>/<task>/<version>/.
"""

import argparse
import dataclasses
from pathlib import Path

from tf_dicom_ce.cli.runs import add_run_arguments, schedule_of
from tf_dicom_ce.config import FINETUNE_PRESETS, FinetuneConfig
from tf_dicom_ce.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments; a default of None means: as the preset says."""
    add = parser.add_argument
    flag = argparse.BooleanOptionalAction
    add("--task", choices=("classification", "segmentation"), required=True)
    add(
        "--encoder",
        default="export/encoder",
        metavar="DIR",
        help="exported encoder (default: export/encoder, its newest version), an encoder.keras, "
        "or none: train from scratch",
    )
    add("--data", type=Path, metavar="DIR", help="folder of the images (default: the phantom)")
    add("--labels", type=Path, metavar="CSV", help="labels of the images in --data")
    add("--find-sector", action=flag, help="as the encoder was pretrained (default: no)")
    add("--class-names", nargs="+", metavar="NAME", help="classes, in their order")
    add("--preset", choices=("paper", "quick"), help="settings (default: paper; phantom: quick)")
    add("--freeze", action=flag, help="keep the encoder as it is (default: tune it)")
    add("--label-fraction", type=float, metavar="X", help="share of the labelled patients, 0…1")
    add("--label-encoding", choices=("ordinal", "categorical"), help="are classes in an order?")
    add("--epochs", type=int, metavar="N", help="passes over the training images")
    add("--epoch-steps", type=int, metavar="N", help="least steps of an epoch, for few images")
    add("--batch-size", type=int, metavar="N", help="images a step")
    add("--image-size", type=int, nargs=2, metavar=("H", "W"), help="only with --encoder none")
    add("--width", type=float, metavar="X", help="only with --encoder none")
    add("--seed", type=int, metavar="N", help="of weights, split, fraction and order")
    add("--deterministic", action=flag, help="same seed, same weights, bit for bit (slower)")
    add_run_arguments(parser, "<task>")
    add(
        "--no-export",
        dest="export",
        action="store_const",
        const=None,
        help="measure the head and keep its weights, but no SavedModel",
    )


def configure(options: argparse.Namespace, encoder: dict | None) -> FinetuneConfig:
    """The preset with the options that were given, at the encoder's size and width.

    Args:
        options: Parsed arguments.
        encoder: What the exported encoder says of itself, or None from scratch.

    Raises:
        UserError: A size or width that is not the encoder's.
    """
    preset = options.preset or ("paper" if options.data else "quick")
    names = [field.name for field in dataclasses.fields(FinetuneConfig)]
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    if "image_size" in given:
        given["image_size"] = tuple(given["image_size"])
    if encoder:
        its = {"image_size": tuple(encoder["image_size"]), "width": encoder["width"]}
        for name, value in its.items():
            if given.get(name, value) != value:
                raise UserError(
                    f"--{name.replace('_', '-')} {given[name]}: the encoder has {value}. Leave the "
                    "option out, or use --encoder none."
                )
        given |= its
    return dataclasses.replace(FINETUNE_PRESETS[preset, options.task], **given)


def run(options: argparse.Namespace) -> None:
    """Runs the command: labels → store → split → run folder → head → test → export."""
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.phantom.cohort import default_cohort

    if (options.data is None) != (options.labels is None):
        raise UserError("--data and --labels go together; without both, the phantom is used.")
    if options.data and not options.data.is_dir():
        raise UserError(f"--data {options.data}: no such folder.")
    load_tensorflow()

    from tf_dicom_ce.data.store import default_cache
    from tf_dicom_ce.data.tasks import load_task
    from tf_dicom_ce.saved_model import open_encoder
    from tf_dicom_ce.training import run_folder

    build_encoder, metadata = open_encoder(options.encoder)
    config = configure(options, metadata)
    data = options.data or default_cohort(options.preset or "quick")
    labels = options.labels or data / f"{config.task}.csv"
    class_names = tuple(options.class_names) if options.class_names else None
    if options.data is None and config.task == "segmentation":
        class_names = ("liver", "kidney")
    task = load_task(config, labels, data, class_names, default_cache())
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
    from tf_dicom_ce.saved_model import write_head
    from tf_dicom_ce.training import run_folder
    from tf_dicom_ce.training.finetune import build_head, finetune
    from tf_dicom_ce.training.loop import Data
    from tf_dicom_ce.training.pretrain import seed_everything

    seed_everything(config.seed, config.deterministic)
    sides = {name: len(getattr(task.split, name)) for name in ("train", "validation", "test")}
    provenance = {
        "classes": list(task.classes),
        "images": sides,
        "encoder": {k: v for k, v in (metadata or {}).items() if k != "environment"} or None,
        "data_fingerprint": task.fingerprint,
        "synthetic_data": options.data is None,
        "environment": run_folder.environment(),
    }
    print("Configuration:", *(f"  {k}: {v}" for k, v in config.as_dict().items()), sep="\n")
    print(f"Classes: {', '.join(task.classes)}.  Images: {sides}")
    run_folder.write_config(folder, {**config.as_dict(), **provenance})

    head = build_head(
        config, build_encoder(config.width, not config.freeze), classes=len(task.classes)
    )
    order = datasets.StepOrder(task.split.train, config.batch_size, config.seed)

    def passes(rows):
        return datasets.evaluation_dataset(task.frames, task.targets, rows, config.batch_size)

    shown = datasets.spread(task.split.validation)
    epoch = finetune(
        config,
        head,
        Data(
            lambda first, parts: datasets.training_dataset(
                task.frames, task.targets, order, config.seed, first_step=first, parts=parts
            ),
            passes(task.split.validation),
            lambda step: order.rows_at(step).tolist(),
        ),
        schedule_of(options, config.epochs, max(order.steps_per_epoch, config.epoch_steps)),
        _panel(config, head, task, shown, passes(shown)),
        {**config.as_dict(), **provenance},
        folder,
    )
    measures, headline = _measure(config, head, task, passes(task.split.test), folder)
    result = {"best_epoch": epoch, "test": measures}
    if options.export:
        rows = {side: getattr(task.split, side) for side in sides}
        patients = {side: len(set(task.patients[k].tolist())) for side, k in rows.items()}
        content = {**config.as_dict(), **provenance, "patients": patients, **result}
        version = write_head(
            head.model, head.answer, options.export, config.task, config.image_size, content
        )
    run_folder.write_result(folder, config.epochs, result)
    for name, m in measures.items():
        if m["value"] is not None:
            low, high = m["interval_95"]
            print(f"  {name:24} {m['value']:8.4f}   95 % {low:.4f} to {high:.4f}")
    print(
        f"Best epoch {epoch}: test {headline} {measures[headline]['value']:.4f}.\n"
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
    import numpy as np

    from tf_dicom_ce.training import evaluation
    from tf_dicom_ce.training.finetune import predict

    test, seed = task.split.test, config.seed
    answers = predict(head, batches)
    patients = task.patients[test]
    if config.task == "classification":
        measures = evaluation.evaluate_classification(
            answers, task.targets[test], patients, task.classes, seed, folder
        )
        return measures, "accuracy"
    images = np.concatenate([x for x, _ in batches])
    masks = [task.source_masks[int(row)] for row in test]
    measures = evaluation.evaluate_segmentation(
        answers, images, masks, patients, task.classes, seed, folder
    )
    return measures, "dice"
