"""What MkDocs adds to `docs/`: pages from elsewhere in the repository, notebooks, and the API.

Links that lead out of `docs/` lead to these: README is the first page; a file of source code is a
page that shows it.
"""

import base64
import json
import pkgutil
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pygments.formatters import HtmlFormatter

_ROOT = Path(__file__).parents[1]
_PAGES = {
    "README.md": "index.md",
    "export/README.md": "export.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?(?: \"[^\"]*\")?\))")
_UNSEARCHED = "---\nsearch: {exclude: true}\n---\n\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Gives the pages of the API a place in the menu."""
    config.nav = [
        {"Python API": list(_api())} if "Python API" in entry else entry for entry in config.nav
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    for name, page in _PAGES.items():
        files.append(File.generated(config, page, content=(_ROOT / name).read_text()))
    for notebook in sorted((_ROOT / "docs" / "notebooks").glob("*.ipynb")):
        for name, content in _shown_notebook(notebook):
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    linked = (link for file in files.documentation_pages() for link in _leaving(file))
    for path in sorted(set(linked) - _PAGES.keys()):
        files.append(File.generated(config, _source_page(path), content=_shown(path)))
    for page, content in {**_api(), "site.css": _style()}.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links that lead out of `docs/` towards the pages that were added."""
    home = _home(page.file)

    def turned(match: re.Match) -> str:
        before, target, after = match.groups()
        path = _in_repository(home, target)
        if path is None:
            return match[0]
        to = _PAGES.get(path) or path.removeprefix("docs/")
        if to == path:
            to = _source_page(path)
        to = re.sub(r"\.ipynb$", ".md", to)
        return before + posixpath.relpath(to, posixpath.dirname(page.file.src_uri) or ".") + after

    return _LINK.sub(turned, markdown)


def _leaving(file: File) -> list[str]:
    """Files of the repository outside of `docs/` that a page links to."""
    found = (_in_repository(_home(file), link[1]) for link in _LINK.findall(file.content_string))
    return [path for path in found if path and not path.startswith("docs/")]


def _home(file: File) -> str:
    """The folder in the repository that a page's links start from."""
    elsewhere = {page: name for name, page in _PAGES.items()}.get(file.src_uri)
    return posixpath.dirname(elsewhere or f"docs/{file.src_uri}")


def _in_repository(home: str, target: str) -> str | None:
    """The file or folder in the repository that a link means; None: something else."""
    path = posixpath.normpath(posixpath.join(home, target))
    return path if ":" not in target and (_ROOT / path).exists() else None


def _source_page(path: str) -> str:
    return f"source/{path.replace('.', '-')}.md"


def _shown(path: str) -> str:
    """A file as it is; a folder as the list of its files."""
    place = _ROOT / path
    if place.is_dir():
        content = "\n".join(sorted(one.name for one in place.iterdir() if one.is_file()))
    else:
        content = place.read_text()
    language = {".py": "python"}.get(place.suffix, place.suffix.removeprefix("."))
    return f"{_UNSEARCHED}# {path}\n\n````{language}\n{content}\n````\n"


def _shown_notebook(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """A notebook as a page, behind its pictures; names and contents."""
    parts, pictures = [], 0
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            if picture := output.get("data", {}).get("image/png"):
                pictures += 1
                name = f"{path.stem}-{pictures}.png"
                parts.append(f"![What the cell draws]({name})")
                yield name, base64.b64decode(picture)
    parts.append(f'<a href="../{path.name}" download>Download this notebook</a>')
    yield f"{path.stem}.md", "\n\n".join(parts) + "\n"


def _style() -> str:
    """Colours of code, light and dark; wide tables move within themselves."""
    light, dark = (HtmlFormatter(style=name) for name in ("friendly", "github-dark"))
    rules = (
        light.get_style_defs(".highlight"),
        dark.get_style_defs("[data-bs-theme=dark] .highlight"),
        ".highlight { background: none }",
        "table { display: block; overflow-x: auto; }",
    )
    return "\n".join(rules)


def _api() -> dict[str, str]:
    """A page for each room of the package, and one for what a notebook imports."""
    import tf_dicom_ce

    start = "# Python API\n\nWhat `from tf_dicom_ce import …` gives:\n\n"
    links = (f"[{name}][tf_dicom_ce.{room}.{name}]" for name, room in tf_dicom_ce._PUBLIC.items())
    pages = {"api/index.md": start + "\n".join(f"- {link}" for link in links) + "\n"}
    for room in sorted((_ROOT / "tf_dicom_ce").iterdir()):
        if room.is_dir() and (room / "__init__.py").exists():
            names = sorted(module.name for module in pkgutil.iter_modules([str(room)]))
            modules = [f"::: tf_dicom_ce.{room.name}.{name}" for name in names]
            pages[f"api/{room.name}.md"] = f"# {room.name}\n\n" + "\n\n".join(modules) + "\n"
    return pages
