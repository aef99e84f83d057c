"""Settings that cannot be are refused by their flag's name."""

import pytest

from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.errors import UserError


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"adversarial": "wgan"}, "--adversarial wgan: choose one of nonsaturating, minimax"),
        ({"discriminator_input": "all"}, "--discriminator-input all: choose one of patch"),
        ({"conditioning": "none"}, "--conditioning none: choose one of projection, auxiliary"),
        ({"precision": "half"}, "--precision half: choose one of float32, bfloat16, float16"),
        ({"tag_dropout": 1.0}, "--tag-dropout 1.0: choose 0 or more, below 1"),
        ({"tag_dropout": -0.1}, "--tag-dropout -0.1: choose 0 or more, below 1"),
        ({"use_dicom": False, "tag_dropout": 0.1}, "--tag-dropout is about the tags"),
        ({"use_dicom": False, "conditioning": "auxiliary"}, "--conditioning auxiliary is about"),
    ],
)
def test_refused_with_a_remedy(settings, message):
    with pytest.raises(UserError, match=message):
        PretrainConfig(**settings)


def test_all_options_beyond_the_paper_are_off():
    config = PretrainConfig()
    assert config.conditioning == "projection"
    assert config.precision == "float32"
    assert not (config.spectral_norm or config.tag_dropout or config.balance_tags)
