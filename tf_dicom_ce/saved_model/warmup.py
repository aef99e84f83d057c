"""Requests with which TensorFlow Serving warms up a model before it answers anybody.

It reads them from `assets.extra/tf_serving_warmup_requests`, records of its message PredictionLog
(https://www.tensorflow.org/tfx/serving/saved_model_warmup). The few fields that are needed are
written here, which spares a dependency on its Python package.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf


def write_warmup(
    folder: Path, model: str, requests: Iterable[tuple[str, Mapping[str, np.ndarray]]]
) -> None:
    """Writes requests into the folder of a version.

    Args:
        folder: A SavedModel.
        model: Its name.
        requests: A signature, and its inputs by name.
    """
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as file:
        for signature, inputs in requests:
            file.write(prediction_log(model, signature, inputs))


def prediction_log(model: str, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """A request to predict, as a serialised PredictionLog.

    PredictionLog.predict_log is field 6, PredictLog.request 1, PredictRequest.model_spec 1 and
    .inputs 2 (a map: key 1, value 2), ModelSpec.name 1 and .signature_name 3.
    """
    request = _field(1, _field(1, model.encode()) + _field(3, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds bytes: tag, length as varint, content."""
    length, head = len(content), [number << 3 | 2]
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes([*head, length]) + content
