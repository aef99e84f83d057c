"""Weakly supervised context encoder using DICOM metadata in ultrasound (Hu et al., 2020)."""

import os

__version__ = "0.1.0"

# TensorFlow reads this once, at its import. Without AVX-512 it leaves oneDNN off, which halves
# the speed of a training step on a CPU; a user's own choice in the environment stands.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
