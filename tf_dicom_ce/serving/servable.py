"""One version of a model, loaded and ready to answer from many threads at once.

A version lives in a session of its own, as in TensorFlow Serving. Its end frees the variables, the
queue of batches and the queue's threads; in eager mode every version would leave two threads
behind, which wake a thousand times a second.
"""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.preprocessing import decode_image_bytes
from tf_dicom_ce.saved_model.reading import read_metadata
from tf_dicom_ce.serving.protocol import MOST_INSTANCES, Signature, TensorSpec

#: The most images in a batch.
BATCH = 8
_IMAGE_BYTES = "image_bytes"
_MOST_PIXELS = 1 << 22  # decoding takes some 50 bytes a pixel
# With IHDR first: behind another chunk a decoder could find another size than is seen here.
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_UNDECODABLE = "the image cannot be decoded: expected a whole PNG or JPEG, 8 bits a sample"
_MOST_SCANS = 100  # of a progressive JPEG; each costs time for every pixel
_STATUS = {
    tf.errors.InvalidArgumentError: 400,
    tf.errors.UnavailableError: 503,  # the queue is full
    tf.errors.ResourceExhaustedError: 503,
}


class Servable:
    """A loaded version.

    Args:
        folder: `<name>/<version>/` with the SavedModel, and `<task>.json` beside it.

    Attributes:
        name: Of the model.
        version: Its number.
        signatures: What can be asked, by name.
        content: What the version says of itself, see `read_metadata`; empty for a foreign model.

    Raises:
        UserError: Its weights are not those that were exported.
        Exception: Whatever TensorFlow has against the folder.
    """

    def __init__(self, folder: Path):
        self.name, self.version = folder.parent.name, int(folder.name)
        files = sorted(folder.glob("*.json"), key=lambda file: (file.stem != self.name, file))
        self.content = read_metadata(files[0]) if files else {}
        content = (folder / "saved_model.pb").read_bytes()
        saved_model = saved_model_pb2.SavedModel.FromString(content)
        self._definitions = dict(saved_model.meta_graphs[0].signature_def)
        self.signatures, self._inputs, self._alone, self._together = {}, {}, {}, {}
        with tf.Graph().as_default() as graph:
            functions = tf.saved_model.load(str(folder)).signatures
            for name, function in functions.items():
                signature = self.signatures[name] = _signature(name, self._definitions[name])
                inputs = self._inputs[name] = {
                    of: tf.compat.v1.placeholder(tf.as_dtype(spec.dtype), spec.shape)
                    for of, spec in signature.inputs.items()
                }
                self._alone[name] = function(**inputs)
                self._together[name] = _in_batches(signature, function, inputs)
            restore = tf.compat.v1.global_variables_initializer()
        self._session = tf.compat.v1.Session(graph=graph)  # is closed when it is forgotten
        self._session.run(restore)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers; images as bytes share batches with those of other threads.

        An image that cannot be decoded spoils its batch. Then requests whose own images can be
        decoded are asked once more, each alone.

        Args:
            signature: Its name.
            inputs: By name, of the dtypes and shapes of the signature; strings as bytes objects.

        Returns:
            The outputs by name.

        Raises:
            RequestError: There is no image, or too many; one cannot be decoded, or the model
                refuses it (400); too much is waiting already (503).
        """
        for name, array in inputs.items():
            if array.ndim and not 1 <= len(array) <= MOST_INSTANCES:
                words = f"{len(array)} instances, expected 1 to {MOST_INSTANCES}"
                raise RequestError(400, f"input {name}: {words}")
        files = inputs.get(_IMAGE_BYTES, ())
        _require_none(map(_excess, files))
        given = {tensor: inputs[name] for name, tensor in self._inputs[signature].items()}
        try:
            try:
                return self._session.run(self._together[signature], given)
            except tf.errors.InvalidArgumentError:  # of this request or another in the batch
                _require_none(map(_damage, files))
                return self._session.run(self._alone[signature], given)
        except tf.errors.OpError as error:
            status = _STATUS.get(type(error))
            if status is None:
                raise
            reason = error.message.partition("\n\t [[")[0].rpartition("\n")[2]  # between two traces
            raise RequestError(status, reason) from None

    def metadata(self) -> dict:
        """TensorFlow Serving's GetModelMetadataResponse as JSON."""
        how = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
        definitions = {name: MessageToDict(one, **how) for name, one in self._definitions.items()}
        return {
            "model_spec": {"name": self.name, "signature_name": "", "version": f"{self.version}"},
            "metadata": {"signature_def": {"signature_def": definitions}},
        }


def _require_none(faults: Iterable[str | None]) -> None:
    for k, fault in enumerate(faults):
        if fault:
            raise RequestError(400, f"input {_IMAGE_BYTES}, instance {k}: {fault}")


def _excess(contents: bytes) -> str | None:
    """Why, by its header, a file must not be decoded: it is no PNG or JPEG, or too costly."""
    try:
        height, width = _size(contents)
    except (tf.errors.InvalidArgumentError, struct.error):
        return _UNDECODABLE
    if height * width > _MOST_PIXELS or contents.count(b"\xff\xda") > _MOST_SCANS:
        return (
            f"an image of {width} x {height} pixels: at most {_MOST_PIXELS} pixels "
            f"and {_MOST_SCANS} JPEG scans can be served"
        )
    return None


def _damage(contents: bytes) -> str | None:
    """What is wrong with a file that cannot be decoded."""
    try:
        _decode(tf.constant(contents))
    except tf.errors.InvalidArgumentError:
        return _UNDECODABLE
    return None


def _size(contents: bytes) -> tuple[int, int]:
    """Height and width by the header, as the decoder will read them."""
    if contents.startswith(b"\xff\xd8\xff"):
        return tuple(tf.io.extract_jpeg_shape(contents).numpy()[:2].tolist())
    if not contents.startswith(_PNG):
        raise struct.error("neither JPEG nor PNG")
    width, height = struct.unpack_from(">II", contents, len(_PNG))
    return height, width


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def _decode(contents):
    return decode_image_bytes(contents)


def _signature(name: str, definition) -> Signature:
    def spec(tensor):
        shape = tf.TensorShape(tensor.tensor_shape)
        dtype = np.dtype(tf.as_dtype(tensor.dtype).as_numpy_dtype)
        return TensorSpec(dtype, None if shape.rank is None else tuple(shape))

    def specs(tensors):
        return {name: spec(tensors[name]) for name in sorted(tensors)}

    return Signature(name, specs(definition.inputs), specs(definition.outputs))


def _in_batches(
    signature: Signature, function, inputs: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """The outputs in the graph, computed in batches where the signature allows it."""
    one_by_one = all(spec.shape and spec.shape[0] is None for spec in signature.outputs.values())
    if list(inputs) != [_IMAGE_BYTES] or not one_by_one:
        return function(**inputs)  # images of different sizes cannot stand in one tensor
    # No request waits for others: a batch is what arrived while both threads were busy. All sizes
    # are allowed, so nothing is padded; a request larger than a batch is cut into several.
    batched = tf.nondifferentiable_batch_function(
        num_batch_threads=2,
        max_batch_size=MOST_INSTANCES,
        allowed_batch_sizes=list(range(1, BATCH + 1)),
        batch_timeout_micros=0,
        max_enqueued_batches=64,
    )
    return batched(lambda image_bytes: function(image_bytes=image_bytes))(*inputs.values())
