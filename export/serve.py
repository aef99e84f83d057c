"""Serves the models in this folder: `python export/serve.py`; see `--help`."""

import sys
from pathlib import Path

from tf_dicom_ce.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", str(Path(__file__).parent), *sys.argv[1:]]))
