"""A head on an encoder, from labels to an exported model (Appendix A.2)."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_dicom_ce.config import FinetuneConfig, finetune_config, preset_of
from tf_dicom_ce.data import datasets
from tf_dicom_ce.data.splits import write_split
from tf_dicom_ce.data.tasks import Task, load_given
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.models.backbones import describe_encoder, load_encoder
from tf_dicom_ce.models.familiarity import familiarity_of, features
from tf_dicom_ce.models.heads import Head
from tf_dicom_ce.saved_model.reading import digest_of
from tf_dicom_ce.saved_model.writing import built_size, in_float32
from tf_dicom_ce.training import devices, panels, run_folder
from tf_dicom_ce.training.adam import FusedAdam
from tf_dicom_ce.training.evaluation import (
    HEADLINE,
    evaluate_classification,
    evaluate_segmentation,
)
from tf_dicom_ce.training.loop import Data, Schedule, fit, save_best
from tf_dicom_ce.training.networks import build_head
from tf_dicom_ce.training.probe import scales_of, solve
from tf_dicom_ce.training.progress import History, ProgressBar
from tf_dicom_ce.training.tensorboard import Draw, TensorBoard
from tf_dicom_ce.whole_files import private
from tf_dicom_ce.wording import interval, number

#: Bytes of memory that the scales of a frozen encoder may take.
_MOST_SEEN = 2**30
#: Training images that tell what is familiar.
_MOST_FAMILIAR = 2000


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """The result of a run."""

    model: Head  # `UNet` or `Classifier` with the weights of `epoch`, in float32
    epoch: int  # that of the lowest validation loss, from 1; 0: solved at once
    measures: dict  # on the test images, see `evaluation`
    run: Path  # the run's folder
    version: Path | None = None  # folder of the exported head; None if this call exported none


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
    strategy: str = "none",
    callbacks: Iterable[keras.callbacks.Callback] = (),
    **settings,
) -> Finetuned:
    """Trains a head, measures it on the test images and exports it; prints its progress.

    Args:
        task: `classification` or `segmentation`.
        encoder: A path as in `load_encoder`, a Keras model from z-scored images to the five scales,
            or None to train from scratch.
        data: Folder of the images; None for the phantom.
        labels: CSV with the labels of the images in `data`.
        masks: Folder of masks (PNG), named as the images in `data`.
        class_names: Classes, in their order.
        preset: `paper`, `full` or `quick`; None for `full`, or `quick` with the phantom.
        run: The run's folder, or None for `runs/<time>-<task>`.
        export: The model repository, or None to export nothing.
        resume: Continue the run in `run` that the same call began, or begin it.
        checkpoint_minutes: Minutes between two checkpoints within an epoch.
        checkpoint_steps: Steps between two checkpoints, in addition; None for minutes only.
        strategy: See `devices.open_strategy`. Several devices load the encoder by its path.
        callbacks: Keras callbacks, see `loop.train`.
        **settings: Fields of `FinetuneConfig`; they override the preset's.

    Returns:
        The result of the run. A finished run is only read, without `version`. With several workers
        only the chief measures and exports.

    Raises:
        UserError: A mistake in settings, labels, images or masks; see also `loop.train`.
        StoppedError: See `loop.train`.
    """
    preset = preset_of(preset, data)
    exported = isinstance(encoder, str | Path)
    if not exported and encoder is not None and (size := built_size(encoder)):
        settings = {"image_size": size, **settings}
    described = describe_encoder(encoder) if exported else None
    config = finetune_config(task, preset, settings, described)
    scope = _open_strategy(strategy, config, exported or encoder is None)
    writes, synthetic = devices.is_chief(scope), data is None
    sop_classes = (described or {}).get("sop_classes")
    labelled = load_given(config, data, labels, masks, class_names, preset, sop_classes)
    with run_folder.open_run_folder(run and Path(run), task, resume, writes) as folder:
        ended = run_folder.is_finished(folder, config.as_dict())
        if not ended:
            run_folder.begin(config, export and Path(export))
        with scope.scope():
            layer = load_encoder(encoder) if exported else encoder
            model = build_head(config, layer, len(labelled.classes))
        if ended:
            result = run_folder.read_result(folder, model)
            model.temperature = result.get("temperature", 1.0)
            return Finetuned(in_float32(model), result["best_epoch"], result["test"], folder)
        if encoder is not None and not exported:
            described = {"weights_digest": digest_of(encoder.get_weights())}
        split = labelled.split
        content = {
            **config.as_dict(),
            "classes": list(labelled.classes),
            "images": {name: len(rows) for name, rows in split.sides.items()},
            "encoder": {k: v for k, v in (described or {}).items() if k != "environment"} or None,
            "data_fingerprint": labelled.frames.fingerprint,
            "labels_fingerprint": labelled.labels_fingerprint,
            "split_fingerprint": split.fingerprint,
            "synthetic_data": synthetic,
            "environment": run_folder.environment(),
        }
        if sop_classes:
            content["sop_classes"] = sop_classes
        print(f"Classes: {', '.join(labelled.classes)}.  Images: {content['images']}")
        if writes:
            run_folder.write_configuration(folder, content)
            patients = [example.patient for example in labelled.examples]
            write_split(folder / "split.csv", labelled.examples, patients, split)

        if config.head == "linear":
            epoch, validation = 0, {}
            scales = scales_of(model.encoder, _passes(labelled, config, split.train), model.reads)
            solve(model, scales, labelled, split.train, config.seed)
            save_best(model, folder)
        else:
            order = datasets.StepOrder(split.train, config.batch_size, config.seed)
            devices.require_parts(scope, order.batch_size)
            steps = max(order.steps_per_epoch, config.epoch_steps)
            schedule = Schedule(config.epochs, steps, checkpoint_minutes, checkpoint_steps)
            batches = _batches(labelled, config, order)
            if config.freeze and not config.augment and config.precision == "float32":
                batches = _seen_once(model, labelled, config, order) or batches
            draw = _panel(labelled, config)
            watch = _watch(config, draw, content, folder) if writes else []
            watch += callbacks
            epoch, measures = fit_head(config, model, batches, schedule, watch, folder, scope)
            validation = {"validation": measures}
        model = in_float32(model)
        if not writes:
            return Finetuned(model, epoch, {}, folder)
        if task == "classification":
            validation["temperature"] = model.temperature = _temperature(
                model, list(_answers(model, _passes(labelled, config, split.validation))), labelled
            )
        answers = _answers(model, _passes(labelled, config, split.test))
        evaluate = evaluate_segmentation if task == "segmentation" else evaluate_classification
        measures = evaluate(answers, labelled, config.seed, folder)
        result, version = {"best_epoch": epoch, **validation, "test": measures}, None
        if export:
            of_sides = split.sides.items()
            patients = {side: len(set(labelled.patients[rows])) for side, rows in of_sides}
            content |= {"patients": patients, **result}
            rows = datasets.spread(split.train, _MOST_FAMILIAR), split.validation
            of_sides = (_features(model, _passes(labelled, config, side)) for side in rows)
            model.familiarity = familiarity_of(*of_sides)
            if content["encoder"] and "backbone" not in content["encoder"]:
                del content["backbone"]  # unknown for a model of the caller
            version = model.export(Path(export) / task, config.image_size, content)
        run_folder.write_result(folder, config.epochs, result)
        finetuned = Finetuned(model, epoch, measures, folder, version)
        _tell(finetuned, HEADLINE[task])
        return finetuned


def fit_head(
    config: FinetuneConfig,
    model: Head,
    data: Data,
    schedule: Schedule,
    callbacks: Sequence[keras.callbacks.Callback],
    run: Path,
    strategy: tf.distribute.Strategy,
) -> tuple[int, dict[str, float]]:
    """Trains a head of `build_head` by `loop.fit`, whose results are returned."""
    with strategy.scope():
        model.compile(FusedAdam(config.learning_rate, name="adam"), jit_compile=False)
        # All variables have to exist before a checkpoint can be restored.
        model.optimizer.build(model.trainable_variables)
        model._symbolic_build(data_batch=next(iter(data.validation)))
    return fit(model, data, schedule, "val_loss", callbacks, run, strategy)


def _watch(
    config: FinetuneConfig, draw: Draw, configuration: Mapping, run: Path
) -> list[keras.callbacks.Callback]:
    """Callbacks for history, terminal and TensorBoard with configuration and pictures by `draw`."""
    name = HEADLINE[config.task]
    scalars = {"loss": "loss/loss", name: f"metric/{name}"}
    optimizers, pictures = {"head": "optimizer"}, {"predictions": draw}
    board = TensorBoard(run, scalars, optimizers, pictures, config.panel_every, configuration)
    return [History(run / "history.csv"), ProgressBar(("loss", name)), board]


def _open_strategy(
    name: str, config: FinetuneConfig, builds_encoder: bool
) -> tf.distribute.Strategy:
    """`devices.open_strategy`, if the head and encoder can be trained on several devices."""
    if name != "none" and config.head == "linear":
        raise UserError(f"--strategy {name}: a linear head is solved at once, on one device.")
    if name != "none" and not builds_encoder:
        raise UserError(
            f"strategy {name}: the encoder's variables are on one device. Save the encoder, "
            "encoder.save('encoder.keras'), and give that path instead."
        )
    return devices.open_strategy(name, config.batch_size)


def _answers(model: Head, images: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Yields the answer to every image of batches (x, …), for a classifier with `logits`."""

    @tf.function(input_signature=[images.element_spec[0]], autograph=False)
    def step(x):
        logits = model(x, training=False)
        return model.answer(logits) | ({"logits": logits} if len(logits.shape) == 2 else {})

    for x, *_ in images:
        answers = {name: values.numpy() for name, values in step(x).items()}
        yield from ({name: answers[name][k] for name in answers} for k in range(len(x)))


