"""Values by tag, for headers are asked for them by the million."""

from typing import Any

from pydicom import Dataset
from pydicom.tag import BaseTag


def value(dataset: Dataset, tag: BaseTag) -> Any:
    """The value of an element, None if it is absent; four times as fast as by its keyword.

    Args:
        dataset: A header or an item of a sequence.
        tag: Made once, from the keyword: `pydicom.tag.Tag("Rows")`.
    """
    return dataset[tag].value if tag in dataset else None
