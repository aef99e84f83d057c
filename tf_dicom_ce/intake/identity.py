"""Who is who: which images are of one patient.

A patient is known by (0010,0020) Patient ID together with (0010,0021) Issuer of Patient ID. Files
that share one of these, (0020,000D) Study Instance UID or (0008,0018) SOP Instance UID are of one
patient: the connected components of the graph of files and identifiers. So a study of which some
files lack the ID is one patient, and no file has a part of its patient on another side of a split.
Everything here is pseudonyms (`intake.secret`).
"""

import collections
import enum
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from pydicom import Dataset

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.intake.secret import pseudonym

# What stands where an ID was taken out. With a number behind it, as in ANON0017, it is an ID.
_PLACEHOLDER = re.compile(
    r"(anon|test|dummy|removed|redacted|de-?identified)\D*|unk(nown)?|none|null|nil|n/?a"
    r"|(no ?)?(name|id)|patient( ?(id|name))?|0+|x+|[\W_]*",
    re.IGNORECASE,
)


class Told(enum.StrEnum):
    """What tells a file's patient."""

    TABLE = "the labels CSV"
    ISSUED = "Patient ID and issuer"
    ID = "Patient ID"
    STUDY = "Study Instance UID"
    FILE = "the file alone"


class Identity(NamedTuple):
    """What one file says of its patient; "" where it says nothing."""

    path: str  # of the file
    patient: str = ""  # Patient ID with its issuer
    unissued: str = ""  # Patient ID alone; the same as `patient` where there is no issuer
    study: str = ""  # Study Instance UID
    instance: str = ""  # SOP Instance UID
    placeholder: bool = False  # whether a Patient ID is there that stands for none
    given: str = ""  # patient of the labels CSV, as an ID without issuer: it stands above all

    def given_by_table(self, patient: str, secret: bytes) -> "Identity":
        """With the patient of the labels CSV: equal to the same Patient ID in a header."""
        return self._replace(given=pseudonym(secret, "PatientID", patient))


class Patient(NamedTuple):
    """Whose image a file is."""

    pseudonym: str  # the same in every source that knows the same identifiers
    told: Told  # by what
    flags: tuple[Flag, ...]  # what is odd about it


def read_identity(header: Dataset, path: str, secret: bytes) -> Identity:
    """What a header says, as pseudonyms; within `dicom.quiet.quiet()`."""

    def text(keyword: str) -> str:
        return str(header.get(keyword) or "").strip()

    def hidden(kind: str, value: str) -> str:
        return value and pseudonym(secret, kind, value)

    found, issuer = text("PatientID"), text("IssuerOfPatientID")
    patient = "" if _PLACEHOLDER.fullmatch(found) else found
    return Identity(
        hidden("path", path),
        hidden("PatientID", f"{patient}\0{issuer}" if patient and issuer else patient),
        hidden("PatientID", patient),
        hidden("StudyInstanceUID", text("StudyInstanceUID")),
        hidden("SOPInstanceUID", text("SOPInstanceUID")),
        placeholder=found != patient,
    )


def tell_apart(
    files: Mapping[str, Identity], copies: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Patient]:
    """Decides who is who.

    The labels CSV stands above headers: an identifier that it spreads over several patients joins
    only the files of which it says nothing. A Patient ID without issuer may be that of any issuer,
    so it joins the patients of all issuers that have it. Copies, by path, and the image that they
    hold once more are of one patient.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    said = {
        path: file._replace(path=files[copies[path]].path, instance="") if path in copies else file
        for path, file in files.items()
    }
    edges = list(dict.fromkeys(_edges(said.values())))
    names = {name: k for k, name in enumerate(dict.fromkeys(n for edge in edges for n in edge))}
    ends = np.array([(names[a], names[b]) for a, b in edges]).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1], bool), ends), shape=(len(names), len(names)))
    component = connected_components(graph, directed=False)[1]
    members: dict[int, list[Identity]] = collections.defaultdict(list)
    homes: dict[str, set[int]] = collections.defaultdict(set)
    for file in said.values():
        number = component[names["file", file.path]]
        members[number].append(file)
        homes[_own_id(file)].add(number)
    shared = collections.Counter(file.instance for file in said.values() if file.instance)
    of_patient = {number: (_pseudonym(f), _oddities(f)) for number, f in members.items()}
    found = {}
    for path, file in said.items():
        name, oddities = of_patient[component[names["file", file.path]]]
        told, own = _told(file), _own_id(file)
        flags = {
            Flag.FROM_TABLE: told is Told.TABLE,
            Flag.PLACEHOLDER: file.placeholder,
            Flag.BY_STUDY: told is Told.STUDY,
            Flag.BY_FILE: told is Told.FILE,
            **dict.fromkeys(oddities, True),
            Flag.SEVERAL_ISSUERS: own and len(homes[own]) > 1,
            Flag.SHARED_INSTANCE: shared[file.instance] > 1,
        }
        found[path] = Patient(name, told, tuple(flag for flag, is_so in flags.items() if is_so))
    return found


def _edges(files: Collection[Identity]) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of names that are of one patient: of files, patients, studies and instances."""
    given = collections.defaultdict(set)
    for file in files:
        for key in _keys(file):
            given[key] |= {file.given} - {""}
    bare = {f.given for f in files} | {f.unissued for f in files if f.unissued == f.patient}
    for file in files:
        own = ("file", file.path)
        yield own, own
        if file.given:
            yield own, ("patient", file.given)
        for key in _keys(file):
            if not file.given or len(given[key]) == 1:
                yield own, key
                if key[0] == "patient" and file.unissued in bare:
                    yield key, ("patient", file.unissued)


def _keys(file: Identity) -> list[tuple[str, str]]:
    names = (("patient", file.patient), ("study", file.study), ("instance", file.instance))
    return [key for key in names if key[1]]


def _own_id(file: Identity) -> str:
    """The Patient ID, where it counts."""
    return "" if file.given else file.unissued


def _told(file: Identity) -> Told:
    if file.given:
        return Told.TABLE
    if file.patient:
        return Told.ID if file.patient == file.unissued else Told.ISSUED
    return Told.STUDY if file.study else Told.FILE


def _pseudonym(files: Sequence[Identity]) -> str:
    """The patient's: of the table, or of the ID, the study or the path that comes first."""
    kinds = zip(*((f.given, f.patient, f.study, f.path) for f in files), strict=True)
    return next(min(filter(None, names)) for names in kinds if any(names))


def _oddities(files: Sequence[Identity]) -> list[Flag]:
    """What is odd about the headers of one patient of whom the table says nothing."""
    issuers = collections.defaultdict(set)
    for file in files:
        if _own_id(file):
            issuers[file.unissued].add(file.patient)
    odd = [Flag.SEVERAL_IDS] if len(issuers) > 1 else []
    mixed = any(bare in patients and len(patients) > 1 for bare, patients in issuers.items())
    return [*odd, *([Flag.WITHOUT_ISSUER] if mixed else [])]
