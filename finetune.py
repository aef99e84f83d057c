"""Trains a head on an exported encoder: `python finetune.py --task …`; see `--help`."""

import sys

from tf_dicom_ce.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
