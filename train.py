"""Pretrains a context encoder: `python train.py --use-dicom --data DIR`; see `--help`."""

import sys

from tf_dicom_ce.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
