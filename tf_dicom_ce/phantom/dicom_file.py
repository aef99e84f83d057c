"""Writes frames as a valid ultrasound DICOM file, with the same bytes for the same input."""

import dataclasses
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
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
    """The content of one file; the UIDs are made of vendor, seed, patient and instance."""

    frames: np.ndarray  # uint8 [frames, rows, columns]
    region: tuple[int, int, int, int]  # left, top, right, bottom; the last two exclusive
    spacing: float  # size of a pixel, mm
    seed: int  # of the cohort
    vendor: str  # (0008,0070) Manufacturer
    patient: str  # (0010,0020) Patient ID
    instance: int  # number of the image in its study, from 1
    tags: RawTags
    syntax: UID  # transfer syntax
    rgb: bool  # whether the gray levels are stored as RGB


def write(picture: Picture, path: Path) -> None:
    """Writes Ultrasound Image Storage, or Ultrasound Multi-frame for several frames."""
    cine = len(picture.frames) > 1
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
    dataset.Modality = "US"
    dataset.Manufacturer, dataset.ManufacturerModelName = picture.vendor, "SYNTHETIC"
    if picture.tags.study is not None:
        dataset.StudyDescription = picture.tags.study
    dataset.PatientName, dataset.PatientID = "SYNTHETIC^PHANTOM", picture.patient
    if picture.tags.probe is not None:
        dataset.TransducerData = list(picture.tags.probe)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids[:2]
    dataset.StudyID, dataset.SeriesNumber = "1", 1
    dataset.InstanceNumber = picture.instance
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.PatientBirthDate = ""
    dataset.PatientSex = dataset.Laterality = dataset.PatientOrientation = ""
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"
    dataset.SequenceOfUltrasoundRegions = [_region(picture)]
    if cine:
        dataset.FrameTime, dataset.FrameIncrementPointer = 40.0, 0x00181063
    pixels, photometric = picture.frames if cine else picture.frames[0], "MONOCHROME2"
    if picture.rgb:
        pixels, photometric = pixels[..., np.newaxis].repeat(3, axis=-1), "RGB"
    dataset.set_pixel_data(pixels, photometric, 8, generate_instance_uid=False)
    if picture.syntax != ExplicitVRLittleEndian:
        plugin = {JPEGLSLossless: "pyjpegls", RLELossless: "pydicom"}[picture.syntax]
        dataset.compress(picture.syntax, encoding_plugin=plugin, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


def _region(picture: Picture) -> Dataset:
    left, top, right, bottom = picture.region
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = left, top
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = right - 1, bottom - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3  # cm
    region.PhysicalDeltaX = region.PhysicalDeltaY = round(picture.spacing / 10, 8)
    return region
