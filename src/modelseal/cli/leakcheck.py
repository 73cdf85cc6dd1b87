"""`modelseal leakcheck`: a model of canaries is served on this machine, and then looked for."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelseal.cli import console
from modelseal.cli import options as opt
from modelseal.cli.leaks import places, plants
from modelseal.cli.leaks.drive import Life, Serving
from modelseal.cli.leaks.needles import Needle
from modelseal.cli.leaks.places import Search

EXAMPLES: Final = """\
modelseal leakcheck
modelseal leakcheck --json | jq '.[] | select(.verdict != "clean")'
"""
_ROOTS: Final = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - looked into, not written to


@dataclass(kw_only=True)
class Place:
    """One line of the report."""

    place: str
    sought: str
    promised: bool
    """Whether a finding breaks a promise of docs/threat-model.md."""
    search: str
    """Which search looked; each is shown to find what was planted."""
    read: int = 0
    unreadable: int = 0
    found: list[str] = field(default_factory=list)
    proven: bool = False

    def add(self, search: Search) -> None:
        """Take up what one more search saw."""
        self.read += search.read
        self.unreadable += search.unreadable
        self.found += search.found

    @property
    def verdict(self) -> str:
        """What the report says."""
        if self.found:
            return "LEAK" if self.promised else "found"
        if not self.proven:
            return "search failed"
        return "clean" if self.read else "not searched"


def command(json: opt.Json = False) -> int:
    """Look for plaintext and keys wherever they must not be.

    Makes a model whose weights, layers and file names are canaries; seals it, has it refused,
    serves it, asks it, crashes both programs, and then looks for the canaries and the keys in
    files, memory, environments, command lines, logs and answers. Each search first has to find what
    is planted for it. Memory can be searched by root only. Exit code 1 says that something leaked.
    """
    with tempfile.TemporaryDirectory(prefix="modelseal-leakcheck-") as name:
        report = check(Path(name).resolve())
    if json:
        console.show_json([asdict(each) | {"verdict": each.verdict} for each in report])
    else:
        _show(report)
    return 1 if any(each.verdict in ("LEAK", "search failed") for each in report) else 0


def check(folder: Path) -> list[Place]:
    """Live through a canary model's life in a new, empty folder; returns the report."""
    began = time.time() - 1
    proven = plants.searches_that_find(folder / "planted")
    life = Life.begin(folder)
    report = _Report.empty(life)
    first = life.seal("first")
    life.be_refused(first)
    report.secrets = life.secrets(first)
    with life.served(first) as serving:
        life.ask(serving)
        report.look_at(serving)
    second = life.seal("second")
    report.secrets += life.secrets(second)
    for program in ("runtime", "agent"):
        with life.served(second) as serving:
            life.ask(serving)
            report.look_at(serving)
            serving.crash(program)
    report.look_around(life, began)
    for place in report.places.values():
        place.proven = proven[place.search]
    return list(report.places.values())


@dataclass(kw_only=True)
class _Report:
    """The places, and what is looked for there."""

    places: dict[str, Place]
    plain: tuple[Needle, ...]
    secrets: tuple[Needle, ...] = ()

    @classmethod
    def empty(cls, life: Life) -> "_Report":
        """Name the places."""
        kept = [
            Place(place="files, crashes included", sought="all", promised=True, search="files"),
            Place(place="open files", sought="all", promised=True, search="open files"),
            Place(
                place="environments, command lines",
                sought="all",
                promised=True,
                search="surroundings",
            ),
            Place(place="logs, errors, answers", sought="all", promised=True, search="texts"),
            Place(place="runtime's memory", sought="keys", promised=True, search="memory"),
            Place(place="command's memory", sought="plaintext", promised=True, search="memory"),
            Place(place="agent's memory", sought="all", promised=False, search="memory"),
            Place(place="swap", sought="any page", promised=True, search="surroundings"),
        ]
        return cls(places={each.place: each for each in kept}, plain=life.canary.needles)

    def look_at(self, serving: Serving) -> None:
        """Search the running programs."""
        needles = (*self.plain, *self.secrets)
        for name, pid in serving.programs.items():
            self.places["open files"].add(places.search_open_files(pid, needles))
            self.places["environments, command lines"].add(places.search_surroundings(pid, needles))
            swapped = places.swapped(pid)
            self.places["swap"].add(
                Search(read=1, found=[f"{swapped} KiB of the {name}"] if swapped else [])
            )
        for name, sought in (
            ("runtime", self.secrets),
            ("command", self.plain),
            ("agent", needles),
        ):
            search = places.search_memory(serving.programs[name], sought)
            self.places[f"{name}'s memory"].add(search)

    def look_around(self, life: Life, began: float) -> None:
        """Search what is left when everything has ended."""
        needles = (*self.plain, *self.secrets)
        self.places["logs, errors, answers"].add(places.search_texts(life.texts, needles))
        roots = {life.folder, Path.home(), *map(Path, _ROOTS), Path(tempfile.gettempdir())}
        self.places["files, crashes included"].add(
            places.search_files(
                sorted(roots), needles, since=began, but=[life.inputs, life.folder / "planted"]
            )
        )


def _show(report: Sequence[Place]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("place", "sought", "read", "unreadable", "verdict"):
        table.add_column(title)
    for each in report:
        cells = (each.place, each.sought, str(each.read), str(each.unreadable), each.verdict)
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)
    for each in report:
        for found in sorted(set(each.found)):
            console.note(f"{each.place}: {console.printable(found)}")
