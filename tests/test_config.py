"""Settings that cannot be are refused by their flag's name."""

import dataclasses

import pytest

from tf_dicom_ce.config import FINETUNE_PRESETS, PRESETS, FinetuneConfig, PretrainConfig
from tf_dicom_ce.errors import UserError


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"adversarial": "wgan"}, "--adversarial wgan: choose one of nonsaturating, minimax"),
        ({"discriminator_input": "all"}, "--discriminator-input all: choose one of patch"),
        ({"conditioning": "none"}, "--conditioning none: choose one of projection, auxiliary"),
        ({"precision": "half"}, "--precision half: choose one of float32, bfloat16, float16"),
        ({"split": "patients"}, "--split patients: choose one of patient, image"),
        ({"tag_dropout": 1.0}, "--tag-dropout 1.0: choose 0 or more, below 1"),
        ({"tag_dropout": -0.1}, "--tag-dropout -0.1: choose 0 or more, below 1"),
        ({"use_dicom": False, "tag_dropout": 0.1}, "--tag-dropout needs the tags"),
        ({"use_dicom": False, "conditioning": "auxiliary"}, "--conditioning auxiliary needs"),
        ({"use_dicom": False, "shuffle_tags": True}, "--shuffle-tags needs the tags"),
        ({"use_dicom": False, "tag_noise": 0.1}, "--tag-noise needs the tags"),
        ({"tag_noise": -0.1}, "--tag-noise -0.1: choose 0 to 1"),
        ({"tag_noise": float("nan")}, "--tag-noise nan: choose 0 to 1"),
        ({"lambda_tags": -1.0}, "--lambda-tags -1.0: choose 0 or more"),
        ({"lambda_rec": float("nan")}, "--lambda-rec nan: choose 0 or more"),
        ({"lambda_adv": float("inf")}, "--lambda-adv inf: choose 0 or more"),
        ({"encoder_weights": "a.h5"}, "--encoder-weights a.h5: choose imagenet, or a file that"),
        ({"encoder_weights": "imagenet"}, "vgg16bn has no ImageNet weights"),
        ({"lambda_rec": 0.0, "lambda_adv": 0.0}, "--lambda-rec, --lambda-adv and --lambda-tags"),
    ],
)
def test_refused_with_a_remedy(settings, message):
    with pytest.raises(UserError, match=message):
        PretrainConfig(**settings)


def test_paths_do_not_leave_the_configuration():
    path = "/data/Jane Doe/encoder.keras"
    for kind in (PretrainConfig, FinetuneConfig):
        settings = kind(encoder_weights=path).as_dict()
        assert settings["encoder_weights"] == "encoder.keras"
        assert list(settings) == [field.name for field in dataclasses.fields(kind)]
        assert kind(backbone="vgg16", encoder_weights="imagenet").as_dict()["backbone"] == "vgg16"
    assert PretrainConfig(tags="/data/Jane Doe/us.toml").as_dict()["tags"] == "us.toml"


@pytest.mark.parametrize("name", ["task", "label_encoding"])
def test_choices_of_a_head_are_known(name):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} none: choose one of"):
        FinetuneConfig(**{name: "none"})


def test_the_head_may_use_tags_that_d_does_not_see():
    config = PretrainConfig(
        use_dicom=False, lambda_tags=1.0, shuffle_tags=True, tag_noise=0.5, tag_dropout=0.1
    )
    assert config.predicts_tags
    assert config.inpaints
    assert not PretrainConfig(lambda_rec=0.0, lambda_adv=0.0, lambda_tags=1.0).inpaints


def test_all_options_beyond_the_paper_are_off():
    config = PretrainConfig()
    assert config.conditioning == "projection"
    assert config.precision == "float32"
    assert not (config.spectral_norm or config.tag_dropout or config.balance_tags)
    assert not (config.lambda_tags or config.shuffle_tags or config.tag_noise)


def test_the_presets():
    """`paper` is the paper to the letter, `full` its sizes with safer choices, `quick` minutes."""
    paper, full = PRESETS["paper"], PRESETS["full"]
    assert (paper.adversarial, paper.split, paper.tags) == ("minimax", "image", "ultrasound-paper")
    assert full == PretrainConfig()
    assert (full.adversarial, full.split, full.tags) == ("nonsaturating", "patient", "ultrasound")
    letter = {"adversarial": "minimax", "split": "image", "tags": "ultrasound-paper"}
    assert dataclasses.replace(full, **letter) == paper
    # Section 4.3 and Appendix A.2.
    assert (full.image_size, full.batch_size, full.epochs, full.width) == ((256, 384), 8, 200, 1)
    assert (full.lambda_rec, full.lambda_adv) == (0.99, 0.01)
    assert (full.g_learning_rate, full.d_learning_rate) == (1e-4, 1e-5)
    for preset in ("paper", "full"):
        heads = [FINETUNE_PRESETS[preset, t] for t in ("classification", "segmentation")]
        assert [(h.batch_size, h.epochs, h.learning_rate) for h in heads] == [
            (4, 300, 1e-4),
            (8, 500, 1e-4),
        ]
