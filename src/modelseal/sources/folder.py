"""A sealed model in a folder."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from modelseal.contract import MAX_SEAL_BYTES, SEAL_NAME
from modelseal.errors import (
    LimitExceeded,
    NotSealed,
    SourceChanged,
    SourceDenied,
    SourceError,
    SourceNotFound,
    SourceUnavailable,
    TrailingData,
    TruncatedError,
    shown,
)

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ORDINARY: Final = "put an ordinary file in its place; links and pipes are not followed"
_PLAIN_SUFFIXES: Final = (".xml", ".onnx", ".bin", ".tflite", ".pdmodel")


class FolderSource:
    """Reads below one folder; no link leads out of it."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path

    def read_seal(self) -> bytes:
        """Return `seal.json`; see `Source.read_seal`."""
        if os.path.isfile(self._path):
            raise NotSealed(f"failed to open {shown(str(self._path))}: it is a file, not a folder")
        try:
            descriptor = self._open(SEAL_NAME)
        except SourceNotFound as error:
            raise self._not_sealed() or error from None
        try:
            data = _read_up_to(descriptor, MAX_SEAL_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > MAX_SEAL_BYTES:
            raise LimitExceeded(f"failed to read {SEAL_NAME}: longer than {MAX_SEAL_BYTES} bytes")
        return data

    def open_payload(self, name: str, length: int) -> "FolderPayload":
        """Open one object; see `Source.open_payload`."""
        return FolderPayload(name, self._open(name), length)

    def describe(self) -> str:
        """Return the folder's path."""
        return str(self._path)

    def close(self) -> None:
        """Nothing is held open."""

    def _not_sealed(self) -> NotSealed | None:
        try:
            names = os.listdir(self._path)
        except OSError:
            return None
        plain = any(name.endswith(_PLAIN_SUFFIXES) for name in names)
        what = "it holds a plaintext model" if plain else f"there is no {SEAL_NAME} in it"
        return NotSealed(f"failed to open {shown(str(self._path))}: {what}")

    def _open(self, name: str) -> int:
        """Open a regular file below the folder, part by part, following no link."""
        opened = [self._open_folder()]
        try:
            *folders, last = name.split("/")
            for part in folders:
                opened.append(os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=opened[-1]))
            descriptor = os.open(last, _FILE, dir_fd=opened[-1])
        except OSError as error:
            raise _source_error(name, error) from None
        finally:
            for each in opened:
                os.close(each)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SourceDenied(
                f"failed to open {shown(name)}: it is not a regular file", hint=_ORDINARY
            )
        return descriptor

    def _open_folder(self) -> int:
        try:
            return os.open(self._path, _DIRECTORY)
        except OSError as error:
            raise _source_error(str(self._path), error) from None


class FolderPayload:
    """One opened file of known length."""

    def __init__(self, name: str, descriptor: int, length: int) -> None:
        self._name: Final = name
        self._length: Final = length
        self._descriptor = descriptor
        size = os.fstat(descriptor).st_size
        if size != length:
            self.close()
            kind = TruncatedError if size < length else TrailingData
            raise kind(f"failed to open {shown(name)}: it has {size} bytes, {length} are signed")

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer; see `Payload.read_into`."""
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            except OSError as error:
                raise _source_error(self._name, error) from None
            if count == 0:
                raise SourceChanged(f"failed to read {shown(self._name)}: it became shorter")
            done += count

    def close(self) -> None:
        """Give the descriptor back; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _read_up_to(descriptor: int, limit: int) -> bytes:
    data = bytearray()
    while len(data) < limit and (part := os.read(descriptor, limit - len(data))):
        data += part
    return bytes(data)


def _source_error(name: str, error: OSError) -> SourceError:
    text = f"failed to read {shown(name)}: {os.strerror(error.errno or errno.EIO)}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SourceNotFound(text)
    if error.errno == errno.ELOOP:
        return SourceDenied(text, hint=_ORDINARY)
    if error.errno in (errno.EACCES, errno.EPERM):
        return SourceDenied(text)
    return SourceUnavailable(text)
