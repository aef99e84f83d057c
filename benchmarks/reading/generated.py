"""Generated images: stores of frames as `data.store` keeps them, and ultrasound DICOM files."""

from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from tf_dicom_ce.phantom import dicom_file
from tf_dicom_ce.phantom.studies import RawTags

# About the shares of the phantom, which the rest of the docs use.
_SYNTAXES = (JPEGLSLossless, JPEGLSLossless, JPEGLSLossless, RLELossless, ExplicitVRLittleEndian)
_AT_ONCE = 1000  # frames


def write_store(folder: Path, frames: int, image_size: tuple[int, int]) -> None:
    """Writes the pixels of a store, with noise.

    Args:
        folder: Folder of the store.
        frames: Number of frames.
        image_size: Height and width in pixels.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shape = (frames, *image_size)
    images = np.memmap(folder / "images.bin", np.uint8, "w+", shape=shape)
    for k in range(0, frames, _AT_ONCE):
        part = images[k : k + _AT_ONCE]
        part[:] = rng.integers(0, 256, part.shape, np.uint8)
    images.flush()


def speckle(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A picture with the speckle of ultrasound, uint8 [height, width]."""
    coarse = rng.uniform(20, 200, (height // 8, width // 8)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height)), np.float32)
    return np.clip(smooth * rng.rayleigh(0.6, (height, width)), 0, 255).astype(np.uint8)


def write_dicom(folder: Path, files: int, image_size: tuple[int, int]) -> None:
    """Writes gray single-frame ultrasound files; their region is the whole picture.

    Args:
        folder: Folder to make.
        files: Number of files.
        image_size: Rows and columns.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(files):
        picture = dicom_file.Picture(
            frames=speckle(*image_size, rng)[np.newaxis],
            region=(0, 0, image_size[1], image_size[0]),
            spacing=0.2,
            seed=0,
            vendor="SYNTHETIC",
            patient=f"P{k // 8}",
            instance=k + 1,
            tags=RawTags("US LIVER", ("C5-1",), "", ""),
            syntax=_SYNTAXES[k % len(_SYNTAXES)],
            rgb=False,
        )
        dicom_file.write(picture, folder / f"{k:05d}.dcm")
