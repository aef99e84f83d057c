"""`import tf_dicom_ce` is cheap, and has what it promises."""

import subprocess
import sys

import pytest

import tf_dicom_ce

IMPORT = """
import sys
import tf_dicom_ce
assert {"pretrain", "UltrasoundDataset", "__version__"} <= set(dir(tf_dicom_ce))
loaded = {name for name in sys.modules if name.startswith("tf_dicom_ce.")}
heavy = {"tensorflow", "keras", "pydicom", "numpy"} & set(sys.modules)
sys.exit(f"{loaded | heavy}" if loaded | heavy else 0)
"""


def test_importing_it_loads_nothing():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", tf_dicom_ce.__all__)
def test_every_public_name_is_there(name):
    found = getattr(tf_dicom_ce, name)
    assert found.__name__ == name
    assert found.__doc__


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        tf_dicom_ce.pretrian  # noqa: B018
