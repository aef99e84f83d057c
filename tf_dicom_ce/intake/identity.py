"""Decides which images are of the same patient.

A patient is identified by (0010,0020) Patient ID together with (0010,0021) Issuer of Patient ID.
Files that share these, (0020,000D) Study Instance UID or (0008,0018) SOP Instance UID are of the
same patient: patients are the connected components of the graph of files and identifiers. For
example, a study is one patient even if some of its files lack the ID. So no patient is on two sides
of a split. All identifiers here are pseudonyms (`intake.secret`).
"""

import collections
import enum
import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from pydicom import Dataset
from pydicom.tag import BaseTag, Tag

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.header import value
from tf_dicom_ce.intake.secret import pseudonym

_PATIENT, _ISSUER = Tag("PatientID"), Tag("IssuerOfPatientID")
_STUDY, _INSTANCE = Tag("StudyInstanceUID"), Tag("SOPInstanceUID")
# A file's path, or the kind and the value of an identifier.
Node = str | tuple[str, str]
# Replaces an ID that was removed. With a number, as in ANON0017, it is an ID.
_PLACEHOLDER = re.compile(
    r"(anon|test|dummy|removed|redacted|de-?identified)\D*|unk(nown)?|none|null|nil|n/?a"
    r"|(no ?)?(name|id)|patient( ?(id|name))?|0+|x+|[\W_]*",
    re.IGNORECASE,
)


class Told(enum.StrEnum):
    """What identifies the patient of a file."""

    TABLE = "the labels CSV"
    ISSUED = "Patient ID and issuer"
    ID = "Patient ID"
    STUDY = "Study Instance UID"
    FILE = "the file alone"


class Identity(NamedTuple):
    """What a file says about its patient, as pseudonyms; "" if it says nothing."""

    path: str  # path of the file
    patient: str = ""  # Patient ID with its issuer
    unissued: str = ""  # Patient ID alone; equal to `patient` if there is no issuer
    study: str = ""  # Study Instance UID
    instance: str = ""  # SOP Instance UID
    placeholder: bool = False  # True if Patient ID is a placeholder
    given: str = ""  # patient of the labels CSV, an ID without issuer; overrides all others

    def given_by_table(self, patient: str, secret: bytes) -> "Identity":
        """Returns a copy with a patient of the labels CSV, which may be equal to a Patient ID."""
        return self._replace(given=pseudonym(secret, "PatientID", patient))


class Patient(NamedTuple):
    """The patient of a file."""

    pseudonym: str  # the same in every source with the same identifiers
    told: Told  # what identifies it
    flags: tuple[Flag, ...]  # oddities


def read_identity(header: Dataset, path: str, secret: bytes) -> Identity:
    """Reads the identity from a header; call it within `dicom.quiet.quiet()`."""

    def text(tag: BaseTag) -> str:
        return str(value(header, tag) or "").strip()

    def hidden(kind: str, identifier: str) -> str:
        return identifier and pseudonym(secret, kind, identifier)

    found, issuer = text(_PATIENT), text(_ISSUER)
    patient = "" if _PLACEHOLDER.fullmatch(found) else found
    return Identity(
        hidden("path", path),
        hidden("PatientID", f"{patient}\0{issuer}" if patient and issuer else patient),
        hidden("PatientID", patient),
        hidden("StudyInstanceUID", text(_STUDY)),
        hidden("SOPInstanceUID", text(_INSTANCE)),
        placeholder=found != patient,
    )


