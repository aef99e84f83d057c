"""Whether a group comes from one device or collection, so that its style gives it away."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from tf_dicom_ce.intake.index import Row

#: Share of a group's files that are of one source, and of the others that are not.
_NEARLY_ALL, _MANY = 0.95, 0.5
#: Patients that a folder holds at least, to count as a collection.
_COLLECTION = 10


def single_sources(rows: Sequence[Row], groups: Sequence[str | None]) -> Iterator[str]:
    """Sentences on groups that come from one manufacturer, station or collection, unlike others.

    A model then may tell the device (screen, gray map, speckle) and not what is shown.

    Args:
        rows: The files.
        groups: Group of each; None: it has none.
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
                    f"{inside:.0%} of the files of «{group}» are of one {what}, and "
                    f"{outside:.0%} of the others: the picture may tell the {what}, and not what "
                    "it shows."
                )


def _collections(rows: Sequence[Row]) -> list[str]:
    """The first folder of each path, where it holds several patients; else ""."""
    folders = [row.path.split("/")[0] if "/" in row.path else "" for row in rows]
    patients = defaultdict(set)
    for folder, row in zip(folders, rows, strict=True):
        patients[folder].add(row.patient)
    return [folder if len(patients[folder]) >= _COLLECTION else "" for folder in folders]
