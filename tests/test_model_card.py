"""The card says what the JSON beside it says, number by number, and what the model is not."""

import json
import re

import pytest

from tf_dicom_ce.saved_model.card import model_card


def measure(value, low, high, mean, deviation):
    return {
        "value": value,
        "bootstrap_mean": mean,
        "bootstrap_sd": deviation,
        "interval_95": [low, high],
    }


ENCODER = {
    "image_size": [64, 96],
    "width": 0.25,
    "use_dicom": True,
    "lambda_tags": 0.5,
    "shuffle_tags": False,
    "tag_vocabulary": ["thyroid", "linear"],
    "synthetic_data": True,
    "data_fingerprint": "d1d1",
    "labels_fingerprint": "1a1a",
    "weights_digest": "w1w1",
    "split_fingerprint": "5b5b",
    "schema": {"name": "ultrasound", "fingerprint": "5c5c"},
    "images": {"training": 1234, "validation": 311},
    "environment": {"tensorflow": "2.21.0", "onednn": None},
    "best_epoch": 17,
    "validation": {"rec": 0.51239, "tags_accuracy": 0.9, "d_real": 0.66666},
}
HEAD = {
    "image_size": [64, 96],
    "task": "classification",
    "freeze": True,
    "label_encoding": "ordinal",
    "learning_rate": 1e-3,
    "classes": ["poor", "good|best"],
    "images": {"train": 40, "validation": 5, "test": 6},
    "patients": {"train": 20, "validation": 3, "test": 4},
    "encoder": ENCODER,
    "data_fingerprint": "d2d2",
    "weights_digest": "w2w2",
    "synthetic_data": False,
    "environment": {"tensorflow": "2.21.0"},
    "best_epoch": 8,
    "test": {
        "accuracy": measure(0.83333, 0.5, 0.98765, 0.81, 0.0625),
        "recall_1": measure(0.25, 0.125, 0.75, 0.3, 0.1),
        "false_positive_cyst": measure(0.125, 0.0, 0.5, 0.1, 0.05),
        "kappa": measure(None, None, None, None, None),
    },
}


def rows(card, title):
    """Cells of the table below a title, without its head."""
    section = card.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(row) for row in cells}) == 1, "a ragged table"
    return [[re.sub(r"\\(.)", r"\1", c) for c in row] for row in cells[2:]]


def test_numbers_of_a_head_are_those_of_its_json():
    found = rows(model_card("classification", HEAD), "Measures")
    assert [row[0] for row in found] == list(HEAD["test"])
    for row, m in zip(found, HEAD["test"].values(), strict=True):
        if m["value"] is None:
            assert [row[1], *row[3:5]] == ["–"] * 3
            continue
        shown = [float(row[1]), *map(float, row[3].split(" to ")), *map(float, row[4].split(" ± "))]
        true = [m["value"], *m["interval_95"], m["bootstrap_mean"], m["bootstrap_sd"]]
        assert shown == pytest.approx(true, abs=5.1e-5)
    assert found[1][5].startswith("good|best: ")  # the second class, in a table that holds together
    assert [row[2] for row in found] == ["share", "share", "share", "ratio"]
    assert found[2][5].startswith("cyst: images without it in which some is found")


def test_numbers_of_an_encoder_are_those_of_its_json():
    found = rows(model_card("encoder", ENCODER), "Measures")
    assert {name: float(value) for name, value, *_ in found} == pytest.approx(
        ENCODER["validation"], abs=5.1e-5
    )
    assert [unit for _, _, unit, _ in found] == ["z-score²", "share", "–"]


def test_settings_are_all_plain_values_of_the_json():
    shown = dict(rows(model_card("classification", HEAD), "Training settings"))
    assert shown == {
        "`freeze`": "True",
        "`label_encoding`": "ordinal",
        "`learning_rate`": "0.001",
        "`best_epoch`": "8",
    }


