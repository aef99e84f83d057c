"""The process of one trial: started by `tune`, not by hand.

It waits until it is the only one in the trial's folder, goes on where an earlier one was stopped,
and ends when the search that started it does.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tf_dicom_ce.cli import main
from tf_dicom_ce.tuning.folder import lock
from tf_dicom_ce.tuning.trial import CONFIG, EXPORT, RESULT

_GRACE = 60.0  # seconds to save the state


def run(folder: Path, words: Sequence[str], train: Callable[[Sequence[str]], int] = main) -> int:
    """Begins the trial or goes on with it; does nothing where it has ended well.

    Args:
        folder: The trial's folder, with its `config.toml`.
        words: What to hand to `train` besides.
        train: Runs the command line.

    Returns:
        Exit code.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with lock(folder / "trial.lock"):
        if not (folder / RESULT).exists():
            shutil.rmtree(folder / EXPORT, ignore_errors=True)  # perhaps a part of one
        places = ["--config", folder / CONFIG, "--run", folder, "--export", folder / EXPORT]
        return train(["train", *map(str, places), "--resume", *words])


def _end_with_parent() -> None:
    """Waits for the end of standard input, which is the end of the search's process."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))
