"""Golden inputs: made-up images that travel with a model, and its answers to them at export.

`assets.extra/golden.json` in the folder of a version is a list of cases, each of one image,

    signature   `serving_default` or `serving_image`
    inputs      {name: [value]}, as a REST client sends it
    samples     257: how many numbers of an answer are kept at most
    answers     {name: samples}, numbers spread over the answer

so that anybody can ask a copy of the model, in process or over HTTP, whether it still answers as it
did. TensorFlow Serving does not look at this file. For it, the same requests are written again, to
warm up with before it answers anybody: `assets.extra/tf_serving_warmup_requests`, records of its
message PredictionLog (https://www.tensorflow.org/tfx/serving/saved_model_warmup). The few fields
that are needed are written here, which spares a dependency on its Python package.
"""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.preprocessing import decode_image_bytes
from tf_dicom_ce.whole_files import write_json

FILE = "assets.extra/golden.json"
#: Largest `difference` that means: the same model; rounding on another processor is to stay below.
TOLERANCE = 1e-4
# A prime: 256 would meet the same class or channel all along, where 256 divides an answer's size.
_SAMPLES = 257
_SAMPLES_BEFORE = 256  # in files that do not say


def golden_images() -> list[bytes]:
    """Makes the images by a fixed rule: a PNG in gray, one in colour, a JPEG, of three sizes."""
    pictures = [_picture(48, 64), _picture(40, 72), _picture(64, 56)]
    colours = np.stack([pictures[1], pictures[1][::-1], pictures[1][:, ::-1]], axis=-1)
    return [_encode(pictures[0], "PNG"), _encode(colours, "PNG"), _encode(pictures[2], "JPEG")]


def write_golden(folder: Path, model: str) -> None:
    """Asks the exported model in a folder, of that name, and writes down what it answers."""
    signatures = tf.saved_model.load(str(folder)).signatures
    cases, logs = [], []
    for contents in golden_images():
        image = decode_image_bytes(contents).numpy()
        in_json = {"b64": base64.b64encode(contents).decode()}
        for signature, name, value, one in (
            ("serving_default", "image_bytes", np.array([contents], object), in_json),
            ("serving_image", "image", image[None].astype(np.float32), image.tolist()),
        ):
            answers = signatures[signature](**{name: tf.constant(value)})
            answers = {key: sample(answers[key].numpy()) for key in sorted(answers)}
            case = {"signature": signature, "inputs": {name: [one]}, "samples": _SAMPLES}
            cases.append(case | {"answers": answers})
            logs.append(_prediction_log(model, signature, name, value))
    warmup = folder / "assets.extra" / "tf_serving_warmup_requests"
    warmup.parent.mkdir()
    write_json(folder / FILE, cases)
    with tf.io.TFRecordWriter(str(warmup)) as file:
        for log in logs:
            file.write(log)


def _prediction_log(model: str, signature: str, name: str, value: np.ndarray) -> bytes:
    """A request to predict, as a serialised PredictionLog.

    PredictionLog.predict_log is field 6, PredictLog.request 1, PredictRequest.model_spec 1 and
    .inputs 2 (a map: key 1, value 2), ModelSpec.name 1 and .signature_name 3.
    """
    tensor = tf.make_tensor_proto(value).SerializeToString()
    request = _field(1, _field(1, model.encode()) + _field(3, signature.encode()))
    request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds bytes: tag, length as varint, content."""
    length, head = len(content), [number << 3 | 2]
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes([*head, length]) + content


def replay(folder: Path) -> float | None:
    """Asks a SavedModel again.

    Returns:
        The largest `difference` over all cases and answers; None where there are no golden inputs.
    """
    if not (folder / FILE).is_file():
        return None
    cases = json.loads((folder / FILE).read_text())
    signatures = tf.saved_model.load(str(folder)).signatures
    return max(_replay_case(signatures[case["signature"]], case) for case in cases)


def _replay_case(signature, case: Mapping) -> float:
    inputs = {}
    for spec in signature.structured_input_signature[1].values():
        values = case["inputs"][spec.name]
        if spec.dtype == tf.string:
            values = [base64.b64decode(value["b64"]) for value in values]
        inputs[spec.name] = tf.constant(values, spec.dtype)
    found, most = signature(**inputs), case.get("samples", _SAMPLES_BEFORE)
    return max(
        difference(samples, sample(found[name].numpy(), most) if name in found else [])
        for name, samples in case["answers"].items()
    )


class Outcome(NamedTuple):
    """What came of one version of a model."""

    model: str
    version: int
    # The largest from the golden answers; None without these, infinite if there is no answer.
    difference: float | None
    note: str

    @property
    def failed(self) -> bool:
        """Whether this is not the model that was exported, or cannot be asked."""
        return self.difference is not None and self.difference > TOLERANCE


def selftest(root: Path) -> list[Outcome]:
    """Does every model of a repository, `<root>/<name>/<version>/`, still answer as at export?

    Returns:
        One outcome a version; by name, oldest version first.

    Raises:
        UserError: There is no model.
    """
    folders = [path.parent for path in root.glob("*/*/saved_model.pb")]
    versions = [(f.parent.name, int(f.name), f) for f in folders if f.name.isdecimal()]
    if not versions:
        raise UserError(
            f"{root}: no model here, <name>/<version>/saved_model.pb. Give the folder that "
            "--export of train or finetune had."
        )
    return [_ask(*version) for version in sorted(versions)]


def _ask(model: str, version: int, folder: Path) -> Outcome:
    try:
        found = replay(folder)
    except Exception as error:  # a damaged file can raise anything
        return Outcome(model, version, float("inf"), f"cannot answer: {type(error).__name__}")
    if found is None:
        note = "not tested: exported without golden inputs"
    elif found > TOLERANCE:
        note = f"not as at export: the answers differ by more than {TOLERANCE}"
    else:
        note = "as at export"
    return Outcome(model, version, found, note)


def sample(answer: np.ndarray, most: int = _SAMPLES) -> list[int] | list[float]:
    """Takes at most so many numbers, evenly spread over the answer in C order."""
    flat = answer.reshape(-1)
    count = min(flat.size, most)
    chosen = flat[np.arange(count) * flat.size // count]
    if chosen.dtype.kind == "f":
        return [float(str(number)) for number in chosen]  # the shortest that is that float32
    return chosen.tolist()


def difference(golden: list, found: list) -> float:
    """How far samples of an answer are from the golden ones.

    Of int, which are classes and masks, the share that is not equal. Else the largest distance,
    divided by the golden samples' largest size where that is above 1. Infinite where the number of
    samples differs or one is not finite.
    """
    if len(golden) != len(found) or not np.isfinite(found).all():
        return float("inf")
    if all(isinstance(number, int) for number in golden):
        return float(np.mean(np.not_equal(golden, found)))
    return float(np.abs(np.subtract(golden, found)).max() / max(1.0, np.abs(golden).max()))


def _picture(height: int, width: int) -> np.ndarray:
    """A bright fan with a dark disc and a rippled texture, uint8 [height, width]."""
    y, x = np.mgrid[:height, :width].astype(float)
    depth = np.hypot(y + 8, x - width / 2)
    fan = (np.abs(x - width / 2) < 0.8 * (y + 8)) & (depth < height)
    disc = np.hypot(y - 0.6 * height, x - 0.4 * width) < 0.15 * height
    texture = 150 + 60 * np.sin(0.9 * depth + 0.31 * x) * np.cos(0.7 * x - 0.2 * y) - 0.8 * depth
    return np.where(fan, np.where(disc, 20, np.clip(texture, 0, 255)), 0).astype(np.uint8)


def _encode(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()
