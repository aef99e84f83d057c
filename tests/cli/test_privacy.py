"""Identifiers planted wherever a header or a path can hold them stay where they are."""

import io
import shutil
import zipfile

import numpy as np
import pytest
from platformdirs import user_cache_path
from pydicom import dcmread

from tf_dicom_ce.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("eagerly"),
    pytest.mark.filterwarnings("ignore:Even though the .*run_functions_eagerly"),  # of tf.data
]


NAMES = {
    "PatientName": "Planted00^Ada",
    "OtherPatientNames": "Planted01^Bea",
    "PatientBirthName": "Planted02^Cleo",
    "PatientMotherBirthName": "Planted03^Dora",
    "ReferringPhysicianName": "Planted04^Emil",
    "PerformingPhysicianName": "Planted05^Fritz",
    "OperatorsName": "Planted06^Gina",
    "NameOfPhysiciansReadingStudy": "Planted07^Hans",
    "PatientID": "Planted08-4711",
    "OtherPatientIDs": "Planted09-4712",
    "AccessionNumber": "Planted10-ACC",
    "StudyID": "Planted11-STU",
    "AdmissionID": "Planted12-ADM",
    "MedicalRecordLocator": "Planted13-MRN",
    "PatientBirthDate": "19530417",
    "StudyDate": "20190823",
    "SeriesDate": "20190824",
    "ContentDate": "20190825",
    "AcquisitionDateTime": "20190826111213",
    "StudyTime": "141516.171819",
    "SOPInstanceUID": "1.2.826.99.4711.1",
    "StudyInstanceUID": "1.2.826.99.4711.2",
    "SeriesInstanceUID": "1.2.826.99.4711.3",
    "FrameOfReferenceUID": "1.2.826.99.4711.4",
    "InstitutionName": "Planted24 Hospital",
    "InstitutionAddress": "Planted25 Street",
    "InstitutionalDepartmentName": "Planted26 Ward",
    "StationName": "Planted27US",
    "DeviceSerialNumber": "Planted28-SN",
    "PatientAddress": "Planted29 Lane",
    "PatientTelephoneNumbers": "Planted30-555",
    "PatientComments": "Planted31 comment",
    "ImageComments": "Planted32 comment",
    "StudyDescription": "US THYROID Planted33",
    "SeriesDescription": "Planted34 series",
    "ProtocolName": "Planted35 protocol",
    "TransducerData": ["C5-1", "Planted36"],
    "TransducerType": "PLANTED37",
}
FOLDER, FILE, LIST_PATIENT = "Planted38_folder", "Planted39.dcm", "Planted40-patient"
PLANTED = [
    word if isinstance(word, str) else word[-1]
    for word in (*NAMES.values(), FOLDER, FILE, LIST_PATIENT)
]
#: What may quote paths; of a head's test set also patients, as the labels name them.
LOCAL_REPORT = {"coverage.html", "coverage.md", "coverage.json", "files.csv"}
LOCAL_TEST = {"split.csv", "test.csv", "test.html"}
#: What is kept of headers between runs, for this user alone.
KEPT = {
    NAMES["StudyDescription"],
    NAMES["TransducerData"][-1],
    NAMES["TransducerType"],
    FOLDER,
    FILE,
}


@pytest.fixture
def source(write, tmp_path):
    """A zip of 12 files: some damaged where pydicom quotes values, some patients from a CSV."""
    rng = np.random.default_rng(0)
    lines = ["path,patient"]
    for k in range(12):
        pixels = (60 + rng.integers(0, 40, (40, 60))).astype(np.uint8)
        own = {"PatientID": f"{NAMES['PatientID']}{k % 4}"}
        path = write(f"{FOLDER}/{k:02d}{FILE}", pixels, **{**NAMES, **own})
        with dcmread(path) as dataset:
            dataset.private_block(0x0019, "Planted42", create=True).add_new(1, "LO", "Planted43")
            dataset.save_as(path)
        content = path.read_bytes()
        # Values that are none of their kind: pydicom's warnings and errors quote them.
        if k % 3 == 1:
            path.write_bytes(content.replace(b"19530417", b"Planted0").replace(b"DA", b"IS", 1))
        if k % 6 == 5:
            path.write_bytes(content[:-700])
        lines.append(f"{FOLDER}/{k:02d}{FILE},{LIST_PATIENT}{k % 5}")
    (tmp_path / "patients.csv").write_text("\n".join(lines) + "\n")
    return shutil.make_archive(str(tmp_path / "Planted41_archive"), "zip", tmp_path, FOLDER)


