"""A tag schema to fill in: the values that the schema of an index does not know."""

import collections
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tf_dicom_ce.intake.coverage import TagCoverage
from tf_dicom_ce.intake.index import Index
from tf_dicom_ce.tags.elements import DAMAGED
from tf_dicom_ce.tags.rules import normalise
from tf_dicom_ce.whole_files import write_text

#: Name of the file.
SKELETON = "tags.toml"
_HEAD = """\
# The values that the schema does not know, most frequent first. To map a value, delete the # in
# front of it and write its labels: ["a"], ["a", "b"], or [] if it has none of them. A value that
# stays behind its # stays unknown. Then give this file to all commands: --tags {path}
"""


def write_skeleton(index: Index, tags: str, folder: Path) -> str:
    """Writes `SKELETON`, which extends the index's schema, for this user alone.

    An existing file is kept, because it may have been filled in.

    Args:
        index: The index; its folder has to exist.
        tags: The index's schema, as given: the name of a shipped one, or a path.
        folder: Folder of the report.

    Returns:
        What was done, as a sentence; "" if there is no unmapped value.
    """
    path = folder / SKELETON
    blocks = [
        block
        for tag in index.schema.tags
        if (block := list(_block(tag.name, tag.labels, index.coverage.tags[tag.name])))
    ]
    if not blocks:
        return ""
    if path.exists():
        return f"{path} is there already and was kept."
    extended = os.path.relpath(tags, folder) if Path(tags).is_file() else tags
    head = _HEAD.format(path=path)
    head += f"name = {_quoted(f'{index.schema.name}, extended')}\nextends = {_quoted(extended)}\n"
    write_text(
        path, "\n".join([head, *("\n".join(block) + "\n" for block in blocks)]), private=True
    )
    return f"To map the unmapped values, fill in {path} and give it as --tags."


def _block(name: str, labels: tuple[str, ...], found: TagCoverage) -> Iterator[str]:
    """The lines of a tag; none if it has no unmapped value."""
    counts, spellings = collections.Counter(), {}
    for values, number in found.unmapped_values.items():
        for value in values.split("\\"):  # a value of its own each
            if normalise(value) not in ("", normalise(DAMAGED)):
                counts[normalise(value)] += number
                spellings.setdefault(normalise(value), value)
    if not counts:
        return
    yield from ("[[tag]]", f"name = {_quoted(name)}")
    yield f"# labels: {', '.join(map(_quoted, labels))}"
    yield from ("", "[tag.map]")
    for key, number in counts.most_common():
        near, own = found.suggestions.get(spellings[key], ("", ()))
        hint = f"; close to {_quoted(near)}: {json.dumps(own, ensure_ascii=False)}" if near else ""
        yield f"# {_quoted(spellings[key])} = []  # {number} files{hint}"


def _quoted(text: str) -> str:
    """A text in TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
