"""Replacing `seal.json` as a whole: readers see the old one or the new one, never a part."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from modelseal import contract
from modelseal.envelope.output import write_error
from modelseal.errors import OutputFailed, SourceChanged, shown


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait for, and hold, the folder's lock, so that two rewraps come one after the other.

    Raises:
        OutputFailed: the folder cannot be locked.

    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OutputFailed(f"failed to lock {shown(str(folder))}: {error.strerror}") from error
    try:
        with contextlib.suppress(OSError):  # where locks are not known, `expected` is what is left
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
            raise SourceChanged(
                f"failed to replace {shown(str(target))}: somebody else replaced it meanwhile",
                hint="run the command again",
            )
        _replace(target, content)
    except OSError as error:
        raise write_error(target, error, verb="replace") from error


def _replace(target: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, _mode(target))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync_folder(target.parent)


def _mode(target: Path) -> int:
    """Return the old file's permissions; a new one is for everybody to read."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        return 0o644


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
