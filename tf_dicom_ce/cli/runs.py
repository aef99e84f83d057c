"""Arguments of the commands that train."""

import argparse
from pathlib import Path
from typing import Any


def add_run_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Declares where a run goes and how it is saved.

    Args:
        parser: The command's.
        default: Name of the default folder, for the help.
    """
    add = parser.add_argument
    add(
        "--run", type=Path, metavar="DIR", help=f"the run's folder (default: runs/<time>-{default})"
    )
    add("--export", type=Path, default=Path("export"), metavar="DIR", help="model repository")
    add(
        "--resume",
        action="store_true",
        help="go on with the run in --run, which the same command has begun, perhaps with fewer "
        "--epochs; or begin it",
    )
    add(
        "--checkpoint-minutes",
        type=float,
        default=10.0,
        metavar="X",
        help="minutes between two checkpoints within an epoch (default: 10)",
    )
    add("--checkpoint-steps", type=int, metavar="N", help="steps between two, besides")


def run_settings(options: argparse.Namespace) -> dict[str, Any]:
    """These options as arguments of `pretrain` and `finetune`."""
    names = ("run", "export", "resume", "checkpoint_minutes", "checkpoint_steps")
    return {name: getattr(options, name) for name in names}
