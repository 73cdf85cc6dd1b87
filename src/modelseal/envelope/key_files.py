"""Reading and writing small key files; the private half is its owner's alone."""

import contextlib
import os
from pathlib import Path
from typing import Final

from modelseal.envelope.output import write_error
from modelseal.errors import InputUnreadable, SettingsError, shown

_MAX_BYTES: Final = 16 << 10


def read_key_file(path: Path) -> bytes:
    """Return the content of a key file, which is small.

    Raises:
        InputUnreadable: it cannot be read.
        SettingsError: it is too long to hold a key.

    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputUnreadable(f"failed to read {shown(str(path))}: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise SettingsError(f"failed to read {shown(str(path))}: it is too long to be a key")
    return data


def write_key_pair(private_path: Path, private: bytes, public: bytes) -> None:
    """Write a private key (0600) and, beside it, its `.pub` (0644); never over existing files.

    Raises:
        OutputFailed: one of the two exists already or cannot be written; neither is left.

    """
    public_path = private_path.with_name(f"{private_path.name}.pub")
    _write_all((private_path, private, 0o600), (public_path, public, 0o644))


def write_secret_key(path: Path, key: bytes) -> None:
    """Write a key (0600), never over an existing file.

    Raises:
        OutputFailed: it exists already or cannot be written; nothing of it is left.

    """
    _write_all((path, key, 0o600))


def _write_all(*files: tuple[Path, bytes, int]) -> None:
    """Write all of these files, each with its mode, or none."""
    with contextlib.ExitStack() as undo:
        for path, data, mode in files:
            try:
                _write_new(path, data, mode, undo)
            except OSError as error:
                raise write_error(path, error) from error
        undo.pop_all()


def _write_new(path: Path, data: bytes, mode: int, undo: contextlib.ExitStack) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    undo.callback(path.unlink, missing_ok=True)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
