"""Opening the place that a SEALED argument names."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from modelseal.sources import Source, open_source


@contextlib.contextmanager
def open_sealed(
    place: str, *, ca_file: Path | None = None, token_file: Path | None = None
) -> Iterator[Source]:
    """Open a folder or an address; closed at the end of the block."""
    source = open_source(place, ca_file=ca_file, token_file=token_file)
    try:
        yield source
    finally:
        source.close()
