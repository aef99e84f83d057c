"""One real picture in every transfer syntax that the reader supports."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

from tf_dicom_ce.dicom import decoders, reader

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def encoders():
    sys.path.insert(0, str(ROOT))
    yield importlib.import_module("benchmarks.dicom_encoders")
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def samples(encoders):
    return list(encoders.samples())


def pixels(encoders, sample, folder):
    frame = reader.read_frame(encoders.save(sample, folder / "a"))
    assert isinstance(frame, reader.Frame), (sample.name, frame)
    return frame.pixels


def test_every_syntax_is_written(samples):
    written = {sample.dataset.file_meta.TransferSyntaxUID for sample in samples}
    # No encoder of HTJ2K can be installed; its decoder is that of JPEG 2000.
    unwritten = {uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL}
    assert written == decoders.SUPPORTED - unwritten - decoders.VIDEO


def test_lossless_changes_nothing(encoders, samples, tmp_path):
    lossless = [sample for sample in samples if sample.lossless]
    assert len(lossless) > 30
    for sample in lossless:
        found = pixels(encoders, sample, tmp_path)
        np.testing.assert_array_equal(found, sample.original, err_msg=sample.name)


def test_lossy_stays_within_what_the_codec_promises(encoders, samples, tmp_path):
    lossy = [sample for sample in samples if not sample.lossless]
    assert len(lossy) > 10
    for sample in lossy:
        error = pixels(encoders, sample, tmp_path).astype(float) - sample.original
        if "near" in sample.name:
            # The weights of luma add up to 1; rounding adds at most 1 to an error in colour.
            assert np.abs(error).max() <= encoders.NEAR + ("colour" in sample.name), sample.name
        elif "2000" in sample.name:
            # The rate control aims at the noise that was asked for; clipping and rounding to
            # integers adds a variance of 1/12 per sample.
            rmse = 255 / 10 ** (encoders.DECIBEL / 20)
            assert np.sqrt(np.mean(error**2)) <= rmse + 0.3, sample.name
        else:
            # At quality 95 half a step of quantisation is 1 to 6, evenly spread 0.3 to 3 on
            # average; most coefficients of speckle lie among the finer steps.
            assert np.abs(error).mean() <= 2, sample.name
