"""How the demo speaks: headings, short sentences, the commands it runs, and figures."""

import shlex
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

WIDTH: Final = 100


class Teller:
    """Writes the story to stderr, or nowhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._chapter = 0

    def chapter(self, title: str) -> None:
        """Begin a new chapter."""
        self._chapter += 1
        self._console.print()
        self._console.print(Rule(Text(f" {self._chapter}  {title} ", style="bold"), align="left"))

    def say(self, text: str) -> None:
        """Write one sentence."""
        self._console.print(Text(text))

    def ran(self, words: Sequence[str]) -> None:
        """Show a command as one would type it."""
        self._console.print(Text(f"  $ {shlex.join(words)}", style="cyan"))

    def answered(self, text: str) -> None:
        """Show what a command answered."""
        for line in text.rstrip("\n").splitlines():
            self._console.print(Text(f"    {line}", style="dim"))

    def good(self, text: str) -> None:
        """Write what has been shown."""
        self._console.print(Text("  ✓ ", style="green") + Text(text))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a small table."""
        table = Table(*columns, box=None, header_style="bold", padding=(0, 2))
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print(table)
