"""Data flows one way: a file imports only what stands upstream of it."""

import ast
import re
from pathlib import Path

import tf_dicom_ce

ROOT = Path(tf_dicom_ce.__file__).parent

#: Room of the package -> the rooms it may import; nobody imports what stands below it.
ALLOWED = {"__init__": set()}
for line in (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text().splitlines():
    if cells := re.fullmatch(r"\| `(\w+)` \| [^|]+ \| (–|[^|]+) \|", line):
        ALLOWED[cells[1]] = set(re.findall(r"`(\w+)`", cells[2]))
WITHOUT_TENSORFLOW = (
    *("__init__", "errors", "config", "config_file", "workers", "child_process"),
    *("whole_files", "user_tables", "dicom", "tags", "intake", "phantom", "masks"),
    *("user_folders", "wording", "results", "templates", "audit_log", "progress"),
)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts():
    for path in sorted(ROOT.rglob("*.py")):
        yield path, path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_part_has_its_place():
    assert {part for _, part in parts()} == set(ALLOWED)


def test_the_map_has_no_circle():
    """A room imports only rooms that stand above it."""
    above = set()
    for room, allowed in ALLOWED.items():
        assert allowed <= above, room
        above.add(room)


def test_imports_point_upstream():
    for path, part in parts():
        for name in imports(path):
            package, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if package == "tf_dicom_ce" and target in ALLOWED:
                assert target in ALLOWED[part] | {part}, f"{path} imports {name}"


def test_reading_dicom_needs_no_tensorflow():
    for path, part in parts():
        if part in WITHOUT_TENSORFLOW:
            packages = {name.partition(".")[0] for name in imports(path)}
            assert not packages & {"tensorflow", "keras"}, path


def test_tags_need_no_pixels():
    """Of `dicom` they know headers alone."""
    used = {name for path, part in parts() if part == "tags" for name in imports(path)}
    of_dicom = {name.split(".")[2] for name in used if name.startswith("tf_dicom_ce.dicom.")}
    assert of_dicom <= {"header", "quiet"}


def test_files_are_short():
    lengths = {path: len(path.read_text().splitlines()) for path, _ in parts()}
    assert {path: n for path, n in lengths.items() if n > 450} == {}
