"""Frames to a valid ultrasound DICOM file, the same bytes for the same input."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from tf_dicom_ce.phantom.studies import RawTags

#: Transfer syntax and whether the pixels are RGB -> share of the files.
ENCODINGS = {
    (JPEGLSLossless, False): 0.6,
    (RLELossless, False): 0.15,
    (ExplicitVRLittleEndian, False): 0.15,
    (ExplicitVRLittleEndian, True): 0.1,
}
_IMPLEMENTATION = UID("1.2.826.0.1.3680043.8.498.1")


@dataclasses.dataclass(frozen=True)
class Picture:
    """One file's content.

    Attributes:
        frames: uint8 [frames, rows, columns].
        region: Left, top, right, bottom of the ultrasound region, the last two exclusive.
        spacing: Size of a pixel, mm.
        seed: Of the cohort; with vendor, patient and instance it makes the UIDs.
        vendor: (0008,0070) Manufacturer.
        patient: (0010,0020) Patient ID.
        instance: Number of the image in its study, from 1.
        tags: Study description and transducer as they shall stand.
        syntax: Transfer syntax.
        rgb: Whether the gray levels are stored as RGB.
    """

    frames: np.ndarray
    region: tuple[int, int, int, int]
    spacing: float
    seed: int
    vendor: str
    patient: str
    instance: int
    tags: RawTags
    syntax: UID
    rgb: bool


def write(picture: Picture, path: Path) -> None:
    """Writes a picture as Ultrasound Image Storage, or Multi-frame where it has several frames.

    Args:
        picture: What to write.
        path: The file.
    """
    buffer = io.BytesIO()
    dcmwrite(buffer, to_dataset(picture), enforce_file_format=True)
    path.write_bytes(buffer.getvalue())


def to_dataset(picture: Picture) -> Dataset:
    """The picture as a data set, its pixels encoded."""
    frames = picture.frames
    cine = len(frames) > 1
    sop_class = UltrasoundMultiFrameImageStorage if cine else UltrasoundImageStorage
    uids = [
        generate_uid(entropy_srcs=[picture.vendor, f"{picture.seed}", picture.patient, level])
        for level in ("study", "series", f"instance {picture.instance}")
    ]
    dataset = Dataset()
    dataset.file_meta = meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, uids[2]
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uids[2]
    dataset.StudyDate = dataset.ContentDate = "20000101"
    dataset.StudyTime = dataset.ContentTime = "000000"
    dataset.AccessionNumber = ""
    dataset.Modality = "US"
    dataset.Manufacturer = picture.vendor
    dataset.ManufacturerModelName = "SYNTHETIC"
    dataset.ReferringPhysicianName = ""
    if picture.tags.study is not None:
        dataset.StudyDescription = picture.tags.study
    dataset.PatientName = "SYNTHETIC^PHANTOM"
    dataset.PatientID = picture.patient
    dataset.PatientBirthDate = dataset.PatientSex = ""
    if picture.tags.probe is not None:
        dataset.TransducerData = list(picture.tags.probe)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids[:2]
    dataset.StudyID, dataset.SeriesNumber, dataset.Laterality = "1", 1, ""
    dataset.InstanceNumber = picture.instance
    dataset.PatientOrientation = ""
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.SequenceOfUltrasoundRegions = [_region(picture)]
    if cine:
        dataset.NumberOfFrames = len(frames)
        dataset.FrameTime = 40.0
        dataset.FrameIncrementPointer = 0x00181063
    _set_pixels(dataset, picture)
    if picture.syntax != ExplicitVRLittleEndian:
        plugin = {JPEGLSLossless: "pyjpegls", RLELossless: "pydicom"}[picture.syntax]
        dataset.compress(picture.syntax, encoding_plugin=plugin, generate_instance_uid=False)
    return dataset


def _region(picture: Picture) -> Dataset:
    left, top, right, bottom = picture.region
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = left, top
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = right - 1, bottom - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3  # cm
    region.PhysicalDeltaX = region.PhysicalDeltaY = round(picture.spacing / 10, 8)
    return region


def _set_pixels(dataset: Dataset, picture: Picture) -> None:
    frames = picture.frames
    _, dataset.Rows, dataset.Columns = frames.shape
    dataset.SamplesPerPixel = 3 if picture.rgb else 1
    dataset.PhotometricInterpretation = "RGB" if picture.rgb else "MONOCHROME2"
    if picture.rgb:
        dataset.PlanarConfiguration = 0
        frames = frames[..., np.newaxis].repeat(3, axis=-1)
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = frames.tobytes()
    dataset["PixelData"].VR = "OB"
