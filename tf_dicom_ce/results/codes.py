"""What class names mean to other programs: SNOMED where the table has it, else codes of our own."""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from tf_dicom_ce.errors import UserError

#: Our own coding scheme; designators of private ones begin with 99 (PS3.16, 8.2).
SCHEME = "99TFDICOMCE"
_BUILT_IN = Path(__file__).with_name("codes.toml")
_CATEGORIES = {  # CID 7150
    "anatomy": codes.cid7150.AnatomicalStructure,
    "abnormality": codes.cid7150.MorphologicallyAbnormalStructure,
    "other": codes.cid7150.SpatialAndRelationalConcept,
}
_LENGTHS = (16, 16, 64)  # SH, SH, LO


class Coded(NamedTuple):
    """What a class is."""

    code: Code
    category: Code


def read_codes(path: Path | None = None) -> dict[str, Coded]:
    """The built-in table by name in lower case; a user's entries take precedence.

    Args:
        path: TOML with `name = [code, scheme, meaning]` in the tables `anatomy`, `abnormality`
            (morphology) and `other`.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    table = _read(_BUILT_IN)
    return table if path is None else table | _read(path)


def coded(name: str, table: Mapping[str, Coded]) -> Coded:
    """The table's code of a class, or one of our own."""
    return table.get(name.strip().casefold()) or Coded(own(name), _CATEGORIES["other"])


def own(meaning: str) -> Code:
    """A code of our own, always the same for a text; its meaning has the first 64 characters."""
    plain = re.sub(r"[^A-Z0-9]+", "_", meaning.upper()).strip("_")
    digest = hashlib.sha256(meaning.encode()).hexdigest()[:6].upper()
    return Code(f"{plain[:9]}_{digest}", SCHEME, meaning[:64])


def _read(path: Path) -> dict[str, Coded]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"--codes {path}: cannot be read ({reason}).") from None
    found = {}
    for category, entries in content.items():
        if category not in _CATEGORIES or not isinstance(entries, dict):
            raise UserError(
                f"--codes {path}: [{category}] is none of its tables ({', '.join(_CATEGORIES)})."
            )
        for name, entry in entries.items():
            if not _is_code(entry):
                raise UserError(
                    f"--codes {path}: {name} = {entry!r} is no code. Write it as {name} = "
                    '["10200004", "SCT", "Liver"]: code value, coding scheme and meaning of at '
                    "most 16, 16 and 64 characters."
                )
            found[name.strip().casefold()] = Coded(Code(*entry), _CATEGORIES[category])
    return found


def _is_code(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == len(_LENGTHS)
        and all(isinstance(text, str) for text in entry)
        and all(
            0 < len(text) <= longest and text.isprintable() and "\\" not in text
            for text, longest in zip(entry, _LENGTHS, strict=True)
        )
    )
