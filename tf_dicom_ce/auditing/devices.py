"""Finds groups that come from one device or collection, so that their style gives them away."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from tf_dicom_ce.intake.index import Row

#: Least share of a group's files from one source, and of the other files from other sources.
_NEARLY_ALL, _MANY = 0.95, 0.5
#: Least number of patients of a folder that counts as a collection.
_COLLECTION = 10


def single_sources(rows: Sequence[Row], groups: Sequence[str | None]) -> Iterator[str]:
    """Describes groups that come from one manufacturer, station or collection, unlike others.

    A model may then recognise the device (screen, gray map, speckle) instead of the content.

    Args:
        rows: The files.
        groups: Group of each file, or None.
    """
    for what, sources in (
        ("manufacturer", [row.device.manufacturer for row in rows]),
        ("station", [row.device.station for row in rows]),
        ("folder", _collections(rows)),
    ):
        pairs = Counter(
            (group, source)
            for group, source in zip(groups, sources, strict=True)
            if group is not None and source
        )
        of_group, of_source = Counter(), Counter()
        for (group, source), n in pairs.items():
            of_group[group] += n
            of_source[source] += n
        for (group, source), n in sorted(pairs.items()):
            inside = n / of_group[group]
            outside = (of_source[source] - n) / max(pairs.total() - of_group[group], 1)
            if len(of_source) > 1 and inside >= _NEARLY_ALL and outside <= _MANY:
                yield (
                    f"{inside:.0%} of the files of «{group}» come from one {what}, but only "
                    f"{outside:.0%} of the others: the model may recognise the {what} instead of "
                    "the content."
                )


def _collections(rows: Sequence[Row]) -> list[str]:
    """The first folder of each path if it holds several patients; else ""."""
    folders = [row.path.split("/")[0] if "/" in row.path else "" for row in rows]
    patients = defaultdict(set)
    for folder, row in zip(folders, rows, strict=True):
        patients[folder].add(row.patient)
    return [folder if len(patients[folder]) >= _COLLECTION else "" for folder in folders]
