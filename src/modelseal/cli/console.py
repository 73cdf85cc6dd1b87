"""What the terminal shows: results on stdout, words for people on stderr.

Messages are lower case and without a full stop, begin with the program's name, and say what to do
in a `hint:` line. Nothing here interprets markup, so a foreign text cannot change the terminal.
"""

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from modelseal.errors import ModelsealError, OutputFailed, OutputSpace

PROGRAM: Final = "modelseal"
_UNSHOWN: Final = "whatever the command made is there; only its result could not be shown"
_UNITS: Final = ("kB", "MB", "GB", "TB", "PB")


def note(text: str) -> None:
    """Tell the user something that is not the result."""
    _to_stderr(f"{PROGRAM}: {text}")


def note_plain(text: str) -> None:
    """Tell the user something, without the program's name before it."""
    _to_stderr(text)


def warn(text: str) -> None:
    """Tell the user about something that may not be wanted."""
    _to_stderr(f"{PROGRAM}: warning: {text}")


def fail(message: str, hint: str = "") -> None:
    """Say why the command failed, and what to do."""
    _to_stderr(f"{PROGRAM}: error: {message}")
    if hint:
        _to_stderr(f"{PROGRAM}: hint: {hint}")


def show_json(value: object) -> None:
    """Write one JSON document to stdout."""
    _to_stdout(json.dumps(value, indent=2) + "\n")


def show_text(text: str) -> None:
    """Write text to stdout as it is."""
    _to_stdout(text if text.endswith("\n") else f"{text}\n")


def show_fields(fields: Mapping[str, str | Sequence[str]]) -> None:
    """Write aligned `name  value` lines to stdout; a list goes below itself."""
    width = max(map(len, fields), default=0) + 2
    for name, value in fields.items():
        lines = [value] if isinstance(value, str) else list(value)
        for index, line in enumerate(lines or ["none"]):
            show_text(f"{name if index == 0 else '':{width}}{line}")


def show_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows in aligned columns to stdout, foreign characters escaped."""
    lines = [tuple(head), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        show_text("  ".join(cells).rstrip())


def error_fields(error: ModelsealError) -> dict[str, Any]:
    """Return what `--json` says about a failure."""
    return {
        "error": {
            "stage": error.stage.title,
            "reason": str(error.reason),
            "message": error.message,
            "hint": error.hint,
            "exitCode": error.exit_code,
        }
    }


def printable(text: str) -> str:
    """Return a foreign text with control characters escaped, so that it cannot steer a terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]


def human_size(length: int) -> str:
    """Return a size for people, such as `3.2 MB`; decimal units, as disks and networks use."""
    size = float(length)
    if size < 1000:
        return f"{length} bytes"
    for unit in _UNITS:
        size /= 1000
        if size < 999.95 or unit == _UNITS[-1]:
            break
    return f"{size:.1f} {unit}"


def _to_stdout(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _forget_stdout()
        if error.errno == errno.EPIPE:  # a reader that has seen enough
            raise
        kind = OutputSpace if error.errno == errno.ENOSPC else OutputFailed
        raise kind(f"failed to write to stdout: {error.strerror}", hint=_UNSHOWN) from error


def _forget_stdout() -> None:
    """Drop what could not be written, or the interpreter would try it again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _to_stderr(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody is there who could be told
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