def _temperature(model: Head, answers: list[Mapping], task: Task) -> float:
    """What the logits are divided by, so that the validation images' classes are likeliest."""
    rows = task.split.validation
    if not len(rows):
        return 1.0
    from scipy.optimize import minimize_scalar  # SciPy takes its time

    logits = tf.constant(np.stack([answer["logits"] for answer in answers]))
    at = np.arange(len(rows)), task.targets[rows]

    def loss(power):
        model.temperature = math.exp(power)
        likelihood = model.answer(logits)["probabilities"].numpy()[at]
        return -np.log(np.maximum(likelihood, 1e-7)).mean()

    return math.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x)


def _features(model: Head, images: tf.data.Dataset) -> np.ndarray:
    """What `Familiarity` looks at, of batches (x, …); float32 [N, Σ C_k]."""

    @tf.function(input_signature=[images.element_spec[0]], autograph=False)
    def step(x):
        return features(model.see(x))

    return np.concatenate([step(x).numpy() for x, *_ in images])


def _passes(task: Task, config: FinetuneConfig, rows: np.ndarray) -> tf.data.Dataset:
    """One pass over some rows, in batches."""
    return datasets.evaluation_dataset(task.frames, task.targets, rows, config.batch_size)


def _batches(task: Task, config: FinetuneConfig, order: datasets.StepOrder) -> Data:
    """The data of a head's training."""
    return Data(
        lambda first, parts: datasets.training_dataset(
            task.frames, task.targets, order, config.seed, config.augment, first, parts
        ),
        _passes(task, config, task.split.validation),
        lambda step: order.rows_at(step).tolist(),
    )


