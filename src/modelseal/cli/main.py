"""The entry point: turns whatever happens into a message and an exit code.

Exit codes are documented in docs/cli.md: 0 done, 1 a fault of modelseal itself, 2 wrong usage, 10
and above an error of `modelseal.errors` (the decade is the stage), 130 interrupted, 143 terminated,
129 left by its terminal. Only this module catches errors, so a verb simply raises. It needs
the standard library only, so that a missing package is a message as well.
"""

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, Final, NoReturn

from modelseal.cli import console
from modelseal.cli.debug import debug_text, debugging
from modelseal.errors import ModelsealError, OutOfMemory, OutputFailed

EXIT_INTERNAL: Final = 1
EXIT_MISSING_PACKAGE: Final = 3
EXIT_INTERRUPTED: Final = 130
EXIT_SIGNAL: Final = 128
_STDOUT: Final = 1
_STDERR: Final = 2

EXTRAS: Final[Mapping[str, str]] = {
    "cryptography": "seal",
    "hvac": "vault",
    "requests": "vault",
    "urllib3": "http",
    "openvino": "engine",
    "numpy": "engine",
    "typer": "cli",
    "rich": "cli",
}
"""Which extra of the distribution brings a package."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _fill_descriptors()
    before = _take_signals()
    try:
        code: int = importlib.import_module("modelseal.cli.app").run(words)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:  # the one place where everything ends up
        return _explain(error, as_json="--json" in words)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code == EXIT_INTERRUPTED:
        console.fail("interrupted")
    return code


def _fill_descriptors() -> None:
    """Open what the caller closed of 0, 1 and 2, or a file of ours would take that number.

    Whatever then writes to it, as libraries do, would write into that file.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(_STDOUT, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(_STDERR, "w", closefd=False)


def _take_signals() -> dict[int, Any]:
    """Let termination and the end of the terminal unwind; returns the handlers before.

    What the user chose to ignore, as `nohup` does, stays ignored.
    """
    numbers = (signal.SIGTERM, signal.SIGHUP)
    wanted = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    return {int(number): signal.signal(number, _terminate) for number in wanted}


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind as for an interrupt, so that whatever was begun is removed."""
    raise SystemExit(EXIT_SIGNAL + number)


def _explain(error: Exception, *, as_json: bool) -> int:
    """Write what went wrong; returns the exit code."""
    if debugging(os.environ):
        sys.stderr.write(debug_text(error))
    if isinstance(error, MemoryError):
        error = OutOfMemory("failed to go on: there is no memory left")
    if isinstance(error, ModelsealError):
        if as_json:
            with contextlib.suppress(OutputFailed, BrokenPipeError):  # the code says it too
                console.show_json(console.error_fields(error))
        console.fail(error.message, error.hint)
        return error.exit_code
    if isinstance(error, ModuleNotFoundError) and _is_foreign(error):
        return _explain_missing(str(error.name).partition(".")[0])
    console.fail(
        f"a fault of modelseal itself: {type(error).__name__}",
        "set MODELSEAL_DEBUG=1 to see where, and report it",
    )
    return EXIT_INTERNAL


def _is_foreign(error: ModuleNotFoundError) -> bool:
    return not str(error.name).startswith("modelseal.")


def _explain_missing(package: str) -> int:
    extra = EXTRAS.get(package, "demo")
    console.fail(
        f"the package {package} is not installed",
        f"install it with: pip install 'modelseal[{extra}]'",
    )
    return EXIT_MISSING_PACKAGE


if __name__ == "__main__":
    sys.exit(main())
