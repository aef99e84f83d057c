"""A model repository with a tiny classifier and a tiny segmentation head, and servers."""

import contextlib
import io
import socket
import threading
import time

import httpx
import keras
import numpy as np
import pytest
from PIL import Image

from tf_dicom_ce.config import FinetuneConfig
from tf_dicom_ce.models.conv_bn_relu import Block
from tf_dicom_ce.serving.app import create_app
from tf_dicom_ce.serving.connections import Connections
from tf_dicom_ce.serving.repository import Repository
from tf_dicom_ce.serving.server import Server
from tf_dicom_ce.serving.settings import Settings
from tf_dicom_ce.training.networks import build_head

SIZE = (32, 64)
CLASSES = {
    "classification": ["poor", "fair", "good"],
    "segmentation": ["background", "liver", "kidney"],
}


class SmallEncoder(keras.Layer):
    """One block, pooled again and again: as a server sees it, an encoder like any other."""

    def __init__(self):
        super().__init__(name="encoder")
        self.block = Block(1, 4, name="block")

    def build(self, input_shape):
        self.block.build(input_shape)

    def call(self, x, training=False):
        scales = {"P1": self.block(x, training=training)}
        for k in range(2, 6):
            scales[f"P{k}"] = keras.ops.max_pool(scales[f"P{k - 1}"], 2)
        return scales


def export_head(root, task, seed):
    """Exports an untrained head of width 1/32 as the next version below `root`; its folder."""
    keras.utils.set_random_seed(seed)
    config = FinetuneConfig(task=task, image_size=SIZE, width=1 / 32)
    head = build_head(config, SmallEncoder(), len(CLASSES[task]))
    content = {
        "classes": CLASSES[task],
        "label_encoding": config.label_encoding,
        "data_fingerprint": "0123456789abcdef",
        "synthetic_data": True,
    }
    return head.export(root / task, metadata=content)


@pytest.fixture(scope="session")
def repository_folder(tmp_path_factory):
    """<root>/classification/1 and <root>/segmentation/1 at 32 x 64; only to be read.

    A test that adds, overwrites or removes versions copies it with `shutil.copytree` first.
    """
    root = tmp_path_factory.mktemp("repository")
    for seed, task in enumerate(CLASSES):
        export_head(root, task, seed)
    return root


@pytest.fixture(scope="session")
def second_classifier(tmp_path_factory):
    """Folder of a version of `classification` with other weights, to be copied over the first."""
    return export_head(tmp_path_factory.mktemp("second"), "classification", 7)


@contextlib.contextmanager
def served(app):
    if not hasattr(app.state, "connections"):  # not from `create_app`
        app.state.connections = Connections(seconds=30)
    server = Server(app, Settings())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def models_served(root, poll_seconds=2.0, **settings):
    repository = Repository(root, poll_seconds)
    repository.start()
    try:
        with served(create_app(repository, Settings(**settings))) as url:
            deadline = time.monotonic() + 60
            while httpx.get(f"{url}/readyz", verify=False).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield url
    finally:
        repository.close()


@pytest.fixture(scope="session")
def serve_app():
    """Serves an app within a context, which gives its address: serve_app(app)."""
    return served


@pytest.fixture(scope="session")
def serve_models():
    """The same for the models below a folder, when all are loaded: serve_models(root, …).

    Further arguments are the repository's `poll_seconds` and fields of `Settings`.
    """
    return models_served


@pytest.fixture
def images():
    """Three uint8 images [H, W] of different sizes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((50, 70), (32, 64), (20, 31))]


@pytest.fixture
def encode():
    """Function (uint8 [H, W], format) -> the file's bytes; PNG unless said otherwise."""

    def encode_image(image, form="PNG"):
        file = io.BytesIO()
        Image.fromarray(image).save(file, form)
        return file.getvalue()

    return encode_image
