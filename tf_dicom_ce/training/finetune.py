"""A head on an encoder, from labels to an exported model (Appendix A.2)."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.config import FinetuneConfig, finetune_config
from tf_dicom_ce.data import datasets
from tf_dicom_ce.data.splits import write_split
from tf_dicom_ce.data.store import default_cache
from tf_dicom_ce.data.tasks import Task, load_task
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.backbones import build_encoder, describe_encoder, load_encoder
from tf_dicom_ce.models.heads import Classifier, Head, UNet
from tf_dicom_ce.phantom.cohort import default_cohort
from tf_dicom_ce.saved_model import built_size, in_float32
from tf_dicom_ce.saved_model.digest import digest_of
from tf_dicom_ce.training import evaluation, panels, run_folder
from tf_dicom_ce.training.adam import FusedAdam
from tf_dicom_ce.training.fitting import Watch, fit_and_keep_best, seed_everything
from tf_dicom_ce.training.loop import Data, Schedule
from tf_dicom_ce.training.networks import POLICIES
from tf_dicom_ce.training.tensorboard import Draw
from tf_dicom_ce.whole_files import private
from tf_dicom_ce.wording import interval, number

#: Task -> the metric that is watched, and printed at the end.
HEADLINE = {"classification": "accuracy", "segmentation": "dice"}


@dataclass(frozen=True)
class Finetuned:
    """What a run leaves.

    Attributes:
        model: `UNet` or `Classifier` with the weights of `epoch`, in float32.
        epoch: The epoch with the lowest loss on the validation images, from 1.
        measures: On the test images, see `evaluation`.
        run: The run's folder.
        version: Folder of the exported head; None where this call exported none.
    """

    model: Head
    epoch: int
    measures: dict
    run: Path
    version: Path | None = None


@private()
def finetune(
    task: str,
    encoder: str | Path | keras.Layer | None = "export/encoder",
    data: str | Path | None = None,
    labels: str | Path | None = None,
    masks: str | Path | None = None,
    class_names: Iterable[str] | None = None,
    preset: str | None = None,
    run: str | Path | None = None,
    export: str | Path | None = "export",
    resume: bool = False,
    checkpoint_minutes: float = 10.0,
    checkpoint_steps: int | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    **settings,
) -> Finetuned:
    """Trains a head, measures it on the test images and exports it; prints what it does.

    Args:
        task: `classification` or `segmentation`.
        encoder: What `load_encoder` takes; a Keras model from z-scored images to the five scales;
            or None: from scratch.
        data: Folder of the images; None: the phantom.
        labels: CSV with the labels of the images in `data`.
        masks: Folder of masks (PNG), named as the images in `data`.
        class_names: Classes, in their order.
        preset: `paper`, `full` or `quick`; None: `full`, of the phantom `quick`.
        run: The run's folder, or None for `runs/<time>-<task>`.
        export: The model repository, or None: the head is not exported.
        resume: Go on with the run in `run`, which the same call has begun, or begin it.
        checkpoint_minutes: Minutes between two checkpoints within an epoch.
        checkpoint_steps: Steps between two, besides.
        callbacks: Keras' or your own, see `loop.train`.
        **settings: Fields of `FinetuneConfig` that stand above the preset's.

    Returns:
        What the run leaves; a run that has ended is only read, without `version`.

    Raises:
        UserError: Any mistake in settings, labels, images or masks; see `loop.train`, too.
        StoppedError: See `loop.train`.
    """
    if masks and task != "segmentation":
        raise UserError("--masks is for --task segmentation; classes stand in --labels.")
    if (data is None) != (labels is None and masks is None):
        raise UserError(
            "--data goes with --labels or --masks; without all of them, the phantom is used."
        )
    if data and not Path(data).is_dir():
        raise UserError(f"--data {data}: no such folder.")
    preset = preset or ("full" if data else "quick")
    exported = isinstance(encoder, str | Path)
    if not exported and encoder is not None and (size := built_size(encoder)):
        settings = {"image_size": size, **settings}
    described = describe_encoder(encoder) if exported else None
    config = finetune_config(task, preset, settings, described)
    synthetic = data is None
    if synthetic:
        data = default_cohort(preset)
        labels = data / f"{task}.csv"
        class_names = ("liver", "kidney") if task == "segmentation" else class_names
    labels, data, masks = (path and Path(path) for path in (labels, data, masks))
    class_names = tuple(class_names) if class_names else None

    def layer():
        return load_encoder(encoder) if exported else encoder

    labelled = load_task(config, labels, data, class_names, default_cache(), masks)
    with run_folder.open_run_folder(run and Path(run), task, resume) as folder:
        if run_folder.is_finished(folder, config.as_dict()):
            print(f"The run in {folder} has ended already. More --epochs would go on with it.")
            return _read(folder, build_head(config, layer(), len(labelled.classes)))
        if export:
            run_folder.require_writable(Path(export), "--export")
        seed_everything(config.seed, config.deterministic)
        model = build_head(config, layer(), len(labelled.classes))
        if encoder is not None and not exported:
            described = {"weights_digest": digest_of(encoder.get_weights())}
        provenance = _provenance(labelled, described, synthetic)
        saved = checkpoint_minutes, checkpoint_steps
        return _finetune(config, model, labelled, provenance, saved, folder, export, callbacks)


def build_head(config: FinetuneConfig, encoder: keras.Layer | None, classes: int) -> Head:
    """Puts the task's head on an encoder and creates all variables.

    Args:
        config: Settings.
        encoder: From z-scored images to the five scales; None makes one.
        classes: Number of classes; in segmentation with background.
    """
    policy = POLICIES[config.precision]
    if encoder is None:
        encoder = build_encoder(config.backbone, config.width, config.encoder_weights, policy)
    encoder.trainable = not config.freeze  # as an argument it would not reach the blocks
    like = {"classes": classes, "width_multiplier": config.width, "dtype": policy}
    if config.task == "segmentation":
        model = UNet(encoder, **like)
    else:
        like |= {"dropout": config.dropout, "positive_weight": config.positive_weight}
        model = Classifier(encoder, ordinal=config.label_encoding == "ordinal", **like)
    model.build((None, *config.image_size, 1))
    return model


def fit_head(
    config: FinetuneConfig,
    model: Head,
    data: Data,
    schedule: Schedule,
    draw: Draw,
    configuration: Mapping,
    run: Path,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> int:
    """Trains a head and leaves it with the weights of the lowest validation loss.

    Args:
        config: Settings.
        model: What `build_head` gave.
        data: Batches (x, target).
        schedule: See `fit_and_keep_best`.
        draw: Draws predictions for TensorBoard.
        configuration: Settings and provenance, to be shown.
        run: See `fit_and_keep_best`.
        callbacks: See `fit_and_keep_best`.

    Returns:
        The epoch that was kept, from 1.
    """
    model.compile(FusedAdam(config.learning_rate, name="adam"), jit_compile=False)
    # Before anything can be restored, everything has to be there.
    model.optimizer.build(model.trainable_variables)
    model.test_on_batch(*next(iter(data.validation)))
    name = HEADLINE[config.task]
    watch = Watch(
        monitor="val_loss",
        scalars={"loss": "loss/loss", name: f"metric/{name}"},
        optimizers={"head": "optimizer"},
        pictures={"predictions": draw},
        pictures_every=config.panel_every,
        shown=("loss", name),
        configuration=configuration,
    )
    strategy = tf.distribute.get_strategy()  # a head is small: one device
    return fit_and_keep_best(model, data, schedule, watch, run, strategy, callbacks)


def predict(model: Head, images: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Yields the answer to every image of batches (x, …), a classifier's `logits` with it."""

    @tf.function(input_signature=[images.element_spec[0]], autograph=False)
    def step(x):
        logits = model(x, training=False)
        return model.answer(logits) | ({"logits": logits} if len(logits.shape) == 2 else {})

    for x, *_ in images:
        answers = {name: values.numpy() for name, values in step(x).items()}
        yield from ({name: answers[name][k] for name in answers} for k in range(len(x)))


