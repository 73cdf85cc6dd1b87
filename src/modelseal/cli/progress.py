"""Progress on stderr, and nothing where nobody watches."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Watched = contextlib.AbstractContextManager[Callable[[int], None]]


def in_bytes(title: str, total: int) -> Watched:
    """Show a bar while the block runs; yields what to call with each further count of bytes."""
    return _bar(title, total, DownloadColumn(), TransferSpeedColumn())


def in_steps(title: str, total: int) -> Watched:
    """Show a bar while the block runs; yields what to call with each further count of steps."""
    return _bar(title, total, MofNCompleteColumn())


@contextlib.contextmanager
def _bar(title: str, total: int, *columns: ProgressColumn) -> Iterator[Callable[[int], None]]:
    console = Console(file=sys.stderr)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)
