"""What images there are, whose they are, and what their tags say: of files, or of arrays.

Nothing is decoded here, and TensorFlow is not loaded, until frames are asked for.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.dicom.flags import flags_named
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.decoding import ImageReader, Sample
from tf_dicom_ce.intake.dicomweb import Query
from tf_dicom_ce.intake.index import Index, choose_frames, list_pictures, scan
from tf_dicom_ce.intake.sources import open_source
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.tags.tag_table import read_tag_table
from tf_dicom_ce.whole_files import private

if TYPE_CHECKING:
    from tf_dicom_ce.data.store import DirectReader, Store

#: Settings of `PretrainConfig` that say how files are read.
SETTINGS = ("tags", "image_size", "frames", "find_sector", "blank_outside", "exclude", "direct")

#: Name -> labels of every tag, or the labels of one.
Labels = Mapping[str, Sequence[str]] | Sequence[str]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Source:
    """All images that there are; a row number stands for the same image everywhere.

    Attributes:
        samples: The file and the frame of every image.
        y: Encoded tags, float32 [rows, L], 0 to 1; 0 over the span of an unknown tag.
        known: 1 over the span of a tag that is known, float32 [rows, L].
        patients: Number of each one's patient, by first appearance, int [rows].
        pseudonyms: Of these patients, by row.
        tags: Name -> labels of every tag, in the order of y.
        schema: Name and fingerprint of what encoded the tags.
        settings: Those of `PretrainConfig` that are settled with the images.
        open: Decodes the files, or finds them decoded.
        index: Of the files, and `reader`, how they become frames; None where there are no files.
        synthetic: Whether the images are the phantom's.
    """

    samples: Sequence[Sample]
    y: np.ndarray
    known: np.ndarray
    patients: np.ndarray
    pseudonyms: Sequence[str]
    tags: Mapping[str, tuple[str, ...]]
    schema: Mapping[str, str]
    settings: Mapping[str, Any]
    open: Callable[[], "Store | DirectReader"]
    index: Index | None = None
    reader: ImageReader | None = None
    synthetic: bool = False

    @property
    def spans(self) -> list[int]:
        """Number of labels of each tag."""
        return [len(labels) for labels in self.tags.values()]

    @functools.cached_property
    def frames(self) -> "Store | DirectReader":
        """Frames by row number; decodes the files where that has not been done."""
        with private():
            return self.open()


@private()
def of_files(
    place: str, labels: Path | None, query: Query, pictures: bool, config: PretrainConfig
) -> Source:
    """Images of files; see `UltrasoundDataset.from_dicom`.

    Args:
        place: Folder, archive or URL.
        labels: CSV of tag values.
        query: What to ask a DICOMweb service for.
        pictures: Whether PNG and JPEG files count that are not listed.
        config: `SETTINGS` are used.
    """
    schema, exclude = TagSchema.load(config.tags), flags_named(config.exclude)
    table = read_tag_table(labels, schema.elements) if labels else {}
    root = open_source(place, query)
    table = (list_pictures(root) if pictures else {}) | table
    index = scan(root, schema, table, exclude=exclude)
    samples = choose_frames(index.rows, config.frames)
    files = np.array([sample.row for sample in samples])
    reader = ImageReader(
        root, schema.sop_classes, config.find_sector, config.blank_outside, exclude
    )

    def open_frames():
        from tf_dicom_ce.data import store

        if config.direct:
            return store.open_direct(reader, samples, config.image_size)
        return store.open_store(reader, samples, config.image_size, store.default_cache())

    return Source(
        samples,
        np.array([row.y for row in index.rows], np.float32)[files],
        np.array([row.present for row in index.rows], np.float32)[files],
        np.array([row.patient for row in index.rows])[files],
        [index.rows[file].pseudonym for file in files],
        {tag.name: tag.labels for tag in schema.tags},
        {"name": schema.name, "fingerprint": schema.fingerprint},
        {name: getattr(config, name) for name in SETTINGS},
        open_frames,
        index,
        reader,
    )


def of_arrays(
    images: np.ndarray,
    tags: np.ndarray | None,
    known: np.ndarray | None,
    patients: Sequence | None,
    labels: Labels | None,
) -> Source:
    """Images in memory; see `UltrasoundDataset.from_arrays`."""
    images = np.asarray(images)
    images = images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images
    images = images if images.dtype == np.uint8 else images.astype(np.float32)
    count = len(images)
    y = np.zeros((count, 0)) if tags is None else np.asarray(tags)
    known = np.ones(y.shape) if known is None else np.asarray(known)
    names = np.arange(count) if patients is None else np.asarray(patients)
    for is_so, name, expected, found in (
        (images.ndim == 3 and count, "images", "[N, H, W] or [N, H, W, 1]", images),
        (np.isfinite(images).all(), "images", "finite numbers", images),
        (y.ndim == 2 and len(y) == count, "tags", f"[{count}, L]", y),
        (((y >= 0) & (y <= 1)).all(), "tags", "numbers 0 to 1", y),
        (known.shape == y.shape, "known", str(list(y.shape)), known),
        (names.shape == (count,), "patients", f"[{count}]", names),
    ):
        if not is_so:
            raise UserError(f"{name}: expected {expected}, not {found.dtype} {list(found.shape)}.")
    spans = _named(labels, y.shape[1])
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names.tolist()))}
    numbered = np.array([numbers[name] for name in names.tolist()])
    config = PretrainConfig(tags="arrays", image_size=images.shape[1:])

    def open_frames():
        from tf_dicom_ce.data.store import held

        return held(images)

    return Source(
        [Sample(str(row), row, None) for row in range(count)],
        (y * known).astype(np.float32),
        known.astype(np.float32),
        numbered,
        [str(number) for number in numbered],
        spans,
        {"name": config.tags, "fingerprint": hashlib.sha256(repr(spans).encode()).hexdigest()},
        {"tags": config.tags, "image_size": config.image_size},
        open_frames,
    )


def _named(labels: Labels | None, columns: int) -> dict[str, tuple[str, ...]]:
    labels = map(str, range(columns)) if labels is None else labels
    spans = labels if isinstance(labels, Mapping) else {"tags": labels}
    spans = {name: tuple(own) for name, own in spans.items()}
    named = sum(map(len, spans.values()))
    if named != columns:
        raise UserError(f"labels: {named} names, and tags have {columns} columns.")
    return spans if columns else {}
