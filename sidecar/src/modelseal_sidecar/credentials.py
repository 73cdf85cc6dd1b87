"""Reading secrets from files: bounded, into buffers of ours, and never quoted in a message."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from modelseal.errors import InputUnreadable, SettingsError, shown
from modelseal.secret import Secret

MAX_PASSPHRASE_BYTES: Final = 1024
MAX_TOKEN_BYTES: Final = 64 << 10
_INHERITED: Final = re.compile(r"/(dev|proc/self)/fd/[0-9]+")


def read_line(path: Path, limit: int, what: str) -> Secret:
    """Return the first line of a file that holds no more than it, without its end.

    Raises:
        InputUnreadable: the file cannot be read.
        SettingsError: the line is empty or longer than `limit` bytes.

    """
    content = bytearray(limit + 3)
    try:
        length = _fill(path, content)
    except OSError as error:
        raise InputUnreadable(
            f"failed to read {what} from {shown(str(path))}: {error.strerror}"
        ) from None
    end = content.find(b"\n", 0, length)
    line = Secret(memoryview(content)[: length if end < 0 else end])
    content[:] = bytes(len(content))
    if line.buffer.endswith(b"\r"):
        del line.buffer[-1]
    if not 0 < len(line) <= limit:
        line.wipe()
        raise SettingsError(
            f"failed to read {what} from {shown(str(path))}: "
            f"its line is empty or longer than {limit} bytes"
        )
    return line


def passphrase_reader(path: Path | None) -> Callable[[], Secret] | None:
    """Return a function that reads the passphrase file each time it is needed.

    An inherited pipe (`/dev/fd/N`, `/proc/self/fd/N`) can be read only once, so what it held is
    kept, in a buffer of ours, for as long as the agent lives.

    Raises:
        InputUnreadable: an inherited descriptor cannot be read.
        SettingsError: it holds nothing, or too much.

    """
    if path is None:
        return None
    if not _INHERITED.fullmatch(str(path)):
        return lambda: read_line(path, MAX_PASSPHRASE_BYTES, "the passphrase")
    kept = read_line(path, MAX_PASSPHRASE_BYTES, "the passphrase")
    return lambda: Secret(kept.buffer)


def _fill(path: Path, buffer: bytearray) -> int:
    """Read until the end of the file or of the buffer, whichever comes first."""
    length = 0
    with path.open("rb", buffering=0) as file, memoryview(buffer) as view:
        while count := file.readinto(view[length:]):
            length += count
    return length
