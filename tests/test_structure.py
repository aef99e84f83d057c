"""Data flows one way: a file imports only what stands upstream of it."""

import ast
from pathlib import Path

import tf_dicom_ce

ROOT = Path(tf_dicom_ce.__file__).parent

#: Part of the package -> the parts it may import.
ALLOWED = {
    "__init__": set(),
    "errors": set(),
    "config": {"errors", "dicom"},
    "whole_files": {"errors"},
    "user_folders": set(),
    "config_file": {"config", "errors", "whole_files"},
    "metrics": set(),
    "user_tables": {"errors"},
    "dicom": set(),
    "tags": {"errors", "user_tables", "dicom"},
    "intake": {
        *("whole_files", "user_folders", "errors", "dicom", "tags", "workers", "templates"),
    },
    "workers": {"child_process", "dicom"},
    "child_process": set(),
    "masks": set(),
    "wording": set(),
    "templates": set(),
    "results": {"dicom", "masks"},
    "phantom": {"whole_files", "user_folders", "errors", "dicom", "workers", "masks"},
    "preprocessing": set(),
    "saved_model": {"whole_files", "errors", "preprocessing", "wording", "templates"},
    "models": {"config", "errors", "whole_files", "user_folders", "saved_model"},
    "data": {
        *("whole_files", "user_tables", "config", "errors", "dicom", "tags", "intake"),
        *("phantom", "preprocessing", "user_folders"),
    },
    "training": {
        *("whole_files", "config", "errors", "metrics", "data", "models"),
        *("masks", "wording", "preprocessing", "intake", "phantom", "saved_model", "templates"),
    },
    "tuning": {"whole_files", "config", "config_file", "child_process", "errors"},
    "study": {
        *("whole_files", "config", "config_file", "child_process", "errors", "metrics", "phantom"),
        "templates",
    },
    "prediction": {
        *("whole_files", "errors", "workers", "dicom", "intake", "data", "saved_model", "results"),
        *("masks", "preprocessing"),
    },
    "serving": {
        *("whole_files", "errors", "workers", "dicom", "intake", "data", "saved_model"),
        *("results", "masks", "preprocessing", "templates"),
    },
    "cli": {
        *("config", "config_file", "errors", "workers", "dicom", "intake", "phantom", "data"),
        *("training", "tuning", "study", "child_process", "whole_files", "prediction", "serving"),
    },
}
WITHOUT_TENSORFLOW = (
    *("__init__", "errors", "config", "config_file", "workers", "child_process"),
    *("whole_files", "user_tables", "dicom", "tags", "intake", "phantom", "masks"),
    *("user_folders", "wording", "results", "templates"),
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
