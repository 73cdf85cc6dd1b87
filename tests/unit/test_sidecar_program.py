"""Small parts of the agent's program: the bell, background calls, logs, mounted settings."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelseal.envelope import Policy
from modelseal.errors import RollbackRejected
from modelseal_sidecar import logs
from modelseal_sidecar.provider_directory import ProviderDirectory
from modelseal_sidecar.settings import LeaseSettings
from modelseal_sidecar.wake import Stopped, Task, Wake
from support.agent_peer import until

LEASE = LeaseSettings(interval=60.0, max_stale=3600.0)


@pytest.mark.timeout(60)
def test_a_bell_that_rang_before_the_wait_is_heard() -> None:
    wake = Wake()
    wake.ring()
    wake.ring()
    wake.wait(600)
    assert not wake.wait_until(lambda: False, 0.01)


def test_a_signal_handler_may_ring_at_any_moment() -> None:
    wake = Wake()
    before = signal.signal(signal.SIGUSR1, lambda *_: wake.stop())
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert not wake.wait_until(lambda: False, 60)
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(Stopped):
        wake.check()


def test_a_background_call_returns_or_raises_where_it_is_asked() -> None:
    wake = Wake()
    good, bad = Task(wake, lambda: 7, "good"), Task(wake, lambda: 1 // 0, "bad")
    until(lambda: good.done and bad.done)
    assert good.result() == 7
    with pytest.raises(ZeroDivisionError):
        bad.result()


def test_log_lines_are_json_and_exceptions_lose_their_text() -> None:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    try:
        raise ValueError("SECRET")
    except ValueError as error:
        logs.log(logging.ERROR, "it failed", failure=error, stage="Login", detail="\x1b\n\u202e")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.isascii()
    assert "\x1b" not in line
    assert "SECRET" not in line
    record = json.loads(line)
    assert (record["event"], record["stage"], record["error"]) == (
        "it failed",
        "Login",
        "ValueError",
    )
    assert record["at"][0].startswith("test_sidecar_program.py:")


def test_other_libraries_say_nothing() -> None:
    stream = io.StringIO()
    logs.configure("DEBUG", stream)
    logging.getLogger("urllib3").warning("an answer's body")
    assert stream.getvalue() == ""


def test_mounted_settings_replace_those_of_the_environment(tmp_path: Path) -> None:
    directory = ProviderDirectory(tmp_path, LEASE, Path("/env/ca"))
    assert directory.lease() == LEASE
    assert directory.ca_file() == Path("/env/ca")
    (tmp_path / "lease-interval").write_text("10\n")
    (tmp_path / "max-stale").write_text("100\n")
    (tmp_path / "ca.crt").write_text("one")
    assert directory.lease() == LeaseSettings(interval=10.0, max_stale=100.0)
    assert directory.ca_file() == tmp_path / "ca.crt"
    before = directory.ca_state()
    (tmp_path / "ca.crt").write_text("two")
    assert directory.ca_state() != before


DIGESTS = tuple(f"sha256:{digit * 64}" for digit in "abc")


def test_the_mounted_bounds_narrow_what_may_be_opened_and_never_widen_it(tmp_path: Path) -> None:
    directory = ProviderDirectory(tmp_path, LEASE, None)
    asked = Policy(model="a/b", min_sequence=5, digest=DIGESTS[0])
    assert directory.narrowed(asked) == asked
    (tmp_path / "min-sequence").write_text("3\n")
    assert directory.narrowed(asked) == asked
    (tmp_path / "min-sequence").write_text("9")
    (tmp_path / "digests").write_text("\n".join(DIGESTS[1:]))
    found = directory.narrowed(asked)
    assert (found.min_sequence, found.digest) == (9, DIGESTS[0])
    assert found.allowed == frozenset(DIGESTS[1:])
    (tmp_path / "min-sequence").unlink()
    assert directory.narrowed(Policy(model="a/b")).min_sequence is None


@pytest.mark.parametrize(
    ("name", "text"), [("min-sequence", "soon"), ("min-sequence", "-1"), ("digests", "sha256:no")]
)
def test_a_bound_that_makes_no_sense_accepts_nothing(tmp_path: Path, name: str, text: str) -> None:
    directory = ProviderDirectory(tmp_path, LEASE, None)
    (tmp_path / name).write_text(text)
    with pytest.raises(RollbackRejected):
        directory.narrowed(Policy(model="a/b"))


@pytest.mark.parametrize("text", ["", "soon", "1", "-5", "9" * 100])
def test_bad_mounted_settings_leave_the_last_good_ones(tmp_path: Path, text: str) -> None:
    directory = ProviderDirectory(tmp_path, LEASE, None)
    (tmp_path / "lease-interval").write_text("30")
    good = directory.lease()
    (tmp_path / "lease-interval").write_text(text)
    assert directory.lease() == good == LeaseSettings(interval=30.0, max_stale=3600.0)


@pytest.mark.parametrize(
    "attempt",
    ["os.fork()", "os.system('true')", "subprocess.run(['true'])", "os.execv('/bin/true', ['t'])"],
)
def test_after_start_the_agent_cannot_make_a_process(attempt: str) -> None:
    code = (
        "import os, subprocess\n"
        "from modelseal_sidecar.nofork import forbid_forking\n"
        "from modelseal.errors import HardeningError\n"
        "forbid_forking()\n"
        f"try: {attempt}\n"
        "except HardeningError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"refused\n"
