"""Make a cohort of synthetic ultrasound DICOM with truth for every task.

The files are physics, not patients: SYNTHETIC stands in manufacturer, patient name and picture.
The folder receives pretraining/, classification/ and segmentation/ (and of --preset standard
recognition/), label tables for all but the first, truth.csv, and contact_sheet.png to look at. A
run that was cut off goes on where it stopped.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    presets = ("quick", "standard", "paper")
    add("--preset", choices=presets, default="quick", help="size (default: quick)")
    add("--seed", type=int, default=0, metavar="N", help="same seed, same files")
    add("--workers", type=int, metavar="N", help="processes (default: all cores)")
    shift = "downstream images from another vendor than the pretraining images (default: yes)"
    add("--domain-shift", action=argparse.BooleanOptionalAction, default=True, help=shift)
    difficulty = "also measure what simple methods reach: difficulty.md (takes seconds)"
    add("--difficulty", action="store_true", help=difficulty)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.phantom.cohort import make_cohort

    make_cohort(options.out, options.preset, options.seed, options.workers, options.domain_shift)
    print(f"Cohort: {options.out}")
    if options.difficulty:
        from tf_dicom_ce.phantom.difficulty import write_difficulty

        print(write_difficulty(options.out))