def _read(folder: Path, model: Head) -> Finetuned:
    model.load_weights(folder / "best.weights.h5")
    result = json.loads((folder / "result.json").read_text())
    return Finetuned(in_float32(model), result["best_epoch"], result["test"], folder)


def _provenance(task: Task, encoder: Mapping | None, synthetic: bool) -> dict:
    """What a head comes from, for its configuration, card and JSON."""
    return {
        "classes": list(task.classes),
        "images": {name: len(rows) for name, rows in task.split.sides.items()},
        "encoder": {k: v for k, v in (encoder or {}).items() if k != "environment"} or None,
        "data_fingerprint": task.frames.fingerprint,
        "labels_fingerprint": task.labels_fingerprint,
        "split_fingerprint": task.split.fingerprint,
        "synthetic_data": synthetic,
        "environment": run_folder.environment(),
    }


def _finetune(
    config: FinetuneConfig,
    model: Head,
    task: Task,
    provenance: dict,
    saved: tuple[float, int | None],
    folder: Path,
    export: str | Path | None,
    callbacks: Iterable[keras.callbacks.Callback],
) -> Finetuned:
    """Training → test → export."""
    settings = config.as_dict()
    print("Configuration:", *(f"  {k}: {v}" for k, v in settings.items()), sep="\n")
    print(f"Classes: {', '.join(task.classes)}.  Images: {provenance['images']}")
    content = {**settings, **provenance}
    run_folder.write_config(folder, content)
    patients = [example.patient for example in task.examples]
    write_split(folder / "split.csv", task.examples, patients, task.split)
    order = datasets.StepOrder(task.split.train, config.batch_size, config.seed)

    def passes(rows):
        return datasets.evaluation_dataset(task.frames, task.targets, rows, config.batch_size)

    data = Data(
        lambda first, parts: datasets.training_dataset(
            task.frames, task.targets, order, config.seed, config.augment, first, parts
        ),
        passes(task.split.validation),
        lambda step: order.rows_at(step).tolist(),
    )
    steps = max(order.steps_per_epoch, config.epoch_steps)
    schedule = Schedule(config.epochs, steps, *saved)
    shown = datasets.spread(task.split.validation)
    draw = _panel(task, shown, passes(shown))
    epoch = fit_head(config, model, data, schedule, draw, content, folder, callbacks)
    model, headline = in_float32(model), HEADLINE[config.task]
    evaluate = {
        "classification": evaluation.evaluate_classification,
        "segmentation": evaluation.evaluate_segmentation,
    }[config.task]
    measures = evaluate(predict(model, passes(task.split.test)), task, config.seed, folder)
    result, version = {"best_epoch": epoch, "test": measures}, None
    if export:
        patients = {side: len(set(task.patients[rows])) for side, rows in task.split.sides.items()}
        content |= {"patients": patients, **result}
        if (encoder := provenance["encoder"]) and "backbone" not in encoder:
            del content["backbone"]  # nobody has said which it is
        version = model.export(Path(export) / config.task, config.image_size, content)
    run_folder.write_result(folder, config.epochs, result)
    for name, m in measures.items():
        value = f"{number(m['value']):>9} {m['unit']:20}"
        print(f"  {name:24}{value} 95 % {interval(*m['interval_95'])}")
    print(
        f"Best epoch {epoch}: test {headline} {number(measures[headline]['value'])}.\n"
        f"Run: {folder}   (tensorboard --logdir {folder})"
    )
    if version:
        print(f"Model: {version}")
    return Finetuned(model, epoch, measures, folder, version)


def _panel(task: Task, shown: np.ndarray, batches: tf.data.Dataset) -> Draw:
    """How to draw the predictions on a few validation images."""
    images = next(iter(batches.unbatch().batch(len(shown))))[0].numpy()

    def draw(model):
        found = model.answer(model(images, training=False))
        if model.task == "segmentation":
            titles = ["image, truth, prediction"] * len(shown)
            masks = found["mask"].numpy()
            return panels.segmentation_panel(images, task.targets[shown], masks, titles)
        pairs = zip(task.targets[shown], found["class_id"].numpy(), strict=True)
        titles = [f"true {task.classes[a]}, predicted {task.classes[b]}" for a, b in pairs]
        return panels.classification_panel(images, titles)

    return draw