def test_the_digests_of_a_head_and_of_its_encoder():
    described = model_card("classification", HEAD).split("## What it is")[1].split("\n## ")[0]
    assert "- Digest of the weights: `w2w2`\n" in described
    assert "digest of its weights: `w1w1`\n" in described
    assert "- Digest of the weights: `w1w1`\n" in model_card("encoder", ENCODER)
    assert "w1w1" not in model_card("segmentation", {**HEAD, "encoder": None})


def test_both_data_sets_and_the_schema_of_the_encoder():
    card = model_card("classification", HEAD)
    pretraining, head = card.split("## Data")[1].split("## Tag schema")[0].split("### The head")
    assert "**Synthetic data**" in pretraining
    assert "Synthetic" not in head
    assert "`d1d1`" in pretraining
    assert "`5b5b`" in pretraining
    assert "`1a1a`" in pretraining
    assert "Images, training: 1234\n" in pretraining
    assert "`d2d2`" in head
    assert "Images, test: 6 of 4 patients\n" in head
    schema = card.split("## Tag schema")[1].split("\n## ")[0]
    assert "`ultrasound`, fingerprint `5c5c`" in schema
    assert "discriminator saw them and the encoder learned to predict them." in schema
    assert "Vocabulary: thyroid, linear." in schema


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dicom": False, "lambda_tags": 0.0}, "not used in the pretraining"),
        ({"shuffle_tags": True}, "shuffled among patients: a control"),
    ],
)
def test_what_the_tags_did(settings, words):
    assert words in model_card("encoder", {**ENCODER, **settings})


@pytest.mark.parametrize("name", ["encoder", "classification", "segmentation"])
def test_what_is_missing_is_called_so_and_the_warning_always_stands(name):
    card = model_card(name, {"image_size": (32, 64)})
    assert "Not a medical device" in card.split("## What it is")[0]
    assert "32 × 64" in card
    assert card.count("ot recorded") >= 5
    assert "ynthetic data" not in card
    assert "None recorded." in card


def test_from_scratch_there_is_no_pretraining():
    card = model_card("segmentation", {**HEAD, "encoder": None})
    assert "from scratch" in card
    assert "the encoder was not pretrained" in card
    assert "### The encoder" not in card


def test_it_is_markdown_without_holes():
    for name, content in (("encoder", ENCODER), ("classification", HEAD)):
        card = model_card(name, content)
        json.dumps(content)  # as it is written beside
        assert "None" not in card
        assert "{" not in card
        assert "\n\n\n" not in card
        assert card.endswith("\n")
        assert "tensorflow 2.21.0." in card


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("imagenet", "VGG16 with BatchNorm, distilled from EfficientNet-Lite0 on ImageNet (the"),
        ("a_b.keras", r"VGG16 with BatchNorm, distilled from another encoder, a\_b.keras, without"),
    ],
)
def test_a_distilled_encoder_names_its_teacher_and_had_no_tags(teacher, words):
    content = ENCODER | {"teacher": teacher, "lambda_tags": 0.0}
    card = model_card("encoder", content)
    assert words in card
    assert "DICOM tags:\nnot used in the pretraining." in card
    of_head = model_card("classification", HEAD | {"encoder": content, "head": "linear"})
    assert "A linear classifier on an ultrasound encoder." in of_head
    assert "- Encoder: distilled from" in of_head


def test_what_it_knows_and_how_sure_it_is():
    plain = model_card("classification", HEAD)
    assert "It always answers" in plain and "Probabilities are not calibrated." in plain
    told = {"threshold": 0.5, "held_out_images": 45, "within": 0.95}
    card = model_card("classification", {**HEAD, "familiarity": told, "temperature": 1.875})
    assert "It always answers" not in card and "not calibrated" not in card
    assert "`familiarity` below 0.5" in card and "95.0 % of its 45 validation images" in card
    assert "a temperature of 1.88" in card
