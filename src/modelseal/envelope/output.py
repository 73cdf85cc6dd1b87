"""A folder that appears whole or not at all.

It is written beside its destination, synced to the disk, and renamed; whatever interrupts that, the
destination stays as it was.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from modelseal.errors import OutputFailed, OutputSpace, shown

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_error(path: Path, error: OSError, *, verb: str = "write") -> OutputFailed:
    """Return what a failure to write a path is called: a full disk has a name of its own."""
    kind = OutputSpace if error.errno in _NO_SPACE else OutputFailed
    return kind(f"failed to {verb} {shown(str(path))}: {error.strerror}")


class NewFolder:
    """The destination while it is being written; leaving the block without `publish` removes it."""

    def __init__(self, destination: Path) -> None:
        """Make the folder beside its destination.

        Raises:
            OutputFailed: the destination exists, or its parent does not or cannot be written.

        """
        self._destination = destination
        self._require_absent()
        name = f".{destination.name}.{secrets.token_hex(8)}.partial"
        self._folder = destination.parent / name
        self._published = False
        with self._writing():
            self._folder.mkdir()

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Callable[[int, memoryview], None]]:
        """Yield a function that writes bytes at an offset of a new file; thread-safe.

        Raises:
            OutputSpace: the disk is full.
            OutputFailed: it cannot be written.

        """
        path = self._folder / name
        with self._writing():
            path.parent.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

        def write(offset: int, data: memoryview) -> None:
            with self._writing():
                while data:
                    written = os.pwrite(descriptor, data, offset)
                    offset, data = offset + written, data[written:]

        try:
            yield write
            with self._writing():
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def publish(self) -> None:
        """Give the folder its name, durably.

        Raises:
            OutputFailed: somebody else made the destination meanwhile, or the disk failed.

        """
        with self._writing():
            for folder in (path for path in self._folder.iterdir() if path.is_dir()):
                _sync(folder)
            _sync(self._folder)
            self._require_absent()
            os.rename(self._folder, self._destination)
            self._folder = self._destination
            _sync(self._destination.parent)
        self._published = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._published:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _require_absent(self) -> None:
        if os.path.lexists(self._destination):
            raise OutputFailed(
                f"failed to write {shown(str(self._destination))}: it exists already",
                hint="choose another destination, or remove this one first",
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(self._destination, error) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
