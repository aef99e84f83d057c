"""What is read of the finished jobs, and which of them are refused."""

import csv
import json

import numpy as np
import pytest

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.study.protocol import MEASURES, Job
from tf_dicom_ce.study.results import collect, entries
from tf_dicom_ce.study.runner import Study
from tf_dicom_ce.study.statistics import cell_summary, paired_test

# Of four images the truth has the organ in three; whatever is predicted, the second has no Dice.
DICE = {"a.dcm": 0.5, "b.dcm": np.nan, "c.dcm": 0.75, "d.dcm": 1.0}
PATIENTS = {"a.dcm": "P1", "b.dcm": "P1", "c.dcm": "P2", "d.dcm": "P3"}


def rows_of(dice):
    return [
        {"path": path, "frame": 1, "patient": PATIENTS[path], "dice_liver": 9, "dice": value}
        for path, value in dice.items()
    ]


def finish(study, job, rows=None, **config):
    place = study.place(job.name)
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps({"data_fingerprint": "f1a9", **config}))
    (place / "result.json").write_text('{"validation": {"rec": 1}}')
    if rows:
        with (place / "test.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def head(seed, arm="ce", task="segmentation", rate=""):
    cell = {"arm": arm, "task": task, "readout": "frozen", "labels": 1.0}
    cell |= {"seed": seed, "measure": MEASURES[task]}
    return Job(f"{task}/{arm}/frozen/1/seed-{seed}{rate}", ("finetune",), None, cell)


def pretraining(seed):
    cell = {"arm": "ce", "task": "pretraining", "seed": seed}
    return Job(f"pretraining/ce/seed-{seed}", ("train",), None, cell)


@pytest.fixture
def study(tmp_path):
    jobs = [*map(pretraining, range(2)), *map(head, range(3)), head(0, "none")]
    jobs += [head(0, task="classification"), head(1, task="classification")]
    return Study(tmp_path / "study", tuple(jobs))


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_equal_runs_have_one_mean_however_many_there_are(study, seeds):
    """(0.5 + 0.75 + 1) / 3 by hand; the image without the organ counts in none of them."""
    for seed in range(seeds):
        finish(study, head(seed), rows_of(DICE))
    (cell,) = collect(study)
    assert cell.seeds == tuple(range(seeds))
    assert cell.scores.tolist() == [[0.5, 0.75, 1.0]] * seeds
    assert cell.patients.tolist() == ["P1", "P2", "P3"]
    assert cell.left_out == 1
    found = cell_summary(cell.scores, cell.patients, seed=0)
    assert (found.mean, found.n_images, found.n_patients) == (0.75, 3, 3)
    assert found.sd_images == pytest.approx(0.25)  # of 0.5, 0.75, 1
    assert found.bootstrap_sd == pytest.approx(
        cell_summary(cell.scores[:1], cell.patients, seed=0).bootstrap_sd
    )


def test_the_validation_images_choose_the_learning_rate(tmp_path):
    """Not the test images; a seed of which a rate is not done does not count yet."""
    jobs = [head(seed, rate=f"/rate-{r}") for seed in (0, 1) for r in ("0.001", "0.003")]
    study = Study(tmp_path / "study", tuple(jobs))
    losses, scores = (0.3, 0.2, 0.1), ({}, {"a.dcm": 0.1}, {})
    for job, loss, change in zip(jobs, losses, scores, strict=False):
        finish(study, job, rows_of(DICE | change))
        result = {"validation": {"loss": loss}}
        (study.place(job.name) / "result.json").write_text(json.dumps(result))
    (cell,) = collect(study)
    assert (cell.seeds, cell.chosen) == ((0,), ("rate-0.003",))
    assert cell.scores.tolist() == [[0.1, 0.75, 1.0]]
    assert [(e.planned, e.summary.n_seeds) for e in entries(study, [cell])] == [(2, 1)]


def test_both_arms_have_the_same_images(study):
    finish(study, head(0), rows_of(DICE))
    finish(study, head(0, "none"), rows_of({**DICE, "a.dcm": 0, "c.dcm": 0, "d.dcm": 0}))
    ce, none = collect(study)
    assert ce.patients.tolist() == none.patients.tolist()
    test = paired_test(ce.scores, none.scores, ce.patients, seed=0, effect=0.05)
    assert (test.difference, test.n_patients) == (0.75, 3)


def test_the_order_of_the_rows_does_not_matter(study):
    finish(study, head(0), rows_of(DICE))
    finish(study, head(1), rows_of(DICE)[::-1])
    (cell,) = collect(study)
    assert cell.scores.tolist() == [[0.5, 0.75, 1.0]] * 2


@pytest.mark.parametrize(
    "change", [{"b.dcm": 0.0}, {"a.dcm": np.nan}, {"b.dcm": 0.0, "a.dcm": np.nan}]
)
def test_dice_on_other_images_is_refused(study, change):
    finish(study, head(0), rows_of(DICE))
    finish(study, head(0, "none"), rows_of(DICE | change))
    with pytest.raises(UserError, match="Dice is missing on other images") as caught:
        collect(study)
    assert "none/frozen/1/seed-0/test.csv" in str(caught.value)
    assert "remove the folder" in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"path": "z.dcm"}, {"patient": "P9"}, {"frame": 2}, {"frame": None}]
)
def test_other_test_images_are_refused(study, change):
    """Also where the patients are the same, one by one."""
    rows = rows_of(DICE)
    finish(study, head(0), rows)
    if change == {"frame": None}:
        other = [{k: v for k, v in row.items() if k != "frame"} for row in rows]
    else:
        other = [*rows[:-1], rows[-1] | change]
    finish(study, head(1), other)
    with pytest.raises(UserError, match=r"seed-1/test.csv: other images, patients .* 'split'"):
        collect(study)


