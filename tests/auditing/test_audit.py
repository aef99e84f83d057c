"""Audits of an archive whose mistakes are known."""

import csv
import json
import stat

import numpy as np
import pytest

from tf_dicom_ce.auditing.audit import FILES, audit
from tf_dicom_ce.auditing.devices import single_sources
from tf_dicom_ce.auditing.summary import summary
from tf_dicom_ce.cli import main
from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.index import scan
from tf_dicom_ce.tags.schema import TagSchema


@pytest.fixture
def audited(dataset, encoder, tmp_path):
    return audit(dataset, encoder, tmp_path / "run")


def of(audited, tag):
    return {finding.path: finding for finding in audited.findings if finding.tag == tag}


def test_planted_mistakes_are_found_and_no_others(audited):
    study = of(audited, "study")
    doubted = {path for path, f in study.items() if f.wrong is not None and f.wrong > 0.5}
    assert doubted == {"02/1", "13/0", "13/1", "13/2"}
    assert (study["02/1"].value, study["02/1"].proposed) == ("US THYROID", "US LIVER")
    assert {study[f"13/{k}"].proposed for k in range(3)} == {"US KIDNEY"}
    # The slip contradicts its picture and two files; it stands first.
    assert next(iter(audited.findings)).path == "02/1"
    right = study["20/0"]
    assert (right.group, right.proposed, right.proposed_group) == (
        "kidney, abdomen",
        "",
        "kidney, abdomen",
    )
    assert right.wrong < 0.1


def test_values_are_proposed_where_there_are_none(audited):
    study = of(audited, "study")
    for path, value, proposed in (("05/0", "", "US LIVER"), ("26/2", "ODD ONE", "US THYROID")):
        found = study[path]
        assert (found.value, found.group, found.proposed) == (value, None, proposed)
        assert found.wrong is None
        assert found.right > 0.9


def test_what_is_counted(audited):
    study, probe = audited.tags
    assert study.groups == ("kidney, abdomen", "liver, abdomen", "thyroid")
    # Of 36 files each: three kidneys and a missing value, a slip; a thyroid's odd one.
    assert study.files == (33, 37, 36, 106)
    assert (study.contradicted, study.contradicted_studies, study.contradicted_patients) == (
        4,
        2,
        2,
    )
    assert study.unknown == 2
    assert study.rare == {"none of the labels": 1}  # the heart
    assert study.of_files.mean[-1] == pytest.approx(1, abs=0.3)
    assert study.of_studies.mean[-1] == pytest.approx(3, abs=1)
    assert probe.groups == ("curvilinear", "linear")
    assert probe.contradicted == 0
    assert of(audited, "study").keys() & {"heart"} == set()


def test_frames_of_a_study_are_judged_together_and_probes_alone(audited):
    study, probe = of(audited, "study"), of(audited, "probe")
    assert len({study[f"13/{k}"].unit for k in range(3)}) == 1
    assert len({study[f"13/{k}"].wrong for k in range(3)}) == 1
    assert len({probe[f"13/{k}"].unit for k in range(3)}) == 3


def test_a_group_of_one_station_alone_is_told(audited, archive):
    study, probe = audited.tags
    sentences = [s for s in study.warnings if "station" in s]
    assert sentences == [
        "97% of the files of «thyroid» come from one station, but only 0% of the others: the model "
        "may recognise the station instead of the content."
    ]
    assert [s for s in probe.warnings if "«linear»" in s and "station" in s]
    assert not [s for s in study.warnings if "manufacturer" in s]  # there is one alone


def test_a_group_of_one_folder_alone_is_told_where_folders_are_collections(tmp_path, write, ramp):
    for patient in range(24):
        folder, value = (
            ("a", "US LIVER") if patient < 12 else ("b", f"US {['LIVER', 'KIDNEY'][patient % 2]}")
        )
        write(f"in/{folder}/{patient}", ramp, PatientID=str(patient), StudyDescription=value)
    index = scan(tmp_path / "in", TagSchema.load("ultrasound"), progress=False)
    groups = [row.states["study"][1] for row in index.rows]
    assert list(single_sources(index.rows, groups)) == [
        "100% of the files of «US KIDNEY» come from one folder, but only 33% of the others: the "
        "model may recognise the folder instead of the content."
    ]
    # Folders of patients are none.
    assert list(single_sources(index.rows[:12], groups[:12])) == []


