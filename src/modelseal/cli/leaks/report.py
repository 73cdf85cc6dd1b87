"""The lines of the report of `modelseal leakcheck`."""

from dataclasses import asdict, dataclass, field
from typing import Any

from modelseal.cli.leaks.places import Search


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
    note: str = ""
    """Why it could not be looked at, or what else is to be known."""

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
        if self.proven and self.read:
            return "clean"
        if self.note or self.proven:
            return "not looked at"
        return "search failed"

    def fields(self) -> dict[str, Any]:
        """Return what `--json` says."""
        return asdict(self) | {"verdict": self.verdict}