def contents(path):
    """The bytes of a file, and of what a zip (.keras) holds."""
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as file:
            yield from (file.read(name) for name in file.namelist())


def test_planted_identifiers_appear_nowhere(source, tmp_path, capfd):
    words = "--preset quick --image-size 32 32 --width 0.03125 --epochs 1 --batch-size 4"
    labels = ["--labels", str(tmp_path / "patients.csv")]
    run, export, report = (tmp_path / name for name in ("run", "export", "report"))
    assert main(["index", source, "--run", str(report), *labels]) == 0
    folders = ["--data", source, "--run", str(run), "--export", str(export)]
    assert main(["train", *words.split(), *folders, *labels]) == 0
    assert main(["train", *words.split(), "--data", source, "--tags", "none"]) == 2

    printed = "".join(capfd.readouterr()).encode()
    report = b"".join((report / name).read_bytes() for name in LOCAL_REPORT)
    for word in (NAMES["StudyDescription"], FOLDER, FILE):
        assert word.encode() in report
    assert len(PLANTED) > 40

    cache = user_cache_path("tf-dicom-ce")
    written = written_in(run, export, cache)
    assert {"files", "store"} <= {path.relative_to(cache).parts[0] for path in cache.rglob("*/*")}
    assert len(written) > 10
    assert_nothing_is_in(written, printed, tmp_path)


def written_in(*roots):
    return [
        path
        for root in roots
        for path in root.rglob("*")
        # The unpacked files are the input itself, for this user's eyes only.
        if path.is_file()
        and "unpacked" not in path.parts
        and path.name not in LOCAL_REPORT | LOCAL_TEST
    ]


def assert_nothing_is_in(written, printed, tmp_path):
    searched = {path: b"\0".join(contents(path)) for path in written}
    searched[tmp_path / "printed"] = printed
    for path, content in searched.items():
        words = PLANTED
        if path.suffix == ".sqlite":  # what is kept of headers: paths, and values of the tags
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
            words = [word for word in PLANTED if word not in KEPT]
        else:
            assert b"Planted" not in content, path
        for word in words:
            for spelling in (word, word.lower()):
                for encoded in (spelling.encode(), spelling.encode("utf-16-le")):
                    assert encoded not in content, (path, word)
            assert word not in str(path.relative_to(tmp_path.parent.parent)), path


def test_a_head_names_files_and_patients_in_private_files(write, tmp_path, capfd):
    """In its split, and in the table and the page of its test set, and nowhere else."""
    rng = np.random.default_rng(0)
    lines = ["path,label,patient"]
    for k in range(20):
        pixels = (60 + rng.integers(0, 40, (40, 60)) + 60 * (k % 2)).astype(np.uint8)
        own = {"PatientID": f"{NAMES['PatientID']}{k}"}
        write(f"data/{FOLDER}/{k:02d}{FILE}", pixels, **{**NAMES, **own})
        lines.append(f"{FOLDER}/{k:02d}{FILE},{['dark', 'bright'][k % 2]},{LIST_PATIENT}{k}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    words = "--task classification --encoder none --preset quick --image-size 32 32 --epochs 1"
    words += " --width 0.03125 --epoch-steps 2 --batch-size 4 --label-encoding categorical"
    run, export = tmp_path / "run", tmp_path / "export"
    folders = ["--data", str(tmp_path / "data"), "--labels", str(tmp_path / "labels.csv")]
    folders += ["--run", str(run), "--export", str(export)]
    assert main(["finetune", *words.split(), *folders]) == 0
    printed = "".join(capfd.readouterr()).encode()
    for name in LOCAL_TEST:
        content = (run / name).read_text()
        assert f"{FOLDER}/" in content and FILE in content and LIST_PATIENT in content
        assert "Planted00" not in content  # nothing of the header
        assert (run / name).stat().st_mode & 0o777 == 0o600
    written = written_in(run, export, user_cache_path("tf-dicom-ce"))
    assert len(written) > 10
    assert_nothing_is_in(written, printed, tmp_path)
