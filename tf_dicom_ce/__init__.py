"""Weakly supervised context encoder using DICOM metadata in ultrasound (Hu et al., 2020)."""

import importlib
import os

__version__ = "0.1.0"

# TensorFlow reads this once, at its import. Without AVX-512 it leaves oneDNN off, which halves
# the speed of a training step on a CPU; a user's own choice in the environment stands.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

#: Public name -> its module. A module is imported at the first use of its name, so that importing
#: the package takes no time.
_PUBLIC = {
    "UltrasoundDataset": "data.ultrasound",
    "ContextEncoderGAN": "models.gan",
    "VGG16Encoder": "models.encoder",
    "ProjectionDiscriminator": "models.discriminator",
    "UNet": "models.heads",
    "Classifier": "models.heads",
    "pretrain": "training.pretrain",
    "probe": "training.probe",
    "audit": "auditing.audit",
    "finetune": "training.finetune",
    "load_encoder": "models.backbones",
    "load_head": "saved_model.reading",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
