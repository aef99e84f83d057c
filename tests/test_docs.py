"""The docs name what the code has."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from tf_dicom_ce.dicom.flags import Flag
from tf_dicom_ce.dicom.refusals import Code

DOCS = Path(__file__).parents[1] / "docs"
PROSE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml", "setup.cfg")
PROSE += ("docs", "export", "script", "tf_dicom_ce", "benchmarks")


def test_every_code_is_documented_with_its_remedy():
    text = (DOCS / "intake.md").read_text()
    for code in Code:
        kind = "skipped" if code.is_skip else "unreadable"
        assert f"| `{code.value}` | {kind} | {code.remedy} |" in text


def test_every_flag_is_documented():
    text = (DOCS / "intake.md").read_text()
    for flag in Flag:
        assert f"| `{flag.slug}`{'*' * flag.needs_decoding} | {flag} |" in text


def test_every_message_of_troubleshooting_is_in_the_code():
    """A quoted message is a part of one text of the package; "…" stands for what is filled in."""
    texts = "\n".join(map(_texts, (DOCS.parent / "tf_dicom_ce").rglob("*.py")))
    quoted = re.findall(r"^\| `(.+?)` \|", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(quoted) > 40
    for message in quoted:
        assert re.search(".*".join(map(re.escape, message.split("…"))), texts), message


def _texts(path: Path) -> str:
    """Every text of a module on a line of its own."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            lines.append(
                "".join(
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            lines.append(node.value)
    return "\n".join(lines)


def test_spelling(program):
    """Of pages, docstrings, comments and messages."""
    command = [program("codespell", "codespell"), *PROSE]
    done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_tables_render_whole():
    """A blank line within a table ends it, and a cell more or less shifts a row."""
    root = DOCS.parent
    for path in (*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("export/*.md")):
        before, columns = "", 0
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("|"):
                cells = len(re.sub(r"\\\||`[^`]*`", "", line).split("|")) - 2
                if not before.startswith("|"):  # the head of a table; its rule has to follow
                    columns, head = cells, number
                assert cells == columns, (
                    f"{path}, line {number}: {cells} cells instead of {columns}"
                )
                if number == head + 1:
                    assert set(line) <= set("|-: "), (
                        f"{path}, line {number}: a table without a head"
                    )
            before = line


def test_the_site_is_whole(tmp_path):
    """Every link leads somewhere, on the page too; what cannot be read of a docstring is told."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=DOCS.parent, env=quiet, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    first = (tmp_path / "index.html").read_text()
    assert '<a href="results/#' in first or '<a href="results/"' in first
    assert (
        'id="tf_dicom_ce.models.gan.ContextEncoderGAN"'
        in (tmp_path / "api/models/index.html").read_text()
    )
    notebooks = tmp_path / "notebooks"
    assert (
        '<img alt="What the cell draws" src="../arrays-1.png"'
        in (notebooks / "arrays/index.html").read_text()
    )
    assert (notebooks / "arrays-1.png").read_bytes().startswith(b"\x89PNG")
    assert "class ContextEncoderGAN" in re.sub(
        "<[^>]*>", "", (tmp_path / "source/tf_dicom_ce/models/gan-py/index.html").read_text()
    )
