"""The compared ways from DICOM files to z-scored training batches.

Every contender has two tasks: `cold` reads the files of a folder with an empty cache (but the files
are in the system's page cache); `warm` reads its cache once, in batches in random order.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Tasks = dict[str, Callable[[], None]]


def plain(folder: str, image_size: tuple[int, int], batch_size: int) -> Tasks:
    """The loop that one writes first: pydicom, a resize by Pillow, one process."""
    import pydicom
    from PIL import Image

    paths, (height, width) = _files(folder), image_size

    def cold():
        for k in range(0, len(paths), batch_size):
            frames = [pydicom.dcmread(path).pixel_array for path in paths[k : k + batch_size]]
            frames = [Image.fromarray(f).resize((width, height), Image.BILINEAR) for f in frames]
            x = np.stack([np.asarray(frame, np.float32) for frame in frames])
            x -= x.mean((1, 2), keepdims=True)
            x /= np.maximum(x.std((1, 2), keepdims=True), 1e-6)

    return {"cold": cold}


def ours(folder: str, image_size: tuple[int, int], batch_size: int, cache: str) -> Tasks:
    """This project: `cold` builds the store, `warm` reads the training's input from it.

    The task `direct` is `--direct`, which decodes in the training's process at every step. `cache`
    is a folder for stores.
    """
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow

    load_tensorflow()
    from tf_dicom_ce.data.datasets import StepOrder, training_dataset
    from tf_dicom_ce.data.store import DirectReader, open_store
    from tf_dicom_ce.intake.decoding import ImageReader, Sample
    from tf_dicom_ce.tags.schema import TagSchema

    reader = ImageReader(Path(folder), TagSchema.load("ultrasound").sop_classes)
    images = [Sample(path.name, row, None) for row, path in enumerate(_files(folder))]
    rows, y = np.arange(len(images)), np.zeros((len(images), 10), np.float32)
    order, size = StepOrder(rows, batch_size, seed=0), tuple(image_size)

    def passes(source) -> Callable[[], None]:
        batches = iter(training_dataset(source, y, order, seed=0))

        def once():
            for _ in range(order.steps_per_epoch):
                next(batches)

        return once

    def build(cache: Path):
        store = open_store(reader, images, size, cache)
        if store.refusals:
            raise RuntimeError(f"{len(store.refusals)} files are refused.")
        return store

    warm, anew = passes(build(Path(cache, "kept"))), Path(cache, "anew")

    def cold():
        shutil.rmtree(anew, ignore_errors=True)
        build(anew)

    direct = passes(DirectReader(reader, images, size))
    return {"cold": cold, "warm": warm, "direct": direct}


def monai(
    folder: str,
    image_size: tuple[int, int],
    batch_size: int,
    cache: str,
    dataset: str,
    workers: int,
) -> Tasks:
    """MONAI's way, which caches everything up to the z-score.

    Args:
        folder: Folder of the files.
        image_size: Height and width.
        batch_size: Images per batch.
        cache: Folder of the cache.
        dataset: `CacheDataset` (in memory) or `PersistentDataset` (on disk).
        workers: Workers of the DataLoader, and threads that fill the cache; 0 for none.
    """
    from monai import data, transforms

    transform = transforms.Compose(
        [
            transforms.LoadImage(reader="PydicomReader", image_only=True, swap_ij=False),
            transforms.EnsureChannelFirst(channel_dim="no_channel"),
            transforms.Resize(image_size, mode="bilinear", anti_aliasing=True),
            transforms.NormalizeIntensity(),
            transforms.ToTensor(track_meta=False),
        ]
    )
    paths = [str(path) for path in _files(folder)]

    def fill(where: str):
        if dataset == "CacheDataset":
            return data.CacheDataset(paths, transform, num_workers=max(1, workers), progress=False)
        return data.PersistentDataset(paths, transform, cache_dir=where)

    def load(found) -> data.DataLoader:
        return data.DataLoader(
            found,
            batch_size=batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def go_over(loader):
        for _ in loader:
            pass

    warm = load(fill(cache))

    def cold():
        with tempfile.TemporaryDirectory() as anew:
            found = fill(anew)
            if dataset == "PersistentDataset":
                go_over(load(found))

    return {"cold": cold, "warm": lambda: go_over(warm)}


def _files(folder: str) -> list[Path]:
    return sorted(Path(folder).iterdir())
