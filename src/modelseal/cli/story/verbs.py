"""Runs the verbs of the command line as programs of their own, as a reader would."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from modelseal.cli.story.telling import Teller
from modelseal.errors import ModelsealError

SECONDS: Final = 120.0
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")


class DemoFailed(ModelsealError):
    """The demo saw something else than it promised to show."""

    hint = "run it again with MODELSEAL_DEBUG=1 and report what it says"


@dataclass(frozen=True, kw_only=True)
class Verbs:
    """The command line in a folder of its own, with an environment of its own."""

    folder: Path
    teller: Teller
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a verb sees: no variable of the user's but where programs and libraries are."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return {**kept, "HOME": str(self.folder), **self.extra}

    def run(self, *words: str) -> str:
        """Run a verb that succeeds, and return what it wrote to stdout.

        Raises:
            DemoFailed: it failed.

        """
        done = self._run(words)
        if done.returncode != 0:
            raise DemoFailed(f"failed to run modelseal {words[0]}: {_last_line(done.stderr)}")
        return done.stdout

    def refused(self, *words: str) -> str:
        """Run a verb that must refuse, and return the words of its refusal.

        Raises:
            DemoFailed: it did not refuse.

        """
        done = self._run(words)
        if done.returncode < 10:
            raise DemoFailed(f"failed to show a refusal: modelseal {words[0]} did not refuse")
        self.teller.answered(f"{done.stderr.rstrip()}\n(exit code {done.returncode})")
        return done.stderr

    @contextlib.contextmanager
    def served(self, *words: str) -> Iterator["Service"]:
        """Run `modelseal serve` as long as the block."""
        self.teller.ran(["modelseal", *words])
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*_PROGRAM, *words, "--json"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Service(process=process)
        finally:
            process.terminate()
            process.communicate(timeout=SECONDS)

    def _run(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        self.teller.ran(["modelseal", *words])
        return subprocess.run(  # noqa: S603 - our own program
            [*_PROGRAM, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running `modelseal serve`."""

    process: "subprocess.Popen[str]"

    def endpoints(self) -> dict[str, Any]:
        """Wait until it serves, and return where.

        Raises:
            DemoFailed: it ended instead.

        """
        assert self.process.stdout is not None  # noqa: S101 - made with a pipe above
        text = ""
        for line in self.process.stdout:
            text += line
            if line.rstrip() == "}":
                found: dict[str, Any] = json.loads(text)
                return found
        _, words = self.process.communicate(timeout=SECONDS)
        raise DemoFailed(f"failed to serve: {_last_line(words)}")

    def ended(self, seconds: float) -> tuple[int, str]:
        """Wait until it ends by itself; returns its exit code and what it said."""
        _, words = self.process.communicate(timeout=seconds)
        return self.process.returncode, words


_PROGRAM: Final = (sys.executable, "-P", "-m", "modelseal.cli.main")


def _last_line(text: str) -> str:
    errors = [line for line in text.splitlines() if line.startswith("modelseal: error: ")]
    return (errors or text.splitlines() or ["it said nothing"])[-1]
