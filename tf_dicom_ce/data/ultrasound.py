"""The data set of notebooks and commands: images with tags, split by patient, in batches.

Creating a data set reads everything but the pixels, so mistakes in the input show at once, without
TensorFlow. Files are decoded at the first use of pixels.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tf_dicom_ce.config import PRESETS, PretrainConfig
from tf_dicom_ce.data.store_files import default_cache
from tf_dicom_ce.dicom.flags import Flag, flags_named
from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.decoding import ImageReader, Sample
from tf_dicom_ce.intake.index import Index, choose_frames, list_pictures, scan
from tf_dicom_ce.intake.query import Query
from tf_dicom_ce.intake.sources import open_source
from tf_dicom_ce.tags.schema import TagSchema
from tf_dicom_ce.tags.tag_table import read_tag_tables
from tf_dicom_ce.whole_files import private

if TYPE_CHECKING:
    import tensorflow as tf

    from tf_dicom_ce.data.store import Frames

#: Settings of `PretrainConfig` for reading files.
SETTINGS = ("tags", "image_size", "frames", "find_sector", "blank_outside", "exclude", "direct")

#: Name -> labels of every tag, or the labels of a single tag.
Labels = Mapping[str, Sequence[str]] | Sequence[str]
#: None, one or several CSVs of tag values.
Tables = str | Path | Sequence[str | Path] | None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Source:
    """All images; a row number means the same image everywhere."""

    samples: Sequence[Sample]  # the file and the frame of every image
    y: np.ndarray  # encoded tags, float32 [rows, L], 0 to 1; 0 over the span of an unknown tag
    known: np.ndarray  # 1 over the span of a known tag, float32 [rows, L]
    patients: np.ndarray  # number of each image's patient, by first appearance, int [rows]
    pseudonyms: Sequence[str]  # pseudonym of each image's patient
    tags: Mapping[str, tuple[str, ...]]  # name -> labels of every tag, in the order of y
    schema: Mapping[str, str]  # name and fingerprint of the tag schema
    settings: Mapping[str, Any]  # settings of `PretrainConfig` that the images decide
    open: Callable[[], "Frames"]  # decodes the files, or finds them decoded
    index: Index | None = None  # the index of the files; None without files
    reader: ImageReader | None = None  # how files become frames
    synthetic: bool = False  # whether the images are the phantom's

    @property
    def spans(self) -> list[int]:
        """Number of labels of each tag."""
        return [len(labels) for labels in self.tags.values()]

    @functools.cached_property
    def frames(self) -> "Frames":
        """Frames by row number; decodes files that are not decoded yet."""
        with private():
            return self.open()

    def decoded_index(self) -> tuple[Index, dict[int, Refusal]]:
        """The index with the flags of decoding; and decoding's refusals, by row of the index."""
        of_file = [sample.row for sample in self.samples]
        undecodable = {of_file[k]: refusal for k, refusal in self.frames.refusals.items()}
        told: dict[int, list[Flag]] = {}
        for k, flags in self.frames.flags.items():
            told.setdefault(of_file[k], []).extend(flags)
        return self.index.with_decoded(told), undecodable


