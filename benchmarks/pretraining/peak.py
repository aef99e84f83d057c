"""Measures the machine's limit: the fastest product of two float32 matrices by three libraries."""

from collections.abc import Callable

import numpy as np

LIBRARIES = ("tensorflow", "pytorch", "numpy")


def tasks(library: str, n: int) -> dict:
    """The contender: `product` of two n×n matrices."""
    a, b = np.random.default_rng(0).standard_normal((2, n, n), np.float32)
    prepare = {"tensorflow": _tensorflow, "pytorch": _pytorch, "numpy": _numpy}[library]
    return {"product": prepare(a, b)}


def _tensorflow(a: np.ndarray, b: np.ndarray) -> Callable:
    import tensorflow as tf

    import tf_dicom_ce  # noqa: F401  turns oneDNN on

    product, a, b = tf.function(tf.matmul), tf.constant(a), tf.constant(b)

    def run():
        product(a, b).numpy()

    return run


def _pytorch(a: np.ndarray, b: np.ndarray) -> Callable:
    import torch

    a, b = torch.from_numpy(a), torch.from_numpy(b)

    def run():
        torch.mm(a, b)

    return run


def _numpy(a: np.ndarray, b: np.ndarray) -> Callable:
    def run():
        np.matmul(a, b)

    return run
