"""Progress of long work: a bar on a terminal, elsewhere a line every minute."""

import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import Progress

_EVERY = 60.0  # seconds


class Bar(Progress):
    """Shows tasks on standard error; on a terminal the bars go away at the end.

    Args:
        shown: Whether anything is shown.
        auto_refresh: Whether a thread of its own draws the bars of `track`. It could not be joined
            where a generator is collected.
    """

    def __init__(self, shown: bool = True, auto_refresh: bool = True):
        console = Console(stderr=True)
        self._lines = shown and not console.is_terminal
        disable = not (shown and console.is_terminal)
        super().__init__(
            console=console, transient=True, auto_refresh=auto_refresh, disable=disable
        )
        self._told = time.monotonic()

    def track(
        self, sequence: Iterable, total: float | None = None, *, description: str = "", **options
    ) -> Iterator:
        """Yields the elements; `total` is their number."""
        if not self.disable:
            yield from super().track(sequence, total, description=description, **options)
            return
        for done, element in enumerate(sequence, 1):
            yield element
            self._tell(description, done, total)

    def advance(self, task_id, advance: float = 1) -> None:
        """Moves a task of `add_task` on."""
        super().advance(task_id, advance)
        task = self._tasks[task_id]
        self._tell(task.description, task.completed, task.total)

    def _tell(self, description: str, done: float, total: float | None) -> None:
        if self._lines and time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            share = f" ({done / total:.0%})" if total else ""
            line = f"{description}: {done:,.0f} of {total or done:,.0f}{share}"
            self.console.print(line, highlight=False, soft_wrap=True)
