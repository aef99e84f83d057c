"""Whose the labelled images are: as pretraining tells patients, by the header or by the labels."""

import collections
import dataclasses
import operator
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tf_dicom_ce.data.labels import Example
from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Refusal
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake import identity
from tf_dicom_ce.intake.contents import find_copies
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.examination import examine_all
from tf_dicom_ce.intake.file_cache import stamps_of
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.tags.schema import TagSchema


def with_patients(
    examples: Sequence[Example], data: Path, targets: Mapping[str, str]
) -> tuple[tuple[Example, ...], np.ndarray]:
    """Tells whose every example is; copies of an image with the same target count once.

    Files that the labels do not list are not looked at. What is odd is printed on standard error.

    Args:
        examples: From `read_labels`.
        data: Folder that paths are relative to.
        targets: `Example.target` to what it holds, equal for equal targets.

    Returns:
        The examples, `patient` filled in: as in the labels, or else the pseudonym of the header's;
        and the number of each one's patient, int [N], by first appearance.

    Raises:
        UserError: An image has two patients, or a patient stands in two splits.
    """
    files, copies = _files(examples, data)
    found = identity.tell_apart(files, copies)
    _tell(found, files)
    kept = _without_copies(examples, copies, targets)
    keys = [found[example.path].pseudonym for example in kept]
    own = list(zip(keys, kept, strict=True))
    names = {key: example.patient for key, example in reversed(own) if example.patient}
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    firsts: dict[str, Example] = {}
    for key, example in own:
        first = firsts.setdefault(key, example)
        if first.split != example.split:
            raise UserError(
                f"{example.where}: this patient is in {example.split}, and in {first.split} in "
                f"{first.where}. Keep all images of a patient in one split."
            )
    named = (dataclasses.replace(example, patient=names.get(key, key)) for key, example in own)
    return tuple(named), np.array([numbers[key] for key in keys])


def _files(
    examples: Sequence[Example], data: Path
) -> tuple[dict[str, identity.Identity], dict[str, str]]:
    """Path to what headers and labels say of its patient; and copies to their originals."""
    schema, secret = TagSchema.load("ultrasound"), load_secret()
    stamps = stamps_of(data, (example.path for example in examples))
    facts, _ = examine_all(data, schema, stamps)
    images = {path: found for path, found in facts.items() if not isinstance(found, Refusal)}
    files = {path: identity.Identity(pseudonym(secret, "path", path)) for path in facts}
    files |= {path: found.identity for path, found in images.items()}
    given: dict[str, Example] = {}
    for example in filter(operator.attrgetter("patient"), examples):
        first = given.setdefault(example.path, example)
        if first.patient != example.patient:
            raise UserError(
                f"{example.where}: '{example.path}' has another patient than in {first.where}. "
                "Correct one of them."
            )
        files[example.path] = files[example.path].given_by_table(example.patient, secret)
    return files, find_copies(ImageReader(data, schema.sop_classes), images)


def _tell(found: Mapping[str, identity.Patient], files: Mapping[str, identity.Identity]) -> None:
    without = [path for path, file in files.items() if not (file.patient or file.study)]
    alone = sum(found[path].told is identity.Told.FILE for path in without)
    if alone:
        print(
            f"WARNING: {alone} images have no patient, neither in a header nor in the labels: each "
            "is taken as a patient of its own. If some are of one patient, give the labels a "
            "column patient.",
            file=sys.stderr,
        )
    untold = (Flag.FROM_TABLE, Flag.BY_FILE)
    flags = (flag for patient in found.values() for flag in patient.flags if flag not in untold)
    for flag, count in collections.Counter(flags).most_common():
        print(f"{count} files: {flag}", file=sys.stderr)


def _without_copies(
    examples: Sequence[Example], copies: Mapping[str, str], targets: Mapping[str, str]
) -> list[Example]:
    firsts: dict[tuple, Example] = {}
    kept = []
    for example in examples:
        image = (copies.get(example.path, example.path), example.frame)
        first = firsts.setdefault(image, example)
        same = targets[first.target] == targets[example.target]
        if first is example or not same:
            kept.append(example)
        if not same:
            print(
                f"WARNING: {example.where}: the same image as in {first.where} with another "
                "target. Both are kept, on one side.",
                file=sys.stderr,
            )
    if len(kept) < len(examples):
        number = len(examples) - len(kept)
        print(f"{number} images are copies of others, which count once.", file=sys.stderr)
    return kept