def _seen_once(
    model: Head, task: Task, config: FinetuneConfig, order: datasets.StepOrder
) -> Data | None:
    """The same data with the frozen encoder's scales of every image, computed once.

    None if the scales take more memory than `_MOST_SEEN`.
    """
    rows = np.concatenate([task.split.train, task.split.validation])
    image = keras.KerasTensor((1, *config.image_size, 1))
    scales = model.encoder.compute_output_spec(image)
    if 4 * len(rows) * sum(math.prod(scales[k].shape) for k in model.reads) > _MOST_SEEN:
        return None
    seen = scales_of(model.encoder, _passes(task, config, rows), model.reads)
    seen = {k: tf.constant(of_images) for k, of_images in seen.items()}
    place = np.zeros(len(task.examples), int)
    place[rows] = np.arange(len(rows))
    numbered = dataclasses.replace(task, targets={"target": task.targets, "place": place})

    def look_up(x, y):
        of_batch = {k: tf.gather(of_images, y["place"]) for k, of_images in seen.items()}
        return of_batch | {"image": x}, y["target"]

    data = _batches(numbered, config, order)
    return Data(
        lambda first, parts: data.training(first, parts).map(look_up),
        data.validation.map(look_up),
        data.rows_at,
    )


def _panel(task: Task, config: FinetuneConfig) -> Draw:
    """A function that draws the predictions on a few validation images."""
    shown = datasets.spread(task.split.validation)
    batches = _passes(task, config, shown)
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


def _tell(finetuned: Finetuned, headline: str) -> None:
    for name, m in finetuned.measures.items():
        value = f"{number(m['value']):>9} {m['unit']:20}"
        print(f"  {name:24}{value} 95 % {interval(*m['interval_95'])}")
    solved = finetuned.epoch == 0
    when = "Solved at once" if solved else f"Best epoch {finetuned.epoch}"
    board = "" if solved else f"   (tensorboard --logdir {finetuned.run})"
    print(
        f"{when}: test {headline} {number(finetuned.measures[headline]['value'])}.\n"
        f"Run: {finetuned.run}{board}"
    )
    if finetuned.version:
        print(f"Model: {finetuned.version}")
