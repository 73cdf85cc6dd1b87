"""Replacing `seal.json` as a whole, with a name for each way in which that fails."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from modelseal import contract
from modelseal.cli import atomic
from modelseal.envelope.output import write_error
from modelseal.errors import OutputFailed, SourceChanged, shown


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait for, and hold, the folder's lock, so that two rewraps come one after the other.

    Where locks are not known, what `replace_seal` expects is what is left.

    Raises:
        OutputFailed: the folder cannot be locked.

    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(atomic.locked(folder))
        except OSError as error:
            raise OutputFailed(f"failed to lock {shown(str(folder))}: {error.strerror}") from error
        yield


def replace_seal(folder: Path, content: bytes, *, expected: bytes | None) -> None:
    """Write `seal.json` anew, durably, with the permissions of the old one, if there is one.

    Raises:
        SourceChanged: somebody else replaced `expected` meanwhile; theirs stays.
        OutputSpace: the disk is full; the old one is as it was.
        OutputFailed: it cannot be written; the old one is as it was.

    """
    target = folder / contract.SEAL_NAME
    try:
        if expected is not None and target.read_bytes() != expected:
            raise seal_changed(str(target))
        atomic.replace_file(target, content)
    except OSError as error:
        raise write_error(target, error, verb="replace") from error


def seal_changed(place: str) -> SourceChanged:
    """Return what it is called that somebody else replaced a seal meanwhile."""
    return SourceChanged(
        f"failed to replace {shown(place)}: somebody else replaced it meanwhile",
        hint="run the command again",
    )
