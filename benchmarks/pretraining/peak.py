"""Measures the machine's limit: the fastest product of two float32 matrices by three libraries."""

from collections.abc import Callable

import numpy as np

LIBRARIES = ("tensorflow", "pytorch", "numpy")


def tasks(library: str, n: int, device: str = "cpu") -> dict:
    """The contender: `product` of two n×n matrices, by default on the CPU, or on `cuda`."""
    a, b = np.random.default_rng(0).standard_normal((2, n, n), np.float32)
    if library == "pytorch":
        return {"product": _pytorch(a, b, device)}
    return {"product": {"tensorflow": _tensorflow, "numpy": _numpy}[library](a, b)}


def _tensorflow(a: np.ndarray, b: np.ndarray) -> Callable:
    import tensorflow as tf

    import tf_dicom_ce  # noqa: F401  turns oneDNN on

    product, a, b = tf.function(tf.matmul), tf.constant(a), tf.constant(b)

    def run():
        product(a, b)[0, 0].numpy()  # waits for a GPU

    return run


def _pytorch(a: np.ndarray, b: np.ndarray, device: str) -> Callable:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True  # as TensorFlow does
    a, b = (torch.from_numpy(side).to(device) for side in (a, b))

    def run():
        torch.mm(a, b)[0, 0].item()  # waits for a GPU

    return run


def _numpy(a: np.ndarray, b: np.ndarray) -> Callable:
    def run():
        np.matmul(a, b)

    return run
