"""Replacing `seal.json` as a whole: readers see the old one or the new one, never a part."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Final

from modelseal import contract
from modelseal.errors import OutputFailed, OutputSpace, shown

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def replace_seal(folder: Path, content: bytes) -> None:
    """Write `seal.json` anew, durably, with the permissions of the old one.

    Raises:
        OutputSpace: the disk is full; the old one is as it was.
        OutputFailed: it cannot be written; the old one is as it was.

    """
    target = folder / contract.SEAL_NAME
    try:
        _replace(target, content)
    except OSError as error:
        kind = OutputSpace if error.errno in _NO_SPACE else OutputFailed
        raise kind(f"failed to replace {shown(str(target))}: {error.strerror}") from error


def _replace(target: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, target.stat().st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
