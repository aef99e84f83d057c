"""The notebooks' code as it stands, but for sizes; and their outputs are of one run."""

import json
import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tf_dicom_ce.phantom import cohort

pytestmark = [
    pytest.mark.slow,
    # Keras and TensorFlow say so of every tf.data.
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
    pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly"),
]

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
SMALLER = {
    r"arange\(40\)": "arange(12)",
    "1 / 8": "1 / 32",
    r"epochs=\d+": "epochs=1",
    r'"label_counts": \[10\], "draws": 10': '"label_counts": [3], "draws": 2',
    "label_count=20": "label_count=4",
}
COHORT = {
    "pretraining": {"": (16, 8)},
    "classification": {"train": (1, 1)},
    "segmentation": {"train": (4, 4), "validation": (1, 1), "test": (3, 3)},
}


def outputs(cells):
    return [output for cell in cells for output in cell["outputs"]]


def code_cells(name):
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture
def execute(tmp_path, monkeypatch, eagerly):
    """Executes a notebook in an empty folder; the number of its pictures is that of its outputs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cohort.PRESETS, "quick", COHORT)
    drawn = []

    def show():
        plt.gcf().canvas.draw()
        plt.close()
        drawn.append(True)

    monkeypatch.setattr(plt, "show", show)

    def run(name):
        names, cells = {}, code_cells(name)
        for number, cell in enumerate(cells, 1):
            text = "".join(cell["source"])
            for large, small in SMALLER.items():
                text = re.sub(large, small, text)
            exec(compile(text, f"{name}, cell {number}", "exec"), names)
        assert len(drawn) == sum("image/png" in o.get("data", {}) for o in outputs(cells))
        return names

    return run


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_outputs_are_of_one_run(path):
    """From top to bottom, without an error, and with nothing of the machine."""
    cells = code_cells(path.stem)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    shown = outputs(cells)
    assert {output["output_type"] for output in shown} <= {"stream", "display_data"}
    assert not re.search(r"/(home|root|tmp|usr|work)\b", json.dumps(shown))
    assert path.stat().st_size < 400_000


def test_own_arrays(execute):
    names = execute("arrays")
    assert names["images"].shape == names["masks"].shape == (48, 64, 96)
    assert set(names["train"].patients).isdisjoint(names["validation"].patients)
    assert names["answer"]["mask"].shape == (1, 64, 96)


def test_what_the_encoder_learned(execute):
    names = execute("encoder")
    assert names["points"].shape == (len(names["validation"]), 2)
    assert [m["draws"] for m in names["means"]] == [2, 2]
    assert names["learned"].means != names["random"].means
    assert Path("export/encoder/1").is_dir()


@pytest.mark.pacs
def test_from_a_pacs_to_a_seg(execute, start_orthanc, exported, tmp_path, monkeypatch):
    (tmp_path / "nothing").mkdir()
    orthanc = start_orthanc(tmp_path / "nothing")
    shutil.copytree(exported[1], tmp_path / "export" / "encoder" / "1")
    monkeypatch.setenv("TF_DICOM_CE_PACS_USER", "joe")
    monkeypatch.setenv("TF_DICOM_CE_PACS_PASSWORD", "hunter2")
    with orthanc.entered():
        names = execute("pacs")
    assert len(names["segs"]) == 3
    sources = {
        str(image.StudyInstanceUID) for image in map(names["dcmread"], Path("sent").glob("*.dcm"))
    }
    assert {str(seg.StudyInstanceUID) for seg in names["segs"]} == sources
