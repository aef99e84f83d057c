"""The report on a made-up study against plain NumPy, and what must not stand in it."""

import csv
import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from tf_dicom_ce.phantom.cohort import default_folder
from tf_dicom_ce.study import charts, exhibits, formats
from tf_dicom_ce.study.protocol import EFFECT, Protocol
from tf_dicom_ce.study.report import write_report
from tf_dicom_ce.study.runner import Study

ARMS = ("none", "ce", "ce+dicom", "ce+shuffled")
PATIENTS = np.repeat(np.arange(10) + 9182736450, 3)
FILES = {"report.html", "report.md", "table2.csv", "table2.tex", "comparisons.csv"}
LEVELS = {"none": 0.4, "ce": 0.5, "ce+dicom": 0.7, "ce+shuffled": 0.5, "imagenet": 0.6}
LEVELS |= {"distilled": 0.6}
ORDER = {arm: k for k, arm in enumerate(LEVELS)}


def scores_of(cell):
    """Dice [30] of a run; the truth of the first image has no class."""
    rng = np.random.default_rng([ORDER[cell["arm"]], cell["readout"] == "frozen", cell["seed"]])
    level = LEVELS[cell["arm"]] + 0.1 * cell["labels"]
    scores = np.clip(level + 0.02 * rng.standard_normal(len(PATIENTS)), 0, 1)
    scores[0] = np.nan
    return scores


def write_table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def finish(study, job):
    """Leaves a job's folder as its command does."""
    place, cell = study.place(job.name), job.cell
    place.mkdir(parents=True)
    config = {
        "data_fingerprint": "f1a9",
        "images": {"train": 7},
        "environment": {"numpy": "2.4"},
        "encoder": {"path": str(place)},
    }
    (place / "config.json").write_text(json.dumps(config))
    picture = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
    result = {"best_epoch": 1, "test": {}}
    if cell["task"] == "pretraining":
        (place / "panels").mkdir()
        picture.save(place / "panels" / "epoch_0001.png")
        row = {"epoch": 1, "sensitivity study": "0.5", "sensitivity probe": "nan"}
        write_table(place / "sentinel.csv", [row | {"sensitivity study": 9}, row])
        result = {"best_epoch": 1, "validation": {"rec": 0.25 + cell["seed"], "tags": None}}
    elif cell["task"] == "segmentation":
        table = zip(PATIENTS, scores_of(cell), strict=True)
        rows = [{"path": f"{k:02}", "patient": p, "dice": v} for k, (p, v) in enumerate(table)]
        write_table(place / "test.csv", rows)
        picture.save(place / "segmentations.png")
    else:
        rng = np.random.default_rng([ORDER[cell["arm"]], cell["seed"]])
        rows = [
            {"path": f"{k:02}", "patient": p, "true": "a", "predicted": "ab"[rng.integers(2)]}
            for k, p in enumerate(PATIENTS)
        ]
        write_table(place / "test.csv", rows)
    (place / "result.json").write_text(json.dumps(result))


def build(folder, seeds=(0, 1, 2), done=lambda cell: True, name="mine & <b>yours</b>", arms=ARMS):
    tasks = ("segmentation", "classification")
    options = {"pretraining": {}} | {task: {"task": task} for task in tasks}
    if "imagenet" in arms:
        options["imagenet"] = {"encoder_weights": "/data/Jane Zyxw/resnet50.keras"}
    labels = dict.fromkeys(tasks, (0.05, 1.0))
    protocol = Protocol(name, arms, seeds, ("frozen", "tuned"), labels, EFFECT, options)
    study = Study(folder / "Jane Zyxw" / "study", protocol.jobs())
    for job in study.jobs:
        if done(job.cell):
            finish(study, job)
    study.folder.mkdir(parents=True, exist_ok=True)
    options["pretraining"] = {"data": "/data/Jane Zyxw", "epochs": 3}
    (study.folder / "protocol.json").write_text(
        json.dumps({"name": name, "effect": EFFECT, "options": options})
    )
    return study


