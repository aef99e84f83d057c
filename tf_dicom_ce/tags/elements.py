"""Parses the spelling of a DICOM element, and reads its values from a header."""

import dataclasses
import re

from pydicom import DataElement, Dataset, Sequence
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.multival import MultiValue

#: Canonical spelling of an element -> its values: () if it is empty, None if it is absent.
Values = dict[str, tuple[str, ...] | None]

#: Replaces a value that pydicom cannot convert.
DAMAGED = "(damaged)"
#: Replaces values that are no text.
_BINARY = "(binary)"
_SEQUENCE = "(sequence)"

_HEX4 = "[0-9a-fA-F]{4}"
_STEP = re.compile(
    rf"""(?:
        (?P<open>\()? (?P<group>{_HEX4}) , (?P<number>{_HEX4}) (?(open)\))
        | \( (?P<private>{_HEX4}) , "(?P<creator>[^"]+)" , (?P<offset>[0-9a-fA-F]{{2}}) \)
        | (?P<keyword>[A-Za-z]\w*)
    )(?: \[ (?P<index>\d+) ] )?""",
    re.VERBOSE,
)
_SPELLINGS = """use a keyword of PS3.6, "gggg,eeee", or '(gggg,"private creator",ee)'"""
_META, _PIXELS = 0x0002, 0x7FE0


@dataclasses.dataclass(frozen=True)
class _Step:
    """One element of a data set; all but the last one of a path are sequences."""

    tag: int
    creator: str | None
    index: int | None

    def __str__(self) -> str:
        group, number = divmod(self.tag, 1 << 16)
        keyword = keyword_for_tag(self.tag)
        if self.creator is not None:
            name = f'({group:04X},"{self.creator}",{number:02X})'
        # The groups of a repeating element, such as (60xx,0040), share one keyword.
        elif keyword and tag_for_keyword(keyword) == self.tag:
            name = keyword
        else:
            name = f"({group:04X},{number:04X})"
        return name if self.index is None else f"{name}[{self.index}]"

    def find(self, dataset: Dataset) -> DataElement | None:
        if self.creator is None:
            return dataset.get(self.tag)
        group, offset = divmod(self.tag, 1 << 16)
        try:
            return dataset.private_block(group, self.creator)[offset]
        except KeyError:
            return None


@dataclasses.dataclass(frozen=True)
class Element:
    """An element of a header, or a path through sequences to one."""

    spec: str  # the canonical spelling: keywords if there are any, hexadecimal in capitals
    _steps: tuple[_Step, ...]

    def read(self, dataset: Dataset) -> tuple[str, ...] | None:
        """Reads all values as text, from all items of sequences in order, within `quiet()`.

        Returns:
            The values; () if the element is empty, None if it is absent. A value that cannot be
            converted is `DAMAGED`.
        """
        return _read(dataset, self._steps)


def parse_element(spec: str) -> Element:
    """Parses the spelling of an element.

    Args:
        spec: A keyword, "(gggg,eeee)", "gggg,eeee" or '(gggg,"private creator",ee)'. Or a path of
            these, joined by dots; all but the last are sequences, which may have an index.

    Raises:
        ValueError: The spelling is wrong; the message has a remedy.
    """
    steps = []
    position = 0
    while not steps or position < len(spec):
        match = _STEP.match(spec, position)
        if match is None or spec[match.end() : match.end() + 1] not in ("", "."):
            raise ValueError(f"cannot read element '{spec}'; {_SPELLINGS}")
        steps.append(_parse_step(match))
        position = match.end() + 1
    if spec.endswith("."):
        raise ValueError(f"'{spec}' names a sequence but no element in it; {_SPELLINGS}")
    for step in steps[:-1]:
        is_known = step.creator is None and keyword_for_tag(step.tag)
        if is_known and dictionary_VR(step.tag) != "SQ":
            raise ValueError(f"'{step}' in '{spec}' is not a sequence and holds no other element")
    if steps[-1].index is not None:
        raise ValueError(f"an index selects an item; name an element in it: '{spec}.…'")
    if steps[0].tag >> 16 == _META or steps[0].tag >> 16 >= _PIXELS:
        raise ValueError(f"'{spec}' is not read: file meta information, or not before the pixels")
    return Element(".".join(map(str, steps)), tuple(steps))


def _parse_step(match: re.Match[str]) -> _Step:
    index = None if match["index"] is None else int(match["index"])
    if match["private"]:
        group = int(match["private"], 16)
        if group % 2 == 0:
            raise ValueError(f"'{match[0]}' is not private: private groups are odd")
        return _Step((group << 16) + int(match["offset"], 16), match["creator"], index)
    if match["keyword"]:
        tag = tag_for_keyword(match["keyword"])
    else:
        tag = int(match["group"] + match["number"], 16)
        is_known = keyword_for_tag(tag) or (tag >> 16) % 2
        tag = tag if is_known else None
    if tag is None:
        raise ValueError(f"unknown element '{match[0]}'; {_SPELLINGS}")
    return _Step(tag, None, index)


def _read(dataset: Dataset, steps: tuple[_Step, ...]) -> tuple[str, ...] | None:
    step, rest = steps[0], steps[1:]
    try:
        element = step.find(dataset)
        found = None if element is None else element.value
    # pydicom converts only now, and may raise any exception on a malformed element.
    except Exception:
        return (DAMAGED,)
    if element is None:
        return None
    if not rest:
        return _texts(found)
    if not isinstance(found, Sequence):
        return (DAMAGED,)
    items = found if step.index is None else found[step.index : step.index + 1]
    parts = [part for item in items if (part := _read(item, rest)) is not None]
    # Absent only if it is absent in every item.
    return tuple(text for part in parts for text in part) if parts else None


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, Sequence):
        return (_SEQUENCE,) * bool(value)
    if isinstance(value, bytes):
        # A private element of unknown value representation; most are text.
        text = value.decode("utf-8", "replace").rstrip("\0 ")
        value = text.split("\\") if text.isprintable() and "�" not in text else [_BINARY]
    texts = tuple(map(str, value)) if isinstance(value, MultiValue | list) else (str(value),)
    return texts if any(text.strip() for text in texts) else ()
