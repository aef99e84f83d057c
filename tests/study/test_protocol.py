import pytest

from tf_dicom_ce.cli import study as command
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.study.protocol import ARMS, read_protocol

TOML = """
name = "mine"
arms = ["none", "ce+dicom"]
seeds = [3]
fractions = [0.05, 1]
readouts = ["frozen"]
tasks = ["segmentation"]
[pretraining]
data = "dir"
image_size = [32, 64]
augment = true
width = 0.25
[segmentation]
class_names = ["a", "b c"]
epochs = 7
"""


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return read_protocol(path, command.options_of())

    return read_text


def find(job, *flags):
    """The words after these flags."""
    return [job.command[job.command.index(flag) + 1] for flag in flags]


def test_jobs_are_commands(read):
    jobs = read(TOML).jobs()
    assert [job.name for job in jobs] == [
        "segmentation/none/frozen/0.05/seed-3",
        "segmentation/none/frozen/1/seed-3",
        "pretraining/ce+dicom/seed-3",
        "segmentation/ce+dicom/frozen/0.05/seed-3",
        "segmentation/ce+dicom/frozen/1/seed-3",
    ]
    assert jobs[2].command == (
        *("train", "--data", "dir", "--image-size", "32", "64", "--augment"),
        *("--width", "0.25", "--use-dicom", "--seed", "3"),
    )
    assert jobs[3].command == (
        *("finetune", "--class-names", "a", "b c", "--epochs", "7", "--task", "segmentation"),
        *("--freeze", "--label-fraction", "0.05", "--seed", "3"),
    )
    assert [job.needs for job in jobs] == [None, None, None, jobs[2].name, jobs[2].name]
    assert jobs[3].cell == {
        "arm": "ce+dicom",
        "task": "segmentation",
        "measure": "Dice",
        "readout": "frozen",
        "labels": 0.05,
        "seed": 3,
    }


def test_a_task_may_have_fractions_of_its_own(read):
    jobs = read(TOML.replace("epochs = 7", "fractions = [0.2]")).jobs()
    assert [job.name for job in jobs if job.needs] == ["segmentation/ce+dicom/frozen/0.2/seed-3"]
    assert "--fractions" not in jobs[-1].command


def test_tasks_of_other_names_and_probes(read):
    """A task is a table of any name; a probe has the options that are not about training."""
    text = TOML.replace('tasks = ["segmentation"]', 'tasks = ["thyroid"]').replace(
        "[segmentation]", '[thyroid]\ntask = "segmentation"\ncounts = [10]\ndraws = 5'
    )
    probe, *_ = read(text.replace('["frozen"]', '["probe", "tuned"]')).jobs()
    assert probe.name == "thyroid/none/probe/10/seed-3"
    assert probe.command == (
        *("probe", "--task", "segmentation", "--draws", "5", "--class-names", "a", "b c"),
        *("--label-counts", "10", "--seed", "3"),
    )
    assert probe.cell["measure"] == "Dice"
    command.check_job(probe.command)
    with pytest.raises(UserError, match="'config': give a probe's settings in this table"):
        read(TOML.replace('["frozen"]', '["probe"]').replace("epochs = 7", "config = 'a.toml'"))


def test_a_head_for_each_learning_rate(read):
    """A probe has none."""
    text = TOML.replace("epochs = 7", "learning_rates = [1e-3, 0.003]").replace(
        'readouts = ["frozen"]', 'readouts = ["probe", "frozen"]'
    )
    jobs = [job for job in read(text).jobs() if job.cell["arm"] == "none"]
    names = [job.name for job in jobs if "frozen/0.05" in job.name]
    assert names == [f"segmentation/none/frozen/0.05/seed-3/rate-{r}" for r in ("0.001", "0.003")]
    rates = [find(job, "--learning-rate") for job in jobs if "/rate-" in job.name]
    assert rates == [["0.001"], ["0.003"]] * 2
    for job in jobs:
        assert "--learning-rates" not in job.command
        command.check_job(job.command)
    with pytest.raises(UserError, match=r"\[segmentation\]: learning_rates = -1: choose 0 or more"):
        read(text.replace("0.003", "-1"))


def test_imagenet_needs_no_pretraining(read):
    """Its words stand last: the other arms' network does not matter."""
    text = TOML.replace('"none"', '"imagenet"').replace("epochs = 7", 'backbone = "vgg16"')
    first, _, *others = read(text).jobs()
    assert (first.name, first.needs) == ("segmentation/imagenet/frozen/0.05/seed-3", None)
    assert find(first, "--backbone", "--encoder-weights") == ["efficientnetlite0", "imagenet"]
    command.check_job(first.command)
    assert not any("efficientnetlite0" in job.command for job in others)
    own = '[imagenet]\nencoder_weights = "a.keras"\nlearning_rate = 1e-5\n'
    first = read(text + own).jobs()[0]
    assert find(first, "--encoder-weights", "--learning-rate") == ["a.keras", "1e-05"]
    assert read(TOML + own).jobs() == read(TOML).jobs()


