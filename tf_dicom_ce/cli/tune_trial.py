"""The process of one trial: started by `tune`, not by hand.

It waits until it is the only one in the trial's folder, goes on where an earlier one was stopped,
and ends when the search that started it does.
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
    """Begins the trial in `folder` or goes on with it; does nothing where it has ended well.

    `train` runs the command line, with `words` besides. Returns the exit code.
    """
    end_with_parent()
    with sole(folder / "trial.lock", None):
        if not (folder / RESULT).exists():
            shutil.rmtree(folder / EXPORT, ignore_errors=True)  # perhaps a part of one
        places = ["--config", folder / CONFIG, "--run", folder, "--export", folder / EXPORT]
        return train(["train", *map(str, places), "--resume", *words])


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))
