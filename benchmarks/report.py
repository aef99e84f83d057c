"""Puts what was measured into a Markdown file, between its marks, and leaves the prose alone.

A block stands between `<!-- name -->` and `<!-- /name -->`: `goals`, `machine`, and one for each
benchmark.
"""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.plot import draw
from benchmarks.tables import Goal, Table


def write(document: Path, records: Mapping[str, dict], benchmarks: Mapping) -> None:
    """Renders the records; a block without one is left as it is.

    Args:
        document: Markdown with the marks; a picture of the same name is drawn beside it.
        records: Benchmark -> its record.
        benchmarks: Benchmark -> its tables and goals.
    """
    results = {name: record["results"] for name, record in records.items()}
    goals = [goal for name in results for goal in benchmarks[name].goals(results[name])]
    blocks = {"goals": _goals(goals).markdown(), "machine": _machines(records).markdown()}
    for name in results:
        tables = "\n\n".join(table.markdown() for table in benchmarks[name].tables(results[name]))
        blocks[name] = f"`{records[name]['command']}`\n\n{tables}"
    text = document.read_text()
    for name, block in blocks.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not end:
            raise ValueError(f"{document.name} has no place for {name}.")
        text = f"{before}{mark}\n{block}\n\n{end}{after}"
    document.write_text(text)
    draw(results, document.with_suffix(".svg"))


def _goals(goals: list[Goal]) -> Table:
    rows = [[g.what, g.wanted, g.found, "yes" if g.met else "**no**"] for g in goals]
    return Table("Goals", ("", "wanted", "found", "met"), rows)


def _machines(records: Mapping[str, dict]) -> Table:
    """One row for what all records have in common, more where they differ."""
    rows = []
    for record in records.values():
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        row = [record["date"], *record["machine"].values(), versions]
        if row not in rows:
            rows.append(row)
    header = ["date", *next(iter(records.values()))["machine"], "versions"]
    return Table("Machine", header, rows)