@pytest.mark.parametrize("name", ["quick", "paper"])
def test_shipped_studies(name):
    path = command.resources.files("tf_dicom_ce.study") / f"{name}.toml"
    protocol = read_protocol(path, command.options_of())
    jobs = protocol.jobs()
    assert len({job.name for job in jobs}) == len(jobs)
    names = [job.name for job in jobs]
    assert all(names.index(job.needs) < k for k, job in enumerate(jobs) if job.needs)
    arms, conditions = len(protocol.arms), 2 * 2 * 2
    assert (protocol.readouts, protocol.effect) == (("frozen", "tuned"), 0.048)
    assert len(jobs) == 3 * (arms * conditions + arms - 1)


def test_every_arms_options_are_known():
    import argparse

    from tf_dicom_ce.cli import train

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    for options in ARMS.values():
        if options is not None:
            train.configure(parser.parse_args(["--preset", "quick", *options]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"none"', '"nothing"', "no arm 'nothing'; there are: none, ce,"),
        ('["segmentation"]', '["liver"]', r"unknown key 'segmentation'"),
        ('["frozen"]', '["linear"]', "no readout 'linear'; there are: probe, frozen, tuned"),
        ("epochs = 7", "task = 'detection'", "choose one of classification, segmentation"),
        ("[pretraining]", "effect = 2\n[pretraining]", "effect = 2: choose a number above 0"),
        ('["segmentation"]', '["pretraining"]', "'pretraining' cannot be a task's name"),
        ('["segmentation"]', '["../a"]', "'../a' cannot be a task's name"),
        ("epochs = 7", "counts = [1]", "segmentation: counts 1: whole, 2 or more"),
        ("epochs = 7", "fractions = [5]", "segmentation: fractions 5: above 0, at most 1"),
        (
            "segmentation",
            "liver",
            r"\[liver\] give its kind, classification or segmentation, such as: ",
        ),
        (
            'readouts = ["frozen"]',
            "freeze = [true]",
            "unknown key 'freeze'; there are: .* readouts",
        ),
        (
            "epochs = 7",
            "epoch = 7",
            r"\[segmentation\]: unknown setting 'epoch'. Did you mean 'epo",
        ),
        ("epochs = 7", "seed = 7", r"\[segmentation\] 'seed': the study sets it"),
        (
            "epochs = 7",
            'encoder_weights = "imagenet"',
            r"\[segmentation\] 'encoder_weights': the study sets it",
        ),
        ("epochs = 7", "[imagenet]\ndata = 'd'", r"\[imagenet\]: unknown setting 'data'"),
        ("epochs = 7", "[imagenet]\nfreeze = true", r"\[imagenet\] 'freeze': the study sets it"),
        ("epochs = 7", "[imagenet]\nbackbone = 'a'", "choose one of vgg16bn, vgg16, resnet50"),
        ("epochs = 7", "epochs = 0", r"\[segmentation\]: epochs = 0: choose 1 or more"),
        ("width = 0.25", "width = '1'", r'\[pretraining\]: width = "1": must be a number'),
        ("seeds", "seed", "unknown key 'seed'; there are: arms"),
        ("[3]", "[]", "need at least one entry"),
        ("epochs = 7", "fractions = []", "need at least one entry"),
        ("[3]", "[", "mine.toml: "),
        ("[3]", "3", r"mine.toml: seeds = 3: give a list, seeds = \[3\]"),
        ("[3]", "[-1]", "seeds -1: whole, 0 or more"),
        ("[3]", "['a']", "seeds a: whole, 0 or more"),
        ("[3]", "[3, 3]", "the job 'segmentation/none/frozen/0.05/seed-3' is there 2 times"),
        ("[0.05, 1]", "[0.05, 1, 1.0]", "'segmentation/none/frozen/1/seed-3' is there 2 times"),
        ('["none", "ce+dicom"]', '[["none"]]', r"no arm '\['none'\]'"),
        ("epochs = 7", "learning_rates = 1e-3", r"learning_rates = 0.001: give a list"),
        ("[pretraining]", "pretraining = 3\n[imagenet]", r"pretraining = 3: give a table"),
    ],
)
def test_mistakes_are_named(read, old, new, message):
    with pytest.raises(UserError, match=message):
        read(TOML.replace(old, new))