class UltrasoundDataset:
    """Images with their tags, the mask of known tags, and their patients.

        data = UltrasoundDataset.from_dicom("export.zip", image_size=(128, 192))
        train, validation = data.split(by="patient")
        gan.fit(train.batches(8, shuffle=True), validation_data=validation.batches(8))

    Args:
        source: The images, and how they are read.
        rows: Row numbers of the images in this data set, int [N]; all by default.
    """

    def __init__(self, source: Source, rows: np.ndarray | None = None):
        self.source = source
        self.rows = np.arange(len(source.samples)) if rows is None else rows

    @classmethod
    def from_dicom(
        cls,
        source: str | Path,
        tags: str | Path = "ultrasound",
        image_size: tuple[int, int] = (256, 384),
        labels: Tables = None,
        frames: str = "middle",
        find_sector: bool = False,
        blank_outside: bool = False,
        exclude: Sequence[str] = (),
        direct: bool = False,
        query: Query | None = None,
        include: Sequence[str] = (),
        pictures: bool = False,
        sop_classes: Iterable[str] | None = None,
    ) -> Self:
        """Creates a data set of DICOM files, and of PNG and JPEG files listed in `labels`.

        Args:
            source: Folder, zip or tar, or the URL of a PACS: of a DICOMweb service, or
                `dicom://AET@HOST:PORT`.
            tags: Tag schema: `ultrasound`, `ultrasound-paper`, or a TOML file.
            image_size: Height and width that images are resized to, multiples of 32.
            labels: CSV of tag values that override the headers' (`tag_table.read_tag_table`), or
                several: later ones override earlier ones.
            frames: Frames of a cine: `middle`, `all`, or `every:N`.
            find_sector: Find and crop the ultrasound if the header names no region.
            blank_outside: Blacken all pixels outside of the ultrasound.
            exclude: Leave out images with these flags (docs/intake.md).
            direct: Decode at every access instead of once into the store.
            query: Query for a PACS.
            include: Read these files, too: `secondary-capture`, if (0008,0060) Modality is US.
            pictures: Include PNG and JPEG files that `labels` does not list.
            sop_classes: UIDs of the SOP classes that are read; None: the schema's.

        Raises:
            UserError: A mistake in the arguments, or no readable image.
        """
        config = PretrainConfig(
            tags=str(tags),
            image_size=image_size,
            frames=frames,
            find_sector=find_sector,
            blank_outside=blank_outside,
            exclude=tuple(exclude),
            direct=direct,
        )
        with private():
            schema = TagSchema.load(config.tags)
            if sop_classes is not None:
                schema = schema.of_classes(sop_classes)
            schema = schema.including(include)
            return cls(_of_files(str(source), labels, query or Query(), pictures, config, schema))

    @classmethod
    def from_images(cls, source: str | Path, labels: Tables = None, **options: Any) -> Self:
        """Like `from_dicom`, but includes all PNG and JPEG files, listed in `labels` or not."""
        return cls.from_dicom(source, labels=labels, pictures=True, **options)

    @classmethod
    def from_phantom(cls, preset: str = "quick", **options: Any) -> Self:
        """Creates a data set of a preset's synthetic cohort, which is rendered at the first call.

        Args:
            preset: `quick` or `distilled` (600 images), or `full` or `paper` (12,267).
            **options: Options of `from_dicom`; the default image size is the preset's.
        """
        from tf_dicom_ce.phantom.cohort import default_cohort  # SciPy is slow to import

        options = {"image_size": PRESETS[preset].image_size} | options
        data = cls.from_dicom(default_cohort(preset) / "pretraining", **options)
        return cls(dataclasses.replace(data.source, synthetic=True))

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        tags: np.ndarray | None = None,
        known: np.ndarray | None = None,
        patients: Sequence | None = None,
        labels: Labels | None = None,
    ) -> Self:
        """Creates a data set of images in memory.

        Args:
            images: Gray levels 0…255, uint8 or float, [N, H, W] or [N, H, W, 1], H and W
                multiples of 32.
            tags: Multi-hot, numbers 0 to 1, [N, L]; None for no tags.
            known: 1 over the span of a known tag, [N, L]; None if all are known.
            patients: Patient of each image, N numbers or texts; None: one patient per image.
            labels: Name -> labels of every tag, in the order of the columns of `tags`; or the
                labels of a single tag; None numbers them.

        Raises:
            UserError: Shapes or values are not as described.
        """
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
                shape = list(found.shape)
                raise UserError(f"{name}: expected {expected}, not {found.dtype} {shape}.")
        spans = _named(labels, y.shape[1])
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names.tolist()))}
        numbered = np.array([numbers[name] for name in names.tolist()])
        config = PretrainConfig(tags="arrays", image_size=images.shape[1:])

        def open_frames():
            from tf_dicom_ce.data.store import held

            return held(images)

        source = Source(
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
        return cls(source)

    @classmethod
    def from_dataset(
        cls,
        dataset: "tf.data.Dataset",
        patients: Sequence | None = None,
        labels: Labels | None = None,
    ) -> Self:
        """Creates a data set of a finite tf.data, which is read into memory.

        Args:
            dataset: Elements are an image, (image, tags) or (image, {"tags": …, "known": …}), as in
                `from_arrays`: [H, W, 1] and [L], or batches of these.
            patients: See `from_arrays`.
            labels: See `from_arrays`.

        Raises:
            UserError: The dataset is infinite or empty, or images differ in size; see also
                `from_arrays`.
        """
        if int(dataset.cardinality()) == -1:
            raise UserError("The tf.data is infinite: leave out repeat().")
        found: dict[str, list] = {"images": [], "tags": [], "known": []}
        for element in dataset.as_numpy_iterator():
            image, tags = element if isinstance(element, tuple) else (element, None)
            parts = {"images": image, **(tags if isinstance(tags, dict) else {"tags": tags})}
            for name, part in parts.items():
                if part is not None:
                    found[name].append(part if image.ndim == 4 else part[np.newaxis])
        if len({images.shape[1:] for images in found["images"]}) != 1:
            raise UserError("The tf.data must contain images, all of the same size.")
        arrays = {name: np.concatenate(parts) for name, parts in found.items() if parts}
        return cls.from_arrays(**arrays, patients=patients, labels=labels)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        size = "×".join(map(str, self.source.settings["image_size"]))
        what = f"{len(self)} images of {len(np.unique(self.patients))} patients, {size}"
        known = (f"{tag} known of {share:.0%}" for tag, share in self.tags_known.items())
        return f"<UltrasoundDataset: {', '.join([what, *known])}>"

    @property
    def tags(self) -> dict[str, tuple[str, ...]]:
        """Name -> labels of every tag, in the order of `y`."""
        return dict(self.source.tags)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of `y`."""
        return tuple(label for labels in self.source.tags.values() for label in labels)

    @property
    def y(self) -> np.ndarray:
        """Encoded tags, float32 [N, L], 0 to 1; 0 over the span of an unknown tag."""
        return self.source.y[self.rows]

    @property
    def known(self) -> np.ndarray:
        """1 over the span of a known tag, float32 [N, L]."""
        return self.source.known[self.rows]

    @property
    def patients(self) -> np.ndarray:
        """Number of each image's patient, int [N]."""
        return self.source.patients[self.rows]

    @property
    def tags_known(self) -> dict[str, float]:
        """Share of images, 0 to 1, with each tag known."""
        known, starts = self.known, np.cumsum([0, *self.source.spans])
        return {
            tag: float(np.mean(known[:, start]))
            for tag, start in zip(self.source.tags, starts, strict=False)
        }

    def split(
        self, by: str = "patient", validation_fraction: float = 0.2, seed: int = 0
    ) -> tuple[Self, Self]:
        """Splits the images at random, see `splits.split_rows`; decodes the files before.

        Args:
            by: `patient` keeps all images of a patient on one side; `image` (section 4.3) only the
                frames of a file.
            validation_fraction: Share of the images for validation, above 0 and below 1.
            seed: Same seed, same split.

        Returns:
            Training and validation side. Images that cannot be decoded are on neither.

        Raises:
            UserError: An unknown `by`, a share out of range, or fewer than two patients or images.
        """
        from tf_dicom_ce.data.splits import split_rows

        PretrainConfig(split=by, validation_fraction=validation_fraction)  # checks them
        rows, source = self.decodable(), self.source
        files = np.array([sample.row for sample in source.samples])
        groups = (source.patients if by == "patient" else files)[rows]
        split = split_rows(rows, groups, validation_fraction, seed)
        return type(self)(source, split.train), type(self)(source, split.validation)

    def batches(
        self, batch_size: int, shuffle: bool = False, seed: int = 0, augment: bool = False
    ) -> "tf.data.Dataset":
        """Batches for Keras' `fit`, `evaluate` and `predict`; decodes the files before.

        Args:
            batch_size: Images per batch; the last batch may have fewer.
            shuffle: Use another order at every pass, instead of the order of rows.
            seed: Seed of order and augmentation.
            augment: Mirror, shift and regrade every image, differently at every pass.

        Returns:
            Finite dataset of (image, {"tags": y, "known": mask}): float32 [n, H, W, 1], z-scored,
            and float32 [n, L] each. Images that cannot be decoded are left out.
        """
        from tf_dicom_ce.data.datasets import evaluation_dataset

        rows, source = self.decodable(), self.source
        targets = {"tags": source.y, "known": source.known}
        return evaluation_dataset(source.frames, targets, rows, batch_size, shuffle, seed, augment)

    def decodable(self) -> np.ndarray:
        """Row numbers of the images that can be decoded; decodes the files before."""
        return self.rows[~np.isin(self.rows, list(self.source.frames.refusals))]


def _of_files(
    place: str,
    labels: Tables,
    query: Query,
    pictures: bool,
    config: PretrainConfig,
    schema: TagSchema,
) -> Source:
    exclude = flags_named(config.exclude)
    tables = [labels] if isinstance(labels, str | Path) else labels or ()
    table = read_tag_tables([Path(one) for one in tables], schema)
    root = open_source(place, query)
    table = (list_pictures(root) if pictures else {}) | table
    index = scan(root, schema, table, exclude=exclude)
    samples = choose_frames(index.rows, config.frames)
    files = np.array([sample.row for sample in samples])
    reader = ImageReader(
        root, schema.sop_classes, config.find_sector, config.blank_outside, exclude
    )

    def open_frames():
        from tf_dicom_ce.data.store import DirectReader, open_store

        if config.direct:
            return DirectReader(reader, samples, config.image_size)
        return open_store(reader, samples, config.image_size, default_cache())

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


def _named(labels: Labels | None, columns: int) -> dict[str, tuple[str, ...]]:
    labels = map(str, range(columns)) if labels is None else labels
    spans = labels if isinstance(labels, Mapping) else {"tags": labels}
    spans = {name: tuple(own) for name, own in spans.items()}
    named = sum(map(len, spans.values()))
    if named != columns:
        raise UserError(f"labels: {named} names, but tags have {columns} columns.")
    return spans if columns else {}
