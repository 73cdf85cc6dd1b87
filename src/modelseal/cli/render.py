"""`modelseal render`: hands over to the operator's own program, which knows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from modelseal.errors import SettingsError

EXAMPLES: Final = """\
modelseal render -f model.yaml
modelseal render -f provider.yaml -f model.yaml | kubectl diff -f -
"""
PROGRAM: Final = "modelseal-operator"


def command(
    files: Annotated[
        list[Path],
        typer.Option("--file", "-f", metavar="FILE", help="Resources as YAML. May be repeated."),
    ],
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of YAML.")] = False,
) -> int:
    """Show what the operator would make of a resource, with no cluster.

    Runs `modelseal-operator render`, so it shows exactly what that version of the operator applies.
    """
    words = [word for file in files for word in ("-f", str(file))]
    command_line = [_program(), "render", *words, *(["--json"] if json else [])]
    return subprocess.run(command_line, check=False).returncode  # noqa: S603 - our own program


def _program() -> str:
    """Return the operator's program: beside this Python, or on the search path."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if not found:
        raise SettingsError(
            f"failed to render: the program {PROGRAM} is not installed",
            hint="install the operator's package beside this one: pip install modelseal-operator",
        )
    return found
