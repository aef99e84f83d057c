"""A TOML file with its text at hand, since tomllib does not tell the lines of values."""

import re
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from tf_dicom_ce.dicom.rules import SchemaError


class SchemaToml:
    """The content of a schema file, taken apart with checks that name the line of a mistake.

    Where a method takes `index`, it is the number of the [[tag]], or None for the top of the file.
    """

    def __init__(self, path: Path):
        """Reads the file.

        Raises:
            SchemaError: It cannot be read, or is not TOML.
        """
        self._name = path.name
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SchemaError(f"{path.name}: cannot be read ({type(error).__name__})") from error
        self._lines = text.splitlines()
        headers = [i for i, s in enumerate(self._lines) if re.match(r"\s*\[\[\s*tag\s*]]", s)]
        self._starts = [*headers, len(self._lines)]
        try:
            self.content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"at line (\d+)", str(error))
            # Without a line tomllib means the end of the document.
            where = int(line.group(1)) if line else max(len(self._lines), 1)
            raise SchemaError(f"{path.name}, line {where}: {error}") from error

    def check_keys(self, index: int | None, table: dict[str, Any], known: set[str]) -> None:
        """Refuses a key that is not known."""
        for key in table.keys() - known:
            self.fail(index, f"unknown key '{key}'; keys are {', '.join(sorted(known))}", key)

    def expect(
        self, index: int | None, table: dict[str, Any], key: str, kind: type, default: Any = None
    ) -> Any:
        """The value of a key, of a certain type."""
        value = table.get(key, default)
        if not isinstance(value, kind):
            said = "is missing" if value is None else f"must be a {kind.__name__}"
            self.fail(index, f"'{key}' {said}", key)
        return value

    def strings(self, index: int | None, table: dict[str, Any], key: str) -> tuple[str, ...]:
        """The value of a key that holds a list of strings; () without the key."""
        values = self.expect(index, table, key, list, [])
        if not all(isinstance(v, str) for v in values):
            self.fail(index, f"'{key}' must be a list of strings", key)
        return tuple(values)

    def fail(self, index: int | None, message: str, needle: str, nth: int = 0) -> NoReturn:
        """Raises with a line of the tag's block, or of what stands above them all.

        Args:
            index: The tag.
            message: What is wrong.
            needle: The line is one that holds this text, as a string of its own if there is such.
            nth: Which one of these lines' occurrences of `needle`.
        """
        bounds = (0, *self._starts)
        block = 0 if index is None else index + 1
        # Tags written as inline tables have no block of their own.
        start, stop = bounds[block : block + 2] if block + 1 < len(bounds) else (0, bounds[-1])
        for spelling in (f'"{needle}"', f"'{needle}'", needle):
            hits = [i for i in range(start, stop) for _ in range(self._lines[i].count(spelling))]
            if hits:
                break
        line = hits[min(nth, len(hits) - 1)] if hits else start
        raise SchemaError(f"{self._name}, line {line + 1}: {message}")
