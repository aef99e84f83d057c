"""Make a cohort of synthetic ultrasound DICOM with truth for every task.

The files are simulated and show no patients: manufacturer, patient name and picture say SYNTHETIC.
The folder receives pretraining/, classification/ and segmentation/ (with --preset standard also
recognition/), label tables for all but pretraining/, truth.csv, and contact_sheet.png, an overview.
Repeat the command to continue a run that was cut off.
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
    difficulty = "also measure simple methods on the files: difficulty.md (takes seconds)"
    add("--difficulty", action="store_true", help=difficulty)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.phantom.cohort import make_cohort

    make_cohort(options.out, options.preset, options.seed, options.workers, options.domain_shift)
    print(f"Cohort: {options.out}")
    if options.difficulty:
        from tf_dicom_ce.phantom.difficulty import write_difficulty

        print(write_difficulty(options.out))
