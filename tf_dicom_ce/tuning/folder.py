"""What keeps processes apart that work in one folder, and in step."""

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import IO

from tf_dicom_ce.errors import UserError


def lock(path: Path) -> IO:
    """Waits until no other process holds the lock, and holds it until the file is closed."""
    file = path.open("a")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def settle(path: Path, content: dict, problem: str) -> None:
    """Notes what holds for the whole search, or checks that it is what was noted before.

    Args:
        path: A JSON file; of several processes one writes it.
        content: JSON values.
        problem: What to say before the differences.

    Raises:
        UserError: Something else was noted.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    with contextlib.suppress(FileExistsError):
        os.link(beside, path)
    noted, now = json.loads(path.read_text()), json.loads(beside.read_text())
    beside.unlink()
    differences = "".join(
        f"\n  {key}: {noted.get(key)} then, {now.get(key)} now"
        for key in dict.fromkeys([*noted, *now])
        if noted.get(key) != now.get(key)
    )
    if differences:
        raise UserError(f"{problem}{differences}\nChoose another --run.")
