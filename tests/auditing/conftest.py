"""An archive whose pictures tell the group by where they are bright."""

import keras
import numpy as np
import pytest

from tf_dicom_ce.data.ultrasound import UltrasoundDataset

#: Description -> the side that is bright.
DESCRIPTIONS = {"US LIVER": 0, "US KIDNEY": 1, "US THYROID": 2}


class Sides(keras.Layer):
    """Scales of two channels: the image times a ramp down, and times a ramp to the right."""

    def call(self, x, training=False):
        height, width = x.shape[1:3]
        down = keras.ops.reshape(keras.ops.linspace(-1.0, 1.0, height), (1, height, 1, 1))
        right = keras.ops.reshape(keras.ops.linspace(-1.0, 1.0, width), (1, 1, width, 1))
        both = keras.ops.concatenate([x * down, x * right], axis=-1)
        return {f"P{k}": keras.ops.average_pool(both, 2**k, 2**k) for k in range(1, 6)}


def picture(side, rng):
    pixels = rng.integers(20, 60, (32, 64)).astype(np.uint8)
    if side == 0:
        pixels[:12] += 150
    elif side == 1:
        pixels[20:] += 150
    else:
        pixels[:, 40:] += 150
    return pixels


@pytest.fixture
def archive(tmp_path, write):
    """12 patients a group with a study of three files; a slip, a wrong study, two without a value.

    The station of the thyroids is theirs alone; one patient has a heart.
    """
    rng = np.random.default_rng(0)
    wrong = {"02/1": "US THYROID"}  # of a liver
    wrong |= dict.fromkeys(("13/0", "13/1", "13/2"), "US LIVER")  # of a kidney
    wrong |= {"05/0": "", "26/2": "ODD ONE"}  # of a liver and a thyroid
    for patient in range(36):
        description, side = list(DESCRIPTIONS.items())[patient // 12]
        for file in range(3):
            name = f"{patient:02d}/{file}"
            write(
                f"data/{name}",
                picture(side, rng),
                PatientID=f"PLANTED-{patient}",
                PatientName="Planted^Name",
                StudyInstanceUID=f"1.2.3.{patient}",
                Manufacturer="Maker",
                StationName="PLANTED ROOM 2" if side == 2 else f"PLANTED ROOM {patient % 2}",
                StudyDescription=wrong.get(name, description),
                TransducerData="C5-1" if side < 2 else "L12-5",
            )
    write("data/heart", picture(0, rng), PatientID="H", StudyDescription="ECHOCARDIOGRAM")
    return tmp_path / "data"


@pytest.fixture
def dataset(archive):
    return UltrasoundDataset.from_dicom(archive, image_size=(32, 64))


@pytest.fixture
def encoder():
    return Sides()
