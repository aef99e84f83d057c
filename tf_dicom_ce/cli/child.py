"""A command started by `study`, not by hand; it ends when the study ends."""

import sys

from tf_dicom_ce.child_process import end_with_parent
from tf_dicom_ce.cli import main

if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1:]))
