"""A seal that is interrupted leaves nothing, whoever interrupts it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.cli import environment, everything_below, program, run
from support.cli_serve import eventually

pytestmark = pytest.mark.e2e
LENGTH = 8 << 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_seal_that_is_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    assert run("keygen", "-o", tmp_path / "my.key").code == 0
    (tmp_path / "large.xml").write_text('<?xml version="1.0"?><net name="large"/>')
    with (tmp_path / "large.bin").open("wb") as file:
        os.truncate(file.fileno(), LENGTH)
    before = everything_below(tmp_path)
    words = ("--model", "team/large", "--version", "1", "--key", f"file:{tmp_path / 'my.key'}")
    with subprocess.Popen(
        program("seal", tmp_path / "large.xml", "-o", tmp_path / "sealed", *words),
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    ) as sealing:
        eventually(lambda: any(path.stat().st_size for path in tmp_path.glob(".*/p/2.floe")))
        sealing.send_signal(number)
        _, said = sealing.communicate(timeout=60)
    assert sealing.returncode == 128 + number
    assert "Traceback" not in said
    assert everything_below(tmp_path) == before
