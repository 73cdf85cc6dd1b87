"""How long clients stay connected, and whether one is, which gRPC itself does not tell.

A server of gRPC cannot ask its clients to leave and answer on until they have left: when it stops,
it cancels the calls that come before they know. Only at the end of a connection's life is its
client asked first. So no life is longer than the drain, and the drain waits for the last one's end.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED: Final = "01"
LONGEST_SECONDS: Final = 600.0
"""Clients spread over new replicas after so long, however long the drain."""
SHORTEST_SECONDS: Final = 1.0
"""A shorter life would cost more than it brings, however short the drain."""


def life(drain_seconds: float) -> float:
    """Return the life of a connection that ends within a drain: gRPC adds up to a tenth."""
    return min(max(drain_seconds / 2, SHORTEST_SECONDS), LONGEST_SECONDS)


def connected(port: int) -> bool:
    """Return whether there is a connection to a port; no, where the system does not say."""
    return any(_ports(table, port) for table in _tables())


def _tables() -> Iterator[str]:
    for table in _TABLES:
        try:
            yield table.read_text(encoding="ascii")
        except OSError:
            continue


def _ports(table: str, port: int) -> bool:
    """Return whether a table of the kernel's has an open connection with this local port."""
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
            return True
    return False
