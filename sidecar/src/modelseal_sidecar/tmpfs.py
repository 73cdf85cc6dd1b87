"""Delivery as files on a memory-backed volume, for servers that are not ours (design section 8).

Weaker than memfd: the files have a path, and what the server copied stays with it. The server sees
all files or none, because a finished directory is renamed into place. Only names of our own are
ever removed, so a wrong setting cannot clear somebody's directory.
"""

import ctypes
import errno
import logging
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

from modelseal.contract import Reason
from modelseal.errors import (
    DeliveryError,
    IndexInvalid,
    ModelsealError,
    NotMemoryBacked,
    OutOfMemory,
    SettingsError,
    shown,
)
from modelseal.handover import File
from modelseal_sidecar.delivery import Parcel
from modelseal_sidecar.logs import log
from modelseal_sidecar.status import Board

CURRENT: Final = "current"
"""The directory below the volume that the server reads."""
_STAGING: Final = ".incoming"
_MEMORY_BACKED: Final = frozenset({0x01021994, 0x858458F6})  # TMPFS_MAGIC, RAMFS_MAGIC
_STATFS_BYTES: Final = 256
_CHUNK: Final = 16 << 20


class TmpfsDelivery:
    """Writes a parcel's files where the server finds them, and wipes them when the lease ends."""

    memory_name: str | None = None
    again: bool = True

    def __init__(
        self, directory: Path, board: Board, check: Callable[[], None], *, private: bool
    ) -> None:
        """Prepare a delivery.

        Args:
            directory: the root of a memory-backed volume.
            board: where the state shows.
            check: raises where the agent was told to stop; called between chunks.
            private: whether the server has our own uid, so that nobody else needs to read.

        """
        self._directory: Final = directory
        self._board: Final = board
        self._check: Final = check
        self._private: Final = private

    def start(self) -> None:
        """Refuse a directory on a disk, and remove what an earlier agent left.

        Raises:
            NotMemoryBacked: the directory is on another kind of file system.
            SettingsError: it cannot be used.

        """
        require_memory_backed(self._directory)
        self._board.change(healthy=False)
        self._wipe()

    def has_room(self) -> bool:
        """Return true: what an earlier agent left was wiped at the start."""
        return True

    def deliver(self, parcel: Parcel, valid_for: float) -> None:
        """Write all files aside and rename them into place; the parcel's memory is given back.

        Raises:
            OutOfMemory: the volume has no room for the model.
            DeliveryError: a file cannot be written.

        """
        staging = self._directory / _STAGING
        try:
            with parcel.memory:
                self._make(staging)
                for file in parcel.files:
                    self._write(staging, file, parcel)
            os.rename(staging, self._directory / CURRENT)
        except OSError as error:
            self._wipe()
            raise _write_failed(error, parcel.model.size) from None
        except BaseException:
            self._wipe()
            raise
        log(logging.INFO, "the model was delivered", files=len(parcel.files))
        self._board.change(started=True, healthy=True)

    def extend(self, valid_for: float) -> None:
        """Do nothing: a server of others is ended by its liveness probe, not by a deadline."""

    def lost(self) -> ModelsealError | None:
        """Return nothing: files wait for any server."""
        return None

    def withdraw(self, reason: Reason) -> None:
        """Turn the liveness probe against the server, then zero, truncate and remove the files."""
        self._board.change(healthy=False)
        self._wipe()

    def released(self) -> bool:
        """Return true: the kubelet restarts the server, so there is nothing to wait for."""
        return True

    def close(self) -> None:
        """Remove everything."""
        self._board.change(healthy=False)
        self._wipe()

    def _make(self, directory: Path) -> None:
        directory.mkdir(mode=0o700 if self._private else 0o755)
        directory.chmod(0o700 if self._private else 0o755)  # whatever the umask is

    def _write(self, staging: Path, file: File, parcel: Parcel) -> None:
        """Copy one file chunk by chunk, freeing the memory behind, so that it is not held twice."""
        path = staging / _safe_path(file.path)
        for parent in reversed(path.relative_to(staging).parents[:-1]):
            if not (staging / parent).is_dir():
                self._make(staging / parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            for start in range(0, file.length, _CHUNK):
                self._check()
                length = min(_CHUNK, file.length - start)
                _write_all(descriptor, parcel.memory.view[file.offset + start :][:length])
                parcel.memory.discard(file.offset + start, length)
            os.fchmod(descriptor, 0o400 if self._private else 0o444)
        finally:
            os.close(descriptor)

    def _wipe(self) -> None:
        """Zero, truncate and remove every file of ours; whoever maps one sees zeros, then dies."""
        for root in (self._directory / CURRENT, self._directory / _STAGING):
            if root.is_symlink():
                root.unlink()
            for parent, _, files in os.walk(root):
                for file in files:
                    _wipe_file(Path(parent) / file)
            if root.is_dir():
                shutil.rmtree(root)


def require_memory_backed(directory: Path) -> None:
    """Refuse a directory that is not on tmpfs or ramfs.

    Raises:
        NotMemoryBacked: it is on another kind of file system.
        SettingsError: it cannot be looked at.

    """
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(directory), buffer) != 0:
        raise SettingsError(
            f"failed to deliver to {shown(str(directory))}: {os.strerror(ctypes.get_errno())}"
        )
    kind = ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF
    if kind not in _MEMORY_BACKED:
        raise NotMemoryBacked(
            f"failed to deliver to {shown(str(directory))}: it is not memory-backed"
        )


def _safe_path(path: str) -> PurePosixPath:
    """Return a relative path that stays below its root; the index was checked, this is for sure."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise IndexInvalid(f"failed to deliver {shown(path)}: it is not a relative path")
    return pure


def _write_all(descriptor: int, data: memoryview) -> None:
    with data:
        written = 0
        while written < len(data):
            with data[written:] as rest:
                written += os.write(descriptor, rest)


def _wipe_file(path: Path) -> None:
    if path.is_symlink():
        return
    path.chmod(0o600)
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        length = os.fstat(descriptor).st_size
        if length:
            with mmap.mmap(descriptor, length) as mapping:
                ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(mapping)), 0, length)
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _write_failed(error: OSError, size: int) -> DeliveryError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM):
        return OutOfMemory(
            f"failed to deliver the model: the volume has no room for {size} bytes",
            hint="raise the volume's sizeLimit and the container's memory limit",
        )
    return DeliveryError(f"failed to deliver the model's files: {error.strerror}")


def _load_libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.statfs.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
    return libc


_libc: Final = _load_libc()