def test_what_is_written_is_private_and_names_nobody(audited, tmp_path):
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == set(FILES)
    for name in FILES:
        assert stat.S_IMODE((run / name).stat().st_mode) == 0o600
        text = (run / name).read_text()
        for planted in ("PLANTED", "Planted", "1.2.3.", "Maker"):
            assert planted not in text, (name, planted)
    numbers = json.loads((run / "audit.json").read_text())
    assert [found["tag"] for found in numbers] == ["study", "probe"]
    for words in ((run / "audit.json").read_text(), summary(audited)):
        assert "US LIVER" not in words
        assert "13/0" not in words


def test_the_table_is_taken_back_by_labels(audited, archive, tmp_path):
    with (tmp_path / "run" / "audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 108 + 1  # the heart's study is not judged, its probe is unknown
    for row in rows:
        if (row["path"], row["tag"]) in {("02/1", "study"), ("26/2", "study")}:
            row["accept"] = "yes"
        if (row["path"], row["tag"]) == ("13/0", "study"):
            row["accept"] = "no"
    decided = tmp_path / "decided.csv"
    with decided.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    before, after = (
        UltrasoundDataset.from_dicom(archive, labels=labels, image_size=(32, 64)).source.index.rows
        for labels in (None, decided)
    )
    changed = {a.path: a.states["study"] for a, b in zip(after, before, strict=True) if a != b}
    assert changed == {"02/1": ("mapped", "US LIVER"), "26/2": ("mapped", "US THYROID")}


def test_decisions_are_not_written_over(audited, dataset, encoder, tmp_path):
    table = tmp_path / "run" / "audit.csv"
    audit(dataset, encoder, tmp_path / "run")  # nothing is decided
    text = table.read_text().splitlines()
    decided = "\n".join([text[0], text[1] + "no", *text[2:]])
    table.write_text(decided)
    with pytest.raises(UserError, match=r"audit.csv holds decisions. Keep it"):
        audit(dataset, encoder, tmp_path / "run")
    assert table.read_text() == decided


def test_what_a_schema_says_of_missing_values_is_a_value(archive, encoder, tmp_path):
    schema = tmp_path / "mine.toml"
    rules = 'map = { "US LIVER" = ["a"], "US KIDNEY" = ["b"], "US THYROID" = ["c"] }'
    schema.write_text(
        'name = "mine"\n[[tag]]\nname = "study"\nelement = "StudyDescription"\n'
        f'labels = ["a", "b", "c"]\non_missing = ["a"]\non_unmapped = ["c"]\n{rules}\n'
    )
    data = UltrasoundDataset.from_dicom(archive, tags=schema, image_size=(32, 64))
    found = audit(data, encoder)
    assert found.tags[0].unknown == 0
    study = of(found, "study")
    assert (study["05/0"].value, study["05/0"].group) == ("", "a")
    assert study["05/0"].wrong < 0.1
    assert (study["26/2"].value, study["26/2"].group) == ("ODD ONE", "c")
    assert {f.proposed for f in found.findings} <= {"", "US LIVER", "US KIDNEY", "US THYROID"}


def test_summary(audited):
    lines = summary(audited).splitlines()
    assert lines[0] == (
        "study: 4 of 106 files more likely wrong than right, of 2 studies and 2 patients; "
        "2 files without a value"
    )
    assert lines[1].startswith("  kidney, abdomen: 33 files, about 0 (0 to ")
    assert "  not judged, for lack of patients: none of the labels (1)" in lines


def test_the_same_seed_gives_the_same_audit(dataset, encoder, tmp_path):
    one, two = (audit(dataset, encoder, tmp_path / name, seed=3) for name in "ab")
    assert one == two
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_mistakes(archive, write, ramp, tmp_path, capsys):
    for patient in range(6):
        write(f"one/{patient}", ramp, PatientID=str(patient), StudyDescription="US LIVER")
    assert main(["audit", str(tmp_path / "one"), "--run", str(tmp_path / "out")]) == 2
    assert "No tag has two groups of 5 patients or more" in capsys.readouterr().err
    assert main(["audit", str(archive), "--encoder", str(tmp_path / "gone")]) == 2
    assert str(tmp_path / "gone") in capsys.readouterr().err
    assert main(["audit", str(archive), "--run", str(archive)]) == 2
    assert "holds files that are not a report" in capsys.readouterr().err
    with pytest.raises(UserError, match="needs files with tags"):
        audit(UltrasoundDataset.from_arrays(np.zeros((2, 32, 64))))
