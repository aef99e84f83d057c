"""The process of one trial, started by `tune`, not by hand.

It waits until no other process uses the trial's folder, continues an earlier process that was
stopped, and ends when the search ends.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tf_dicom_ce.child_process import end_with_parent
from tf_dicom_ce.cli import main
from tf_dicom_ce.tuning.space import CONFIG, EXPORT, RESULT
from tf_dicom_ce.whole_files import sole


def run(folder: Path, words: Sequence[str], train: Callable[[Sequence[str]], int] = main) -> int:
    """Begins or continues the trial in `folder`; does nothing if it has ended without an error.

    `train` runs the command line, extended by `words`. Returns the exit code.
    """
    end_with_parent()
    with sole(folder / "trial.lock", None):
        if not (folder / RESULT).exists():
            shutil.rmtree(folder / EXPORT, ignore_errors=True)  # it may be incomplete
        places = ["--config", folder / CONFIG, "--run", folder, "--export", folder / EXPORT]
        return train(["train", *map(str, places), "--resume", *words])


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))
