"""Running the command line: in this process for its logic, as a program for its behaviour."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelseal.cli.main import main


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command left on its two outputs, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)

    @property
    def hint(self) -> str:
        """The hint line, or nothing."""
        marked = [line for line in self.err.splitlines() if line.startswith("modelseal: hint: ")]
        return marked[0].removeprefix("modelseal: hint: ") if marked else ""

    @property
    def error(self) -> str:
        """The one error line; there must be one, and no traceback."""
        assert "Traceback" not in self.err
        marked = [line for line in self.err.splitlines() if line.startswith("modelseal: error: ")]
        assert len(marked) == 1, self.err
        return marked[0].removeprefix("modelseal: error: ")


def run(*words: str | Path) -> Result:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Result(code=code, out=out.getvalue(), err=err.getvalue())


def program(*words: str | Path) -> list[str]:
    """Return the command that runs the command line as users do."""
    return [str(Path(sys.executable).with_name("modelseal")), *map(str, words)]


def environment(home: Path, **extra: str) -> dict[str, str]:
    """Return an environment that holds nothing of the developer's."""
    return {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8", **extra}


def spawn(*words: str | Path, env: Mapping[str, str], timeout: float = 60) -> Result:
    """Run the command line as a program of its own and wait for it."""
    done = subprocess.run(
        program(*words), env=env, capture_output=True, text=True, timeout=timeout, check=False
    )
    return Result(code=done.returncode, out=done.stdout, err=done.stderr)


def everything_below(folder: Path) -> set[str]:
    """Return the relative names of all files and folders, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