def tell_apart(
    files: Mapping[str, Identity], copies: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Patient]:
    """Returns path to patient.

    The labels CSV overrides headers: if it spreads an identifier over several patients, that
    identifier joins only files that the CSV does not name. A Patient ID without issuer may be from
    any issuer, so it joins the patients of all issuers with that ID. A copy has the patient of its
    original; `copies` is path of the copy to path of the original.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    said = [
        file._replace(path=files[copies[path]].path, instance="") if path in copies else file
        for path, file in files.items()
    ]
    counts = collections.Counter(file.instance for file in said if file.instance)
    shared = {instance for instance, count in counts.items() if count > 1}
    # Numbers of the nodes: first the files, by the pseudonyms of their paths, then identifiers.
    numbers: dict[Node, int] = {}
    own = [numbers.setdefault(file.path, len(numbers)) for file in said]
    ends = (numbers.setdefault(n, len(numbers)) for edge in _edges(said, shared) for n in edge)
    ends = np.fromiter(ends, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1], bool), ends), shape=(len(numbers), len(numbers)))
    component = connected_components(graph, directed=False)[1][own].tolist()
    members: dict[int, list[Identity]] = collections.defaultdict(list)
    homes: dict[str, set[int]] = collections.defaultdict(set)
    for file, number in zip(said, component, strict=True):
        members[number].append(file)
        homes[_own_id(file)].add(number)
    of_patient = {number: (_pseudonym(f), _oddities(f)) for number, f in members.items()}
    found, once = {}, {}
    for path, file, number in zip(files, said, component, strict=True):
        name, oddities = of_patient[number]
        told, own_id = _told(file), _own_id(file)
        flags = {
            Flag.FROM_TABLE: told is Told.TABLE,
            Flag.PLACEHOLDER: file.placeholder,
            Flag.BY_STUDY: told is Told.STUDY,
            Flag.BY_FILE: told is Told.FILE,
            **dict.fromkeys(oddities, True),
            Flag.SEVERAL_ISSUERS: own_id and len(homes[own_id]) > 1,
            Flag.SHARED_INSTANCE: file.instance in shared,
        }
        patient = Patient(name, told, tuple(flag for flag, is_so in flags.items() if is_so))
        found[path] = once.setdefault(patient, patient)  # files share equal ones in memory
    return found


def _edges(files: Collection[Identity], shared: Set[str]) -> Iterator[tuple[Node, Node]]:
    """Yields pairs of nodes of the same patient: a file, patient, study or instance.

    `shared` are the instances of several files; other instances join nothing.
    """
    given = collections.defaultdict(set)
    for file in files:
        if file.given:
            for key in _keys(file, shared):
                given[key].add(file.given)
    bare = {f.given for f in files} | {f.unissued for f in files if f.unissued == f.patient}
    for file in files:
        if file.given:
            yield file.path, ("patient", file.given)
        for key in _keys(file, shared):
            if not file.given or len(given[key]) == 1:
                yield file.path, key
                if key[0] == "patient" and file.unissued in bare:
                    yield key, ("patient", file.unissued)


def _keys(file: Identity, shared: Set[str]) -> list[tuple[str, str]]:
    names = [("patient", file.patient), ("study", file.study)]
    if file.instance in shared:
        names.append(("instance", file.instance))
    return [key for key in names if key[1]]


def _own_id(file: Identity) -> str:
    """Returns the Patient ID, unless the labels CSV overrides it."""
    return "" if file.given else file.unissued


def _told(file: Identity) -> Told:
    if file.given:
        return Told.TABLE
    if file.patient:
        return Told.ID if file.patient == file.unissued else Told.ISSUED
    return Told.STUDY if file.study else Told.FILE


def _pseudonym(files: Sequence[Identity]) -> str:
    """Returns the patient's pseudonym: the least of the CSV's, or of IDs, studies or paths."""
    kinds = zip(*((f.given, f.patient, f.study, f.path) for f in files), strict=True)
    return next(min(filter(None, names)) for names in kinds if any(names))


def _oddities(files: Sequence[Identity]) -> list[Flag]:
    """Returns the flags on the Patient IDs of one patient's files, without those of the CSV."""
    issuers = collections.defaultdict(set)
    for file in files:
        if _own_id(file):
            issuers[file.unissued].add(file.patient)
    odd = [Flag.SEVERAL_IDS] if len(issuers) > 1 else []
    mixed = any(bare in patients and len(patients) > 1 for bare, patients in issuers.items())
    return [*odd, *([Flag.WITHOUT_ISSUER] if mixed else [])]