def test_other_true_classes_are_refused(study):
    rows = [{"path": "a", "patient": "P1", "true": "x", "predicted": "x"}]
    finish(study, head(0, task="classification"), rows)
    finish(study, head(1, task="classification"), [rows[0] | {"predicted": "y"}])
    (cell,) = collect(study)
    assert cell.scores.tolist() == [[1.0], [0.0]]
    (study.place(head(1, task="classification").name) / "test.csv").write_text(
        "path,patient,true,predicted\na,P1,y,y\n"
    )
    with pytest.raises(UserError, match="true classes"):
        collect(study)


@pytest.mark.parametrize("missing", ["path", "patient", "dice"])
def test_a_table_of_an_older_version_is_refused(study, missing):
    rows = [{k: v for k, v in row.items() if k != missing} for row in rows_of(DICE)]
    finish(study, head(0), rows)
    column = {"dice": "true"}.get(missing, missing)  # then it is taken for a classifier's
    with pytest.raises(UserError, match=f"test.csv: no column '{column}'.*run the study again"):
        collect(study)


def test_no_score_at_all_is_refused(study):
    finish(study, head(0), rows_of(dict.fromkeys(DICE, np.nan)))
    with pytest.raises(UserError, match="Use images that show the organ"):
        collect(study)


@pytest.mark.parametrize(
    ("job", "other", "config"),
    [
        (head(0), head(1), {"data_fingerprint": "beef"}),
        (head(0), head(0, "none"), {"labels_fingerprint": "beef"}),
        (head(0), head(1), {"classes": ["background", "kidney"]}),
        (pretraining(0), pretraining(1), {"data_fingerprint": "beef"}),
        (pretraining(0), pretraining(1), {"schema": {"name": "x", "fingerprint": "beef"}}),
    ],
)
def test_jobs_on_other_data_are_refused(study, job, other, config):
    finish(study, job, rows_of(DICE))
    finish(study, other, rows_of(DICE), **config)
    (name,) = config
    with pytest.raises(UserError, match=rf"{other.name}: .* those of .*{job.name}; {name} "):
        collect(study)


def test_pretrainings_and_tasks_have_data_of_their_own(study):
    finish(study, pretraining(0), data_fingerprint="beef")
    finish(study, head(0), rows_of(DICE))
    rows = [{"path": "a", "patient": "P1", "true": "x", "predicted": "x"}]
    finish(study, head(0, task="classification"), rows, data_fingerprint="cafe")
    assert len(collect(study)) == 2