def report_on(study):
    write_report(study, study.folder, "| task | value |\n|---|---|\n| prior<i> | 0.123 |\n")
    return {name: (study.folder / name).read_text() for name in FILES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    study = build(tmp_path_factory.mktemp("whole"))
    return study, report_on(study)


def rows_of(text):
    return list(csv.DictReader(text.splitlines()))


def find(rows, **wanted):
    (row,) = [row for row in rows if all(row[k] == v for k, v in wanted.items())]
    return row


FROZEN = {"task": "segmentation", "readout": "frozen", "labels": "0.05"}


def cell_scores(arm, readout="frozen", labels=0.05, seeds=3):
    cell = {"arm": arm, "readout": readout, "labels": labels}
    return np.stack([scores_of(cell | {"seed": seed}) for seed in range(seeds)])[:, 1:]


def test_a_cell_against_numpy(whole):
    row = find(rows_of(whole[1]["table2.csv"]), arm="ce+dicom", **FROZEN)
    scores, patients = cell_scores("ce+dicom"), PATIENTS[1:]
    assert float(row["mean"]) == pytest.approx(scores.mean(), abs=1e-6)
    assert float(row["sd_seeds"]) == pytest.approx(scores.mean(1).std(ddof=1), rel=1e-4)
    names = np.unique(patients)
    draws = np.random.default_rng(0).integers(0, 10, (10, 10))
    means = np.array(  # [10, 3]: ten resamples of each run
        [
            np.concatenate([scores[:, patients == names[k]] for k in draw], axis=1).mean(1)
            for draw in draws
        ]
    )
    sd, over_images = means.std(0, ddof=1).mean(), scores.std(1, ddof=1).mean()
    assert float(row["bootstrap_mean"]) == pytest.approx(means.mean(), abs=1e-6)
    assert float(row["bootstrap_sd"]) == pytest.approx(sd, rel=1e-4)
    assert float(row["sd_images"]) == pytest.approx(over_images, rel=1e-4)
    assert (row["n_images"], row["n_patients"], row["seeds"]) == ("29", "10", "3")
    assert (row["paper_mean"], row["paper_sd"]) == ("0.664", "0.13")
    assert float(row["low_95"]) < scores.mean() < float(row["high_95"])
    shown, images = f"{means.mean():.3f} ± {sd:.3f}", f"over images {over_images:.3f}"
    for name in ("report.html", "report.md"):
        assert shown in whole[1][name]
        assert images in whole[1][name]
        assert "at most 0.5" in whole[1][name]  # the paper's ± of Dice cannot be what it says
    tex = shown.replace("±", r"$\pm$") + rf" [{over_images:.2f}] (0.664 $\pm$ 0.13)"
    assert tex in whole[1]["table2.tex"]


def test_images_left_out_are_counted(whole):
    assert "29 / 10" in whole[1]["report.html"]
    words = "test images / patients, segmentation (1 without a class in the truth left out)"
    assert words in whole[1]["report.html"]
    assert f"29 / 10 {words}" in whole[1]["report.md"]
    assert "30 / 10 test images / patients, classification" in whole[1]["report.md"]


def test_a_gain_is_excluded_and_power_is_told(tmp_path):
    """Two arms of one level: the interval is far below Δ = 0.048, which could have been seen."""
    study = build(tmp_path, seeds=range(5), arms=("distilled", "imagenet"))
    files = report_on(study)
    rows = [r for r in rows_of(files["comparisons.csv"]) if r["task"] == "segmentation"]
    assert {(r["verdict"], r["excluded"]) for r in rows} == {("excluded", "true")}
    for row in rows:
        given = row["readout"], float(row["labels"]), 5
        a, b = (cell_scores(arm, *given) for arm in ("distilled", "imagenet"))
        assert float(row["difference"]) == pytest.approx(_by_patient(a - b).mean(), abs=1e-6)
        assert float(row["high_95"]) < 0.048
        assert float(row["p_excluded_adjusted"]) < 0.05 < float(row["p_adjusted"])
        assert float(row["power"]) > 0.8
        assert float(row["smallest"]) < 0.048
        p, of_gain = (float(row[name]) for name in ("p_adjusted", "p_excluded_adjusted"))
        ps = f"| {formats.p_value(p)} | {formats.p_value(of_gain)} | excluded |"
        assert ps in files["report.md"].replace("\\<", "<")
    plain = files["report.md"]
    seen = plain.index("The smallest effect that this study can show")
    assert seen < plain.index("## In plain words")
    assert "A gain of Δ is **excluded** at frozen 5 % (" in plain
    assert 'class="excluded">excluded</b> at frozen 5 %' in files["report.html"]


def _by_patient(scores):
    return np.array([scores[:, PATIENTS[1:] == p].mean() for p in np.unique(PATIENTS[1:])])


def test_a_comparison_against_numpy(whole):
    rows = rows_of(whole[1]["comparisons.csv"])
    row = find(rows, a="ce+dicom", b="ce+shuffled", **FROZEN)
    patients = PATIENTS[1:]
    gaps = cell_scores("ce+dicom") - cell_scores("ce+shuffled")
    of_runs = np.stack([gaps[:, patients == p].mean(1) for p in np.unique(patients)], axis=1)
    d = of_runs.mean(0)
    flips = np.array(list(itertools.product((-1, 1), repeat=10))) @ d
    assert float(row["difference"]) == pytest.approx(d.mean(), abs=1e-6)
    assert float(row["p"]) == pytest.approx((abs(flips) >= abs(d.sum()) - 1e-9).mean(), rel=1e-4)
    sd = of_runs.std(1, ddof=1).mean()
    assert float(row["effect_size"]) == pytest.approx(d.mean() / sd, rel=1e-4)
    assert row["verdict"] == "better"
    pairs = {(r["task"], r["a"], r["b"]) for r in rows}
    assert len(rows) == 4 * len(pairs) == 4 * 2 * 3  # the conditions, the pairs of these arms
    family = [r for r in rows if (r["task"], r["a"], r["b"]) == (row["task"], row["a"], row["b"])]
    # By hand: the larger p of all four is that of ten patients of one sign, times four.
    least = 2 / 2**10
    for r in family:
        assert max(float(r["p"]), float(r["p_seeds"])) == pytest.approx(least, rel=1e-4)
        assert float(r["p_adjusted"]) == pytest.approx(4 * least, rel=1e-4)
    control = find(rows, a="ce+dicom", b="ce", **FROZEN)
    assert control["paper_difference"] == "0.048"


def test_the_summary_says_what_is_shown_and_no_more(whole):
    text = whole[1]["report.md"]
    plain = text[text.index("## In plain words") : text.index("## The arms")]
    assert plain.count("**better** at") == 3  # segmentation, each of the three pairs
    assert "worse** at" not in plain
    assert "Classification, accuracy: not shown at frozen 5 %, frozen 100 %" in plain
    # Of three seeds, two degrees of freedom: t at 0.975 is 4.303 in every table.
    assert "3 finished seeds in common: to be shown, a difference has to be 4.3 times" in plain
    for name in ("report.html", "report.md"):
        assert "is not complete" not in whole[1][name]


def test_imagenet_is_an_arm_like_any(tmp_path):
    files = report_on(build(tmp_path, arms=("ce+dicom", "imagenet")))
    row = find(rows_of(files["comparisons.csv"]), a="ce+dicom", b="imagenet", **FROZEN)
    gaps = (cell_scores("ce+dicom") - cell_scores("imagenet")).mean(0)
    expected = np.mean([gaps[PATIENTS[1:] == p].mean() for p in np.unique(PATIENTS)])
    assert float(row["difference"]) == pytest.approx(expected, abs=1e-6)
    assert row["verdict"] == "better"
    find(rows_of(files["table2.csv"]), arm="imagenet", **FROZEN)
    for name in ("report.md", "report.html"):
        assert "no pretraining of our own" in files[name]
        assert "encoder_weights (path)" in files[name].replace("\\", "")
        assert "Jane" not in files[name]


def test_no_patients_and_no_paths(whole):
    study, files = whole
    for name, text in files.items():
        assert "91827364" not in text, name
        assert str(study.folder) not in text
        assert "Jane" not in text
        assert "Zyxw" not in text


def test_names_are_escaped(whole):
    html, markdown = whole[1]["report.html"], whole[1]["report.md"]
    assert "<title>Study: mine &amp; &lt;b&gt;yours&lt;/b&gt;</title>" in html
    assert "<b>yours" not in html
    assert "prior&lt;i&gt;" in html
    assert r"mine \& \<b\>yours\</b\>" in markdown
    assert formats.latex(r"50 % of a_b & \x") == r"50 \% of a\_b \& \textbackslash{}x"


def test_the_page_has_its_parts(whole):
    html = whole[1]["report.html"]
    for heading in ("Inpainting", "Segmentations", "Provenance", "How hard the data are"):
        assert f"<h2>{heading}</h2>" in html
    assert html.count("<svg") == 2 * 2 + 2
    assert html.count("data:image/jpeg;base64,") == 3 + 4
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert "1.250" in html  # rec of the seeds 0, 1, 2
    assert "f1a9" in html
    assert len(html) < 5_000_000
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_same_runs_give_the_same_report(whole):
    assert report_on(whole[0]) == whole[1]


def test_nothing_is_left_beside_the_files(whole):
    assert {p.name for p in whole[0].folder.iterdir()} == {*FILES, "jobs", "protocol.json"}


def test_a_study_on_its_way(tmp_path):
    study = build(tmp_path, done=lambda cell: cell["seed"] == 0 and cell["arm"] != "none")
    failed = next(job for job in study.jobs if job.cell["arm"] == "none")
    study.place(failed.name).mkdir(parents=True)
    words = "/data/Jane Zyxw/x y.dcm: not an image <here>\n"
    (study.place(failed.name) / "failed.txt").write_text(words)
    files = report_on(study)
    for name in ("report.html", "report.md", "table2.tex"):
        assert "This study is not complete: 27 done, 1 failed, 77 open." in files[name]
    assert "(path): not an image &lt;here&gt;" in files["report.html"]
    assert not any("Jane" in text or "Zyxw" in text for text in files.values())
    table = rows_of(files["table2.csv"])
    assert find(table, arm="none", **FROZEN)["mean"] == ""
    row = find(table, arm="ce", **FROZEN)
    assert (row["seeds"], row["seeds_planned"]) == ("1", "3")
    assert "0 of 3 seeds" in files["report.html"]
    assert "1 of 3 seeds" in files["report.html"]
    rows = rows_of(files["comparisons.csv"])
    assert {row["verdict"] for row in rows} == {"not shown", ""}  # of one seed nothing is shown
    assert "a single run shows nothing" in files["report.html"]


def test_a_study_not_begun(tmp_path):
    files = report_on(build(tmp_path, done=lambda cell: False))
    assert "No head is done yet" in files["report.html"]
    assert "<svg" not in files["report.html"]


def test_without_matplotlib_there_is_all_but_charts(tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "have_matplotlib", lambda: False)
    files = report_on(build(tmp_path, seeds=(0,)))
    assert "tf-dicom-ce[study]" in files["report.html"]
    assert "<svg" not in files["report.html"]
    assert "Table 2" in files["report.html"]


def test_large_pictures_are_made_smaller(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "p.png")
    embedded = exhibits._embed({f"arm {k}": tmp_path / "p.png" for k in range(11)})
    assert sum(map(len, embedded.values())) < 2_100_000


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no path here: really", "no path here: really"),
        ("--run /a/Jane Zyxw: not empty", "--run (path): not empty"),
        (r"C:\x\Jane Zyxw.dcm", "(path)"),
        ("see a/b: and c/d e.dcm", "see (path): and (path)"),
    ],
)
def test_messages_lose_their_paths(text, left):
    assert formats.without_paths(text) == left


def test_the_difficulty_is_that_of_the_tasks_phantom():
    """Whatever the encoders are pretrained on; nothing is rendered for a report."""
    folder = default_folder("quick")
    folder.mkdir(parents=True)
    (folder / "difficulty.md").write_text("hard")
    options = {"pretraining": {"data": "dir", "preset": "paper"}, "segmentation": {}}
    protocol = Protocol("", ("ce",), (0,), ("probe",), {"segmentation": (1.0,)}, EFFECT, options)
    assert exhibits.difficulty(protocol) == "hard"
    for table in ({"preset": "standard"}, {"data": "dir"}):
        options["segmentation"] = table
        assert exhibits.difficulty(protocol) is None
    assert [*folder.parent.iterdir()] == [folder]
