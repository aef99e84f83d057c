"""Elements of a header of which any may be absent or malformed."""

from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The value of an element; None if it is absent or cannot be read."""
    try:
        return dataset.get(keyword)
    # A malformed element raises whatever comes to pydicom's hand.
    except Exception:
        return None


def text_of(dataset: Dataset, keyword: str) -> str:
    """The first value of an element as text; empty if there is none."""
    found = value_of(dataset, keyword)
    if isinstance(found, MultiValue):
        found = found[0] if found else None
    text = "" if found is None else str(found)
    return "".join(character for character in text if character.isprintable()).strip()
